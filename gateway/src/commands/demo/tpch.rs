//! TPC-H: its tables, generated here, and its queries, as every engine in `bench/` runs them.
//!
//! # Invariants
//! - A table is never in memory as a whole: batches become Parquet, Parquet becomes chunks, and a chunk waits until
//!   the server has taken the ones before it.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use indicatif::{ProgressBar, ProgressStyle};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_stream::wrappers::ReceiverStream;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RecordBatchIterator, RegionArrow,
    SupplierArrow,
};
use wasmhouse_storage::BoxError;

use super::elapsed;
use super::project::{Loaded, Project};
use crate::client::{Client, LoadOptions, show};

pub(super) const DATASET: &str = "tpch";

/// Q1 to Q22, in order.
pub(super) const QUERIES: [&str; 22] = [
    include_str!("../../../../bench/tpch/q01.sql"),
    include_str!("../../../../bench/tpch/q02.sql"),
    include_str!("../../../../bench/tpch/q03.sql"),
    include_str!("../../../../bench/tpch/q04.sql"),
    include_str!("../../../../bench/tpch/q05.sql"),
    include_str!("../../../../bench/tpch/q06.sql"),
    include_str!("../../../../bench/tpch/q07.sql"),
    include_str!("../../../../bench/tpch/q08.sql"),
    include_str!("../../../../bench/tpch/q09.sql"),
    include_str!("../../../../bench/tpch/q10.sql"),
    include_str!("../../../../bench/tpch/q11.sql"),
    include_str!("../../../../bench/tpch/q12.sql"),
    include_str!("../../../../bench/tpch/q13.sql"),
    include_str!("../../../../bench/tpch/q14.sql"),
    include_str!("../../../../bench/tpch/q15.sql"),
    include_str!("../../../../bench/tpch/q16.sql"),
    include_str!("../../../../bench/tpch/q17.sql"),
    include_str!("../../../../bench/tpch/q18.sql"),
    include_str!("../../../../bench/tpch/q19.sql"),
    include_str!("../../../../bench/tpch/q20.sql"),
    include_str!("../../../../bench/tpch/q21.sql"),
    include_str!("../../../../bench/tpch/q22.sql"),
];

