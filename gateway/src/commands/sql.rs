//! `wasmhouse sql`: statements from a person, a flag or a pipe, and their rows.
//!
//! # Invariants
//! - Ctrl-C stops the running query on the server, and only then the waiting for it.
//! - JSON and CSV are the server's own bytes, so a pipe sees what `curl` would.
//! - Without a person in front of it, the first error ends the run and the process with it.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};
use wasmhouse_storage::BoxError;

use crate::client::Server;

mod describe;
mod pages;
mod progress;
mod report;
mod session;
mod shell;
mod statements;

use session::{Next, Session};

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
