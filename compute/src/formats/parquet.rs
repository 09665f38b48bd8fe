//! Rows as a Parquet file that grows a row group at a time, in types that Parquet has; see [`super::plain`].
//!
//! A file whose rows stopped before their end has no footer, so no reader opens it.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::Unwritable;
use super::plain::{Plain, Reader};

/// A row group is held until it is complete: this is what a file that is being written costs us.
const ROW_GROUP_BYTES: usize = 32 << 20;
const ROW_GROUP_ROWS: usize = 1 << 20;

pub(super) struct Encoder {
    plain: Plain,
    writer: ArrowWriter<Vec<u8>>,
}

impl Encoder {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, Unwritable> {
        let plain = Plain::new(schema, Reader::Parquet);
        let properties = WriterProperties::builder()
            .set_created_by(concat!("wasmhouse ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), plain.schema().clone(), Some(properties))?;
        Ok(Self { plain, writer })
    }

    /// Nothing, until a row group is complete.
    pub(super) fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, Unwritable> {
        if rows.num_columns() == 0 && rows.num_rows() > 0 {
            return Err(Unwritable::because("a Parquet file without columns holds no rows"));
        }
        self.writer.write(&self.plain.convert(rows)?)?;
        if self.writer.memory_size() > ROW_GROUP_BYTES {
            self.writer.flush()?;
        }
        Ok(std::mem::take(self.writer.inner_mut()))
    }

    pub(super) fn close(&mut self) -> Result<Vec<u8>, Unwritable> {
        self.writer.finish()?;
        Ok(std::mem::take(self.writer.inner_mut()))
    }
}
