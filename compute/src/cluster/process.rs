//! One worker process of this machine, from its start to its end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use wasmhouse_storage::bucket::BucketConfig;

use super::contact::Contact;
use super::tls::Certificates;
use crate::session::Resources;
use crate::worker::memory::OUT_OF_MEMORY_STATUS;
use crate::worker::{Bootstrap, Listening, Ready, WorkerLog};
use crate::{Code, Error, Result, SqlError};

/// How long a worker may take to say that it listens.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a dying process may take to be gone.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// What is started as a worker, and what it may use.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// The binary that is started as `… worker-process`.
    pub program: PathBuf,
    /// The environment it gets: how to reach the network, and no secrets.
    pub environment: Vec<(String, String)>,
    /// Where tables live.
    pub bucket: BucketConfig,
    /// Memory that a query's operators may hold before they spill.
    pub memory_bytes: u64,
    /// Memory that a worker may hold in all.
    pub process_bytes: u64,
    /// Disk that a query may spill to.
    pub spill_bytes: u64,
    /// Where it spills to. Whoever starts workers empties it first.
    pub spill_dir: PathBuf,
    /// Threads of a worker.
    pub threads: usize,
    /// What it shows to those who connect over a network, and whom it believes. None: nothing is encrypted.
    pub certificates: Option<Certificates>,
    /// How its log is written; for whoever starts the worker's own log.
    pub log: WorkerLog,
}

impl ProcessConfig {
    /// Makes an empty folder to spill to. What workers have spilled goes with them, unless whoever started them was killed.
    pub(super) fn empty_spill_dir(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.spill_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(defect(error)),
            _ => {}
        }
        std::fs::create_dir_all(&self.spill_dir).map_err(defect)
    }
}

/// A worker that answers. Dropping it kills it.
pub(super) struct Process {
    child: Child,
    /// Closing this pipe ends the worker, also when this process is killed.
    _pipe: ChildStdin,
    spill: tempfile::TempDir,
    pub(super) token: String,
    pub(super) ready: Ready,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was told to.
    Asked,
    /// It held more memory than it may.
    OutOfMemory,
    /// In any other way, and which.
    Lost(String),
}

impl Process {
    /// Starts a worker and waits until it listens.
    pub(super) async fn start(config: &ProcessConfig, listening: &Listening) -> Result<Self> {
        let spill = tempfile::Builder::new()
            .prefix("worker-")
            .tempdir_in(&config.spill_dir)
            .map_err(defect)?;
        let mut child = Command::new(&config.program)
            .arg("worker-process")
            // Nothing that the gateway was told, the catalog's password for example, is for a process that runs tenants'
            // statements.
            .env_clear()
            .envs(config.environment.iter().map(|(name, value)| (name, value)))
            // An interrupt at the terminal is for the gateway, which lets its queries end.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(defect)?;

        let token = format!("{:032x}", rand::random::<u128>());
        let bootstrap = Bootstrap {
            token: token.clone(),
            listening: listening.clone(),
            bucket: config.bucket.clone(),
            resources: Resources {
                memory_bytes: config.memory_bytes,
                spill_bytes: config.spill_bytes,
                spill_dir: spill.path().to_owned(),
                threads: config.threads,
            },
            process_bytes: config.process_bytes,
            certificates: config.certificates.clone(),
            log: config.log.clone(),
        };
        let mut pipe = child.stdin.take().expect("standard input was piped above");
        let mut line = serde_json::to_vec(&bootstrap).map_err(defect)?;
        line.push(b'\n');
        pipe.write_all(&line)
            .await
            .map_err(|error| Error::WorkerLost(format!("it ended at its start: {error}")))?;

        let out = child.stdout.take().expect("standard output was piped above");
        let mut answer = String::new();
        match tokio::time::timeout(START_TIMEOUT, BufReader::new(out).read_line(&mut answer)).await {
            Ok(Ok(length)) if length > 0 => {}
            Ok(_) => return Err(Error::WorkerLost("it ended before it listened".to_owned())),
            Err(_) => return Err(Error::WorkerLost("it did not listen in time".to_owned())),
        }
        Ok(Self {
            child,
            _pipe: pipe,
            spill,
            token,
            ready: serde_json::from_str(&answer).map_err(defect)?,
        })
    }

    /// Connects to it.
    pub(super) async fn contact(&self) -> Result<Contact> {
        // What stays on this machine needs no certificate.
        Contact::make(self.ready.url.clone(), self.token.clone(), None).await
    }

    /// True while the process runs.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None)) && self.spill.path().exists()
    }

    /// Waits until the process ends by itself.
    pub(super) async fn ended(&mut self) -> End {
        match self.child.wait().await {
            Ok(status) => End::of(status),
            Err(error) => End::Lost(error.to_string()),
        }
    }

    /// Ends the process and says how it ended: by itself, if it is `asked` and was gone or going.
    pub(super) async fn end(mut self, asked: bool) -> End {
        if asked && let Ok(end) = tokio::time::timeout(Duration::from_millis(200), self.ended()).await {
            return end;
        }
        let _ = self.child.start_kill();
        match tokio::time::timeout(END_TIMEOUT, self.ended()).await {
            Ok(end) => end,
            Err(_) => End::Lost("it could not be ended".to_owned()),
        }
    }
}

impl End {
    fn of(status: std::process::ExitStatus) -> Self {
        match status.code() {
            Some(0) => Self::Asked,
            Some(OUT_OF_MEMORY_STATUS) => Self::OutOfMemory,
            _ => Self::Lost(status.to_string()),
        }
    }
}

/// What the end of a worker means for its query.
impl From<End> for Error {
    fn from(end: End) -> Self {
        match end {
            End::OutOfMemory => SqlError::new(
                Code::OutOfMemory,
                "the query needs more memory than it may have; a function may be building very long values",
            )
            .into(),
            End::Asked => Self::WorkerLost("it ended as it was told".to_owned()),
            End::Lost(how) => Self::WorkerLost(how),
        }
    }
}

/// Where a worker listens that only this machine asks.
pub(super) fn on_loopback() -> Listening {
    Listening {
        at: SocketAddr::from(([127, 0, 0, 1], 0)),
        advertised: None,
    }
}

fn defect(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Internal(error.into())
}
