//! `wasmhouse serve`: the gateway, with its workers as child processes or those that are registered in its catalog.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio_util::sync::CancellationToken;
use tracing::info;
use wasmhouse_storage::BoxError;
use wasmhouse_storage::audit::Actor;

use super::claim;
use crate::app::App;
use crate::config::Config;
use crate::http::{self, Door};
use crate::private;

/// The project of somebody who has not made one.
const FIRST_PROJECT: &str = "main";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Settings file; every setting is documented in deploy/wasmhouse.toml
    #[arg(long, value_name = "FILE", env = "WASMHOUSE_CONFIG")]
    config: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Child processes that a query has beside its first, if it is large enough for them [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=256))]
    workers: Option<u16>,
    /// The folder of everything that is not configured elsewhere [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// End when standard input closes, for programs that start a server of their own
    #[arg(long)]
    exit_with_parent: bool,
}

/// Serves until it is told to stop, then lets what runs end.
pub(crate) async fn run(args: Args) -> Result<(), BoxError> {
    let mut config = Config::read(args.config.as_deref())?;
    config.listen = args.listen.unwrap_or(config.listen);
    config.data = args.data.unwrap_or(config.data);
    if let Some(workers) = args.workers {
        config = config.with_further_children(workers.into());
    }
    super::start_log(&config.log)?;

    let metrics = PrometheusBuilder::new().install_recorder()?;
    let listener = claim::address(config.listen).await?;
    let address = listener.local_addr()?;
    let locks = lock(&config)?;
    let app = Arc::new(App::open(&config).await?);
    if config.is_alone() {
        app.upkeep.end_all().await;
    }

    introduce(&app, &config.data, address).await?;
    let stop = CancellationToken::new();
    let upkeep = tokio::spawn(app.upkeep.clone().run(stop.clone()));
    let door = Door {
        app: Arc::clone(&app),
        upload_bytes: config.uploads.max_mib << 20,
        metrics,
    };
    let patience = Duration::from_secs(config.upkeep.shutdown_s);
    let (told, asked_at) = tokio::sync::oneshot::channel();
    let (admission, pool) = (app.admission.clone(), app.pool.clone());
    let asked = async move {
        asked_to_stop(args.exit_with_parent).await;
        // Those who wait for a worker hear it now; who has one may end.
        admission.close();
        pool.close();
        let _ = told.send(Instant::now());
    };
    http::serve(listener, door, asked, patience).await;

    info!("stopping, {} queries still run", app.queries.running());
    // One patience for callers and queries: whoever stops us kills us when it is over.
    let waited = asked_at.await.map_or(Duration::ZERO, |asked_at| asked_at.elapsed());
    app.queries.drain(patience.saturating_sub(waited)).await;
    stop.cancel();
    upkeep.await?;
    app.close().await;
    drop(locks);
    info!("stopped");
    Ok(())
}

/// One server for one data folder, and one for one SQLite file, wherever that is. The locks go with the process, however
/// it ends.
fn lock(config: &Config) -> Result<Vec<File>, BoxError> {
    claim::folder(&config.data)?;
    let data = lock_file(&config.data.join("lock"), || {
        let data = config.data.display();
        format!("another server uses the data folder {data}; stop it, or choose another with --data")
    })?;
    let Some(file) = config.catalog_file() else {
        return Ok(vec![data]);
    };
    let mut beside = file.clone().into_os_string();
    beside.push(".lock");
    let catalog = lock_file(Path::new(&beside), || {
        let file = file.display();
        format!("another server uses the catalog {file}; stop it, or use PostgreSQL for several servers")
    })?;
    Ok(vec![data, catalog])
}

fn lock_file(path: &Path, taken: impl FnOnce() -> String) -> Result<File, BoxError> {
    claim::lock(path)?.ok_or_else(|| taken().into())
}

/// Says on standard output where the house is, and at its first start who may enter.
async fn introduce(app: &App, data: &Path, address: SocketAddr) -> Result<(), BoxError> {
    let file = data.join("client.toml");
    let url = format!("http://{address}");
    if let Some(key) = app.projects.first_operator_key().await? {
        println!("the operator's key, shown this once: {key}");
    }
    if app.projects.list().await?.is_empty() {
        let key = app.projects.create(&FIRST_PROJECT.parse()?, &Actor::house()).await?;
        private::write(
            &file,
            &format!("url = \"{url}\"\nproject = \"{FIRST_PROJECT}\"\nkey = \"{key}\"\n"),
        )?;
        println!("created the project {FIRST_PROJECT}; its key is in {}", file.display());
    } else if let Ok(known) = std::fs::read_to_string(&file) {
        let lines = known.lines().filter(|line| !line.starts_with("url = "));
        let rest: String = lines.flat_map(|line| [line, "\n"]).collect();
        private::write(&file, &format!("url = \"{url}\"\n{rest}"))?;
    }
    println!("listening on {url}");
    std::io::stdout().flush()?;
    Ok(())
}

/// Completes when a signal or the parent says so.
pub(super) async fn asked_to_stop(with_parent: bool) {
    use tokio::signal::unix::{SignalKind, signal};
    let signalled = async {
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            // Without signals only the parent, or the end of the process, can stop us.
            _ => std::future::pending().await,
        }
    };
    let (gone, parent_gone) = tokio::sync::oneshot::channel();
    if with_parent {
        std::thread::spawn(move || {
            // Returns when the last writer of the pipe is gone.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = gone.send(());
        });
        tokio::select! {
            () = signalled => {}
            _ = parent_gone => {}
        }
    } else {
        signalled.await;
    }
}
