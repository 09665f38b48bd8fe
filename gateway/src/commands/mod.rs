//! What the one binary can do, a file for each command.

pub(crate) mod admin;
mod claim;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod load;
pub(crate) mod serve;
pub(crate) mod sql;
pub(crate) mod verify_bill;
pub(crate) mod worker;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use wasmhouse_compute::worker::WorkerLog;
use wasmhouse_storage::BoxError;

use crate::config::{LogConfig, LogFormat};

/// Logs go to standard error, in the shape and detail that the settings ask for.
fn start_log(config: &LogConfig) -> Result<(), BoxError> {
    // The library that reads Delta logs tells every step; who wants to hear it says so.
    let level = match config.level.contains('=') {
        true => config.level.clone(),
        false => format!("{},buoyant_kernel=warn", config.level),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(level)?)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => log.try_init()?,
        LogFormat::Json => log.json().flatten_event(true).try_init()?,
    }
    // A panic is a line of the log like any other, for whoever reads it by program.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = matches!(backtrace.status(), std::backtrace::BacktraceStatus::Captured).then_some(backtrace);
        let message = panic.payload_as_str().unwrap_or("without a message");
        tracing::error!(
            backtrace = backtrace.as_ref().map(tracing::field::display),
            "panic at {place}: {message}"
        );
    }));
    Ok(())
}

/// A worker logs where its gateway logs, as its gateway does.
pub(crate) fn start_worker_log(log: &WorkerLog) -> Result<(), BoxError> {
    start_log(&LogConfig {
        format: if log.json { LogFormat::Json } else { LogFormat::Text },
        level: log.level.clone(),
    })
}
