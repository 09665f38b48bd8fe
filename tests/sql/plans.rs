//! What `EXPLAIN` prints: the logical plan, which is the engine's and the same here as there, and the physical plan, which
//! depends on how a table is kept. Ours are Parquet files, and those of the suite are memory and files of many kinds: what
//! a scan reads, and how, is in the lines of the scans.

use std::collections::BTreeMap;

/// The lines of each plan, by its kind.
type Plans = BTreeMap<String, Vec<String>>;

const LOGICAL: &str = "logical_plan";
const PHYSICAL: &str = "physical_plan";

/// Two plans of one kind: what is found, and what is expected.
pub(crate) type Pair = (Vec<String>, Vec<String>);

/// The plans of two answers that may differ in how a table of ours is read.
pub(crate) struct Compared {
    pub(crate) logical: Option<Pair>,
    /// Without what the scans read.
    pub(crate) physical: Option<Pair>,
}

/// What is to be compared of two answers that are not the same, if our plan reads a table.
pub(crate) fn plans(found: &[String], expected: &[String]) -> Option<Compared> {
    let (mut found, mut expected) = (read(found)?, read(expected)?);
    if !found.keys().eq(expected.keys()) {
        return None;
    }
    if let Some(physical) = found.get(PHYSICAL)
        && !physical.iter().any(|line| reads_a_table(line))
    {
        return None;
    }
    let mut pair = |kind| Some((found.remove(kind)?, expected.remove(kind)?));
    let logical = pair(LOGICAL);
    let physical = pair(PHYSICAL).map(|(found, expected)| (without_scans(&found), without_scans(&expected)));
    Some(Compared { logical, physical })
}

/// A physical plan that says where there is a scan and not what it reads.
fn without_scans(lines: &[String]) -> Vec<String> {
    let scan = |line: &String| {
        let at = ["DataSourceExec", "EmptyExec"].iter().find_map(|scan| line.find(scan));
        match at {
            Some(at) => format!("{}scan", &line[..at]),
            None => line.clone(),
        }
    };
    lines.iter().map(scan).collect()
}

/// A table that has no files, or none that a filter leaves, is read as nothing.
fn reads_a_table(line: &str) -> bool {
    line.contains("file_type=parquet") || line.contains("EmptyExec")
}

/// Nothing for an answer that has other parts, such as the steps on the way to a plan, or what running it took.
fn read(lines: &[String]) -> Option<Plans> {
    let mut plans = Plans::new();
    let mut kind: Option<String> = None;
    for line in lines {
        if let Some(content) = numbered(line) {
            plans
                .entry(kind.clone()?)
                .or_default()
                .push(without_pushed_filters(content));
            continue;
        }
        let (word, content) = line.split_once(' ').unwrap_or((line.as_str(), ""));
        if ![LOGICAL, PHYSICAL].contains(&word) {
            return None;
        }
        kind = Some(word.to_owned());
        // A plan of one line stands beside its kind.
        let only = (!content.is_empty()).then(|| without_pushed_filters(content));
        plans.entry(word.to_owned()).or_default().extend(only);
    }
    Some(plans)
}

/// The line of a plan behind its number.
fn numbered(line: &str) -> Option<&str> {
    let (number, content) = line.split_once(')')?;
    let is_number = number.len() >= 2 && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(content)
}

/// A scan tells which filters it was given to leave out files with; memory is not given any. The filter itself is a line
/// of its own in both.
fn without_pushed_filters(line: &str) -> String {
    let mut line = line.to_owned();
    for how in ["full", "partial", "unsupported"] {
        let begin = format!(", {how}_filters=[");
        while let Some(at) = line.find(&begin) {
            let mut depth = 1;
            let inside = at + begin.len();
            let end = line[inside..].find(|c: char| {
                match c {
                    '[' => depth += 1,
                    ']' => depth -= 1,
                    _ => {}
                }
                depth == 0
            });
            let end = end.map_or(line.len(), |end| inside + end + 1);
            line.replace_range(at..end, "");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::plans;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_filter_that_a_scan_is_given_is_no_difference_between_plans() {
        let ours = lines(
            "logical_plan\n01)Filter: t.a = Int64(1)\n02)--TableScan: t projection=[a], partial_filters=[t.a = make_array([1])]\n\
             physical_plan\n01)DataSourceExec: file_groups={}, file_type=parquet",
        );
        let theirs = lines(
            "logical_plan\n01)Filter: t.a = Int64(1)\n02)--TableScan: t projection=[a]\n\
             physical_plan\n01)DataSourceExec: partitions=1",
        );

        let compared = plans(&ours, &theirs).expect("ours reads a table");

        let (found, expected) = compared.logical.expect("both have a logical plan");
        assert_eq!(found, expected);
        let (found, expected) = compared.physical.expect("both have a physical plan");
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_done_with_the_rows_of_a_scan_is_compared() {
        let ours = lines("physical_plan\n01)SortExec: a\n02)--DataSourceExec: file_groups={}, file_type=parquet");
        let theirs = lines("physical_plan\n01)CoalesceExec: a\n02)--DataSourceExec: partitions=1");

        let (found, expected) = plans(&ours, &theirs)
            .and_then(|compared| compared.physical)
            .expect("both have a physical plan");

        assert_ne!(found, expected);
    }

    #[test]
    fn a_plan_that_reads_no_table_of_ours_is_compared_as_a_whole() {
        let ours = lines("logical_plan EmptyRelation: rows=1\nphysical_plan PlaceholderRowExec");
        let steps = lines("initial_logical_plan\n01)EmptyRelation: rows=1");

        assert!(plans(&ours, &ours).is_none());
        assert!(plans(&steps, &steps).is_none());
    }
}
