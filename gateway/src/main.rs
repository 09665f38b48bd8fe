//! Wasmhouse: a serverless data warehouse that anyone can run, in one binary.

mod access;
mod admission;
mod app;
mod billing;
mod budgets;
mod callers;
mod client;
mod commands;
mod config;
mod error;
mod http;
mod people;
mod private;
mod projects;
mod queries;
mod quotas;
mod sight;
mod tables;
mod tokens;
mod upkeep;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use wasmhouse_compute::worker::memory::Counted;
use wasmhouse_compute::worker::{self, STACK_BYTES};
use wasmhouse_storage::BoxError;

/// Counted, so that a worker knows what it holds.
#[global_allocator]
static ALLOCATOR: Counted<MiMalloc> = Counted(MiMalloc);

/// A serverless data warehouse that anyone can run
#[derive(Debug, Parser)]
#[command(name = "wasmhouse", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start the gateway
    Serve(commands::serve::Args),
    /// Offer a worker to the gateways of a catalog
    Worker(commands::worker::Args),
    /// Write SQL: a shell, or statements given with -c or piped in
    Sql(commands::sql::Args),
    /// Load a file into a table
    Load(commands::load::Args),
    /// Start a server, load TPC-H, run queries, show the bill
    Demo(commands::demo::Args),
    /// Projects and keys, at the server's own data
    Admin(commands::admin::Args),
    /// Check an exported ledger, without a server
    VerifyBill(commands::verify_bill::Args),
    /// Show settings
    Config(commands::config::Args),
    /// Print the HTTP contract
    Openapi,
    /// A process that runs queries; `serve` and `worker` start it
    #[command(hide = true)]
    WorkerProcess,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments.command)),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wasmhouse: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), BoxError> {
    match command {
        Command::Serve(args) => commands::serve::run(args).await,
        Command::Sql(args) => commands::sql::run(args).await,
        Command::Load(args) => commands::load::run(args).await,
        Command::Demo(args) => commands::demo::run(args).await,
        Command::Admin(args) => commands::admin::run(args).await,
        Command::VerifyBill(args) => commands::verify_bill::run(&args),
        Command::Config(args) => commands::config::run(args),
        Command::Openapi => {
            print!("{}", http::openapi_json());
            Ok(())
        }
        Command::Worker(args) => commands::worker::run(args).await,
        Command::WorkerProcess => worker::serve(commands::start_worker_log).await,
    }
}
