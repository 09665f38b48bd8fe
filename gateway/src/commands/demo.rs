//! `wasmhouse demo`: a server, TPC-H in it, and questions to it, all by the doors a stranger would use.
//!
//! # Invariants
//! - Every number printed was told by the server or measured here while it answered.
//! - A second run finds what the first one left: project, key and tables are made once.
//! - The server this starts is stopped by this, whatever happens in between.

use std::io::{self, IsTerminal as _, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};
use wasmhouse_storage::BoxError;

use crate::client::show::{self, Grid};
use crate::client::{Answer, Client};

mod process;
mod project;
mod tpch;
mod verify;

use process::Process;
use project::Project;

/// Where the demo listens when nobody says otherwise and nobody else does.
const LISTEN: &str = "127.0.0.1:8080";
/// How many rows of an answer are printed.
const ROWS_SHOWN: usize = 5;
/// How much of a statement is printed.
const SQL_SHOWN: usize = 160;

/// Start a server, load TPC-H and ask it questions.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TPC-H scale factor: 1 is about 1 GB of data
    #[arg(long, default_value_t = 1.0, value_parser = parse_scale)]
    scale: f64,
    /// Data directory of the server
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Address the server listens on [default: 127.0.0.1:8080, or a free port when that is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Run all 22 queries and compare the answers with those kept
    #[arg(long)]
    verify: bool,
    /// Where the answers are kept, as sf<SCALE>/q<NN>.csv
    #[arg(long, value_name = "DIR", default_value = "bench/tpch/answers")]
    answers: PathBuf,
    /// Leave the server running at the end, even when no terminal is watching
    #[arg(long)]
    keep: bool,
}

fn parse_scale(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(scale) if (0.001..=1000.0).contains(&scale) => Ok(scale),
        _ => Err("a scale factor is a number from 0.001 to 1000".to_owned()),
    }
}

