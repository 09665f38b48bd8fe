//! What is wrong with a file that the engine could not read, for whoever sent it.
//!
//! The engine's own words are about its parts. The file is the sender's, so the fault is told in words about the file; a
//! fault of the store or of the worker stays what it is.

use std::error::Error as StdError;
use std::io;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use super::malformed;
use crate::SqlError;
use crate::task::LoadFormat;

/// `error` as a sentence about a file of `format`, if the file is what is wrong.
pub(super) fn explain(error: DataFusionError, format: &LoadFormat) -> DataFusionError {
    if !is_about_the_file(&error) {
        return error;
    }
    let message = match format {
        // They are read by ourselves, who say it at once.
        LoadFormat::Csv { .. } | LoadFormat::Json => return error,
        LoadFormat::Parquet => "the file is not Parquet, or a part of it is missing",
        LoadFormat::Arrow => "the file is not an Arrow IPC file or stream, or a part of it is missing",
    };
    malformed(message.to_owned()).into()
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
mod tests {
    use super::*;
    use crate::sql::blame;

    #[test]
    fn a_fault_of_the_file_is_told_in_words_about_the_file() {
        let engine = ArrowError::ParquetError("Invalid thrift".to_owned());

        let told = blame::sql_error(&explain(engine.into(), &LoadFormat::Parquet));

        assert_eq!(told.message, "the file is not Parquet, or a part of it is missing");
    }

    #[test]
    fn a_fault_of_the_store_is_not_the_files() {
        let missing = object_store::Error::NotFound {
            path: "upload".to_owned(),
            source: "gone".into(),
        };

        let told = explain(missing.into(), &LoadFormat::Parquet);

        assert!(matches!(told, DataFusionError::ObjectStore(_)));
    }
}
