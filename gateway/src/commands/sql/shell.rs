//! The shell: a line editor around a session.
//!
//! # Invariants
//! - An error is shown and the shell goes on; only the person ends it.
//! - The editor waits for keys on a thread of its own, so nothing else in the process waits with it.

use std::io::Write as _;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use tokio::task::spawn_blocking;
use wasmhouse_storage::BoxError;

use super::session::{Next, Session};
use super::{Format, is_broken_pipe, statements};

const PROMPT: &str = "wasmhouse> ";
const LINES_REMEMBERED: usize = 10_000;

type Desk = Editor<Words, FileHistory>;

/// Reads statements and commands from a person until the person leaves.
pub(super) async fn run(mut session: Session, state_home: Option<PathBuf>) -> Result<(), BoxError> {
    let history = history_file(state_home);
    let mut desk = open_desk(history.as_ref())?;
    println!("wasmhouse {}, \\? for help, \\q to leave", env!("CARGO_PKG_VERSION"));
    let mut names_changed = true;
    loop {
        if names_changed && let Some(words) = desk.helper_mut() {
            // Names are only a convenience; when they cannot be had, the next statement says why.
            words.names = session.names().await.unwrap_or_default();
        }
        let read;
        (desk, read) = read_line(desk).await?;
        let text = match read {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if statements::is_blank(&text) {
            continue;
        }
        desk.add_history_entry(text.trim_end())?;
        if let Some(history) = &history {
            // Each line at once: what was typed outlives a shell that does not.
            desk.append_history(history)?;
        }
        names_changed = changes_names(&text);
        if obey(&mut session, &text).await? == Next::Leave {
            return Ok(());
        }
    }
}

async fn obey(session: &mut Session, text: &str) -> Result<Next, BoxError> {
    if text.trim_start().starts_with('\\') {
        let obeyed = session.command(text.trim()).await;
        return obeyed.or_else(tell);
    }
    for statement in statements::cut(text).statements {
        if let Err(error) = session.statement(statement).await {
            // The statements after it may have counted on it.
            return tell(error);
        }
    }
    if session.format != Format::Table {
        std::io::stdout().flush()?;
    }
    Ok(Next::Stay)
}

/// True when tables may have come or gone with this text.
fn changes_names(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["create", "drop", "\\d"].iter().any(|word| text.contains(word))
}

/// Shows the error to the person, unless the terminal is gone.
fn tell(error: BoxError) -> Result<Next, BoxError> {
    if is_broken_pipe(&*error) {
        return Err(error);
    }
    eprintln!("{error}");
    Ok(Next::Stay)
}

async fn read_line(mut desk: Desk) -> Result<(Desk, rustyline::Result<String>), BoxError> {
    let read = spawn_blocking(move || {
        let line = desk.readline(PROMPT);
        (desk, line)
    });
    Ok(read.await?)
}

fn open_desk(history: Option<&PathBuf>) -> Result<Desk, BoxError> {
    let config = Config::builder()
        .max_history_size(LINES_REMEMBERED)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .build();
    let mut desk = Desk::with_config(config)?;
    desk.set_helper(Some(Words::default()));
    if let Some(history) = history {
        if let Some(directory) = history.parent() {
            std::fs::create_dir_all(directory)?;
        }
        if history.exists() {
            desk.load_history(history)?;
        }
    }
    Ok(desk)
}

/// Where the history is kept: the user's state directory, if the user has one.
fn history_file(state_home: Option<PathBuf>) -> Option<PathBuf> {
    let state = state_home.or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
    Some(state.join("wasmhouse/history"))
}

/// The words the editor knows, and when a text is complete.
#[derive(Default)]
struct Words {
    names: Vec<String>,
}

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _context: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let is_part = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '.' | '\\');
        let start = line[..at]
            .char_indices()
            .rev()
            .take_while(|(_, letter)| is_part(*letter))
            .last();
        let start = start.map_or(at, |(start, _)| start);
        Ok((start, self.candidates(&line[start..at])))
    }
}

impl Words {
    /// Names as they are, keywords in the case the person types.
    fn candidates(&self, typed: &str) -> Vec<String> {
        if typed.is_empty() {
            return self.names.clone();
        }
        let begins = |word: &&str| {
            let beginning = word.get(..typed.len());
            beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(typed))
        };
        let lower = !typed.contains(|letter: char| letter.is_ascii_uppercase());
        let keywords = KEYWORDS.iter().copied().filter(begins);
        let keywords = keywords.map(|word| {
            if lower {
                word.to_ascii_lowercase()
            } else {
                word.to_owned()
            }
        });
        let commands = COMMANDS.iter().copied().filter(begins).map(str::to_owned);
        let names = self.names.iter().map(String::as_str).filter(begins).map(str::to_owned);
        names.chain(keywords).chain(commands).collect()
    }
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_complete(context.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

/// True when Enter means "run it" rather than "another line".
fn is_complete(text: &str) -> bool {
    text.trim_start().starts_with('\\') || statements::is_blank(statements::cut(text).rest)
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Helper for Words {}

const COMMANDS: [&str; 7] = ["\\?", "\\d", "\\dataset", "\\format", "\\q", "\\timing", "\\help"];

const KEYWORDS: [&str; 92] = [
    "ALL",
    "AND",
    "ANTI",
    "ARRAY",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BIGINT",
    "BOOLEAN",
    "BY",
    "CASCADE",
    "CASE",
    "CAST",
    "COALESCE",
    "COUNT",
    "CREATE",
    "CROSS",
    "CUBE",
    "CURRENT_DATE",
    "DATE",
    "DECIMAL",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DOUBLE",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXTRACT",
    "FALSE",
    "FILTER",
    "FIRST",
    "FROM",
    "FULL",
    "GROUP",
    "GROUPING",
    "HAVING",
    "IF",
    "ILIKE",
    "IN",
    "INFORMATION_SCHEMA",
    "INNER",
    "INSERT",
    "INTEGER",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "LAST",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MAX",
    "MIN",
    "NOT",
    "NOW",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "RECURSIVE",
    "REPLACE",
    "RIGHT",
    "ROLLUP",
    "SCHEMA",
    "SELECT",
    "SHOW",
    "SUM",
    "TABLE",
    "THEN",
    "TIMESTAMP",
    "TRUE",
    "TRUNCATE",
    "UNION",
    "USING",
    "VALUES",
    "VARCHAR",
    "VIEW",
    "WHEN",
    "WHERE",
    "WITH",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_runs_a_text_that_is_complete() {
        for complete in [
            "select 1;",
            "select 1; -- done",
            "\\d",
            "  ",
            "-- nothing",
            "select ';';",
        ] {
            assert!(is_complete(complete), "{complete}");
        }
        for open in ["select 1", "select 1; select", "select ';", "/* a", "select $$;"] {
            assert!(!is_complete(open), "{open}");
        }
    }

    #[test]
    fn words_are_completed_in_the_case_they_are_typed() {
        let words = Words {
            names: vec!["shop".to_owned(), "shop.sales".to_owned()],
        };
        assert_eq!(words.candidates("sel"), ["select"]);
        assert_eq!(words.candidates("SEL"), ["SELECT"]);
        assert_eq!(words.candidates("shop."), ["shop.sales"]);
        assert_eq!(words.candidates("\\t"), ["\\timing"]);
        assert_eq!(words.candidates("ü"), Vec::<String>::new());
    }

    #[test]
    fn the_history_is_kept_in_the_state_directory() {
        let file = history_file(Some(PathBuf::from("/state"))).expect("a state directory is given");
        assert_eq!(file, PathBuf::from("/state/wasmhouse/history"));
    }
}
