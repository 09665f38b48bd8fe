//! One person's or one script's conversation with a server: statements, answers, and commands that start with `\`.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use tokio::signal::unix::Signal;
use wasmhouse_storage::BoxError;

use super::Format;
use super::pages::{RowsOf, csv_rows, json_rows};
use super::progress::Progress;
use super::report::Report;
use crate::client::show::{self, Grid};
use crate::client::{self, Ask, Client, LONGEST_WAIT, Query, Refusal};

/// How long a query may take before its progress is worth a line.
const PATIENCE: Duration = Duration::from_millis(300);
/// How often the progress line is brought up to date.
const TICK: Duration = Duration::from_millis(200);
/// How many rows a person is shown.
const ROWS_SHOWN: u64 = 1000;
/// How many rows of CSV or JSON are asked for at once.
const ROWS_PER_PAGE: u64 = 10_000;

const HELP: &str = r"\d             datasets and tables
\d NAME        a dataset's tables, or a table's columns
\dataset NAME  look up names without a dataset in NAME
\format NAME   write rows as table, csv or json
\timing        with or without time and bytes after the rows
\q             leave
A statement ends with ; and may have many lines. Ctrl-C cancels a running query.
";

/// What is remembered from statement to statement.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) dataset: Option<String>,
    pub(super) format: Format,
    pub(super) timing: bool,
    pub(super) interrupts: Signal,
}

/// Whether there is anything to do after a `\` command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Stay,
    Leave,
}

impl Session {
    /// Runs one statement and writes its rows.
    pub(super) async fn statement(&mut self, sql: &str) -> Result<(), BoxError> {
        let asked = Instant::now();
        let query = self.answer(sql, asked).await.map_err(|error| Report {
            error,
            sql: sql.to_owned(),
        })?;
        match self.format {
            Format::Table => self.write_table(&query).await?,
            Format::Csv => self.write_pages(&query, "text/csv", csv_rows).await?,
            Format::Json => self.write_pages(&query, "application/x-ndjson", json_rows).await?,
        }
        self.write_footer(&query, asked)
    }

    /// Obeys a line that starts with `\`.
    pub(super) async fn command(&mut self, line: &str) -> Result<Next, BoxError> {
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

    /// Waits for the query to be done, showing how far it is, and cancels it when asked to.
    async fn answer(&mut self, sql: &str, asked: Instant) -> Result<Query, client::Error> {
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
        let progress = Progress::start(asked);
        while !query.state.is_final() {
            progress.show(&query);
            let wait = if progress.is_hidden() { LONGEST_WAIT } else { TICK };
            tokio::select! {
                next = client.query(&query.id, wait) => query = next?,
                _ = interrupts.recv() => {
                    if asked_to_stop {
                        return Err(given_up(&query));
                    }
                    asked_to_stop = true;
                    progress.say("cancelling; Ctrl-C again to stop waiting");
                    client.cancel(&query.id).await?;
                }
            }
        }
        progress.clear();
        query.answered()
    }

    /// Writes the first rows, aligned.
    async fn write_table(&self, query: &Query) -> Result<(), BoxError> {
        if !query.has_rows() {
            return Ok(());
        }
        let total = query.rows.unwrap_or(ROWS_SHOWN);
        let (schema, batches) = self.client.rows(&query.id, total.min(ROWS_SHOWN)).await?;
        let mut out = io::stdout().lock();
        write!(out, "{}", Grid::of(&schema, &batches)?)?;
        if total > ROWS_SHOWN {
            let shown = show::count(ROWS_SHOWN);
            writeln!(
                out,
                "(the first {shown} of {}; \\format csv writes all)",
                show::rows(total)
            )?;
        }
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

    /// Ends the answer with a line about it: below the rows of a table, and for a person who watches other rows go by.
    fn write_footer(&self, query: &Query, asked: Instant) -> Result<(), BoxError> {
        let footer = footer(query, self.timing.then(|| asked.elapsed()));
        match self.format {
            Format::Table => writeln!(io::stdout(), "{footer}")?,
            Format::Csv | Format::Json if self.timing && io::stderr().is_terminal() => eprintln!("{footer}"),
            Format::Csv | Format::Json => {}
        }
        Ok(())
    }
}

/// What came out of a query, and what it took.
fn footer(query: &Query, elapsed: Option<Duration>) -> String {
    let usage = query.usage.clone().unwrap_or_default();
    let mut footer = match query.rows {
        Some(rows) if query.has_rows() => show::rows(rows),
        _ if usage.rows_written > 0 => format!("{} written", show::rows(usage.rows_written)),
        _ => "done".to_owned(),
    };
    if let Some(elapsed) = elapsed {
        let processed = show::bytes(usage.bytes_processed);
        footer += &format!(" in {}, {processed} processed", show::elapsed(elapsed));
        if let Some(cost) = &query.cost {
            footer += &format!(", {cost}");
        }
    }
    footer
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said_of(query: &str, elapsed_ms: u64) -> String {
        let query: Query = serde_json::from_str(query).expect("a query of the contract");
        footer(&query, Some(Duration::from_millis(elapsed_ms)))
    }

    #[test]
    fn a_query_ends_with_rows_time_and_bytes() {
        let rows = r#"{"id":"q_1","state":"done","schema":[{"name":"a","type":"BIGINT"}],"rows":1234,
            "usage":{"bytes_processed":2048},"cost":{"amount":"0.00000001024","currency":"USD"}}"#;
        assert_eq!(
            said_of(rows, 12),
            "1,234 rows in 12 ms, 2.0 KiB processed, 0.00000001024 USD"
        );

        let written = r#"{"id":"q_1","state":"done","schema":[],"rows":0,"usage":{"rows_written":3}}"#;
        assert_eq!(said_of(written, 1300), "3 rows written in 1.3 s, 0 B processed");

        let nothing = r#"{"id":"q_1","state":"done"}"#;
        assert_eq!(said_of(nothing, 5), "done in 5 ms, 0 B processed");
    }

    #[test]
    fn without_timing_only_the_rows_are_counted() {
        let query = r#"{"id":"q_1","state":"done","schema":[{"name":"a"}],"rows":1}"#;
        let query: Query = serde_json::from_str(query).expect("a query of the contract");

        assert_eq!(footer(&query, None), "1 row");
    }
}
