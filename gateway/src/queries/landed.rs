//! What a query leaves behind when it has an answer: rows, files that wait for their commit, what changes in the catalog.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use wasmhouse_compute::sql::{Kind, Statement};
use wasmhouse_compute::task::ExportedFile;
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::catalog::Effect;
use wasmhouse_storage::queries::Usage;
use wasmhouse_storage::results::{ResultManifest, ResultWriter};
use wasmhouse_storage::tables::WrittenFile;

use super::attempt::{Talk, defect};
use super::flight::Flight;
use super::target::Target;
use super::{House, Work};
use crate::billing::receipt::ReadTable;
use crate::error::{Error, Result};

/// Everything that a query leaves behind, held until it is settled.
#[derive(Default)]
pub(super) struct Landed {
    pub(super) usage: Usage,
    /// What it read.
    pub(super) reads: Vec<ReadTable>,
    /// How its plan ran, as JSON.
    pub(super) profile: Option<String>,
    pub(super) results: Option<ResultManifest>,
    pub(super) commit: Option<Commit>,
    /// What it changes in the catalog, if there is no commit to say it.
    pub(super) effect: Effect,
    /// What is no failure when the query ends.
    pub(super) lenient: Lenient,
}

/// What may have happened to a name since it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lenient {
    /// Nothing.
    #[default]
    No,
    /// `if not exists`: somebody else may have taken it.
    Taken,
    /// `if exists`: it may be gone.
    Gone,
}

impl Lenient {
    pub(super) fn excuses(self, error: &Error) -> bool {
        match self {
            Self::No => false,
            Self::Taken => matches!(error, Error::AlreadyExists(_)),
            Self::Gone => matches!(error, Error::NotFound(_)),
        }
    }
}

/// Files that wait for their commit.
pub(super) struct Commit {
    pub(super) target: Target,
    pub(super) files: Vec<WrittenFile>,
    pub(super) schema: String,
}

pub(super) fn of_rows(usage: Usage, manifest: ResultManifest) -> Result<Landed, Talk> {
    let usage = Usage {
        rows_returned: manifest.rows,
        result_bytes: manifest.bytes,
        ..usage
    };
    Ok(Landed {
        usage,
        results: Some(manifest),
        ..Landed::default()
    })
}

/// The rows are in files; the caller is told how many.
pub(super) async fn of_files(
    house: &House,
    flight: &Flight,
    usage: Usage,
    target: &Target,
    schema: String,
    files: Vec<WrittenFile>,
) -> Result<Landed, Talk> {
    let rows_written: u64 = files.iter().map(WrittenFile::rows).sum();
    let bytes_written = files.iter().map(WrittenFile::bytes).sum();
    let results = match &flight.work {
        // Columns were declared, and nothing was written that could be counted.
        Work::Statement(Statement {
            kind: Kind::CreateTable { from_query: false, .. },
            ..
        }) => result_writer(house, flight, Arc::new(Schema::empty())).finish().await?,
        _ => one_number(house, flight, "count", rows_written).await?,
    };
    let usage = Usage {
        rows_written,
        bytes_written,
        rows_returned: results.rows,
        result_bytes: results.bytes,
        ..usage
    };
    let commit = Commit {
        target: target.clone(),
        files,
        schema,
    };
    Ok(Landed {
        usage,
        results: Some(results),
        commit: Some(commit),
        ..Landed::default()
    })
}

pub(super) async fn of_export(
    house: &House,
    flight: &Flight,
    usage: Usage,
    files: &[ExportedFile],
) -> Result<Landed, Talk> {
    let urls = files
        .iter()
        .map(|file| Some(house.bucket.public_url(&file.path.as_str().into())));
    let urls = StringArray::from_iter(urls);
    let rows = UInt64Array::from_iter_values(files.iter().map(|file| file.rows));
    let bytes = UInt64Array::from_iter_values(files.iter().map(|file| file.bytes));
    let schema = Schema::new(vec![
        Field::new("url", DataType::Utf8, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("bytes", DataType::UInt64, false),
    ]);
    let columns: Vec<ArrayRef> = vec![Arc::new(urls), Arc::new(rows), Arc::new(bytes)];
    let batch = RecordBatch::try_new(Arc::new(schema), columns).map_err(defect)?;
    let results = one_batch(house, flight, &batch).await?;
    let usage = Usage {
        rows_written: usage.rows_returned,
        bytes_written: files.iter().map(|file| file.bytes).sum(),
        rows_returned: results.rows,
        result_bytes: results.bytes,
        ..usage
    };
    Ok(Landed {
        usage,
        results: Some(results),
        ..Landed::default()
    })
}

/// The result of a statement that has none.
pub(super) async fn nothing(house: &House, flight: &Flight) -> Result<Landed> {
    let results = result_writer(house, flight, Arc::new(Schema::empty())).finish().await?;
    Ok(Landed {
        results: Some(results),
        ..Landed::default()
    })
}

async fn one_number(house: &House, flight: &Flight, name: &str, number: u64) -> Result<ResultManifest, Talk> {
    let schema = Schema::new(vec![Field::new(name, DataType::UInt64, false)]);
    let column = UInt64Array::from(vec![number]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(column)]).map_err(defect)?;
    one_batch(house, flight, &batch).await
}

async fn one_batch(house: &House, flight: &Flight, batch: &RecordBatch) -> Result<ResultManifest, Talk> {
    let mut rows = result_writer(house, flight, batch.schema());
    rows.push(batch).await?;
    Ok(rows.finish().await?)
}

pub(super) fn result_writer(house: &House, flight: &Flight, schema: SchemaRef) -> ResultWriter {
    let path = Bucket::result_path(&flight.record.project, &flight.record.id);
    ResultWriter::new(
        house.bucket.store(),
        path,
        schema,
        house.config.results_inline_kib << 10,
    )
}
