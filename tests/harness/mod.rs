//! A warehouse to test against: the real binary, a real data directory, the product's own words.
//!
//! Every suite includes this folder and uses its part of it.
//!
//! # Invariants
//! - A [`Warehouse`] is a child process on a port of its own with a data directory of its own; nothing is shared.
//! - It ends with the test, however the test ends: on drop by its process id, and when the test process is killed
//!   because the server watches its standard input.
//! - Nothing here reaches into the product; what a test sees is what a user sees.

pub(crate) mod answers;
pub(crate) mod caller;
pub(crate) mod certificates;
pub(crate) mod compare;
pub(crate) mod host;
pub(crate) mod pods;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod wire;

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use caller::Caller;
use host::Host;
use process::{Server, children_of, kill_process};
use proxy::Proxy;

/// How long anything may take to come true before a test calls it never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One `wasmhouse serve` and the caller it made on its first start, project `main`.
pub(crate) struct Warehouse {
    server: Option<Server>,
    caller: Caller,
    data: TempDir,
    config: Option<PathBuf>,
}

/// Everything a caller can do, the warehouse's own first caller can do.
impl Deref for Warehouse {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Warehouse {
    /// A new warehouse with the default settings.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// A new warehouse whose settings file holds this TOML.
    pub(crate) async fn start_with(settings: &str) -> Self {
        let data = new_data();
        let config = (!settings.is_empty()).then(|| {
            let path = data.path().join("wasmhouse.toml");
            fs::write(&path, settings).expect("the settings file is in a directory we made");
            path
        });

        Self::on(data, config).await
    }

    /// What a server says that cannot start with these settings.
    pub(crate) async fn refused_with(settings: &str) -> String {
        let data = new_data();
        let config = data.path().join("wasmhouse.toml");
        fs::write(&config, settings).expect("the settings file is in a directory we made");
        let server = process::wasmhouse()
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.path())
            .arg("--config")
            .arg(&config)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(PATIENCE, server).await;
        let output = ended
            .expect("it ends by itself")
            .expect("the binary was built for this test");
        assert!(!output.status.success(), "it started");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Another gateway with the same settings and the same first caller. Where they say so, it has the same catalog and bucket.
    pub(crate) async fn beside(first: &Self) -> Self {
        let data = new_data();
        for name in ["wasmhouse.toml", "client.toml"] {
            fs::copy(first.data().join(name), data.path().join(name)).expect("the first has settings and a caller");
        }
        let config = Some(data.path().join("wasmhouse.toml"));
        Self::on(data, config).await
    }

    async fn on(data: TempDir, config: Option<PathBuf>) -> Self {
        let (server, caller) = launch(data.path(), config.as_deref(), &[]).await;
        Self {
            server: Some(server),
            caller,
            data,
            config,
        }
    }

    /// Other settings for the next start.
    pub(crate) fn configure(&mut self, settings: &str) {
        let path = self.data.path().join("wasmhouse.toml");
        fs::write(&path, settings).expect("the settings file is in a directory we made");
        self.config = Some(path);
    }

    /// The directory that holds everything this warehouse knows.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// The files that lie below a folder of the bucket, as one finds them on a disk; logs of tables are not among them.
    pub(crate) fn files_in_bucket(&self, folder: &str, extension: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect_files(&self.data.path().join("objects").join(folder), extension, &mut found);
        found.sort();
        found
    }

    /// What the server has written to its log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(log_path(self.data.path())).unwrap_or_default()
    }

