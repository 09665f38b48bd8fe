//! `wasmhouse sql`: statements from a person, a flag or a pipe, and their rows.
//!
//! # Invariants
//! - Ctrl-C stops the running query on the server, and only then the waiting for it.
//! - JSON and CSV are the server's own bytes, so a pipe sees what `curl` would.
//! - Without a person in front of it, the first error ends the run and the process with it.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::show::{self, Grid};
use crate::client::{self, Ask, Client, LONGEST_WAIT, Query, Refusal, Server, csv};

mod shell;
mod statements;
#[cfg(test)]
mod tests;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a query may take before its progress is worth a line.
const PATIENCE: Duration = Duration::from_millis(300);
/// How often the progress line is brought up to date.
const TICK: Duration = Duration::from_millis(200);
/// How many rows a person is shown.
const ROWS_SHOWN: u64 = 1000;
/// How many rows of CSV or JSON are asked for at once.
const ROWS_PER_PAGE: u64 = 10_000;

/// Ask questions in SQL: in a shell, by `-c`, or from a pipe.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    server: Server,
    /// Run these statements and leave; may be given more than once
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    commands: Vec<String>,
    /// How rows are written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Dataset in which names without one are looked up
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Directory for what a program keeps of its user; the shell keeps its history there
    #[arg(long, env = "XDG_STATE_HOME", hide = true)]
    state_home: Option<PathBuf>,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Aligned, for people; the first 1,000 rows
    Table,
    /// RFC 4180 with a header line; an empty value is NULL, `""` is an empty string
    Csv,
    /// One JSON object a line
    Json,
}

