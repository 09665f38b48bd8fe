//! Where a record of CSV ends, for texts whose rows nobody else has counted.

/// The records of `text`, each without the line end after it. A line end inside quotes is part of a value.
pub(crate) fn records(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut quoted = false;
        let end = rest.bytes().position(|byte| {
            quoted ^= byte == b'"';
            byte == b'\n' && !quoted
        });
        let (record, after) = match end {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, ""),
        };
        rest = after;
        Some(record.strip_suffix('\r').unwrap_or(record))
    })
}

/// The values of one record, unquoted.
pub(crate) fn values(record: &str) -> Vec<String> {
    let mut values = vec![String::new()];
    let mut quoted = false;
    let mut letters = record.chars().peekable();
    while let Some(letter) = letters.next() {
        let value = values.last_mut().expect("there is always a value being read");
        match letter {
            // Two quotes inside quotes are one quote.
            '"' if quoted && letters.peek() == Some(&'"') => value.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => values.push(String::new()),
            letter => value.push(letter),
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_end_inside_quotes_does_not_end_a_record() {
        let found: Vec<_> = records("a,b\r\n1,\"x\ny\"\n\n2,\"\"\"\n\"").collect();
        assert_eq!(found, ["a,b", "1,\"x\ny\"", "", "2,\"\"\"\n\""]);
    }

    #[test]
    fn values_lose_their_quotes_and_nothing_else() {
        assert_eq!(values(r#"1,"a,""b""", c ,,"" "#), ["1", r#"a,"b""#, " c ", "", " "]);
    }
}
