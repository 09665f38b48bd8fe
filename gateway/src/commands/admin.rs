//! `wasmhouse admin`: what an operator does at the house itself, also beside a running server.

use std::path::PathBuf;
use std::time::Duration;

use wasmhouse_storage::BoxError;
use wasmhouse_storage::audit::{Actor, Audit};
use wasmhouse_storage::catalog::Catalog;
use wasmhouse_storage::clock::{Clock, Timestamp};
use wasmhouse_storage::ids::{DatasetName, KeyId, PrincipalName, ProjectId};
use wasmhouse_storage::ledger::Ledger;
use wasmhouse_storage::people::{Grant, NewKey, People, PrincipalKind, Role};

use crate::app::open_catalog;
use crate::config::Config;
use crate::projects::Projects;

/// How many lines of an audit log are shown.
const AUDIT_LINES: u32 = 1_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    house: House,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create a project and print its key, this once
    CreateProject {
        /// Lower-case letters, digits and _
        name: ProjectId,
    },
    /// Let a user into a project; he may do nothing until he is given a role
    CreateUser {
        /// The project
        project: ProjectId,
        /// Such as ada@example.com
        name: PrincipalName,
    },
    /// Let a service account into a project
    CreateServiceAccount {
        /// The project
        project: ProjectId,
        /// Such as etl
        name: PrincipalName,
    },
    /// Keep a user or a service account out, with all keys
    Disable {
        /// The project
        project: ProjectId,
        /// Who
        name: PrincipalName,
    },
    /// Let one in again
    Enable {
        /// The project
        project: ProjectId,
        /// Who
        name: PrincipalName,
    },
    /// Give a user or a service account a role
    Grant {
        /// The project
        project: ProjectId,
        #[command(flatten)]
        which: Which,
    },
    /// Take a role away
    Revoke {
        /// The project
        project: ProjectId,
        #[command(flatten)]
        which: Which,
    },
    /// Show who may do what in a project
    ListGrants {
        /// The project
        project: ProjectId,
    },
    /// Create one more key and print it, this once
    CreateKey {
        /// The project
        project: ProjectId,
        /// What the key is for; names are not used twice
        #[arg(long, default_value = "key")]
        name: String,
        /// Whose it is [default: the project's own, which may do everything]
        #[arg(long, value_name = "NAME")]
        principal: Option<PrincipalName>,
        /// What it may be used for at most, several times if need be: a role, or role@dataset
        #[arg(long, value_name = "ROLE", value_parser = scope)]
        scope: Vec<Grant>,
        /// After how many days it ends by itself
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        expires_in_days: Option<u32>,
    },
    /// Show the keys of a project, without what opens it
    ListKeys {
        /// The project
        project: ProjectId,
    },
    /// Revoke a key; running servers hear of it within 5 seconds
    RevokeKey {
        /// The project
        project: ProjectId,
        /// The key, as list-keys shows it
        id: KeyId,
    },
    /// Create a key for operators and print it, this once
    CreateOperatorKey {
        /// What the key is for
        name: String,
    },
    /// Revoke an operator's key
    RevokeOperatorKey {
        /// What the key was for
        name: String,
    },
    /// Show what was done in a project, the newest first
    Audit {
        /// The project
        project: ProjectId,
    },
    /// Recompute the chain of a project's ledger and say whether it holds
    VerifyLedger {
        /// The project
        project: ProjectId,
    },
}

/// Who, which role, where.
#[derive(Debug, clap::Args)]
struct Which {
    /// owner, editor, viewer, query_runner, function_publisher or billing_viewer
    role: Role,
    /// Who
    name: PrincipalName,
    /// Only in this dataset [default: in the whole project]
    #[arg(long)]
    dataset: Option<DatasetName>,
}

impl Which {
    fn read(self) -> Result<(PrincipalName, Grant), BoxError> {
        Ok((self.name, Grant::new(self.role, self.dataset)?))
    }
}