pub(crate) async fn run(args: Args) -> Result<(), BoxError> {
    let session = Session {
        client: args.server.connect()?,
        dataset: args.dataset,
        format: args.format,
        timing: true,
        interrupts: signal(SignalKind::interrupt())?,
    };
    let ran = if !args.commands.is_empty() {
        run_texts(session, args.commands).await
    } else if io::stdin().is_terminal() {
        shell::run(session, args.state_home).await
    } else {
        run_pipe(session).await
    };
    match ran {
        // Whoever read our rows has read enough.
        Err(error) if is_broken_pipe(&*error) => Ok(()),
        ran => ran,
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn run_texts(mut session: Session, texts: Vec<String>) -> Result<(), BoxError> {
    for text in texts {
        if text.trim_start().starts_with('\\') {
            session.command(text.trim()).await?;
            continue;
        }
        let cut = statements::cut(&text);
        for statement in cut.statements {
            session.statement(statement).await?;
        }
        if !statements::is_blank(cut.rest) {
            session.statement(cut.rest.trim()).await?;
        }
    }
    Ok(())
}

/// Runs statements as they arrive, so that a program at the other end of the pipe may wait for an answer.
async fn run_pipe(mut session: Session) -> Result<(), BoxError> {
    let mut text = String::new();
    loop {
        let start = text.len();
        let ended = io::stdin().read_line(&mut text)? == 0;
        let line = &text[start..];
        if statements::is_blank(&text[..start]) && line.starts_with('\\') {
            if session.command(line.trim()).await? == Next::Leave {
                return Ok(());
            }
            text.clear();
        } else if ended || line.contains(';') {
            let cut = statements::cut(&text);
            for statement in cut.statements {
                session.statement(statement).await?;
            }
            if ended && !statements::is_blank(cut.rest) {
                session.statement(cut.rest.trim()).await?;
            }
            text = cut.rest.to_owned();
        }
        if ended {
            return Ok(());
        }
    }
}

/// Whether there is anything to do after a `\` command.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Stay,
    Leave,
}

const HELP: &str = r"\d             datasets and tables
\d NAME        a dataset's tables, or a table's columns
\dataset NAME  look up names without a dataset in NAME
\format NAME   write rows as table, csv or json
\timing        with or without time and bytes after the rows
\q             leave
A statement ends with ; and may have many lines. Ctrl-C cancels a running query.
";

/// One person's or one script's conversation with a server.
struct Session {
    client: Client,
    dataset: Option<String>,
    format: Format,
    timing: bool,
    interrupts: Signal,
}

impl Session {
    /// Runs one statement and writes its rows.
    async fn statement(&mut self, sql: &str) -> Result<(), BoxError> {
        let asked = Instant::now();
        let query = self.answer(sql).await.map_err(|error| Report {
            error,
            sql: sql.to_owned(),
        })?;
        match self.format {
            Format::Table => self.write_table(&query, asked).await,
            Format::Csv => self.write_pages(&query, "text/csv", csv_rows).await,
            Format::Json => self.write_pages(&query, "application/x-ndjson", json_rows).await,
        }
    }

    /// Waits for the query to be done, showing how far it is, and cancels it when asked to.
    async fn answer(&mut self, sql: &str) -> Result<Query, client::Error> {
        let Self {
            client,
            dataset,
            interrupts,
            ..
        } = self;
        let ask = Ask::new(sql, dataset.clone());
        let mut asked_to_stop = false;
        let created = tokio::select! {
            created = client.create_query(&ask, PATIENCE) => Some(created?),
            _ = interrupts.recv() => None,
        };
        let mut query = match created {
            Some(query) => query,
            None => {
                // We left before we heard its name. The same request finds it again, or makes it to be cancelled.
                let query = client.create_query(&ask, Duration::ZERO).await?;
                client.cancel(&query.id).await?;
                asked_to_stop = true;
                query
            }
        };
        if query.state.is_final() {
            return query.answered();
        }
        let progress = progress_line();
        while !query.state.is_final() {
            progress.set_message(query.progress_line());
            let wait = if progress.is_hidden() { LONGEST_WAIT } else { TICK };
            tokio::select! {
                next = client.query(&query.id, wait) => query = next?,
                _ = interrupts.recv() => {
                    if asked_to_stop {
                        return Err(given_up(&query));
                    }
                    asked_to_stop = true;
                    progress.println("cancelling; Ctrl-C again to stop waiting");
                    client.cancel(&query.id).await?;
                }
            }
        }
        progress.finish_and_clear();
        query.answered()
    }

    async fn write_table(&mut self, query: &Query, asked: Instant) -> Result<(), BoxError> {
        let mut footer = if query.has_rows() {
            let total = query.rows.unwrap_or(ROWS_SHOWN);
            let (schema, batches) = self.client.rows(&query.id, total.min(ROWS_SHOWN)).await?;
            let grid = Grid::of(&schema, &batches)?;
            let mut out = io::stdout().lock();
            write!(out, "{grid}")?;
            if total > ROWS_SHOWN {
                let shown = show::count(ROWS_SHOWN);
                writeln!(
                    out,
                    "(the first {shown} of {}; \\format csv writes all)",
                    show::rows(total)
                )?;
            }
            show::rows(total)
        } else {
            match &query.usage {
                Some(usage) if usage.rows_written > 0 => format!("{} written", show::rows(usage.rows_written)),
                _ => "done".to_owned(),
            }
        };
        if self.timing {
            let bytes = query.usage.as_ref().map_or(0, |usage| usage.bytes_processed);
            footer += &format!(
                " in {}, {} processed",
                show::elapsed(asked.elapsed()),
                show::bytes(bytes)
            );
        }
        writeln!(io::stdout(), "{footer}")?;
        Ok(())
    }

    /// Writes all rows, page by page, in the words of the server.
    async fn write_pages(&mut self, query: &Query, accept: &str, rows_of: RowsOf) -> Result<(), BoxError> {
        if !query.has_rows() {
            return Ok(());
        }
        let mut start_row = 0;
        loop {
            let page = tokio::select! {
                page = self.client.page(&query.id, start_row, ROWS_PER_PAGE, accept) => String::from_utf8(page?)?,
                _ = self.interrupts.recv() => return Err("interrupted".into()),
            };
            let (text, rows) = rows_of(&page, start_row == 0);
            io::stdout().write_all(text.as_bytes())?;
            start_row += rows;
            let end = query.rows.unwrap_or(u64::MAX);
            if rows == 0 && start_row < end && query.rows.is_some() {
                return Err(format!("the server sent {start_row} of {end} rows").into());
            }
            if rows == 0 || start_row >= end {
                io::stdout().flush()?;
                return Ok(());
            }
        }
    }

    /// Obeys a line that starts with `\`.
    async fn command(&mut self, line: &str) -> Result<Next, BoxError> {
        let line = line.trim_end_matches(';').trim();
        let (word, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = Some(argument.trim()).filter(|argument| !argument.is_empty());
        let mut out = io::stdout();
        match (word, argument) {
            ("\\q", None) => return Ok(Next::Leave),
            ("\\?" | "\\h" | "\\help", None) => write!(out, "{HELP}")?,
            ("\\timing", None) => {
                self.timing = !self.timing;
                writeln!(out, "timing is {}", if self.timing { "on" } else { "off" })?;
            }
            ("\\format", Some(name)) => {
                self.format = <Format as clap::ValueEnum>::from_str(name, true)
                    .map_err(|_| format!("no format named {name}; there are table, csv and json"))?;
            }
            ("\\dataset", name) => self.dataset = name.map(str::to_owned),
            ("\\d", None) => write!(out, "{}", self.all_tables().await?)?,
            ("\\d", Some(name)) => write!(out, "{}", self.describe(name).await?)?,
            _ => return Err(format!("no command {line}; \\? lists what there is").into()),
        }
        Ok(Next::Stay)
    }

    async fn all_tables(&self) -> Result<Grid, client::Error> {
        let mut grid = table_grid();
        for dataset in self.client.datasets().await? {
            let tables = self.client.tables(&dataset).await?;
            if tables.is_empty() {
                grid.push([dataset, "dataset".to_owned(), String::new(), String::new()]);
            }
            push_tables(&mut grid, tables);
        }
        Ok(grid)
    }

    /// What is behind a name: a table's columns, or a dataset's tables.
    async fn describe(&self, name: &str) -> Result<String, client::Error> {
        let (dataset, table) = match (name.split_once('.'), &self.dataset) {
            (Some((dataset, table)), _) => (dataset, table),
            (None, Some(dataset)) if !self.client.datasets().await?.iter().any(|dataset| dataset == name) => {
                (dataset.as_str(), name)
            }
            (None, _) => {
                let mut grid = table_grid();
                push_tables(&mut grid, self.client.tables(name).await?);
                return Ok(grid.to_string());
            }
        };
        let table = self.client.table(dataset, table).await?;
        let mut grid = Grid::new().left("column").left("type").left("null");
        for column in table.schema {
            grid.push([
                column.name,
                column.data_type,
                if column.nullable { "" } else { "not null" }.to_owned(),
            ]);
        }
        let facts = [
            Some(table.kind),
            table.rows.map(show::rows),
            table.bytes.map(|bytes| format!("{} stored", show::bytes(bytes))),
            table.files.map(show::files),
            table.version.map(|version| format!("version {version}")),
            table.location,
        ];
        let facts: Vec<_> = facts.into_iter().flatten().filter(|fact| !fact.is_empty()).collect();
        Ok(format!("{grid}{}\n", show::line(&facts.join(", "))))
    }

    /// Names a person may want to have completed: datasets, and tables with and without their dataset.
    async fn names(&self) -> Result<Vec<String>, client::Error> {
        let mut names = Vec::new();
        for dataset in self.client.datasets().await? {
            for table in self.client.tables(&dataset).await? {
                if let Some((within, short)) = table.name.split_once('.')
                    && self.dataset.as_deref() == Some(within)
                {
                    names.push(short.to_owned());
                }
                names.push(table.name);
            }
            names.push(dataset);
        }
        Ok(names)
    }
}

fn table_grid() -> Grid {
    Grid::new().left("name").left("kind").right("rows").right("stored")
}

fn push_tables(grid: &mut Grid, tables: Vec<client::TableLine>) {
    for table in tables {
        let rows = table.rows.map(show::count).unwrap_or_default();
        grid.push([
            table.name,
            table.kind,
            rows,
            table.bytes.map(show::bytes).unwrap_or_default(),
        ]);
    }
}

/// A line at the bottom of the terminal that is there only while a query runs.
fn progress_line() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is well formed");
    let progress = ProgressBar::new_spinner().with_style(style);
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

fn given_up(query: &Query) -> client::Error {
    let message = format!("stopped waiting for {}, which has been asked to stop", query.id);
    let code = "cancelled".to_owned();
    client::Error::Refused(Refusal {
        code,
        message,
        line: None,
        column: None,
        retry_after: None,
    })
}

/// What of a page is to be written, and how many rows that is. The flag says that the page is the first.
type RowsOf = fn(&str, bool) -> (&str, u64);

/// The header line belongs to the first page only.
fn csv_rows(page: &str, first: bool) -> (&str, u64) {
    let mut records = csv::records(page);
    let header = records.next().unwrap_or_default();
    let rows = records.count() as u64;
    let text = if first {
        page
    } else {
        page[header.len()..]
            .trim_start_matches('\r')
            .strip_prefix('\n')
            .unwrap_or("")
    };
    (text, rows)
}

/// The last line says how the page ended and is not a row.
fn json_rows(page: &str, _first: bool) -> (&str, u64) {
    let lines = page.trim_end_matches('\n');
    let rows = &page[..lines.rfind('\n').map_or(0, |end| end + 1)];
    (rows, rows.lines().count() as u64)
}

/// An error beside the SQL it is about.
struct Report {
    error: client::Error,
    sql: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let client::Error::Refused(Refusal {
            line: Some(line),
            column,
            ..
        }) = &self.error
        else {
            return Ok(());
        };
        let Some(text) = line.checked_sub(1).and_then(|line| self.sql.lines().nth(line)) else {
            return Ok(());
        };
        let margin = format!("{line} | ");
        write!(f, "\n{margin}{}", printable(text))?;
        if let Some(column) = column {
            let before: String = text.chars().take(column.saturating_sub(1)).collect();
            let cells = unicode_width::UnicodeWidthStr::width(printable(&before).as_str());
            write!(f, "\n{}^", " ".repeat(margin.len() + cells))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Report {}

/// The line with every character as wide as it will be on the terminal.
fn printable(line: &str) -> String {
    line.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}
