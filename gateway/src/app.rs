//! The gateway without its door: one field for each group of use cases. No HTTP in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::warn;
use wasmhouse_compute::causes;
use wasmhouse_compute::cluster::{Certificates, KubernetesConfig, Pool, ProcessConfig, RegisteredConfig, build_of};
use wasmhouse_compute::worker::WorkerLog;
use wasmhouse_storage::bucket::{Bucket, BucketConfig};
use wasmhouse_storage::catalog::Catalog;
use wasmhouse_storage::clock::Clock;
use wasmhouse_storage::ledger::Ledger;
use wasmhouse_storage::people::People as PeopleRecords;
use wasmhouse_storage::published::Published;
use wasmhouse_storage::tables::Tables as DeltaTables;
use wasmhouse_storage::workers::Workers;
use wasmhouse_storage::{BoxError, queries};

use crate::admission::{Admission, Limits};
use crate::billing::Billing;
use crate::billing::receipt::Signer;
use crate::billing::spending::Spending;
use crate::billing::webhook::Webhook;
use crate::budgets::Budgets;
use crate::callers::Callers;
use crate::config::{Config, LogFormat, QueryConfig, WorkerSource, worker_environment};
use crate::people::People;
use crate::projects::Projects;
use crate::queries::Queries;
use crate::quotas::Quotas;
use crate::tables::Tables;
use crate::tokens::Tokens;
use crate::upkeep::Upkeep;

/// Everything the gateway can do.
pub(crate) struct App {
    /// Statements, loads and exports.
    pub(crate) queries: Queries,
    /// Datasets and tables, as names and sizes.
    pub(crate) tables: Tables,
    /// Who may come in.
    pub(crate) callers: Callers,
    /// Projects and keys.
    pub(crate) projects: Projects,
    /// What is made of keys, for minutes.
    pub(crate) tokens: Tokens,
    /// Who may do what in them.
    pub(crate) people: People,
    /// What was used.
    pub(crate) ledger: Ledger,
    /// What it costs.
    pub(crate) billing: Billing,
    /// What it may.
    pub(crate) budgets: Budgets,
    /// The background loop.
    pub(crate) upkeep: Upkeep,
    /// How often a project may ask.
    pub(crate) quotas: Quotas,
    /// Who may start now.
    pub(crate) admission: Admission,
    /// Where workers come from.
    pub(crate) pool: Pool,
    catalog: Catalog,
}

impl App {
    /// Opens everything that lasts and starts the first worker.
    pub(crate) async fn open(config: &Config) -> Result<Self, BoxError> {
        std::fs::create_dir_all(&config.data)?;
        let data = config.data.canonicalize()?;
        let clock = Clock::System;
        let bucket_config = bucket_config(config, &data)?;
        let bucket = Bucket::open(&bucket_config)?;
        bucket.self_test().await?;

        let catalog = open_catalog(config).await?;
        let admission = Admission::new(limits(config), Duration::from_millis(config.queries.queue_timeout_ms));
        // This gateway, as the owner of its queries and of the workers that it has.
        let owner = format!("gateway-{:016x}", rand::random::<u64>());
        let registered = || -> Result<RegisteredConfig, BoxError> {
            Ok(RegisteredConfig {
                workers: Workers::new(&catalog),
                owner: owner.clone(),
                build: build_of(&std::env::current_exe()?)?,
                lease: Duration::from_secs(config.upkeep.lease_s),
                certificates: certificates(config)?,
                // Who says how many workers a query may have means it.
                spare: usize::from(config.queries.workers_max == 0),
            })
        };
        let pool = match config.workers.source {
            WorkerSource::Children => {
                let process = process_config(config, bucket_config, data.join("spill"))?;
                Pool::of_children(process, config.workers_max()).await?
            }
            WorkerSource::Registered => Pool::of_registered(registered()?)?,
            WorkerSource::Kubernetes => Pool::of_kubernetes(registered()?, pods(config)).await?,
        };
        let signer = match config.billing.signing_key.as_str() {
            "" => Signer::open_or_make(&data.join("receipts.key"))?,
            file => Signer::open(Path::new(file))?,
        };
        let tokens = Tokens::new(signer.clone(), clock.clone());
        let projects = Projects::new(catalog.clone(), clock.clone());
        let callers = Callers::new(PeopleRecords::new(&catalog), tokens.clone(), clock.clone());
        let billing = Billing::open(&config.billing, Published::new(&catalog), signer).await?;
        let quotas = Quotas::new(config.quotas);
        let bytes_per_day = Some(config.quotas.gib_per_day).filter(|most| *most > 0);
        let bytes_per_day = bytes_per_day.map(|most| most.saturating_mul(1 << 30));
        let webhook = match config.billing.budget_webhook.as_str() {
            "" => None,
            url => Some(Webhook::new(url)?),
        };
        let spending = Spending::new(Ledger::new(&catalog), clock.clone(), webhook, bytes_per_day);
        let delta = DeltaTables::new(bucket.clone());
        let records = queries::Queries::new(&catalog);
        let queries = Queries::new(
            QueryConfig {
                workers_max: config.workers_of_query(),
                ..config.queries.clone()
            },
            Duration::from_secs(config.upkeep.lease_s),
            catalog.clone(),
            callers.clone(),
            records.clone(),
            delta.clone(),
            bucket.clone(),
            admission.clone(),
            quotas.clone(),
            spending.clone(),
            billing.clone(),
            pool.clone(),
            clock.clone(),
            owner,
        );
        let upkeep = Upkeep::new(
            config,
            catalog.clone(),
            records,
            delta.clone(),
            bucket.clone(),
            clock,
            queries.clone(),
            pool.clone(),
            billing.clone(),
            quotas.clone(),
        );
        Ok(Self {
            queries,
            tables: Tables::new(catalog.clone(), callers.clone(), delta, bucket),
            people: People::new(catalog.clone(), projects.clone(), callers.clone()),
            budgets: Budgets::new(&catalog, spending, callers.clone()),
            callers,
            projects,
            tokens,
            ledger: Ledger::new(&catalog),
            billing,
            quotas,
            upkeep,
            admission,
            pool,
            catalog,
        })
    }

