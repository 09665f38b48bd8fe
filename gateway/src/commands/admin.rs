//! `wasmhouse admin`: what an operator does at the house itself, also beside a running server.

use std::path::PathBuf;

use wasmhouse_storage::BoxError;
use wasmhouse_storage::catalog::Catalog;
use wasmhouse_storage::ids::ProjectId;
use wasmhouse_storage::ledger::Ledger;

use crate::app::open_catalog;
use crate::config::Config;
use crate::projects::Projects;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create a project and print its key, this once
    CreateProject {
        /// Lower-case letters, digits and _
        name: ProjectId,
        #[command(flatten)]
        house: House,
    },
    /// Create one more key for a project and print it, this once
    CreateKey {
        /// The project
        project: ProjectId,
        /// What the key is for
        #[arg(long, default_value = "key")]
        name: String,
        #[command(flatten)]
        house: House,
    },
    /// Recompute the chain of a project's ledger and say whether it holds
    VerifyLedger {
        /// The project
        project: ProjectId,
        #[command(flatten)]
        house: House,
    },
}

#[derive(Debug, clap::Args)]
struct House {
    /// Settings file of the server
    #[arg(long, value_name = "FILE", env = "WASMHOUSE_CONFIG")]
    config: Option<PathBuf>,
    /// Data folder of the server [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl House {
    /// The catalog of a house that is there. A mistake in its address must not build another one.
    async fn catalog(&self) -> Result<Catalog, BoxError> {
        let mut config = Config::read(self.config.as_deref())?;
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        if let Some(file) = config.catalog_file().filter(|file| !file.exists()) {
            return Err(format!(
                "there is no warehouse here: {} does not exist; give the --data or --config of the server, which makes its \
                 catalog when it starts",
                file.display()
            )
            .into());
        }
        open_catalog(&config).await
    }
}

pub(crate) async fn run(args: Args) -> Result<(), BoxError> {
    match args.command {
        Command::CreateProject { name, house } => {
            let projects = Projects::new(house.catalog().await?);
            println!("{}", projects.create(&name).await?);
        }
        Command::CreateKey { project, name, house } => {
            let projects = Projects::new(house.catalog().await?);
            println!("{}", projects.create_key(&project, &name).await?);
        }
        Command::VerifyLedger { project, house } => {
            let ledger = Ledger::new(&house.catalog().await?);
            let lines = ledger.verify(&project).await?;
            println!("the ledger of {project} holds: {lines} lines, each with the hash of the one before it");
        }
    }
    Ok(())
}
