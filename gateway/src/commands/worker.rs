//! `wasmhouse worker`: a worker that offers itself to every gateway of a catalog.

use std::fs::File;
use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::info;
use wasmhouse_compute::cluster::{Host, HostConfig, ProcessConfig};
use wasmhouse_storage::BoxError;
use wasmhouse_storage::workers::Workers;

use super::claim;
use super::serve::asked_to_stop;
use crate::app::{bucket_config, certificates, open_catalog, process_config};
use crate::config::Config;

/// Workers that one data folder has room for.
const MOST_FOLDERS: u32 = 1_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Settings file: the catalog and the bucket of the gateways, and what a worker may use
    #[arg(long, value_name = "FILE", env = "WASMHOUSE_CONFIG")]
    config: Option<PathBuf>,
    /// Where to listen for gateways and other workers; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7433")]
    listen: SocketAddr,
    /// What they call this worker by, with a port or without: the address, unless it is every address of the machine
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// The folder of everything that is not configured elsewhere [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// End when standard input closes, for programs that start a worker of their own
    #[arg(long)]
    exit_with_parent: bool,
}

/// Serves until it is told to stop, then lets the query that it has end.
pub(crate) async fn run(args: Args) -> Result<(), BoxError> {
    let mut config = Config::read(args.config.as_deref())?;
    config.data = args.data.unwrap_or(config.data);
    let advertised = advertised(args.listen, args.advertise)?;
    super::start_log(&config.log)?;

    // The process that will listen there can only say that it could not.
    drop(claim::address(args.listen).await?);
    let (folder, lock) = folder(&config.data)?;
    let data = config.data.canonicalize()?;
    let catalog = open_catalog(&config).await?;
    let process = process_config(&config, bucket_config(&config, &data)?, folder.join("spill"))?;
    let host = HostConfig {
        process: ProcessConfig {
            certificates: certificates(&config)?,
            ..process
        },
        listen: args.listen,
        advertised,
        idle: Duration::from_secs(config.workers.idle_s),
        lease: Duration::from_secs(config.upkeep.lease_s),
    };
    let stop = CancellationToken::new();
    let asked = tokio::spawn({
        let stop = stop.clone();
        async move {
            asked_to_stop(args.exit_with_parent).await;
            stop.cancel();
        }
    });
    let offered = |url: &str| {
        info!("offered at {url}");
        // Who started this may have stopped reading.
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "offered at {url}").and_then(|()| out.flush());
    };
    let served = Host::new(host, Workers::new(&catalog)).serve(&stop, offered).await;
    asked.abort();
    catalog.close().await;
    drop(lock);
    info!("stopped");
    Ok(served?)
}

/// A folder of this worker's own in the data folder, where several workers and a gateway may be. It is this worker's while
/// the lock is held, which goes with the process, however it ends.
fn folder(data: &Path) -> Result<(PathBuf, File), BoxError> {
    for number in 1..MOST_FOLDERS {
        let folder = data.join(format!("worker-{number}"));
        claim::folder(&folder)?;
        if let Some(lock) = claim::lock(&folder.join("lock"))? {
            return Ok((folder.canonicalize()?, lock));
        }
    }
    Err(format!("the data folder {} has too many workers", data.display()).into())
}

/// What others call a worker by that listens at `listen`.
fn advertised(listen: SocketAddr, advertise: Option<String>) -> Result<String, BoxError> {
    match advertise {
        // As Kubernetes writes the address of a pod.
        Some(advertise) if advertise.parse::<Ipv6Addr>().is_ok() => Ok(format!("[{advertise}]")),
        Some(advertise) => match url::Url::parse(&format!("http://{advertise}")) {
            Ok(url) if url.host().is_some() && advertise.bytes().all(|b| !b"/?#@".contains(&b)) => Ok(advertise),
            _ => Err(format!(
                "--advertise is {advertise:?}; it must be a host with or without a port, such as 192.0.2.7 or worker-1:7433"
            )
            .into()),
        },
        None if listen.ip().is_unspecified() => Err(format!(
            "nobody can call {}; say with --advertise by which address gateways reach this machine",
            listen.ip()
        )
        .into()),
        None => Ok(match listen {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advertised_by(listen: &str, advertise: Option<&str>) -> Result<String, String> {
        let listen = listen.parse().expect("an address");
        advertised(listen, advertise.map(str::to_owned)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_worker_is_called_by_its_address_or_by_what_it_says() {
        assert_eq!(advertised_by("192.0.2.7:7433", None).as_deref(), Ok("192.0.2.7"));
        assert_eq!(
            advertised_by("[2001:db8::7]:7433", None).as_deref(),
            Ok("[2001:db8::7]")
        );
        for name in ["worker-1", "worker-1:80", "192.0.2.7:7433", "[2001:db8::7]:7433"] {
            assert_eq!(advertised_by("0.0.0.0:7433", Some(name)).as_deref(), Ok(name));
        }
        let pod = advertised_by("[::]:7433", Some("2001:db8::7"));
        assert_eq!(pod.as_deref(), Ok("[2001:db8::7]"));
    }

    #[test]
    fn a_worker_that_nobody_could_call_says_so() {
        let error = advertised_by("0.0.0.0:7433", None).expect_err("every address");
        assert!(error.contains("--advertise"), "{error}");
        for name in [
            "",
            "http://worker-1",
            "worker-1/path",
            "worker 1",
            "worker-1#a",
            "a@worker-1",
        ] {
            let error = advertised_by("0.0.0.0:7433", Some(name)).expect_err("no host");
            assert!(error.contains("worker-1:7433"), "{error}");
        }
    }
}
