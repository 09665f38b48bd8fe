//! The only reader of settings: defaults, then a file, then the environment (`WASMHOUSE_QUERIES__TIMEOUT_MS=…`), then the
//! command line.
//!
//! `deploy/wasmhouse.toml` documents every setting and equals the defaults; a test compares them.

mod wrong;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::DateTime;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use wasmhouse_storage::ids::ProjectId;
use wasmhouse_storage::money::Money;

use crate::billing::price::PriceList;

pub(crate) use wrong::Wrong;

/// Every setting of `wasmhouse serve`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the gateway listens.
    pub(crate) listen: SocketAddr,
    /// The folder of everything that is not configured elsewhere.
    pub(crate) data: PathBuf,
    /// Names, queries and the ledger.
    pub(crate) catalog: CatalogConfig,
    /// Tables and results.
    pub(crate) bucket: BucketSettings,
    /// The pool of workers.
    pub(crate) workers: WorkerConfig,
    /// What one query may do.
    pub(crate) queries: QueryConfig,
    /// What one upload may do.
    pub(crate) uploads: UploadConfig,
    /// How often a project may ask.
    pub(crate) quotas: QuotaConfig,
    /// What queries cost.
    pub(crate) billing: BillingConfig,
    /// The background loop.
    pub(crate) upkeep: UpkeepConfig,
    /// What is written to standard error.
    pub(crate) log: LogConfig,
}

/// Names, queries and the ledger.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatalogConfig {
    /// `sqlite:///path/file.db` or `postgres://…`; empty: a SQLite file in the data folder.
    pub(crate) url: String,
}

/// Tables and results.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct BucketSettings {
    /// `s3://…`, `gs://…`, `az://…` or `file:///…`; empty: a folder in the data folder.
    pub(crate) url: String,
    /// Credentials and options of the store, by the names the store's own tools use.
    pub(crate) options: BTreeMap<String, String>,
}

/// The pool of workers.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerConfig {
    /// Where workers come from.
    pub(crate) source: WorkerSource,
    /// Workers that this gateway may have at once; 0: twice the cores, at least 4, or as many as there may be pods.
    pub(crate) max: usize,
    /// Of these, those that one project may hold; 0: all but one.
    pub(crate) max_per_project: usize,
    /// Threads of one worker; 0: the cores.
    pub(crate) threads: usize,
    /// Memory that a query's operators may hold before they spill, in MiB.
    pub(crate) memory_mib: u64,
    /// Memory that a worker may hold in all, in MiB. Over it, the worker ends and its query fails.
    pub(crate) process_mib: u64,
    /// Disk that one query may spill to, in MiB.
    pub(crate) spill_mib: u64,
    /// How long a worker may be idle before it ends, in seconds. One stays.
    pub(crate) idle_s: u64,
    /// How much a project gets beside others while queries wait, by its name; 1 for those that are not named.
    pub(crate) weights: BTreeMap<ProjectId, NonZeroU32>,
    /// Where Kubernetes starts workers.
    pub(crate) kubernetes: PodConfig,
    /// How gateways and registered workers know each other.
    pub(crate) tls: TlsConfig,
}

/// Certificates of gateways and registered workers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsConfig {
    /// The authority that signed those of all, a file in PEM; empty: nothing is encrypted.
    pub(crate) ca: String,
    /// This process's own.
    pub(crate) cert: String,
    /// Its private key.
    pub(crate) key: String,
    /// The name in the certificate of every worker.
    pub(crate) worker_name: String,
}

/// Where workers come from.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WorkerSource {
    /// The gateway starts them on its own machine.
    Children,
    /// `wasmhouse worker` runs where it is started, and registers in the catalog.
    Registered,
    /// The same, in pods of which there are as many as are wanted.
    Kubernetes,
}

/// Pods that run `wasmhouse worker`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct PodConfig {
    /// `deployment/NAME` or `statefulset/NAME`.
    pub(crate) workload: String,
    /// Where it is; empty: where the gateway is, or its kubeconfig says.
    pub(crate) namespace: String,
    /// A file that says how to reach the cluster; empty: what `kubectl` would use, or the pod's own account.
    pub(crate) kubeconfig: String,
    /// Pods that stay when nobody wants any.
    pub(crate) min: u32,
    /// Pods that there are at most.
    pub(crate) max: u32,
    /// How long a query waits for the pods that it deserves beside its first, in seconds.
    pub(crate) start_s: u64,
}

