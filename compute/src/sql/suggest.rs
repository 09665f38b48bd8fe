//! The nearest name to one that does not exist.

/// The name of `known` that was most probably meant by `written`, if any is near enough to say so.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    // A third of the letters may be wrong; beyond that a suggestion is noise.
    let bound = (written.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(&written, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_letter_too_few_or_two_swapped_still_finds_the_name() {
        assert_eq!(
            nearest("sales.order", ["sales.orders", "sales.items"]),
            Some("sales.orders")
        );
        assert_eq!(nearest("slaes.orders", ["sales.orders"]), Some("sales.orders"));
    }

    #[test]
    fn a_name_that_is_nothing_like_any_other_gets_no_suggestion() {
        assert_eq!(nearest("invoices", ["sales.orders", "sales.items"]), None);
    }
}
