//! A server or a worker as a child process, and how processes are found and ended.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// How long a server may take to start, on a machine that is busy compiling something else.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a server that was asked to end is given before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(40);

/// The binary under test. What was said to the tests in the environment is not said to it.
pub(super) fn wasmhouse() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmhouse"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WASMHOUSE_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs `wasmhouse` with these arguments to its end; for commands that need no warehouse.
pub(crate) async fn run(arguments: &[&str]) -> std::process::Output {
    let mut command = wasmhouse();
    command.args(arguments).stdin(std::process::Stdio::null());
    command.output().await.expect("the binary was built for this test")
}

/// A running `wasmhouse serve` or `wasmhouse worker`.
pub(super) struct Server {
    child: Child,
    /// The server ends when this is closed, so it cannot outlive a test process that was killed.
    _lifeline: ChildStdin,
    pid: u32,
    pub(super) url: String,
    pub(super) ready_after: Duration,
    /// What it printed before it was ready.
    pub(super) printed: Vec<String>,
}

impl Server {
    pub(super) async fn gateway(data: &Path, config: Option<&Path>, log: &Path, more: &[&str]) -> Self {
        let anywhere = ["--listen", "127.0.0.1:0"];
        let arguments: Vec<String> = anywhere.iter().chain(more).map(|word| (*word).to_owned()).collect();
        Self::start("serve", "listening on ", data, config, log, &arguments).await
    }

    pub(super) async fn worker(data: &Path, config: Option<&Path>, log: &Path, where_to: &[String]) -> Self {
        Self::start("worker", "offered at ", data, config, log, where_to).await
    }

    /// Starts it, and waits until it says where it is.
    async fn start(
        what: &str,
        says: &str,
        data: &Path,
        config: Option<&Path>,
        log: &Path,
        where_to: &[String],
    ) -> Self {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("the log is in a directory we made");
        let mut command = wasmhouse();
        command
            .args([what, "--exit-with-parent", "--data"])
            .arg(data)
            .args(where_to);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the binary was built for this test");
        let lifeline = child.stdin.take().expect("standard input is a pipe");
        let pid = child.id().expect("the child has just been started");

        let mut lines = BufReader::new(child.stdout.take().expect("standard output is a pipe")).lines();
        let mut printed = Vec::new();
        let listening = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, url)) = line.split_once(says) {
                    return Some(url.trim().to_owned());
                }
                printed.push(line);
            }
            None
        };
        let url = match tokio::time::timeout(START_PATIENCE, listening).await {
            Ok(Some(url)) => url,
            Ok(None) => panic!("the server ended before it listened"),
            Err(_) => panic!("the server did not listen within {START_PATIENCE:?}"),
        };
        let ready_after = started.elapsed();

        // Whatever else it prints must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            child,
            _lifeline: lifeline,
            pid,
            url,
            ready_after,
            printed,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn ask_to_stop(&self) {
        signal(self.pid, "TERM");
    }

    pub(super) async fn stop(mut self) -> bool {
        self.ask_to_stop();
        match tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await {
            Ok(status) => status.expect("the child is ours to wait for").success(),
            Err(_) => false,
        }
    }

    pub(super) async fn kill(mut self) {
        self.child.start_kill().expect("the child is ours to kill");
        self.child.wait().await.expect("the child is ours to wait for");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked first, so that it takes its workers with it; `kill_on_drop` sees to the rest.
        if let Ok(None) = self.child.try_wait() {
            let workers = children_of(self.pid);
            signal(self.pid, "TERM");
            let asked = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && asked.elapsed() < Duration::from_secs(3) {
                std::thread::sleep(Duration::from_millis(10));
            }
            if matches!(self.child.try_wait(), Ok(None)) {
                for worker in workers {
                    kill_process(worker);
                }
            }
        }
    }
}

/// Ends a process the hard way.
pub(crate) fn kill_process(pid: u32) {
    signal(pid, "KILL");
}

/// Stops a process where it is: it is there, and does nothing.
pub(crate) fn freeze_process(pid: u32) {
    signal(pid, "STOP");
}

/// Lets a frozen process go on.
pub(crate) fn thaw_process(pid: u32) {
    signal(pid, "CONT");
}

/// Whether a process runs. One that has ended and waits to be noticed by its parent does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    every_process()
        .iter()
        .any(|process| process.pid == pid && process.state != 'Z')
}

/// The children of a process and theirs, without those that have ended.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let processes = every_process();
    let mut found = Vec::new();
    let mut parents = VecDeque::from([parent]);
    while let Some(parent) = parents.pop_front() {
        for process in processes
            .iter()
            .filter(|process| process.parent == parent && process.state != 'Z')
        {
            found.push(process.pid);
            parents.push_back(process.pid);
        }
    }
    found
}

struct Process {
    pid: u32,
    parent: u32,
    state: char,
}

fn every_process() -> Vec<Process> {
    if cfg!(target_os = "linux") {
        processes_from_proc()
    } else {
        processes_from_ps()
    }
}

fn processes_from_proc() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("Linux has /proc");
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name of the program is in parentheses and may hold anything; what we want follows the last of them.
            let (_, rest) = stat.rsplit_once(')')?;
            let mut fields = rest.split_whitespace();
            let state = fields.next()?.chars().next()?;
            let parent = fields.next()?.parse().ok()?;
            Some(Process { pid, parent, state })
        })
        .collect()
}

fn processes_from_ps() -> Vec<Process> {
    let output = std::process::Command::new("ps")
        .args(["-axo", "pid=,ppid=,state="])
        .output()
        .expect("ps is there");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let pid = fields.next()?.parse().ok()?;
            let parent = fields.next()?.parse().ok()?;
            let state = fields.next()?.chars().next()?;
            Some(Process { pid, parent, state })
        })
        .collect()
}

fn signal(pid: u32, name: &str) {
    // The shell's own `kill` is there even where no program of that name is; a process that is gone is what we wanted.
    let command = format!("kill -{name} {pid} 2>/dev/null");
    std::process::Command::new("sh")
        .args(["-c", &command])
        .status()
        .expect("every system we test on has a shell");
}
