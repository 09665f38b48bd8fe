//! `wasmhouse load`: a file of this machine, or what a pipe holds, becomes rows of a table.
//!
//! # Invariants
//! - The file is streamed as it is: neither it nor its rows are ever in memory as a whole.
//! - What cannot be read here changes nothing there: the file is opened before the server is asked for anything.
//! - A file that is sent twice is loaded once: every sending of one invocation has the same `request_id`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;
use wasmhouse_storage::BoxError;

use crate::client::{self, Client, LoadOptions, Query, Server, show};

/// How much of the file is read at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// How often the server is asked how far it is, once it has the whole file.
const TICK: Duration = Duration::from_millis(500);
/// How often a file is sent when the connection breaks each time.
const SENDINGS: u32 = 3;
/// How long the server is given before the file is sent again; twice as long the second time.
const PAUSE: Duration = Duration::from_millis(500);

/// Load a file into a table, which is created when it is not there.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// CSV, TSV, JSON lines, Parquet or Arrow, plain or .gz or .zst; - reads what is piped in
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the rows go, as dataset.table
    #[arg(value_name = "DATASET.TABLE", value_parser = parse_target)]
    target: Target,
    /// What the file holds, when its name does not say
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Columns and types instead of inferred ones, as in 'a BIGINT, b VARCHAR'
    #[arg(long, value_name = "COLUMNS")]
    schema: Option<String>,
    /// Whether rows are added, the table must be new, or its rows are replaced
    #[arg(long, value_enum, default_value_t = Mode::Append)]
    mode: Mode,
    /// The first line of the CSV is a row, not names
    #[arg(long)]
    no_header: bool,
    /// What separates the values of the CSV; \t is a tab
    #[arg(long, value_name = "CHARACTER", value_parser = parse_delimiter)]
    delimiter: Option<char>,
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Csv,
    /// CSV with tabs
    Tsv,
    /// One JSON object a line
    Json,
    Parquet,
    /// Arrow IPC, file or stream
    Arrow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    Append,
    Create,
    Replace,
}

/// `dataset.table`. What a name may look like is the server's business.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    dataset: String,
    table: String,
}

fn parse_target(text: &str) -> Result<Target, String> {
    match text.split_once('.') {
        Some((dataset, table)) if !dataset.is_empty() && !table.is_empty() => Ok(Target {
            dataset: dataset.to_owned(),
            table: table.to_owned(),
        }),
        _ => Err("a table is written dataset.table".to_owned()),
    }
}

fn parse_delimiter(text: &str) -> Result<char, String> {
    let mut letters = text.chars();
    match (text, letters.next(), letters.next()) {
        ("\\t", ..) => Ok('\t'),
        (_, Some(letter), None) if letter.is_ascii() => Ok(letter),
        _ => Err("a delimiter is one ASCII character, or \\t".to_owned()),
    }
}

pub(crate) async fn run(args: Args) -> Result<(), BoxError> {
    let client = args.server.connect()?;
    let options = options(&args)?;
    let Target { dataset, table } = &args.target;
    let file = File::open(&args.file).await?;

    client.ensure_dataset(dataset).await?;
    let started = Instant::now();
    let progress = progress_bar(file.bytes);
    let loaded = load(&client, &args, &options, file, &progress).await;
    let sent = progress.position();
    progress.finish_and_clear();

    let usage = loaded?.usage.unwrap_or_default();
    writeln!(
        io::stdout(),
        "loaded {} into {dataset}.{table} in {}, {} sent, {} stored",
        show::rows(usage.rows_written),
        show::elapsed(started.elapsed()),
        show::bytes(sent),
        show::bytes(usage.bytes_written)
    )?;
    Ok(())
}

/// What is to be loaded, opened.
struct File {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    /// How long it is. Known of a file on a disk, which is also what can be read a second time.
    bytes: Option<u64>,
}

impl File {
    async fn open(path: &Path) -> Result<Self, BoxError> {
        if path == Path::new("-") {
            return Ok(Self {
                reader: Box::new(tokio::io::stdin()),
                bytes: None,
            });
        }
        let shown = path.display();
        let cannot_read = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => format!("no file {shown}; check the path, or give - to read what is piped in"),
            _ => format!("cannot read {shown}: {error}"),
        };
        let file = tokio::fs::File::open(path).await.map_err(cannot_read)?;
        let metadata = file.metadata().await.map_err(cannot_read)?;
        if metadata.is_dir() {
            return Err(format!("{shown} is a directory; load takes one file").into());
        }
        Ok(Self {
            reader: Box::new(file),
            bytes: metadata.is_file().then_some(metadata.len()),
        })
    }

    /// The file as the body of a request, counted as it leaves.
    fn into_body(self, progress: &ProgressBar) -> reqwest::Body {
        let sent = progress.clone();
        let chunks = ReaderStream::with_capacity(self.reader, CHUNK_BYTES);
        reqwest::Body::wrap_stream(chunks.inspect_ok(move |chunk| sent.inc(chunk.len() as u64)))
    }
}