/// What one query may do.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueryConfig {
    /// Time a query has if it does not say.
    pub(crate) timeout_ms: u64,
    /// The most a query may ask for.
    pub(crate) timeout_max_ms: u64,
    /// Time the planner has.
    pub(crate) planning_timeout_ms: u64,
    /// Workers that one query may have. 0: see [`Config::workers_of_query`].
    pub(crate) workers_max: usize,
    /// What a query must process for each of its workers, in MiB; one that processes less has one.
    pub(crate) mib_per_worker: u64,
    /// Queries that may wait for a worker.
    pub(crate) queue_max: usize,
    /// Of these, those of one project.
    pub(crate) queue_max_per_project: usize,
    /// How long a query may wait for a worker.
    pub(crate) queue_timeout_ms: u64,
    /// How long results can be read again, in hours.
    pub(crate) results_hours: u64,
    /// Rows of a result that may be held at once before they go to the bucket, in KiB.
    pub(crate) results_inline_kib: usize,
}

/// What one upload may do.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct UploadConfig {
    /// Bytes of one file, after decompression, in MiB.
    pub(crate) max_mib: u64,
}

/// How often a project may ask one server. 0: as often as it wants.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuotaConfig {
    /// Requests of any kind in a second; as many may come at once.
    pub(crate) requests_per_second: u32,
    /// Dry runs in a minute; as many may come at once.
    pub(crate) quotes_per_minute: u32,
    /// What its queries may process in a day of UTC, in GiB, on all servers.
    pub(crate) gib_per_day: u64,
}

/// The background loop.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpkeepConfig {
    /// How often it looks, in seconds.
    pub(crate) every_s: u64,
    /// How often it looks for files that nobody needs, in seconds.
    pub(crate) files_every_s: u64,
    /// How long a gateway may be silent before its queries are lost, in seconds.
    pub(crate) lease_s: u64,
    /// How old a file must be that nobody refers to before it is removed, in seconds.
    pub(crate) orphan_s: u64,
    /// How long running queries may go on after the order to stop, in seconds.
    pub(crate) shutdown_s: u64,
}