    /// True when the catalog answers.
    pub(crate) async fn is_ready(&self) -> bool {
        self.catalog.projects().await.is_ok()
    }

    /// Closes what was opened.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.pool.end().await {
            // Their hosts notice that this gateway is gone.
            warn!("workers were not given up: {}", causes(&error));
        }
        self.catalog.close().await;
    }
}

/// The catalog of `config`, for commands that need nothing else.
pub(crate) async fn open_catalog(config: &Config) -> Result<Catalog, BoxError> {
    std::fs::create_dir_all(&config.data)?;
    Ok(Catalog::open(&config.catalog_url(), Clock::System).await?)
}

pub(crate) fn bucket_config(config: &Config, data: &Path) -> Result<BucketConfig, BoxError> {
    let url = if config.bucket.url.is_empty() {
        url::Url::from_directory_path(data.join("objects")).map_err(|()| "the data folder is not an absolute path")?
    } else {
        config.bucket.url.parse()?
    };
    Ok(BucketConfig {
        url,
        options: config.bucket.options.clone(),
    })
}

fn limits(config: &Config) -> Limits {
    Limits {
        workers: config.workers_max(),
        workers_of_project: config.workers_max_per_project(),
        waiting: config.queries.queue_max,
        waiting_of_project: config.queries.queue_max_per_project,
        weights: config.workers.weights.clone(),
    }
}

/// What a process of several machines shows to the others, if the settings name it.
pub(crate) fn certificates(config: &Config) -> Result<Option<Certificates>, BoxError> {
    let tls = &config.workers.tls;
    if tls.ca.is_empty() {
        return Ok(None);
    }
    let (ca, cert, key) = (Path::new(&tls.ca), Path::new(&tls.cert), Path::new(&tls.key));
    let read = Certificates::read(ca, cert, key, &tls.worker_name);
    Ok(Some(
        read.map_err(|error| format!("the settings of workers.tls: {error}"))?,
    ))
}

fn pods(config: &Config) -> KubernetesConfig {
    let pods = &config.workers.kubernetes;
    fn said(setting: &str) -> Option<&str> {
        Some(setting).filter(|setting| !setting.is_empty())
    }
    KubernetesConfig {
        workload: pods.workload.clone(),
        namespace: said(&pods.namespace).map(str::to_owned),
        kubeconfig: said(&pods.kubeconfig).map(PathBuf::from),
        least: pods.min,
        most: pods.max,
        idle: Duration::from_secs(config.workers.idle_s),
        start_time: Duration::from_secs(pods.start_s),
    }
}

/// A worker of this machine, that spills to `spill_dir`.
pub(crate) fn process_config(
    config: &Config,
    bucket: BucketConfig,
    spill_dir: PathBuf,
) -> Result<ProcessConfig, BoxError> {
    const MIB: u64 = 1 << 20;
    Ok(ProcessConfig {
        program: std::env::current_exe()?,
        environment: worker_environment(),
        bucket,
        memory_bytes: config.workers.memory_mib * MIB,
        process_bytes: config.workers.process_mib * MIB,
        spill_bytes: config.workers.spill_mib * MIB,
        spill_dir,
        threads: config.worker_threads(),
        certificates: None,
        log: WorkerLog {
            json: config.log.format == LogFormat::Json,
            level: config.log.level.clone(),
        },
    })
}
