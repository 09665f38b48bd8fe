//! The 22 queries of TPC-H against answers an independent engine gave.
//!
//! # Invariants
//! - Text and counts are compared exactly, sums and averages up to [`TOLERANCE`].
//! - The order of rows counts as far as the query fixes it, and no further.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use wasmhouse_storage::BoxError;

use super::{elapsed, text, tpch};
use crate::client::{Answer, Client, csv, show};

/// How far a number with decimals may be from the kept one; relative for those below one.
const TOLERANCE: f64 = 1e-2;

/// Runs every query and compares its answer with the kept one, if one is kept for this scale factor.
pub(super) async fn verify(client: &Client, scale: f64, answers: &Path, out: &mut impl Write) -> Result<(), BoxError> {
    let answers = answers.join(format!("sf{scale}"));
    let mut right = 0;
    let mut wrong = 0;
    for (at, sql) in tpch::QUERIES.iter().enumerate() {
        let number = at + 1;
        let sql = sql.replace("{FRACTION}", &fraction(scale));
        let asked = Instant::now();
        let verdict = match client.sql(&sql, Some(tpch::DATASET)).await {
            Err(error) => Err(error.to_string()),
            Ok(answer) => judge(&answers.join(format!("q{number:02}.csv")), &sql, &answer),
        };
        let took = elapsed(asked);
        match verdict {
            Ok(Verdict::Right(rows)) => {
                right += 1;
                writeln!(out, "  Q{number:<2}  {took:>8}  right, {}", show::rows(rows))?;
            }
            Ok(Verdict::Unknown(rows)) => writeln!(out, "  Q{number:<2}  {took:>8}  {}", show::rows(rows))?,
            Err(reason) => {
                wrong += 1;
                writeln!(out, "  Q{number:<2}  {took:>8}  WRONG: {reason}")?;
            }
        }
    }
    if wrong > 0 {
        return Err(format!("{wrong} of {} answers are wrong", tpch::QUERIES.len()).into());
    }
    match right {
        0 => writeln!(out, "  nothing to compare with: no answers in {}", answers.display())?,
        right => writeln!(out, "  {right} of {} answers are right", tpch::QUERIES.len())?,
    }
    Ok(())
}

/// The number that Q11 wants: 0.0001 divided by the scale factor, in decimals.
fn fraction(scale: f64) -> String {
    format!("{:.12}", 0.0001 / scale).trim_end_matches('0').to_owned()
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Right(u64),
    /// There is nothing to compare with.
    Unknown(u64),
}

fn judge(kept: &Path, sql: &str, answer: &Answer) -> Result<Verdict, String> {
    let count = answer.rows.len() as u64;
    if !kept.exists() {
        return Ok(Verdict::Unknown(count));
    }
    let kept = fs::read_to_string(kept).map_err(|error| format!("cannot read {}: {error}", kept.display()))?;
    let mut kept = csv::records(&kept).map(csv::values);
    let names = kept.next().unwrap_or_default();
    let expected: Vec<_> = kept.collect();
    let rows = answer.rows.iter();
    let found: Vec<_> = rows
        .map(|row| names.iter().map(|name| text(row.get(name))).collect())
        .collect();
    compare(&expected, &found, &order(sql, &names)).map(|()| Verdict::Right(count))
}

type Row = Vec<String>;

/// The columns that fix the order of the rows, by position.
fn order(sql: &str, names: &[String]) -> Vec<usize> {
    let Some((_, keys)) = sql.rsplit_once("order by ") else {
        return Vec::new();
    };
    let keys = keys.split("limit").next().unwrap_or(keys);
    let keys = keys.split(',').filter_map(|key| key.split_whitespace().next());
    keys.filter_map(|key| names.iter().position(|name| name == key))
        .collect()
}