pub(crate) async fn run(args: Args) -> Result<(), BoxError> {
    let mut terminations = signal(SignalKind::terminate())?;
    let mut interrupts = signal(SignalKind::interrupt())?;
    let listen = args.listen.clone().unwrap_or_else(free_address);
    let mut server = Process::start(&args.data, &listen)?;

    let shown = tokio::select! {
        shown = show_all(&args, &mut server) => shown,
        _ = interrupts.recv() => Err("interrupted".into()),
        _ = terminations.recv() => Err("terminated".into()),
    };
    if shown.is_ok() && (args.keep || io::stdout().is_terminal()) {
        println!("\nThe server goes on until Ctrl-C.");
        tokio::select! {
            ended = server.ended() => return Err(ended?.into()),
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
    }

    let stopped = server.stop().await;
    shown.and(stopped)
}

/// The address of every example, unless somebody has it already.
fn free_address() -> String {
    match TcpListener::bind(LISTEN) {
        Ok(_) => LISTEN.to_owned(),
        Err(_) => "127.0.0.1:0".to_owned(),
    }
}

async fn show_all(args: &Args, server: &mut Process) -> Result<(), BoxError> {
    let mut out = io::stdout();
    let started = Instant::now();
    let url = server.listening().await?;
    let data = args.data.display();
    writeln!(
        out,
        "wasmhouse serve listens on {url} after {}, its data is in {data}",
        elapsed(started)
    )?;

    let mut project = Project::open(&args.data, &url).await?;
    let client = Client::new(&url, project.key())?;
    let kept = project.path().display();
    writeln!(out, "project {} with its key in {kept}", project::NAME)?;

    writeln!(
        out,
        "\nTPC-H at scale factor {}, generated here and loaded by POST /v1/datasets/tpch/…/load",
        args.scale
    )?;
    tpch::load(&client, &mut project, args.scale, &mut out).await?;

    writeln!(out, "\nQuestions by POST /v1/sql")?;
    for (title, sql) in questions() {
        ask(&client, title, sql, &mut out).await?;
    }
    dry_run(&client, &mut out).await?;
    writeln!(
        out,
        "\nThe prices are those of a server that was told no others: GET /v1/prices says them, and GET /v1/ledger is the bill."
    )?;

    if args.verify {
        writeln!(out, "\nAll 22 queries of TPC-H")?;
        verify::verify(&client, args.scale, &args.answers, &mut out).await?;
    }
    how_to_go_on(&client, &url, &project, &args.data, &mut out).await
}

fn questions() -> [(&'static str, &'static str); 4] {
    [
        ("How many line items are there?", "select count(*) from lineitem"),
        ("What was sold, by its state? (TPC-H Q1)", tpch::QUERIES[0]),
        (
            "What would smaller discounts have brought? (TPC-H Q6)",
            tpch::QUERIES[5],
        ),
        ("Which orders not yet sent are worth most? (TPC-H Q3)", tpch::QUERIES[2]),
    ]
}

async fn ask(client: &Client, title: &str, sql: &str, out: &mut impl Write) -> Result<(), BoxError> {
    writeln!(out, "\n{title}\n  {}\n", short(sql))?;
    let asked = Instant::now();
    let answer = client.sql(sql, Some(tpch::DATASET)).await?;
    let took = elapsed(asked);
    for line in grid(&answer).to_string().lines() {
        writeln!(out, "  {line}")?;
    }
    if answer.rows.len() > ROWS_SHOWN {
        writeln!(out, "  …")?;
    }
    let rows = show::rows(answer.end.rows);
    let bytes = show::bytes(answer.end.bytes_processed);
    let cost = answer.end.cost.as_deref().unwrap_or("0");
    writeln!(out, "  {rows} in {took}, {bytes} processed, {cost} USD")?;
    Ok(())
}

async fn dry_run(client: &Client, out: &mut impl Write) -> Result<(), BoxError> {
    writeln!(
        out,
        "\nWhat would TPC-H Q5 read? (a dry run reads nothing)\n  {}\n",
        short(tpch::QUERIES[4])
    )?;
    let asked = Instant::now();
    let estimate = client.estimate(tpch::QUERIES[4], Some(tpch::DATASET)).await?;
    let took = elapsed(asked);
    let mut grid = Grid::new().left("table").right("columns").right("files").right("bytes");
    for table in &estimate.tables {
        let columns = show::count(table.columns.len() as u64);
        grid.push([
            table.name.clone(),
            columns,
            show::count(table.files),
            show::bytes(table.bytes),
        ]);
    }
    for line in grid.to_string().lines() {
        writeln!(out, "  {line}")?;
    }
    let bytes = show::bytes(estimate.bytes_processed);
    let cost = estimate.cost.map(|cost| format!(", {cost}")).unwrap_or_default();
    writeln!(out, "  known in {took}: {bytes} to be processed{cost}")?;
    Ok(())
}

async fn how_to_go_on(
    client: &Client,
    url: &str,
    project: &Project,
    data: &Path,
    out: &mut impl Write,
) -> Result<(), BoxError> {
    let program = std::env::args().next().unwrap_or_else(|| "wasmhouse".to_owned());
    let flags = format!("--data {} --project {}", data.display(), project::NAME);
    writeln!(out, "\nHow to go on, from another terminal:\n")?;
    writeln!(
        out,
        "  curl -sS {url}/v1/sql -H 'authorization: Bearer {}' -d 'select count(*) from tpch.lineitem'",
        project.key()
    )?;
    writeln!(out, "  {program} sql {flags} --dataset tpch")?;
    writeln!(out, "  {program} load sales.csv shop.sales {flags}")?;
    if let Some(location) = client.table(tpch::DATASET, "nation").await?.location {
        let path = location.strip_prefix("file://").unwrap_or(&location);
        writeln!(out, "  duckdb -c \"select * from delta_scan('{path}')\"")?;
    }
    Ok(())
}

/// The first rows of the answer, in the words of its JSON.
fn grid(answer: &Answer) -> Grid {
    let mut grid = Grid::new();
    for column in &answer.schema {
        grid = if is_number(&column.data_type) {
            grid.right(&column.name)
        } else {
            grid.left(&column.name)
        };
    }
    for row in answer.rows.iter().take(ROWS_SHOWN) {
        grid.push(answer.schema.iter().map(|column| text(row.get(&column.name))));
    }
    grid
}

/// A JSON value as a person would write it.
fn text(value: Option<&serde_json::Value>) -> String {
    match value {
        None | Some(serde_json::Value::Null) => "NULL".to_owned(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

fn is_number(data_type: &str) -> bool {
    const NUMBERS: [&str; 7] = ["TINYINT", "SMALLINT", "INT", "BIGINT", "DECIMAL", "DOUBLE", "FLOAT"];
    let data_type = data_type.to_ascii_uppercase();
    data_type != "INTERVAL" && NUMBERS.iter().any(|number| data_type.starts_with(number))
}

/// The statement on one line, or its beginning.
fn short(sql: &str) -> String {
    let sql = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    match sql.char_indices().nth(SQL_SHOWN) {
        Some((end, _)) => format!("{}…", &sql[..end]),
        None => sql,
    }
}

fn elapsed(since: Instant) -> String {
    show::elapsed(since.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_statement_is_shown_by_its_beginning() {
        assert_eq!(short("select\n  1"), "select 1");
        assert_eq!(short(&"x".repeat(200)).chars().count(), SQL_SHOWN + 1);
    }
}