type Rows = Box<dyn RecordBatchIterator>;
/// A name, and its rows at a scale factor.
type Table = (&'static str, fn(f64) -> Rows);

/// The tables, small ones first.
const TABLES: [Table; 8] = [
    ("region", |scale| {
        Box::new(RegionArrow::new(RegionGenerator::new(scale, 1, 1)))
    }),
    ("nation", |scale| {
        Box::new(NationArrow::new(NationGenerator::new(scale, 1, 1)))
    }),
    ("supplier", |scale| {
        Box::new(SupplierArrow::new(SupplierGenerator::new(scale, 1, 1)))
    }),
    ("part", |scale| {
        Box::new(PartArrow::new(PartGenerator::new(scale, 1, 1)))
    }),
    ("partsupp", |scale| {
        Box::new(PartSuppArrow::new(PartSuppGenerator::new(scale, 1, 1)))
    }),
    ("customer", |scale| {
        Box::new(CustomerArrow::new(CustomerGenerator::new(scale, 1, 1)))
    }),
    ("orders", |scale| {
        Box::new(OrderArrow::new(OrderGenerator::new(scale, 1, 1)))
    }),
    ("lineitem", |scale| {
        Box::new(LineItemArrow::new(LineItemGenerator::new(scale, 1, 1)))
    }),
];

/// Rows in a row group, which is what the writer keeps in memory.
const ROWS_PER_GROUP: usize = 64 * 1024;
const CHUNK_BYTES: usize = 1024 * 1024;
const CHUNKS_IN_FLIGHT: usize = 4;
const TICK: Duration = Duration::from_millis(500);

/// Loads the tables that are not there yet as this scale factor has them.
pub(super) async fn load(
    client: &Client,
    project: &mut Project,
    scale: f64,
    out: &mut impl Write,
) -> Result<(), BoxError> {
    client.ensure_dataset(DATASET).await?;
    for (table, rows) in TABLES {
        let there = match client.table(DATASET, table).await {
            Ok(described) => Some(described.rows),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        // Only a load that was published left rows, and only this demo knows at which scale.
        if let (Some(Some(rows)), Some(loaded)) = (there, project.loaded(table))
            && loaded == (Loaded { scale, rows })
        {
            writeln!(out, "  {table:<9} {:>16}   already there", show::rows(rows))?;
            continue;
        }
        let started = Instant::now();
        let mode = if there.is_some() { "replace" } else { "create" };
        let rows = send(client, table, mode, rows(scale)).await?;
        project.set_loaded(table, Loaded { scale, rows })?;
        writeln!(out, "  {table:<9} {:>16}   {:>8}", show::rows(rows), elapsed(started))?;
    }
    Ok(())
}

/// Streams the rows as a Parquet file. Returns how many the server has of them.
async fn send(client: &Client, table: &str, mode: &'static str, rows: Rows) -> Result<u64, BoxError> {
    let progress = progress_line(table);
    let (chunks, body) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let counter = progress.clone();
    let writer = spawn_blocking(move || write(rows, chunks, &counter));

    let options = LoadOptions {
        format: "parquet",
        mode,
        ..LoadOptions::default()
    };
    let body = reqwest::Body::wrap_stream(ReceiverStream::new(body));
    let loaded = match client.load(DATASET, table, &options, body).await {
        Ok(query) => {
            client
                .ended(query, TICK, |query| progress.set_message(query.progress_line()))
                .await
        }
        Err(error) => Err(error),
    };
    let written = writer.await?;
    progress.finish_and_clear();

    // When the server hangs up, the writer only knows that it did.
    let loaded = loaded?.usage.unwrap_or_default().rows_written;
    let written = written?;
    if loaded != written {
        let (loaded, written) = (show::rows(loaded), show::rows(written));
        return Err(format!("{loaded} of {table} were loaded of {written} sent").into());
    }
    Ok(loaded)
}

fn progress_line(table: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("  {prefix:9} {human_pos:>11} rows {wide_msg}");
    let progress = ProgressBar::new_spinner().with_style(style.expect("the template is well formed"));
    progress.set_prefix(table.to_owned());
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

/// Writes the rows as Parquet into the channel. Returns how many there were.
fn write(rows: Rows, chunks: mpsc::Sender<io::Result<Bytes>>, counter: &ProgressBar) -> Result<u64, BoxError> {
    let sink = Chunks {
        pending: BytesMut::new(),
        chunks: chunks.clone(),
    };
    let written = write_parquet(rows, sink, counter);
    if let Err(error) = &written {
        // Without it the body would end as if the file were complete.
        let _ = chunks.blocking_send(Err(io::Error::other(error.to_string())));
    }
    Ok(written?)
}

fn write_parquet(rows: Rows, sink: Chunks, counter: &ProgressBar) -> Result<u64, ParquetError> {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        // It goes through memory only, to be written anew at the other end.
        .set_compression(Compression::UNCOMPRESSED)
        .build();
    let mut writer = ArrowWriter::try_new(sink, rows.schema().clone(), Some(properties))?;
    let mut count = 0;
    for batch in rows {
        writer.write(&batch)?;
        count += batch.num_rows() as u64;
        counter.set_position(count);
    }
    let mut sink = writer.into_inner()?;
    sink.send()?;
    Ok(count)
}

/// A file whose bytes leave as chunks.
struct Chunks {
    pending: BytesMut,
    chunks: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.put_slice(bytes);
        if self.pending.len() >= CHUNK_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    /// Does nothing: the Parquet writer flushes often, and small chunks cost more than they bring.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Chunks {
    /// Hands over what is pending, once the server has taken enough of what it has.
    fn send(&mut self) -> io::Result<()> {
        let chunk = self.pending.split().freeze();
        let hung_up = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the server does not want more");
        self.chunks.blocking_send(Ok(chunk)).map_err(hung_up)
    }
}
