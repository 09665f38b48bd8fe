//! Formats of files, and the options that statements give with them.

use std::collections::BTreeMap;

use crate::words::{Words, list, unquoted};

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    Json,
    Parquet,
    Arrow,
}

/// Names in lower case and without `format.`, and their values.
pub(crate) type Options = BTreeMap<String, String>;

impl Format {
    /// The format that `STORED AS` names.
    pub(crate) fn of(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            "parquet" => Some(Self::Parquet),
            "arrow" => Some(Self::Arrow),
            _ => None,
        }
    }

    /// The format that the end of a path names.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        path.rsplit_once('.').and_then(|(_, ending)| Self::of(ending))
    }

    /// Its word in a request.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }
}

/// What stands in the parentheses behind `OPTIONS`. An option that is given twice, or without a value, is a mistake.
pub(crate) fn options(text: &str) -> Option<Options> {
    let mut found = Options::new();
    for item in list(text) {
        let mut words = Words::of(item);
        let name = unquoted(words.word()?).to_ascii_lowercase();
        let value = unquoted(words.word()?);
        if !words.is_done() {
            return None;
        }
        let name = name.strip_prefix("format.").unwrap_or(&name).to_owned();
        if found.insert(name, value).is_some() {
            return None;
        }
    }
    Some(found)
}

/// Whether this option of a Parquet file changes how it lies on the disk and nothing that is read from it.
pub(crate) fn is_layout(name: &str) -> bool {
    const LAYOUT: [&str; 14] = [
        "bloom_filter_",
        "column_index_truncate_length",
        "compression",
        "content_defined_chunking.",
        "created_by",
        "data_page_row_count_limit",
        "data_pagesize_limit",
        "dictionary_",
        "encoding",
        "max_row_group_",
        "statistics_enabled",
        "statistics_truncate_length",
        "write_batch_size",
        "writer_version",
    ];
    LAYOUT.iter().any(|begin| name.starts_with(begin))
}

/// A path in the suite's own tree. Nothing is opened anywhere else.
pub(crate) fn path(text: &str) -> Option<String> {
    let text = text.trim();
    (text.starts_with('\'') && !text.contains("://")).then(|| unquoted(text))
}
