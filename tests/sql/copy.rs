//! `COPY … TO`, read as what it asks for.
//!
//! What is not understood here goes to the product as it is, which refuses it.

use crate::formats::{self, Format, Options};
use crate::words::Words;

/// A query whose rows become files.
#[derive(Debug)]
pub(crate) struct CopyTo {
    pub(crate) query: String,
    pub(crate) to: String,
    pub(crate) format: Format,
    pub(crate) is_partitioned: bool,
    pub(crate) options: Options,
}

impl CopyTo {
    pub(crate) fn of(sql: &str) -> Option<Self> {
        let mut words = Words::of(sql);
        if !words.take(&["copy"]) {
            return None;
        }
        let query = match words.group() {
            Some(query) => query.to_owned(),
            None => format!("select * from {}", words.name()?),
        };
        if !words.take(&["to"]) {
            return None;
        }
        let to = formats::path(words.word()?)?;
        let (mut format, mut is_partitioned, mut options) = (Format::of_path(&to), false, Options::new());
        while !words.is_done() {
            if words.take(&["stored", "as"]) {
                format = Some(Format::of(words.word()?)?);
            } else if words.take(&["partitioned", "by"]) {
                words.group()?;
                is_partitioned = true;
            } else if words.take(&["options"]) {
                options = formats::options(words.group()?)?;
            } else {
                return None;
            }
        }
        Some(Self {
            query,
            to,
            format: format?,
            is_partitioned,
            options,
        })
    }
}
