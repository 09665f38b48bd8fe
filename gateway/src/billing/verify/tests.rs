use chrono::DateTime;
use wasmhouse_storage::clock::{Clock, Timestamp};
use wasmhouse_storage::money::{Cost, Free};
use wasmhouse_storage::queries::{QueryState, Usage};

use super::*;
use crate::billing::receipt::{ReadTable, Signer};

struct World {
    signer: Signer,
    known: Known,
}

fn world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let signer = Signer::open_or_make(&folder.path().join("receipts.key")).expect("a key");
    let key = signer.public_key();
    let list = PriceList {
        version: "1".to_owned(),
        from: DateTime::default(),
        currency: "USD".to_owned(),
        per_tb_processed: "5".parse().expect("money"),
        per_tb_loaded: "2".parse().expect("money"),
        per_query_at_least: "0.000001".parse().expect("money"),
    };
    World {
        signer,
        known: Known {
            prices: vec![list],
            keys: BTreeMap::from([(key.id, key.public_key)]),
        },
    }
}

impl World {
    /// An exported ledger of so many lines, every third of which is free.
    fn file(&self, count: i64) -> Vec<String> {
        let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
        let project: ProjectId = "acme".parse().expect("a name");
        let mut texts = vec![Exported::Begin(Begin {
            project: project.clone(),
            after: 0,
        })];
        let mut prev_hash = GENESIS;
        for seq in 1..=count {
            let usage = Usage {
                bytes_processed: seq as u64 * 1_000_000,
                ..Usage::default()
            };
            let priced = cost(&self.known.prices[0], Counts::from(&usage)).expect("little");
            let (outcome, priced) = match seq % 3 {
                0 => (
                    QueryState::Failed,
                    Cost {
                        amount: Money::ZERO,
                        items: Vec::new(),
                        free: Some(Free::Failed),
                        ..priced
                    },
                ),
                _ => (QueryState::Done, priced),
            };
            let receipt = Receipt {
                project: project.clone(),
                query: QueryId::new(clock.now()),
                sql_hash: receipt_hash("select 1"),
                kind: "select".to_owned(),
                created_at: clock.now(),
                outcome,
                tables: vec![ReadTable {
                    name: "s.t".to_owned(),
                    version: 0,
                    columns: vec!["a".to_owned()],
                    files: 1,
                    files_hash: String::new(),
                    bytes: usage.bytes_processed,
                }],
                usage,
                cost: priced,
            };
            let signed = self.signer.receipt(&receipt).expect("a receipt");
            let entry = serde_json::json!({
                "project": project, "seq": seq, "query": receipt.query, "at": clock.now(), "kind": "select",
                "outcome": outcome, "labels": {}, "usage": usage, "cost": receipt.cost,
                "receipt": receipt_hash(&signed.text),
            })
            .to_string();
            let hash = chained(&prev_hash, &entry);
            texts.push(Exported::Line(Line {
                seq,
                entry,
                prev_hash: hex::encode(prev_hash),
                hash: hex::encode(hash),
                receipt: Some(signed),
            }));
            prev_hash = hash;
        }
        let end = End {
            project,
            after: 0,
            after_hash: hex::encode(GENESIS),
            seq: count,
            hash: hex::encode(prev_hash),
            at: clock.now(),
        };
        texts.push(Exported::End(
            self.signer.sign(serde_json::to_string(&end).expect("JSON")),
        ));
        texts
            .iter()
            .map(|line| line.text().expect("a text").trim_end().to_owned())
            .collect()
    }

    fn check(&self, lines: &[String]) -> Result<Verified, Broken> {
        verify(lines.iter().map(String::as_str), &self.known)
    }
}

#[test]
fn a_ledger_that_was_not_touched_holds_and_is_added_up() {
    let world = world();
    let verified = world.check(&world.file(6)).expect("it holds");
    assert_eq!((verified.lines, verified.paid, verified.free), (6, 4, 2));
    // 1, 2, 4 and 5 million bytes at 5 for 10^12.
    assert_eq!(verified.amount.to_string(), "0.00006");
    assert_eq!(world.check(&world.file(0)).expect("an empty one, too").lines, 0);
}

#[test]
fn one_byte_changed_anywhere_is_noticed_and_its_line_named() {
    let world = world();
    let lines = world.file(4);
    for (index, line) in lines.iter().enumerate() {
        for place in 0..line.len() {
            for change in [1, 2, 0x20] {
                let mut bytes = line.clone().into_bytes();
                bytes[place] ^= change;
                let Ok(changed) = String::from_utf8(bytes) else {
                    continue;
                };
                let mut file = lines.clone();
                file[index] = changed;
                let broken = world.check(&file).expect_err("a byte was changed");
                // A beginning that says another project or line is noticed where that does not go on.
                let named = broken.line == index + 1 || (index == 0 && broken.line == 2);
                assert!(named, "byte {place} of line {}: {broken}", index + 1);
            }
        }
    }
}

#[test]
fn lines_that_are_missing_repeated_or_swapped_are_noticed() {
    let world = world();
    let lines = world.file(5);
    let why = |lines: &[String]| world.check(lines).expect_err("it was touched").to_string();
    for index in 0..lines.len() {
        let mut missing = lines.clone();
        missing.remove(index);
        why(&missing);
        let mut repeated = lines.clone();
        repeated.insert(index, lines[index].clone());
        why(&repeated);
        if index > 0 {
            let mut swapped = lines.clone();
            swapped.swap(index - 1, index);
            why(&swapped);
        }
    }
    // A beginning that pretends to be later than it was.
    let mut later = lines.clone();
    later.drain(1..3);
    later[0] = later[0].replace("\"after\":0", "\"after\":2");
    assert!(why(&later).contains("begins after line 0"), "{}", why(&later));
    let cut = &lines[..4];
    assert!(why(cut).contains("the end of the ledger is missing"), "{}", why(cut));
    let mut tail_missing = lines.clone();
    tail_missing.remove(5);
    assert!(
        why(&tail_missing).contains("line 5 is missing"),
        "{}",
        why(&tail_missing)
    );
    // The same ledger, signed by somebody else.
    let other = self::world();
    assert!(
        other
            .check(&lines)
            .expect_err("unknown")
            .why
            .contains("which is not known")
    );
}

#[test]
fn prices_that_were_changed_are_noticed() {
    let mut world = world();
    let lines = world.file(2);
    world.known.prices[0].per_tb_processed = "4".parse().expect("money");
    let broken = world.check(&lines).expect_err("another price");
    assert_eq!(
        broken.to_string(),
        "line 2: it says 0.000005 USD, and what it counts costs 0.000004 USD"
    );
    world.known.prices[0].version = "2".to_owned();
    assert!(
        world
            .check(&lines)
            .expect_err("another list")
            .why
            .contains("the price list 1 is not known")
    );
}
