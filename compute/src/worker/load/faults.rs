//! What is wrong with a file that the engine could not read, for whoever sent it.
//!
//! The engine's own words are about its parts. The file is the sender's, so the fault is told in words about the file; a
//! fault of the store or of the worker stays what it is.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::ReaderBuilder;
use datafusion::arrow::json::reader::Decoder;
use datafusion::error::DataFusionError;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use serde::de::IgnoredAny;
use tokio::io::AsyncBufReadExt;
use tokio_util::io::StreamReader;

use super::{Staged, bytes};
use crate::task::LoadFormat;
use crate::{Code, SqlError};

/// How much of the engine's reason an error repeats.
const CHARS_OF_A_REASON: usize = 200;

/// The faults of one file.
#[derive(Debug)]
pub(super) struct Faults {
    staged: Staged,
    format: LoadFormat,
    /// What its lines should hold, if that is known and it has lines.
    columns: Option<SchemaRef>,
}

impl Faults {
    pub(super) fn new(staged: Staged, format: LoadFormat) -> Self {
        Self {
            staged,
            format,
            columns: None,
        }
    }

    pub(super) fn with_columns(self, columns: &SchemaRef) -> Self {
        Self {
            columns: Some(Arc::clone(columns)),
            ..self
        }
    }

    /// `error` as a sentence about the file, if the file is what is wrong.
    pub(super) async fn explain(&self, error: DataFusionError) -> DataFusionError {
        if !is_about_the_file(&error) {
            return error;
        }
        let message = match self.format {
            LoadFormat::Csv { .. } => return error,
            LoadFormat::Parquet => "the file is not Parquet, or a part of it is missing".to_owned(),
            LoadFormat::Arrow => "the file is not an Arrow IPC file or stream, or a part of it is missing".to_owned(),
            LoadFormat::Json => match self.first_bad_line().await {
                Ok(Some(message)) => message,
                Ok(None) => format!(
                    "the lines of the file do not fit together: {}",
                    reason(&error.find_root().to_string())
                ),
                Err(_) => return error,
            },
        };
        SqlError::new(Code::TypeMismatch, message).into()
    }

    /// The engine reads parts of a file at once and counts no lines, so they are read again to find the one.
    async fn first_bad_line(&self) -> io::Result<Option<String>> {
        let file = self
            .staged
            .store
            .get(&self.staged.path)
            .await
            .map_err(io::Error::other)?;
        let mut lines = StreamReader::new(file.into_stream().map_err(io::Error::other)).split(b'\n');
        let mut line = 0_u64;
        let mut decoder = self.columns.as_deref().and_then(decoder);
        while let Some(text) = lines.next_segment().await? {
            line += 1;
            if let Some(fault) = self.fault_of_line(&text, decoder.as_mut()) {
                return Ok(Some(format!("line {line} of the file {fault}")));
            }
        }
        Ok(None)
    }

    fn fault_of_line(&self, text: &[u8], decoder: Option<&mut Decoder>) -> Option<String> {
        let text = text.trim_ascii();
        if text.is_empty() {
            return None;
        }
        if let Err(error) = serde_json::from_slice::<IgnoredAny>(text) {
            let why = error.to_string().replace(" at line 1 column ", " at character ");
            return Some(format!("is not JSON: {why}"));
        }
        if text[0] != b'{' {
            return Some("is not a JSON object".to_owned());
        }
        let row = match decoder.map(|decoder| decoder.decode(text).and_then(|_| decoder.flush()))? {
            Ok(row) => row?,
            Err(error) => return Some(format!("does not fit: {}", reason(&error.to_string()))),
        };
        let columns = self.columns.as_ref()?.fields().iter().zip(row.columns());
        let mut not_base64 = columns.filter(|(field, values)| bytes::from_text(values, field.data_type()).is_none());
        not_base64
            .next()
            .map(|(field, _)| format!("does not fit: column {} is not base64", field.name()))
    }
}

fn decoder(columns: &Schema) -> Option<Decoder> {
    let fields: Vec<_> = columns
        .fields()
        .iter()
        .map(|field| bytes::field_as_text(field))
        .collect();
    ReaderBuilder::new(Arc::new(Schema::new(fields))).build_decoder().ok()
}

/// The engine's reason without the name of its part, and no longer than a sentence should be.
fn reason(text: &str) -> String {
    let text = text.lines().next().unwrap_or_default();
    let text = text.strip_prefix("Arrow error: ").unwrap_or(text);
    let text = text.strip_prefix("Json error: ").unwrap_or(text);
    text.replace("whilst decoding field", "in column")
        .chars()
        .take(CHARS_OF_A_REASON)
        .collect()
}

fn is_about_the_file(error: &DataFusionError) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        let not_the_file = match error.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::ResourcesExhausted(_) | DataFusionError::Internal(_)) => true,
            _ => error.is::<object_store::Error>() || error.is::<SqlError>(),
        };
        let out_of_memory = matches!(error.downcast_ref(), Some(ArrowError::MemoryError(_)));
        let disk = error.downcast_ref::<io::Error>().is_some_and(|error| {
            !matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
            )
        });
        if not_the_file || out_of_memory || disk {
            return false;
        }
        cause = error.source();
    }
    true
}

#[cfg(test)]
mod tests;
