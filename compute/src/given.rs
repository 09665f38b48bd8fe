//! Tables of `information_schema` that the gateway fills: what only it knows of a project, as rows that travel with a query.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::datasource::MemTable;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One of them, with its rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Given {
    /// Its name in `information_schema`.
    pub name: String,
    /// Its rows, as a stream of Arrow IPC in base64.
    rows: String,
}

impl Given {
    /// The table of this name that has these rows.
    pub fn new(name: &str, rows: &RecordBatch) -> Result<Self> {
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &rows.schema()).map_err(defect)?;
        writer.write(rows).map_err(defect)?;
        writer.finish().map_err(defect)?;
        drop(writer);
        Ok(Self {
            name: name.to_owned(),
            rows: BASE64_STANDARD.encode(bytes),
        })
    }

    /// The table itself.
    pub(crate) fn table(&self) -> Result<MemTable> {
        let bytes = BASE64_STANDARD.decode(&self.rows).map_err(defect)?;
        let reader = StreamReader::try_new(bytes.as_slice(), None).map_err(defect)?;
        let schema = reader.schema();
        let rows = reader.collect::<std::result::Result<Vec<_>, _>>().map_err(defect)?;
        MemTable::try_new(schema, vec![rows]).map_err(defect)
    }
}

fn defect(error: impl Into<wasmhouse_storage::BoxError>) -> Error {
    Error::Internal(error.into())
}
