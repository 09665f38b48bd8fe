//! Rows as a stream of Arrow IPC, uncompressed, in types that old readers know; see [`super::plain`].

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;

use super::Failure;
use super::plain::{Plain, Reader};

pub(super) struct Encoder {
    plain: Plain,
    /// Holds the schema's message until [`Encoder::open`], and then nothing between two calls.
    writer: StreamWriter<Vec<u8>>,
}

impl Encoder {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, Failure> {
        let plain = Plain::new(schema, Reader::Arrow);
        let writer = StreamWriter::try_new(Vec::new(), plain.schema())?;
        Ok(Self { plain, writer })
    }

    pub(super) fn open(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.get_mut())
    }

    pub(super) fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, Failure> {
        self.writer.write(&self.plain.convert(rows)?)?;
        Ok(std::mem::take(self.writer.get_mut()))
    }

    pub(super) fn close(&mut self) -> Result<Vec<u8>, Failure> {
        self.writer.finish()?;
        Ok(std::mem::take(self.writer.get_mut()))
    }
}