/// What is written to standard error.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogConfig {
    /// `text` or `json`.
    pub(crate) format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,wasmhouse=debug`.
    pub(crate) level: String,
}

/// What queries cost.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct BillingConfig {
    /// What a query may cost that does not say.
    pub(crate) max_cost: Money,
    /// The file of the key that receipts are signed with; empty: `receipts.key` in the data folder, made at the first start.
    pub(crate) signing_key: String,
    /// Where it is said that a budget is nearly spent; empty: in the log, and to who asks.
    pub(crate) budget_webhook: String,
    /// The price lists, of which one is in force at any time.
    pub(crate) prices: Vec<PriceList>,
}

/// The two shapes of a log line.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What queries process in a millisecond of processor time. TPC-H at scale factor 1 processes 473 KB (`docs/scale.md`).
const USUAL_BYTES_PER_CPU_MS: u64 = 500_000;

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data: PathBuf::from("data"),
            catalog: CatalogConfig { url: String::new() },
            bucket: BucketSettings {
                url: String::new(),
                options: BTreeMap::new(),
            },
            workers: WorkerConfig {
                source: WorkerSource::Children,
                max: 0,
                max_per_project: 0,
                threads: 0,
                memory_mib: 2048,
                process_mib: 3072,
                spill_mib: 51_200,
                idle_s: 300,
                weights: BTreeMap::new(),
                kubernetes: PodConfig {
                    workload: "deployment/wasmhouse-worker".to_owned(),
                    namespace: String::new(),
                    kubeconfig: String::new(),
                    min: 0,
                    max: 8,
                    start_s: 60,
                },
                tls: TlsConfig {
                    worker_name: "wasmhouse-worker".to_owned(),
                    ..TlsConfig::default()
                },
            },
            queries: QueryConfig {
                timeout_ms: 300_000,
                timeout_max_ms: 3_600_000,
                planning_timeout_ms: 10_000,
                workers_max: 0,
                mib_per_worker: 1024,
                queue_max: 1000,
                queue_max_per_project: 100,
                queue_timeout_ms: 60_000,
                results_hours: 24,
                results_inline_kib: 256,
            },
            uploads: UploadConfig { max_mib: 102_400 },
            quotas: QuotaConfig {
                requests_per_second: 1_000,
                quotes_per_minute: 600,
                gib_per_day: 0,
            },
            billing: BillingConfig {
                max_cost: Money::of_units(10),
                signing_key: String::new(),
                budget_webhook: String::new(),
                prices: vec![PriceList {
                    version: "1".to_owned(),
                    from: DateTime::default(),
                    currency: "USD".to_owned(),
                    per_tb_processed: Money::of_units(5),
                    per_tb_loaded: Money::ZERO,
                    per_query_at_least: Money::ZERO,
                }],
            },
            upkeep: UpkeepConfig {
                every_s: 10,
                files_every_s: 300,
                lease_s: 30,
                orphan_s: 3600,
                shutdown_s: 20,
            },
            log: LogConfig {
                format: LogFormat::Text,
                level: "info".to_owned(),
            },
        }
    }
}

impl QueryConfig {
    /// How many workers a query deserves that processes so many bytes. One whose like needed so much processor time is taken
    /// for one that processes the bytes for which that is usual.
    pub(crate) fn workers_for(&self, bytes: u64, needed: Option<Duration>) -> usize {
        let of_cpu = |cpu: Duration| (cpu.as_millis() as u64).saturating_mul(USUAL_BYTES_PER_CPU_MS);
        let bytes = needed.map_or(bytes, of_cpu);
        let deserved = match self.mib_per_worker << 20 {
            0 if bytes > 0 => u64::MAX,
            0 => 1,
            share => bytes.div_ceil(share),
        };
        usize::try_from(deserved)
            .unwrap_or(usize::MAX)
            .clamp(1, self.workers_max)
    }

    /// What one worker is enough for, in bytes.
    pub(crate) fn bytes_of_one_worker(&self) -> u64 {
        match self.workers_max {
            1 => u64::MAX,
            _ => self.mib_per_worker << 20,
        }
    }
}

impl Config {
    /// The settings of this start: defaults, file, environment.
    pub(crate) fn read(file: Option<&Path>) -> Result<Self, Wrong> {
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        let client = ["url", "key", "config", "data_dir"];
        let env = Env::prefixed("WASMHOUSE_")
            .ignore(&client)
            .filter(|name| !name.starts_with("test"))
            .split("__");
        let config: Self = figment.merge(env).extract()?;
        wrong::check(&config)?;
        Ok(config)
    }

    /// The file that holds the catalog, if it is SQLite's.
    pub(crate) fn catalog_file(&self) -> Option<PathBuf> {
        let url = self.catalog_url();
        let path = url.strip_prefix("sqlite:")?;
        let path = path.strip_prefix("//").unwrap_or(path);
        Some(PathBuf::from(path.split('?').next().unwrap_or(path)))
    }

    /// Where names, queries and the ledger are.
    pub(crate) fn catalog_url(&self) -> String {
        if self.catalog.url.is_empty() {
            format!("sqlite://{}?mode=rwc", self.data.join("catalog.db").display())
        } else {
            self.catalog.url.clone()
        }
    }

    /// True when this gateway is the only one that can use the catalog.
    pub(crate) fn is_alone(&self) -> bool {
        self.catalog_url().starts_with("sqlite:")
    }

    /// Workers that this gateway may have at once.
    pub(crate) fn workers_max(&self) -> usize {
        match (self.workers.max, self.workers.source) {
            (0, WorkerSource::Kubernetes) => self.workers.kubernetes.max as usize,
            (0, WorkerSource::Children | WorkerSource::Registered) => (2 * cores()).max(4),
            (most, _) => most,
        }
    }

    /// Workers that one project may hold.
    pub(crate) fn workers_max_per_project(&self) -> usize {
        match self.workers.max_per_project {
            0 => self.workers_max().saturating_sub(1).max(1),
            some => some,
        }
    }

    /// Workers that one query may have. Children are all on one machine, of which each uses every core.
    pub(crate) fn workers_of_query(&self) -> usize {
        match (self.queries.workers_max, self.workers.source) {
            (0, WorkerSource::Children) => 1,
            (0, WorkerSource::Registered | WorkerSource::Kubernetes) => self.workers_max_per_project(),
            (most, _) => most,
        }
    }

    /// With child processes, of which a query that deserves them has so many beside its head.
    pub(crate) fn with_further_children(mut self, further: usize) -> Self {
        let of_query = 1 + further;
        self.workers.source = WorkerSource::Children;
        self.queries.workers_max = of_query;
        // And one for whoever comes next.
        self.workers.max = self.workers_max().max(of_query + 1);
        self
    }

    /// Threads of one worker.
    pub(crate) fn worker_threads(&self) -> usize {
        if self.workers.threads == 0 {
            cores()
        } else {
            self.workers.threads
        }
    }
}

/// What a worker gets of this process's environment: how to reach the network, where temporary files go.
pub(crate) fn worker_environment() -> Vec<(String, String)> {
    const NAMES: [&str; 11] = [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "NO_PROXY",
        "no_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "TMPDIR",
        "RUST_BACKTRACE",
    ];
    let known = |name: &&str| std::env::var(name).ok().map(|value| ((*name).to_owned(), value));
    NAMES.iter().filter_map(known).collect()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::{Config, WorkerSource};

    #[test]
    fn a_setting_that_does_not_exist_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("wasmhouse.toml");
        std::fs::write(&file, "[queries]\ntimeout_msec = 3\n").expect("the file is written");

        let error = Config::read(Some(&file)).expect_err("the name is wrong");

        let error = error.to_string();
        assert!(error.contains("there is no setting timeout_msec"), "{error}");
        assert!(
            error.contains("wasmhouse.toml") && error.contains("planning_timeout_ms"),
            "{error}"
        );
    }

    #[test]
    fn a_value_that_no_server_can_work_with_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("wasmhouse.toml");

        for (text, named) in [
            ("[log]\nlevel = \"nope\"\n", "log.level"),
            ("[log]\nlevel = \"info,wasmhouse=loud\"\n", "log.level"),
            ("[log]\nformat = \"xml\"\n", "log.format"),
            ("[workers]\nmemory_mib = 0\n", "workers.memory_mib"),
            ("[workers]\nmemory_mib = 4096\n", "workers.process_mib"),
            ("[workers]\nmax = \"many\"\n", "workers.max"),
            ("[workers.kubernetes]\nmin = 9\n", "workers.kubernetes.max"),
            ("[workers.tls]\nca = \"ca.pem\"\n", "workers.tls.cert"),
            ("[workers.weights]\nshop = 0\n", "workers.weights.shop"),
            ("[workers.weights]\n\"no name\" = 2\n", "workers.weights"),
            ("[workers]\nprocess_mib = 9000000000000000000\n", "workers.process_mib"),
            ("[billing]\nmax_cost = 10\n", "billing.max_cost"),
            ("[billing]\nmax_cost = \"-1\"\n", "billing.max_cost"),
            ("[billing]\nprices = []\n", "billing.prices"),
            (&priced(&["a", "a"], "USD", "5"), "is there twice"),
            (&priced(&["a"], "usd", "5"), "three letters"),
            (&priced(&["a"], "USD", "0.0000001"), "6 decimals"),
            (&priced(&[""], "USD", "5"), "has a version"),
            ("[upkeep]\nevery_s = 0\n", "upkeep.every_s"),
            ("[upkeep]\nlease_s = 5\n", "upkeep.lease_s"),
            ("listen = \"here\"\n", "listen"),
            ("[queries\n", "wasmhouse.toml"),
        ] {
            std::fs::write(&file, text).expect("the file is written");
            let error = Config::read(Some(&file)).expect_err(text).to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
        for level in ["warn", "INFO", "info,wasmhouse=debug,h2=off"] {
            std::fs::write(&file, format!("[log]\nlevel = \"{level}\"\n")).expect("the file is written");
            Config::read(Some(&file)).expect(level);
        }
    }

    #[test]
    fn a_file_changes_what_it_names_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("wasmhouse.toml");
        std::fs::write(&file, "[queries]\ntimeout_ms = 3\n").expect("the file is written");

        let config = Config::read(Some(&file)).expect("the file is right");

        let mut expected = Config::default();
        expected.queries.timeout_ms = 3;
        assert_eq!(config, expected);
    }

    /// Lists of these versions, a second apart.
    fn priced(versions: &[&str], currency: &str, per_tb: &str) -> String {
        let list = |(second, version): (usize, &&str)| {
            format!(
                "[[billing.prices]]\nversion = \"{version}\"\nfrom = \"2026-01-01T00:00:{second:02}Z\"\ncurrency = \
                 \"{currency}\"\nper_tb_processed = \"{per_tb}\"\nper_tb_loaded = \"0\"\nper_query_at_least = \"0\"\n"
            )
        };
        versions.iter().enumerate().map(list).collect()
    }

    #[test]
    fn a_query_may_have_all_workers_but_those_of_one_machine_that_nobody_has_counted() {
        let mut config = Config::default();
        assert_eq!(config.workers_of_query(), 1);

        let alone = config.clone().with_further_children(0);
        assert_eq!(alone.workers_of_query(), 1);
        let crowd = config.clone().with_further_children(100);
        assert_eq!((crowd.workers_of_query(), crowd.workers_max()), (101, 102));
        assert_eq!(crowd.workers_max_per_project(), 101, "a neighbour finds one");

        config.workers.source = WorkerSource::Registered;
        config.workers.max = 9;
        assert_eq!(config.workers_of_query(), 8, "a project may have all but one");
        config.queries.workers_max = 2;
        assert_eq!(config.workers_of_query(), 2);
    }
}
