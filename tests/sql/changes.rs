//! `SET` and `RESET`: statements about a session, which HTTP does not have.

use crate::words::unquoted;

/// What the caller has to remember.
#[derive(Debug)]
pub(crate) enum Change {
    Set(String, String),
    Reset(String),
}

impl Change {
    pub(crate) fn of(sql: &str) -> Option<Self> {
        let sql = sql.trim().trim_end_matches(';').trim();
        let (word, rest) = sql.split_once(char::is_whitespace)?;
        let rest = rest.trim();
        if word.eq_ignore_ascii_case("reset") {
            let name = rest.to_ascii_lowercase();
            return Some(Self::Reset(match name.as_str() {
                "timezone" | "time zone" => "datafusion.execution.time_zone".to_owned(),
                _ => name,
            }));
        }
        if !word.eq_ignore_ascii_case("set") {
            return None;
        }
        let lower = rest.to_ascii_lowercase();
        let zone = lower
            .strip_prefix("time zone")
            .or_else(|| lower.strip_prefix("timezone"));
        let (name, value) = if let Some(value) = zone {
            (
                "datafusion.execution.time_zone".to_owned(),
                &rest[rest.len() - value.len()..],
            )
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || c == '=')?;
            (lower[..end].to_owned(), &rest[end..])
        };
        let value = value.trim();
        let value = match value.get(..3) {
            Some(to) if to.eq_ignore_ascii_case("to ") => &value[3..],
            _ => value.trim_start_matches('='),
        };
        Some(Self::Set(name, unquoted(value.trim())))
    }
}
