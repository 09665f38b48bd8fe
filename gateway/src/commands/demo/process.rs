//! The server of the demo: this same program, as a child process.
//!
//! # Invariants
//! - The child is in a process group of its own, so a Ctrl-C reaches it once and through [`Process::stop`].
//! - What the child writes is kept in `demo.log` beside its data, and somebody always reads it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wasmhouse_storage::BoxError;

/// How long a server may take until it accepts requests; recovery after a crash is part of it.
const START: Duration = Duration::from_secs(120);
/// How long it may take to finish what it is doing.
const STOP: Duration = Duration::from_secs(60);

pub(super) struct Process {
    child: Child,
    address: Option<oneshot::Receiver<String>>,
    reader: JoinHandle<io::Result<()>>,
    log: PathBuf,
}

impl Process {
    /// Starts `wasmhouse serve` on this data directory.
    pub(super) fn start(data: &Path, listen: &str) -> Result<Self, BoxError> {
        fs::create_dir_all(data)?;
        let log = data.join("demo.log");
        let file = File::create(&log)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--listen", listen, "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file.try_clone()?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let (told, address) = oneshot::channel();
        let reader = tokio::spawn(read(stdout, file, told));
        Ok(Self {
            child,
            address: Some(address),
            reader,
            log,
        })
    }

    /// Waits until the server accepts requests. Returns where.
    pub(super) async fn listening(&mut self) -> Result<String, BoxError> {
        let address = self.address.take().expect("the address is waited for once");
        match timeout(START, address).await {
            Ok(Ok(address)) => Ok(address),
            Ok(Err(_)) => Err(self.ended().await?.into()),
            Err(_) => Err(format!(
                "the server does not listen after {} s; {}",
                START.as_secs(),
                self.last_words()
            )
            .into()),
        }
    }

    /// Waits until the server ends by itself. Returns a sentence about it.
    pub(super) async fn ended(&mut self) -> io::Result<String> {
        let status = self.child.wait().await?;
        Ok(format!("the server ended with {status}; {}", self.last_words()))
    }

    /// Asks the server to finish, and waits for that.
    pub(super) async fn stop(mut self) -> Result<(), BoxError> {
        if let Some(pid) = self.child.id() {
            let pid = Pid::from_raw(i32::try_from(pid).expect("a process id is a positive i32"));
            // It may have ended in the meantime, which is what we want.
            let _ = kill(pid, Signal::SIGTERM);
            if timeout(STOP, self.child.wait()).await.is_err() {
                self.child.kill().await?;
                return Err(format!("the server did not stop in {} s and was killed", STOP.as_secs()).into());
            }
        }
        self.reader.await??;
        Ok(())
    }

    /// Where to read more, and the end of it.
    fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last = text
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("it wrote nothing");
        format!("{} ends with: {last}", self.log.display())
    }
}

/// Reads what the server says until it has nothing more to say, and passes on where it listens.
async fn read(stdout: ChildStdout, mut log: File, told: oneshot::Sender<String>) -> io::Result<()> {
    let mut told = Some(told);
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await? {
        writeln!(log, "{line}")?;
        if let Some(address) = line.strip_prefix("listening on ")
            && let Some(told) = told.take()
        {
            // Nobody waits any more when the demo was interrupted.
            let _ = told.send(address.trim().to_owned());
        }
    }
    Ok(())
}
