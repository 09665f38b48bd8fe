//! One door per concern: a word that belongs to one file or folder is said nowhere else.

use crate::repository::sources;

struct Door {
    /// Said in the source, comments aside, it is the concern.
    words: &'static [&'static str],
    /// Where it may be said: prefixes of paths.
    rooms: &'static [&'static str],
    why: &'static str,
}

const DOORS: [Door; 11] = [
    Door {
        words: &["per_tb_processed", "per_tb_loaded", "per_query_at_least"],
        rooms: &[
            "gateway/src/billing/",
            "gateway/src/config.rs",
            "gateway/src/config/",
            "gateway/src/http/money.rs",
        ],
        why: "usage becomes money in one place, so that a quote, a ceiling, a bill and whoever checks one cannot differ",
    },
    Door {
        words: &["Role::"],
        rooms: &[
            "gateway/src/access.rs",
            "storage/src/people.rs",
            "compute/src/sql/roles.rs",
        ],
        why: "what a role allows is said in one place, so that it can be read, and tested, on one page",
    },
    Door {
        words: &[
            "catalog.datasets",
            "catalog.relations",
            "catalog.relation",
            "catalog.resolve",
        ],
        rooms: &["gateway/src/sight.rs", "gateway/src/upkeep.rs"],
        why: "who asks sees what he may read and nothing else, so names are looked up with his eyes",
    },
    Door {
        words: &["axum"],
        rooms: &["gateway/src/http/"],
        why: "HTTP is a word of the door, so that another door can open on the same use cases",
    },
    Door {
        words: &["sqlx"],
        rooms: &["storage/src/catalog/db.rs", "storage/src/catalog/db/"],
        why: "one place speaks SQL to our own database, so that one text serves SQLite and PostgreSQL",
    },
    Door {
        words: &["SystemTime::now", "Utc::now", "Local::now", "UNIX_EPOCH"],
        rooms: &["storage/src/clock.rs"],
        why: "a test that owns the clock owns every timestamp",
    },
    Door {
        words: &[
            "\"tables/",
            "\"staging/",
            "\"results/",
            "\"exports/",
            "\"tables\"",
            "\"staging\"",
            "\"results\"",
            "\"exports\"",
        ],
        rooms: &[
            "storage/src/bucket.rs",
            // Names of HTTP resources and of SQL tables are not object paths.
            "gateway/src/http/",
            "gateway/src/commands/",
            "compute/src/catalog_view",
            "storage/src/catalog/db",
        ],
        why: "one file spells object paths, so that a path can be reasoned about",
    },
    Door {
        words: &["env::var", "env::vars", "env::var_os", "Env::prefixed", "Env::raw"],
        rooms: &[
            "gateway/src/config.rs",
            "gateway/src/config/",
            // A client is not a server: it has a url and a key, and no settings file.
            "gateway/src/client.rs",
            // A worker's secrets are handed over in the environment, where other users of the machine cannot read them.
            "compute/src/worker/",
        ],
        why: "every setting can be listed, documented and printed",
    },
    Door {
        words: &["DFParser", "sqlparser::parser", "Parser::parse_sql"],
        rooms: &["compute/src/sql/"],
        why: "a stranger's SQL is parsed under limits, in one place",
    },
    Door {
        words: &[
            "LocalFileSystem",
            "AmazonS3Builder",
            "MicrosoftAzureBuilder",
            "GoogleCloudStorageBuilder",
            "object_store::parse_url",
        ],
        rooms: &["storage/src/bucket.rs", "storage/src/bucket/"],
        why: "one file opens object stores, so that credentials have one owner",
    },
    Door {
        words: &["CommitBuilder"],
        rooms: &["storage/src/tables/"],
        why: "one folder commits to tables, behind the guard",
    },
];

#[test]
fn every_concern_has_one_door() {
    let sources = sources();
    let mut strays = Vec::new();

    for door in &DOORS {
        for page in sources
            .iter()
            .filter(|page| !door.rooms.iter().any(|room| page.path.starts_with(room)))
        {
            for (number, line) in page.production() {
                if let Some(word) = door.words.iter().find(|word| says(line, word)) {
                    strays.push(format!("{}:{number} says {word}; {}", page.path, door.why));
                }
            }
        }
    }

    assert!(strays.is_empty(), "\n{}", strays.join("\n"));
}

/// Whether a line holds this word and not a longer one: `axum` is not said by `taxumeter` or `axum_extras`.
fn says(line: &str, word: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let begins = !word.starts_with(is_letter) || !before.is_some_and(is_letter);
        let ends = !word.ends_with(is_letter) || !after.is_some_and(is_letter);
        begins && ends
    })
}