/// Sends the file and waits until its rows are in the table.
async fn load(
    client: &Client,
    args: &Args,
    options: &LoadOptions,
    file: File,
    progress: &ProgressBar,
) -> Result<Query, BoxError> {
    let query = send(client, args, options, file, progress).await?;
    let watch = |query: &Query| progress.set_message(query.progress_line());
    Ok(client.ended(query, TICK, watch).await?)
}

/// Sends the file until the server has all of it. When the connection breaks it is sent again, if it can be read again.
async fn send(
    client: &Client,
    args: &Args,
    options: &LoadOptions,
    mut file: File,
    progress: &ProgressBar,
) -> Result<Query, BoxError> {
    let Target { dataset, table } = &args.target;
    let mut sent = 0;
    loop {
        let can_be_read_again = file.bytes.is_some();
        let body = file.into_body(progress);
        let error = match client.load(dataset, table, options, body).await {
            Ok(query) => return Ok(query),
            Err(error) => error,
        };
        sent += 1;
        if !error.is_unreachable() || !can_be_read_again || sent == SENDINGS {
            return Err(error.into());
        }
        progress.set_message("the connection broke; the file is sent again");
        tokio::time::sleep(PAUSE * sent).await;
        progress.set_position(0);
        file = File::open(&args.file).await?;
    }
}

fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let (progress, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{bar:30} {binary_bytes}/{binary_total_bytes} {eta} {wide_msg}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {binary_bytes} {wide_msg}"),
    };
    let style = ProgressStyle::with_template(template).expect("the templates are well formed");
    progress.set_style(style);
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

/// What to tell the server about the file, from its name and the flags.
fn options(args: &Args) -> Result<LoadOptions, String> {
    let name = args.file.to_string_lossy().to_ascii_lowercase();
    let (name, encoding) = match name.rsplit_once('.') {
        Some((name, "gz")) => (name, Some("gzip")),
        Some((name, "zst")) => (name, Some("zstd")),
        _ => (name.as_str(), None),
    };
    let by_name = match name.rsplit_once('.') {
        Some((_, "csv")) => Some(Format::Csv),
        Some((_, "tsv")) => Some(Format::Tsv),
        Some((_, "json" | "jsonl" | "ndjson")) => Some(Format::Json),
        Some((_, "parquet")) => Some(Format::Parquet),
        Some((_, "arrow" | "arrows" | "feather")) => Some(Format::Arrow),
        _ => None,
    };
    let unknown = || {
        format!(
            "the name {} does not say what the file holds; give --format csv, tsv, json, parquet or arrow",
            args.file.display()
        )
    };
    let format = args.format.or(by_name).ok_or_else(unknown)?;
    let is_csv = matches!(format, Format::Csv | Format::Tsv);
    if !is_csv && (args.no_header || args.delimiter.is_some()) {
        return Err("--no-header and --delimiter are for CSV".to_owned());
    }
    let default_delimiter = (format == Format::Tsv).then_some('\t');
    Ok(LoadOptions {
        format: match format {
            Format::Csv | Format::Tsv => "csv",
            Format::Json => "json",
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
        },
        mode: match args.mode {
            Mode::Append => "append",
            Mode::Create => "create",
            Mode::Replace => "replace",
        },
        header: is_csv.then_some(!args.no_header),
        delimiter: args.delimiter.or(default_delimiter),
        schema: args.schema.clone(),
        request_id: Some(client::request_id()),
        encoding,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Args {
        let words = [&["load"], words].concat();
        Command::try_parse_from(words)
            .unwrap_or_else(|error| panic!("{error}"))
            .args
    }

    #[test]
    fn a_name_says_what_a_file_holds_and_how_it_is_compressed() {
        for (name, format, encoding) in [
            ("sales.csv", "csv", None),
            ("dir.csv/Sales.PARQUET", "parquet", None),
            ("sales.ndjson.gz", "json", Some("gzip")),
            ("sales.2026.jsonl.zst", "json", Some("zstd")),
            ("sales.arrow", "arrow", None),
        ] {
            let options = options(&parse(&[name, "shop.sales"])).expect(name);
            assert_eq!((options.format, options.encoding), (format, encoding), "{name}");
        }
    }

    #[test]
    fn a_flag_says_it_when_the_name_does_not() {
        assert!(options(&parse(&["-", "shop.sales"])).is_err());
        assert!(options(&parse(&["sales.xlsx", "shop.sales"])).is_err());
        assert_eq!(
            options(&parse(&["-", "shop.sales", "--format", "json"]))
                .expect("a format")
                .format,
            "json"
        );
    }

    #[test]
    fn tsv_is_csv_with_tabs() {
        let options = options(&parse(&["sales.tsv.gz", "shop.sales", "--no-header"])).expect("a format");
        assert_eq!(
            (options.format, options.delimiter, options.header),
            ("csv", Some('\t'), Some(false))
        );
    }

    #[test]
    fn csv_flags_are_refused_for_other_formats() {
        assert!(options(&parse(&["sales.json", "shop.sales", "--no-header"])).is_err());
    }

    #[test]
    fn a_target_is_a_dataset_and_a_table() {
        assert!(parse_target("sales").is_err());
        assert!(parse_target(".sales").is_err());
        assert_eq!(parse_delimiter("\\t"), Ok('\t'));
        assert!(parse_delimiter("::").is_err());
    }
}
