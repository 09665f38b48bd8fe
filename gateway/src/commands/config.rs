//! `wasmhouse config`: what the settings are.

use std::path::PathBuf;

use wasmhouse_storage::BoxError;

use crate::config::Config;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the defaults as TOML
    Defaults,
    /// Print the settings that a server started here and now would have, as TOML
    Show {
        /// Settings file
        #[arg(long, value_name = "FILE", env = "WASMHOUSE_CONFIG")]
        config: Option<PathBuf>,
    },
}

pub(crate) fn run(args: Args) -> Result<(), BoxError> {
    let config = match args.command {
        Command::Defaults => Config::default(),
        Command::Show { config } => {
            let mut config = Config::read(config.as_deref())?;
            // Options of the bucket are where its credentials are.
            for value in config.bucket.options.values_mut() {
                *value = "(hidden)".to_owned();
            }
            config
        }
    };
    print!("{}", toml::to_string_pretty(&config)?);
    Ok(())
}
