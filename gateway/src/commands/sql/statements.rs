//! Where one statement ends and the next begins, as far as a terminal has to know.
//!
//! # Invariants
//! - Only the server parses SQL. Here a `;` is found or not, and a text is cut, never changed.
//! - A `;` in a string, a quoted name, a comment or a dollar-quoted text ends nothing.

/// A text cut at its `;`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut<'a> {
    /// The statements that are complete, without their `;`, none of them blank.
    pub(super) statements: Vec<&'a str>,
    /// What comes after the last `;`.
    pub(super) rest: &'a str,
}

/// Cuts `text` at every `;` that ends a statement.
pub(super) fn cut(text: &str) -> Cut<'_> {
    let mut statements = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < text.len() {
        if text.as_bytes()[at] == b';' {
            let statement = &text[start..at];
            if !is_blank(statement) {
                statements.push(statement.trim());
            }
            start = at + 1;
        }
        at = token(text, at).end;
    }
    Cut {
        statements,
        rest: &text[start..],
    }
}

/// True when there is nothing to run in `text`: only space and closed comments.
pub(super) fn is_blank(text: &str) -> bool {
    let mut at = 0;
    while at < text.len() {
        let token = token(text, at);
        let blank = text[at..].starts_with("--") || (text[at..].starts_with("/*") && token.closed);
        if !blank && !text[at..token.end].trim().is_empty() {
            return false;
        }
        at = token.end;
    }
    true
}

struct Token {
    end: usize,
    /// False when the text ended before the quote or comment did.
    closed: bool,
}

/// The smallest piece that starts at `at` and in which a `;` would mean nothing, or one character.
fn token(text: &str, at: usize) -> Token {
    let bytes = text.as_bytes();
    let rest = &text[at..];
    if rest.starts_with("--") {
        let end = rest.find('\n').map_or(text.len(), |end| at + end + 1);
        return Token { end, closed: true };
    }
    if rest.starts_with("/*") {
        return comment(text, at);
    }
    match bytes[at] {
        // Two quotes inside quotes are one quote, and to us two texts side by side: the same cut.
        quote @ (b'\'' | b'"' | b'`') => quoted(text, at, quote, quote == b'\'' && is_escape_string(bytes, at)),
        b'$' => dollar_quoted(text, at),
        _ => Token {
            end: at + rest.chars().next().map_or(1, char::len_utf8),
            closed: true,
        },
    }
}

/// A comment that may hold comments.
fn comment(text: &str, start: usize) -> Token {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = start;
    while at < bytes.len() {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Token { end: at, closed: true };
                }
            }
            _ => at += 1,
        }
    }
    Token {
        end: text.len(),
        closed: false,
    }
}

fn quoted(text: &str, start: usize, quote: u8, escapes: bool) -> Token {
    let bytes = text.as_bytes();
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 2,
            byte if byte == quote => {
                return Token {
                    end: at + 1,
                    closed: true,
                };
            }
            _ => at += 1,
        }
    }
    Token {
        end: text.len(),
        closed: false,
    }
}

/// True when the quote at `at` follows a lonely `E`, as in `E'it\'s'`.
fn is_escape_string(bytes: &[u8], at: usize) -> bool {
    at >= 1 && matches!(bytes[at - 1], b'e' | b'E') && (at == 1 || !is_word(bytes[at - 2]))
}

/// `$$ … $$` or `$tag$ … $tag$`; a lone `$`, as in the parameter `$1`, is one character.
fn dollar_quoted(text: &str, at: usize) -> Token {
    let bytes = text.as_bytes();
    let one = Token {
        end: at + 1,
        closed: true,
    };
    if at > 0 && is_word(bytes[at - 1]) {
        return one;
    }
    let Some(tag_end) = text[at + 1..].find('$').map(|end| at + 1 + end) else {
        return one;
    };
    let tag = &bytes[at + 1..tag_end];
    if tag.first().is_some_and(u8::is_ascii_digit) || !tag.iter().copied().all(is_word) {
        return one;
    }
    let fence = &text[at..=tag_end];
    match text[tag_end + 1..].find(fence) {
        Some(end) => Token {
            end: tag_end + 1 + end + fence.len(),
            closed: true,
        },
        None => Token {
            end: text.len(),
            closed: false,
        },
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_their_semicolon() {
        let Cut { statements, rest } = cut("select 1; select\n 2 ;\n\n select 3");
        assert_eq!(statements, ["select 1", "select\n 2"]);
        assert_eq!(rest, "\n\n select 3");
    }

    #[test]
    fn a_semicolon_inside_something_else_ends_nothing() {
        for statement in [
            "select 'a;b'",
            "select 'it''s; fine'",
            r"select E'it\'s; fine', e'\\'",
            "select \"odd;name\", \"a\"\"b;\", `c;d`",
            "select 1 -- not here;\n + 1",
            "select /* nor; /* here; */ nor; */ 1",
            "select $$ a; b $$, $body$ $$; $other$; $body$",
            "select 'ü;', 'ü' || $ü$;$ü$",
        ] {
            let text = format!("{statement};select 2;");
            assert_eq!(
                cut(&text),
                Cut {
                    statements: vec![statement, "select 2"],
                    rest: ""
                },
                "{statement}"
            );
        }
    }

    #[test]
    fn a_backslash_in_a_plain_string_is_a_letter() {
        assert_eq!(
            cut(r"select '\'; select like'\';").statements,
            [r"select '\'", r"select like'\'"]
        );
    }

    #[test]
    fn parameters_are_not_dollar_quotes() {
        assert_eq!(cut("select $1; select $2").statements, ["select $1"]);
        assert_eq!(cut("select $day; select $day").statements, ["select $day"]);
        assert_eq!(cut("select a$b; select a$b").statements, ["select a$b"]);
    }

    #[test]
    fn a_text_that_is_still_open_is_the_rest() {
        for open in [
            "select 'a;",
            "select \";",
            "select /* ; ",
            "select $x$ ; $y$",
            r"select E'\'; ",
            "/* ; /* */ ;",
        ] {
            assert_eq!(
                cut(open),
                Cut {
                    statements: vec![],
                    rest: open
                },
                "{open}"
            );
            assert!(!is_blank(open));
        }
    }

    #[test]
    fn comments_and_lonely_semicolons_are_nothing_to_run() {
        assert_eq!(cut(";; -- a\n ; /* b */ ;").statements, Vec::<&str>::new());
        assert!(is_blank(" \n-- a; b\n/* c */ "));
        assert!(!is_blank("/* open"));
    }
}
