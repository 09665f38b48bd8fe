//! SQL as words, for the few statements that the runner carries out itself.

/// A word, a quoted text or a sign, and where it begins.
#[derive(Clone, Copy, Debug)]
struct Word<'a> {
    text: &'a str,
    at: usize,
}

/// A statement that is read from its first word to its last. Comments are not words.
#[derive(Debug)]
pub(crate) struct Words<'a> {
    sql: &'a str,
    words: Vec<Word<'a>>,
    next: usize,
}

impl<'a> Words<'a> {
    pub(crate) fn of(sql: &'a str) -> Self {
        let mut words = Vec::new();
        let mut at = 0;
        while let Some(first) = sql[at..].chars().next() {
            let rest = &sql[at..];
            let length = length_of(rest, first);
            let is_silent = first.is_whitespace() || rest.starts_with("--") || rest.starts_with("/*");
            if !is_silent {
                words.push(Word {
                    text: &rest[..length],
                    at,
                });
            }
            at += length;
        }
        Self { sql, words, next: 0 }
    }

    /// The next word.
    pub(crate) fn word(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.next)?.text;
        self.next += 1;
        Some(word)
    }

    /// Goes on behind these words if they are the next ones, and tells whether they are.
    pub(crate) fn take(&mut self, expected: &[&str]) -> bool {
        let upcoming = &self.words[self.next..];
        let is_next = upcoming.len() >= expected.len()
            && upcoming
                .iter()
                .zip(expected)
                .all(|(word, expected)| word.text.eq_ignore_ascii_case(expected));
        if is_next {
            self.next += expected.len();
        }
        is_next
    }

    /// A name with its quotes and all of its parts.
    pub(crate) fn name(&mut self) -> Option<&'a str> {
        let first = *self.words.get(self.next).filter(|word| is_part(word))?;
        let mut end = first.at + first.text.len();
        self.next += 1;
        while let Some(part) = self.words.get(self.next).copied() {
            if part.at != end || !is_part(&part) {
                break;
            }
            end = part.at + part.text.len();
            self.next += 1;
        }
        let sql = self.sql;
        Some(&sql[first.at..end])
    }

    /// What stands between the parenthesis that comes next and its partner.
    pub(crate) fn group(&mut self) -> Option<&'a str> {
        let open = *self.words.get(self.next).filter(|word| word.text == "(")?;
        let mut depth = 0_usize;
        for index in self.next..self.words.len() {
            let word = self.words[index];
            match word.text {
                "(" => depth += 1,
                ")" if depth == 1 => {
                    self.next = index + 1;
                    let sql = self.sql;
                    return Some(&sql[open.at + 1..word.at]);
                }
                ")" => depth -= 1,
                _ => {}
            }
        }
        None
    }

    /// Everything that has not been read.
    pub(crate) fn rest(&self) -> &'a str {
        let sql = self.sql;
        let at = self.words.get(self.next).map_or(sql.len(), |word| word.at);
        &sql[at..]
    }

    /// Whether nothing is left but the end of a statement.
    pub(crate) fn is_done(&self) -> bool {
        self.words[self.next..].iter().all(|word| word.text == ";")
    }
}

fn is_part(word: &Word<'_>) -> bool {
    word.text.starts_with(|c: char| is_letter(c) || c == '"')
}

/// How many bytes the first word has, or the space or comment that stands there.
fn length_of(rest: &str, first: char) -> usize {
    if rest.starts_with("--") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    match first {
        '\'' | '"' => quoted_length(rest, first),
        _ if is_letter(first) => rest.find(|c: char| !is_letter(c)).unwrap_or(rest.len()),
        _ => first.len_utf8(),
    }
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut at = 1;
    while let Some(end) = rest[at..].find(quote) {
        at += end + 1;
        if !rest[at..].starts_with(quote) {
            return at;
        }
        // Two quotes are one that is meant.
        at += 1;
    }
    rest.len()
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '$')
}

/// What a `CREATE TABLE` declares between its first brackets.
pub(crate) fn declared_columns(sql: &str) -> Option<&str> {
    let mut words = Words::of(sql);
    if !words.take(&["create"]) {
        return None;
    }
    words.take(&["or", "replace"]);
    if !words.take(&["table"]) {
        return None;
    }
    words.take(&["if", "not", "exists"]);
    words.name()?;
    words.group()
}

/// The items of a list, split at the commas that are in no brackets.
pub(crate) fn list(text: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let (mut depth, mut begin) = (0_i32, 0);
    for word in Words::of(text).words {
        match word.text {
            "(" | "[" | "<" | "{" => depth += 1,
            ")" | "]" | ">" | "}" => depth -= 1,
            "," if depth == 0 => {
                items.push(&text[begin..word.at]);
                begin = word.at + 1;
            }
            _ => {}
        }
    }
    items.push(&text[begin..]);
    items.retain(|item| !Words::of(item).is_done());
    items
}

/// A text or a name without its quotes.
pub(crate) fn unquoted(text: &str) -> String {
    for (quote, twice) in [("'", "''"), ("\"", "\"\"")] {
        let inner = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner.replace(twice, quote);
        }
    }
    text.to_owned()
}

/// A name as the engine knows it: as it is written if it has quotes, in lower case otherwise.
pub(crate) fn plain_name(name: &str) -> String {
    if name.starts_with('"') {
        unquoted(name)
    } else {
        name.to_ascii_lowercase()
    }
}

/// Whether a statement says in which order its rows come: itself, and not only in a part of it.
pub(crate) fn is_ordered(sql: &str) -> bool {
    let words = Words::of(sql).words;
    let mut depth = 0i32;
    words.windows(2).any(|pair| {
        match pair[0].text {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            _ => {}
        }
        depth == 0 && pair[0].text.eq_ignore_ascii_case("order") && pair[1].text.eq_ignore_ascii_case("by")
    })
}

#[test]
fn a_statement_is_ordered_by_its_own_order_and_not_by_one_inside() {
    assert!(is_ordered("select a from (select 1 as a) order by a"));
    assert!(!is_ordered(
        "select first_value(a order by a) from (select 1 as a order by 1) limit 2"
    ));
}
