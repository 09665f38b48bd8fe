//! Whether two answers in CSV are the same.

/// The records of a CSV text.
pub(crate) fn records(csv: &str) -> Vec<Vec<String>> {
    let reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(csv.as_bytes());
    reader
        .into_records()
        .map(|record| record.expect("it is CSV").iter().map(str::to_owned).collect())
        .collect()
}

/// Where two answers first differ.
pub(crate) fn difference(known: &[Vec<String>], found: &[Vec<String>]) -> Option<String> {
    for (row, (known, found)) in known.iter().zip(found).enumerate() {
        if known.len() != found.len() || !known.iter().zip(found).all(|(known, found)| is_same(known, found)) {
            return Some(format!("row {row} is {found:?} and should be {known:?}"));
        }
    }
    (known.len() != found.len()).then(|| format!("{} rows and should be {}", found.len(), known.len()))
}

/// Averages and quotients may be doubles or decimals; they agree to the digits that both have.
fn is_same(known: &str, found: &str) -> bool {
    match (known.parse::<f64>(), found.parse::<f64>()) {
        (Ok(known), Ok(found)) => (known - found).abs() <= 1e-5 + 1e-9 * known.abs(),
        _ => known == found,
    }
}
