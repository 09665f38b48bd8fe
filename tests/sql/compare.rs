//! Whether an answer is the one that a record expects.

use crate::answers::Answer;
use crate::plans::{self, Compared, Pair};
use crate::records::Sorted;
use crate::runner::{Failure, Pass, wrong};

/// What may stand for the parts of an answer that change from run to run.
const IGNORE: &str = "<slt:ignore>";

/// What a record expects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) types: &'a str,
    pub(crate) sorted: Sorted,
    pub(crate) lines: &'a [String],
    /// It is an `EXPLAIN`.
    pub(crate) is_plan: bool,
    /// A column of whole numbers may be a decimal without fraction: a table holds those of `BIGINT UNSIGNED` as one.
    pub(crate) whole_decimals: bool,
    /// Rows may come in any order: several workers have them, and the statement does not say in which.
    pub(crate) any_order: bool,
}

/// How far the answer is the expected one.
pub(crate) fn compare(wanted: Wanted<'_>, mut answer: Answer) -> Result<Pass, Failure> {
    if answer.types.is_empty() && answer.rows.is_empty() {
        // A statement that gives nothing at all.
        return if wanted.lines.is_empty() {
            Ok(Pass::Whole)
        } else {
            Err(wrong("it gives no rows"))
        };
    }
    if !has_types(&answer, &wanted) {
        let message = format!("columns of types {} and not {}", answer.types, wanted.types);
        return Err(wrong(message));
    }
    match wanted.sorted {
        Sorted::AsGiven => {}
        Sorted::Rows => answer.rows.sort_unstable(),
        Sorted::Values => {
            answer.rows = answer.rows.into_iter().flatten().map(|value| vec![value]).collect();
            answer.rows.sort_unstable();
        }
    }
    // Long answers are kept as a number of values and their MD5; the number is compared.
    if let [only] = wanted.lines
        && let Some((count, _)) = only.split_once(" values hashing to ")
    {
        let values: usize = answer.rows.iter().map(Vec::len).sum();
        return if count == values.to_string() {
            Ok(Pass::Whole)
        } else {
            Err(wrong(format!("{values} values and not {count}")))
        };
    }

    let mut found: Vec<String> = answer
        .rows
        .iter()
        .map(|row| row.join(" ").trim_end().to_owned())
        .collect();
    let mut expected: Vec<String> = wanted.lines.iter().map(|line| line.trim_end().to_owned()).collect();
    // What stands for anything has its place.
    if wanted.any_order && !expected.iter().any(|line| line.contains(IGNORE)) {
        found.sort_unstable();
        expected.sort_unstable();
    }
    if is_same(&found, &expected) {
        return Ok(Pass::Whole);
    }
    if wanted.is_plan
        && let Some(compared) = plans::plans(&found, &expected)
    {
        return compare_plans(&compared);
    }
    Err(wrong(difference(&found, &expected)))
}

fn compare_plans(plans: &Compared) -> Result<Pass, Failure> {
    let other = |pair: &Option<Pair>| {
        let (found, expected) = pair.as_ref()?;
        (!is_same(found, expected)).then(|| difference(found, expected))
    };
    if let Some(difference) = other(&plans.logical) {
        return Err(wrong(format!("another logical plan: {difference}")));
    }
    match other(&plans.physical) {
        None if plans.physical.is_some() => Ok(Pass::ButForScans),
        Some(difference) if plans.logical.is_none() => Err(wrong(format!("another physical plan: {difference}"))),
        _ if plans.logical.is_some() => Ok(Pass::LogicalPlan),
        _ => Err(wrong("it has no plan")),
    }
}

fn has_types(answer: &Answer, wanted: &Wanted<'_>) -> bool {
    let as_wanted = |((found, whole), wanted_type): ((char, char), char)| {
        found == wanted_type || (wanted.whole_decimals && whole == wanted_type)
    };
    answer.types.chars().count() == wanted.types.chars().count()
        && answer
            .types
            .chars()
            .zip(answer.whole.chars())
            .zip(wanted.types.chars())
            .all(as_wanted)
}

fn is_same(found: &[String], expected: &[String]) -> bool {
    if expected.iter().any(|line| line.contains(IGNORE)) {
        matches_in_parts(&found.join("\n"), &expected.join("\n"))
    } else {
        found == expected
    }
}

/// Whether the parts between the marks are found one after the other, the first at the beginning.
fn matches_in_parts(found: &str, expected: &str) -> bool {
    let mut at = 0;
    for (index, part) in expected.split(IGNORE).enumerate().filter(|(_, part)| !part.is_empty()) {
        match found[at..].find(part) {
            Some(offset) if index > 0 || offset == 0 => at += offset + part.len(),
            _ => return false,
        }
    }
    true
}

fn difference(found: &[String], expected: &[String]) -> String {
    let first = found
        .iter()
        .zip(expected)
        .position(|(found, expected)| found != expected);
    match first {
        Some(line) => format!(
            "line {} is `{}` and should be `{}`",
            line + 1,
            found[line],
            expected[line]
        ),
        None => format!("{} lines and should be {}", found.len(), expected.len()),
    }
}
