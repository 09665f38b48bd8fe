//! Rows as Arrow IPC, a stream or a file, uncompressed, in types that old readers know; see [`super::plain`].

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::{FileWriter, StreamWriter};

use super::Unwritable;
use super::plain::{Plain, Reader};

pub(super) struct Encoder {
    plain: Plain,
    /// Holds the schema's message until [`Encoder::open`], and then nothing between two calls.
    writer: Writer,
}

enum Writer {
    Stream(StreamWriter<Vec<u8>>),
    File(FileWriter<Vec<u8>>),
}

impl Encoder {
    pub(super) fn stream(schema: &SchemaRef) -> Result<Self, Unwritable> {
        let plain = Plain::new(schema, Reader::Arrow);
        let writer = Writer::Stream(StreamWriter::try_new(Vec::new(), plain.schema())?);
        Ok(Self { plain, writer })
    }

    pub(super) fn file(schema: &SchemaRef) -> Result<Self, Unwritable> {
        let plain = Plain::new(schema, Reader::Arrow);
        let writer = Writer::File(FileWriter::try_new(Vec::new(), plain.schema())?);
        Ok(Self { plain, writer })
    }

    pub(super) fn open(&mut self) -> Vec<u8> {
        self.writer.take()
    }

    pub(super) fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, Unwritable> {
        self.writer.write(&self.plain.convert(rows)?)?;
        Ok(self.writer.take())
    }

    pub(super) fn close(&mut self) -> Result<Vec<u8>, Unwritable> {
        self.writer.finish()?;
        Ok(self.writer.take())
    }
}

impl Writer {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), ArrowError> {
        match self {
            Self::Stream(stream) => stream.write(rows),
            Self::File(file) => file.write(rows),
        }
    }

    fn finish(&mut self) -> Result<(), ArrowError> {
        match self {
            Self::Stream(stream) => stream.finish(),
            Self::File(file) => file.finish(),
        }
    }

    /// What has been written since the last time. A file counts its own bytes, so it does not miss them.
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::Stream(stream) => stream.get_mut(),
            Self::File(file) => file.get_mut(),
        })
    }
}