/// Compares row by row; rows the order does not tell apart may come in any order.
fn compare(expected: &[Row], found: &[Row], order: &[usize]) -> Result<(), String> {
    if expected.len() != found.len() {
        return Err(format!("{} rows instead of {}", found.len(), expected.len()));
    }
    let mut start = 0;
    while start < expected.len() {
        let same = |row: &&Row| order.iter().all(|&at| row[at] == expected[start][at]);
        let peers = expected[start..].iter().take_while(same).count();
        let mut candidates: Vec<_> = found[start..start + peers].iter().collect();
        for (row, wanted) in expected[start..start + peers].iter().enumerate() {
            match candidates.iter().position(|candidate| is_same_row(wanted, candidate)) {
                Some(at) => drop(candidates.swap_remove(at)),
                None => {
                    let row = start + row;
                    return Err(format!("row {} is {:?} instead of {wanted:?}", row + 1, found[row]));
                }
            }
        }
        start += peers;
    }
    Ok(())
}

fn is_same_row(expected: &Row, found: &Row) -> bool {
    expected
        .iter()
        .zip(found)
        .all(|(expected, found)| is_same(expected, found))
}

fn is_same(expected: &str, found: &str) -> bool {
    // A number without decimals is a key or a count.
    if expected == found || !expected.contains('.') {
        return expected == found;
    }
    match (expected.parse::<f64>(), found.parse::<f64>()) {
        (Ok(expected), Ok(found)) => (expected - found).abs() <= TOLERANCE * expected.abs().min(1.0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Row> {
        csv::records(text).map(csv::values).collect()
    }

    #[test]
    fn sums_may_differ_a_little_and_counts_not_at_all() {
        assert!(is_same("25.522005853257337", "25.522006"));
        assert!(is_same("55909065222.827692", "55909065222.83"));
        assert!(!is_same("25.52", "25.54"));
        assert!(is_same("0.04998658605370408", "0.049987"));
        assert!(!is_same("0.0344", "0.0444"));
        assert!(!is_same("1478493", "1478493.001"));
        assert!(!is_same("a.b", "a.c"));
    }

    #[test]
    fn only_the_order_the_query_fixes_counts() {
        let expected = rows("1,a\n1,b\n2,c\n");
        assert_eq!(compare(&expected, &rows("1,b\n1,a\n2,c\n"), &[0]), Ok(()));
        assert!(compare(&expected, &rows("2,c\n1,a\n1,b\n"), &[0]).is_err());
        assert!(compare(&expected, &rows("1,b\n1,a\n2,c\n"), &[0, 1]).is_err());
        assert_eq!(compare(&expected, &rows("2,c\n1,b\n1,a\n"), &[]), Ok(()));
        assert!(compare(&expected, &rows("1,a\n1,a\n2,c\n"), &[0]).is_err());
        assert!(compare(&expected, &rows("1,a\n1,b\n"), &[0]).is_err());
    }

    #[test]
    fn the_order_of_every_query_is_understood() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            order(tpch::QUERIES[8], &names(&["nation", "o_year", "sum_profit"])),
            [0, 1]
        );
        assert_eq!(
            order(tpch::QUERIES[2], &names(&["l_orderkey", "revenue", "o_orderdate"])),
            [1, 2]
        );
        assert_eq!(order(tpch::QUERIES[5], &names(&["revenue"])), Vec::<usize>::new());
    }

    #[test]
    fn the_fraction_of_q11_shrinks_with_the_scale() {
        assert_eq!(
            [fraction(0.1), fraction(1.0), fraction(10.0)],
            ["0.001", "0.0001", "0.00001"]
        );
    }

    #[test]
    fn kept_answers_are_complete_and_right_about_themselves() {
        for scale in ["0.1", "1"] {
            for (at, sql) in tpch::QUERIES.iter().enumerate() {
                let path = format!(
                    "{}/../bench/tpch/answers/sf{scale}/q{:02}.csv",
                    env!("CARGO_MANIFEST_DIR"),
                    at + 1
                );
                let kept = fs::read_to_string(&path).expect("an answer is kept for every query");
                let kept = rows(&kept);
                let (names, kept) = kept.split_first().expect("an answer has a header");
                assert!(kept.iter().all(|row| row.len() == names.len()), "{path}");
                assert_eq!(compare(kept, kept, &order(sql, names)), Ok(()), "{path}");
            }
        }
    }
}
