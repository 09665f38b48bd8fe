//! One worker process, from its start to its end.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tonic::transport::Channel;
use url::Url;
use wasmhouse_storage::ids::ProjectId;

use super::channel::endpoint;
use super::pool::PoolConfig;
use super::ticket::PublicKey;
use crate::session::Resources;
use crate::worker::memory::OUT_OF_MEMORY_STATUS;
use crate::worker::{Bootstrap, Ready};
use crate::{Code, Error, Result, SqlError};

/// How long a worker may take to say that it listens.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a dying process may take to be gone.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// A worker that answers. Dropping it kills it.
pub(super) struct Process {
    child: Child,
    /// Closing this pipe ends the worker, also when this process is killed.
    _pipe: ChildStdin,
    spill: tempfile::TempDir,
    pub(super) token: String,
    pub(super) channel: Channel,
    /// Where it listens.
    pub(super) url: Url,
    /// Whose worker it is, from its first lease on.
    pub(super) project: Option<ProjectId>,
}

impl Process {
    /// Starts a worker and waits until it listens.
    pub(super) async fn start(config: &PoolConfig, tickets: &PublicKey) -> Result<Self> {
        let spill = tempfile::Builder::new()
            .prefix("worker-")
            .tempdir_in(&config.spill_dir)
            .map_err(defect)?;
        let mut child = Command::new(&config.program)
            .arg("worker")
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
            bucket: config.bucket.clone(),
            resources: Resources {
                memory_bytes: config.memory_bytes,
                spill_bytes: config.spill_bytes,
                spill_dir: spill.path().to_owned(),
                threads: config.threads,
            },
            process_bytes: config.process_bytes,
            tickets: tickets.clone(),
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
        let ready: Ready = serde_json::from_str(&answer).map_err(defect)?;
        let url = Url::parse(&format!("http://{}", ready.address)).map_err(defect)?;
        let channel = endpoint(&url)
            .map_err(defect)?
            .connect()
            .await
            .map_err(|error| Error::WorkerLost(format!("it ended before it was asked: {error}")))?;
        Ok(Self {
            child,
            _pipe: pipe,
            spill,
            token,
            channel,
            url,
            project: None,
        })
    }

    /// True while the process runs.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None)) && self.spill.path().exists()
    }

    /// Ends the process and says what that means for its query.
    pub(super) async fn end(mut self, asked: bool) -> Error {
        if asked {
            // It is gone or going: its status says why. If it is not, it is made to.
            let status = tokio::time::timeout(Duration::from_millis(200), self.child.wait()).await;
            if let Ok(Ok(status)) = status {
                return meaning(status);
            }
        }
        let _ = self.child.start_kill();
        match tokio::time::timeout(END_TIMEOUT, self.child.wait()).await {
            Ok(Ok(status)) => meaning(status),
            _ => Error::WorkerLost("it could not be ended".to_owned()),
        }
    }
}

fn meaning(status: std::process::ExitStatus) -> Error {
    if status.code() == Some(OUT_OF_MEMORY_STATUS) {
        return SqlError::new(
            Code::OutOfMemory,
            "the query needs more memory than it may have; a function may be building very long values",
        )
        .into();
    }
    Error::WorkerLost(status.to_string())
}

fn defect(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Internal(error.into())
}
