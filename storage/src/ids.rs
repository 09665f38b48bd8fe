//! Names and ids: parse, don't validate.
//!
//! # Invariants
//! - A value of these types obeys its rule; nobody downstream checks again. Deserialising checks too.
//! - A name is a lower-case ASCII identifier, so it is safe in SQL, in a URL and in an object path without quoting.
//! - An id is time-ordered (UUID v7) and written with a prefix that says what it is the id of.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::{NoContext, Uuid};

use crate::Error;
use crate::clock::Timestamp;

/// The longest identifier, as in PostgreSQL.
pub const MAX_IDENTIFIER_BYTES: usize = 63;

/// The longest name of a principal.
const MAX_PRINCIPAL_BYTES: usize = 128;

/// A text that is not the name or id it was taken for. The message says the text, and the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(String);

impl InvalidName {
    pub(crate) fn new(text: &str, rule: impl fmt::Display) -> Self {
        // The text is a stranger's and may be of any length; a sentence quotes the beginning.
        match text.char_indices().nth(100) {
            Some((end, _)) => Self(format!("'{}…' {rule}", &text[..end])),
            None => Self(format!("'{text}' {rule}")),
        }
    }
}

impl From<InvalidName> for Error {
    fn from(error: InvalidName) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// Who owns data and pays for queries: a lower-case identifier.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProjectId(String);

impl ProjectId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProjectId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        identifier(text, "project").map(Self)
    }
}

/// A dataset of a project (SQL calls it a schema): a lower-case identifier.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatasetName(String);

impl DatasetName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatasetName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "information_schema" => Err(InvalidName::new(
                text,
                "cannot name a dataset: it belongs to SQL itself",
            )),
            text => identifier(text, "dataset").map(Self),
        }
    }
}

/// `dataset.table`, both parts lower-case identifiers. Views are named like tables and share their namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName {
    dataset: DatasetName,
    table: String,
}

impl TableName {
    /// `table` in `dataset`.
    pub fn new(dataset: DatasetName, table: &str) -> Result<Self, InvalidName> {
        Ok(Self {
            dataset,
            table: identifier(table, "table")?,
        })
    }

    /// The part before the dot.
    pub fn dataset(&self) -> &DatasetName {
        &self.dataset
    }

    /// The part after the dot.
    pub fn table(&self) -> &str {
        &self.table
    }
}

impl FromStr for TableName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('.') {
            Some((dataset, table)) => Self::new(dataset.parse()?, table),
            None => Err(InvalidName::new(text, "cannot name a table: write dataset.table")),
        }
    }
}

/// A query, for ever: `q_` and 32 hexadecimal digits, ordered by when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueryId(Uuid);

impl QueryId {
    /// An id nobody else has, made at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(unique(now))
    }

    /// When it was made, to the microsecond.
    pub fn made_at(&self) -> Timestamp {
        let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |made| made.to_unix());
        Timestamp::from_micros(i64::try_from(seconds).unwrap_or(0) * 1_000_000 + i64::from(nanos / 1_000))
    }
}

impl FromStr for QueryId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        uuid_after("q_", text, "query id").map(Self)
    }
}

/// One table for ever, whatever it is called: a dropped and recreated table is another. `t_` and 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableUid(Uuid);

impl TableUid {
    /// An id nobody else has, made at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(unique(now))
    }
}

impl FromStr for TableUid {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        uuid_after("t_", text, "table id").map(Self)
    }
}

/// One worker process that offers itself to every gateway. `w_` and 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkerId(Uuid);

impl WorkerId {
    /// An id nobody else has, made at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(unique(now))
    }
}

impl FromStr for WorkerId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        uuid_after("w_", text, "worker id").map(Self)
    }
}

/// Somebody who may enter a project, a person or a program: a name such as `ada@example.com` or `etl`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrincipalName(String);

impl PrincipalName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PrincipalName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let goes_on_well = text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-+@".contains(&b));
        match starts_well && goes_on_well && text.len() <= MAX_PRINCIPAL_BYTES {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidName::new(
                text,
                "cannot name a user or a service account: use at most 128 lower-case letters, digits and . _ - + @, \
                 beginning with a letter or a digit",
            )),
        }
    }
}

/// A key, by half of its hash, which opens nothing. `k_` and 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

impl KeyId {
    /// The id of the key that has this hash.
    pub fn of_hash(hash: &[u8; 32]) -> Self {
        let digits = blake3::Hash::from_bytes(*hash).to_hex();
        Self(digits[..32].to_owned())
    }

    /// What is behind `k_`.
    pub(crate) fn digits(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("k_").filter(|digits| {
            digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        });
        let digits = digits
            .ok_or_else(|| InvalidName::new(text, "is not a key id: write k_ and 32 lower-case hexadecimal digits"))?;
        Ok(Self(digits.to_owned()))
    }
}

/// A line of an audit log: `a_` and 32 hexadecimal digits, ordered by when it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AuditId(Uuid);

impl AuditId {
    /// An id nobody else has, made at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(unique(now))
    }
}

impl FromStr for AuditId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        uuid_after("a_", text, "audit id").map(Self)
    }
}

impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k_{}", self.0)
    }
}

impl fmt::Display for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a_{}", self.0.as_simple())
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.dataset, self.table)
    }
}

impl fmt::Display for QueryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "q_{}", self.0.as_simple())
    }
}

impl fmt::Display for TableUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t_{}", self.0.as_simple())
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w_{}", self.0.as_simple())
    }
}

/// Serde speaks of these types as text, in both directions through the same door as everyone else.
macro_rules! as_text {
    ($($name:ty),+) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }
    )+};
}

as_text!(
    ProjectId,
    DatasetName,
    TableName,
    QueryId,
    TableUid,
    WorkerId,
    PrincipalName,
    KeyId,
    AuditId
);

fn identifier(text: &str, kind: &'static str) -> Result<String, InvalidName> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let goes_on_well = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if starts_well && goes_on_well && text.len() <= MAX_IDENTIFIER_BYTES {
        Ok(text.to_owned())
    } else {
        Err(InvalidName::new(
            text,
            format_args!(
                "cannot name a {kind}: use at most 63 lower-case letters, digits and underscores, \
                 beginning with a letter or an underscore"
            ),
        ))
    }
}

/// A fresh UUID v7. Ids made in one microsecond are unique but in no particular order.
fn unique(now: Timestamp) -> Uuid {
    let micros = u64::try_from(now.micros()).unwrap_or(0);
    let nanos = u32::try_from(micros % 1_000_000 * 1_000).expect("less than a second of nanoseconds fits in 32 bits");
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, micros / 1_000_000, nanos))
}

/// One spelling per id: anything but lower-case digits without hyphens is another text, so it is no id.
fn uuid_after(prefix: &'static str, text: &str, kind: &'static str) -> Result<Uuid, InvalidName> {
    let digits = text.strip_prefix(prefix).filter(|digits| {
        digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    });
    match digits.map(Uuid::try_parse) {
        Some(Ok(uuid)) => Ok(uuid),
        _ => Err(InvalidName::new(
            text,
            format_args!("is not a {kind}: write {prefix} and 32 lower-case hexadecimal digits"),
        )),
    }
}

#[cfg(test)]
mod tests;