/// `role`, or `role@dataset`.
fn scope(text: &str) -> Result<Grant, BoxError> {
    let (role, dataset) = match text.split_once('@') {
        Some((role, dataset)) => (role, Some(dataset.parse()?)),
        None => (text, None),
    };
    Ok(Grant::new(role.parse()?, dataset)?)
}

#[derive(Debug, clap::Args)]
struct House {
    /// Settings file of the server
    #[arg(long, value_name = "FILE", env = "WASMHOUSE_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Data folder of the server [default: data]
    #[arg(long, value_name = "DIR", global = true)]
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
    let Args { command, house } = args;
    let catalog = house.catalog().await?;
    let people = People::new(&catalog);
    let projects = Projects::new(catalog.clone(), Clock::System);
    let by = Actor::house();
    match command {
        Command::CreateProject { name } => println!("{}", projects.create(&name, &by).await?),
        Command::CreateUser { project, name } => people.create(&project, &name, PrincipalKind::User, &by).await?,
        Command::CreateServiceAccount { project, name } => {
            people
                .create(&project, &name, PrincipalKind::ServiceAccount, &by)
                .await?;
        }
        Command::Disable { project, name } => people.set_disabled(&project, &name, true, &by).await?,
        Command::Enable { project, name } => people.set_disabled(&project, &name, false, &by).await?,
        Command::Grant { project, which } => {
            let (name, grant) = which.read()?;
            people.grant(&project, &name, &grant, &by).await?;
        }
        Command::Revoke { project, which } => {
            let (name, grant) = which.read()?;
            people.revoke(&project, &name, &grant, &by).await?;
        }
        Command::ListGrants { project } => {
            for granted in people.grants(&project).await? {
                println!("{}\t{}", granted.principal, granted.grant);
            }
        }
        Command::CreateKey {
            project,
            name,
            principal,
            scope,
            expires_in_days,
        } => {
            let days = |days: u32| Duration::from_secs(u64::from(days) * 24 * 3600);
            let new = NewKey {
                name,
                principal,
                scope: (!scope.is_empty()).then_some(scope),
                expires_at: expires_in_days.map(|after| Clock::System.now().plus(days(after))),
            };
            println!("{}", projects.create_key(&project, &new, &by).await?);
        }
        Command::ListKeys { project } => {
            for key in people.keys(&project).await? {
                let holder = key.principal.map_or("(project)".to_owned(), |name| name.to_string());
                let state = state(key.revoked_at, key.expires_at);
                println!("{}\t{}\t{holder}\t{state}", key.id, key.name);
            }
        }
        Command::RevokeKey { project, id } => people.revoke_key(&project, &id, &by).await?,
        Command::CreateOperatorKey { name } => println!("{}", projects.create_operator_key(&name).await?),
        Command::RevokeOperatorKey { name } => people.revoke_operator_key(&name).await?,
        Command::Audit { project } => {
            for line in Audit::new(&catalog).lines(&project, None, AUDIT_LINES).await? {
                let deed = line.deed;
                let let_ = if deed.is_allowed { "" } else { "\tdenied" };
                println!(
                    "{}\t{}\t{}\t{}{let_}",
                    line.at.to_rfc3339(),
                    deed.by.who,
                    deed.act,
                    deed.object
                );
            }
        }
        Command::VerifyLedger { project } => {
            let ledger = Ledger::new(&catalog);
            let lines = ledger.verify(&project).await?;
            println!("the ledger of {project} holds: {lines} lines, each with the hash of the one before it");
        }
    }
    Ok(())
}

fn state(revoked_at: Option<Timestamp>, expires_at: Option<Timestamp>) -> String {
    match (revoked_at, expires_at) {
        (Some(at), _) => format!("revoked {}", at.to_rfc3339()),
        (None, Some(at)) if at <= Clock::System.now() => format!("expired {}", at.to_rfc3339()),
        (None, Some(at)) => format!("good until {}", at.to_rfc3339()),
        (None, None) => "good".to_owned(),
    }
}