    /// Another project of the same warehouse, with a key of its own.
    pub(crate) async fn project(&self, name: &str) -> Caller {
        let output = self.command(&["admin", "create-project", name]).await;
        assert!(
            output.status.success(),
            "create-project {name} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let key = printed
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .find(|word| word.starts_with("wh_"))
            .unwrap_or_else(|| panic!("no key in what create-project printed: {printed}"));
        self.caller.with_key(name, key)
    }

    /// Somebody in the project `main`, with these roles, each `role` or `role on dataset`, and a key of his own.
    pub(crate) async fn somebody(&self, name: &str, roles: &[&str]) -> Caller {
        self.caller.lets_in(name, roles).await
    }

    /// Whoever runs the house, with the key that was printed at its first start.
    pub(crate) fn operator(&self) -> Caller {
        let printed = self.server().printed.join("\n");
        let key = printed
            .split_whitespace()
            .find(|word| word.starts_with("wh_op_"))
            .unwrap_or_else(|| panic!("no key in {printed:?}"));
        self.caller.with_key("", key)
    }

    /// Runs `wasmhouse` with these arguments and this warehouse's data directory, to its end.
    pub(crate) async fn command(&self, arguments: &[&str]) -> std::process::Output {
        process::wasmhouse()
            .args(arguments)
            .arg("--data")
            .arg(self.data.path())
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .expect("the binary was built for this test")
    }

    /// Runs `wasmhouse` like [`Warehouse::command`], and feeds it this text through a pipe.
    pub(crate) async fn command_fed(&self, arguments: &[&str], text: &str) -> std::process::Output {
        let mut child = process::wasmhouse()
            .args(arguments)
            .arg("--data")
            .arg(self.data.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary was built for this test");
        let mut pipe = child.stdin.take().expect("standard input is a pipe");
        let feed = async move {
            // A command that has ended early does not read the rest.
            let _ = pipe.write_all(text.as_bytes()).await;
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), feed);
        output.expect("the child is ours to wait for")
    }

    /// A worker of its own for this warehouse, if its settings ask for such workers.
    pub(crate) async fn host(&self) -> Host {
        Host::start(self.data(), self.config.as_deref()).await
    }

    /// The same, which is reached through this network by everybody but the catalog.
    pub(crate) async fn host_behind(&self, network: &Proxy) -> Host {
        Host::start_behind(self.data(), self.config.as_deref(), network).await
    }

    /// The process id of the gateway.
    pub(crate) fn pid(&self) -> u32 {
        self.server().pid()
    }

    /// The process ids of the workers that the gateway keeps now.
    pub(crate) fn worker_pids(&self) -> Vec<u32> {
        children_of(self.pid())
    }

    /// Kills every worker the hard way and says how many there were.
    pub(crate) fn kill_worker(&self) -> usize {
        let workers = self.worker_pids();
        for worker in &workers {
            kill_process(*worker);
        }
        workers.len()
    }

    /// Kills the gateway the hard way: no last words, no clean-up.
    pub(crate) async fn kill(&mut self) {
        let server = self
            .server
            .take()
            .expect("a warehouse is killed once before it is restarted");
        server.kill().await;
    }

    /// Asks the gateway to end, as an operator does, and waits until it has. Says whether it ended well.
    pub(crate) async fn stop(&mut self) -> bool {
        let server = self
            .server
            .take()
            .expect("a warehouse is stopped once before it is restarted");
        server.stop().await
    }

    /// Asks the gateway to end, and does not wait for it.
    pub(crate) fn ask_to_stop(&self) {
        self.server().ask_to_stop();
    }

    /// Starts the gateway again on the same data. It has a new port.
    pub(crate) async fn restart(&mut self) {
        self.restart_with(&[]).await;
    }

    /// Kills the server and starts another one, which must not come up. Says what it said.
    pub(crate) async fn refuses_to_start(&mut self) -> String {
        self.kill().await;
        let settings = self.data().join("wasmhouse.toml").display().to_string();
        let serve = [
            "serve",
            "--exit-with-parent",
            "--listen",
            "127.0.0.1:0",
            "--config",
            &settings,
        ];
        let output = self.command(&serve).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "it came up: {told}");
        told
    }

    /// The same, started with more on the command line.
    pub(crate) async fn restart_with(&mut self, more: &[&str]) {
        if let Some(server) = self.server.take() {
            server.kill().await;
        }
        let (server, caller) = launch(self.data.path(), self.config.as_deref(), more).await;
        self.server = Some(server);
        self.caller = caller;
    }

    /// How long the server took from being started to accepting requests.
    pub(crate) fn ready_after(&self) -> Duration {
        self.server().ready_after
    }

    fn server(&self) -> &Server {
        self.server
            .as_ref()
            .expect("the warehouse was killed or stopped and not restarted")
    }
}

impl Drop for Warehouse {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test failed; what the server saw is half of the story.
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(60)..];
            eprintln!("--- the server's last words ---\n{}\n---", tail.join("\n"));
        }
    }
}

fn new_data() -> TempDir {
    tempfile::Builder::new()
        .prefix("wasmhouse-test-")
        .tempdir()
        .expect("a temporary directory")
}

async fn launch(data: &Path, config: Option<&Path>, more: &[&str]) -> (Server, Caller) {
    let server = Server::gateway(data, config, &log_path(data), more).await;
    let client = fs::read_to_string(data.join("client.toml")).expect("the server writes client.toml before it listens");
    let client: toml::Table = client.parse().expect("client.toml is TOML");
    let text = |name: &str| client[name].as_str().expect("client.toml holds texts").to_owned();
    let caller = Caller::new(server.url.clone(), text("project"), text("key"));
    (server, caller)
}

fn log_path(data: &Path) -> PathBuf {
    data.join("server.log")
}

fn collect_files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("_delta_log") {
            collect_files(&path, extension, found);
        } else if path.is_file() && (extension == "*" || path.extension().is_some_and(|found| found == extension)) {
            found.push(path);
        }
    }
}

/// Waits until `is_true`, looking every few milliseconds; a test that has waited [`PATIENCE`] fails and says for what.
pub(crate) async fn eventually(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_true().await {
        assert!(
            started.elapsed() < PATIENCE,
            "waited {PATIENCE:?} and still not: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
