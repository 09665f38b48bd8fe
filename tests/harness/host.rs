//! A worker that is started by itself and registers in a warehouse's catalog.

use std::path::Path;

use super::process::{Server, children_of, kill_process};
use super::proxy::Proxy;

/// One `wasmhouse worker`. It ends with the test, as a warehouse does.
pub(crate) struct Host(Server);

impl Host {
    /// Starts it, and waits until it has registered.
    pub(super) async fn start(data: &Path, config: Option<&Path>) -> Self {
        let anywhere = ["--listen", "127.0.0.1:0"].map(str::to_owned);
        Self(Server::worker(data, config, &super::log_path(data), &anywhere).await)
    }

    /// The same, behind a network.
    pub(super) async fn start_behind(data: &Path, config: Option<&Path>, network: &Proxy) -> Self {
        let (listen, advertise) = (network.to().to_string(), network.at().to_string());
        let where_to = ["--listen".to_owned(), listen, "--advertise".to_owned(), advertise];
        Self(Server::worker(data, config, &super::log_path(data), &where_to).await)
    }

    /// Where its first worker is reached.
    pub(crate) fn url(&self) -> &str {
        &self.0.url
    }

    /// The process id of the host itself, which runs nothing of a tenant's.
    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// The process id of the worker that it has started, unless that is just being started again.
    pub(crate) fn worker_pid(&self) -> Option<u32> {
        children_of(self.pid()).first().copied()
    }

    /// Kills the worker the hard way; its host stays.
    pub(crate) fn kill_worker(&self) {
        if let Some(worker) = self.worker_pid() {
            kill_process(worker);
        }
    }

    /// Kills the host the hard way: the machine is gone.
    pub(crate) async fn kill(self) {
        self.0.kill().await;
    }

    /// Asks it to end, as an operator does, and does not wait for it.
    pub(crate) fn ask_to_stop(&self) {
        self.0.ask_to_stop();
    }

    /// Asks it to end and waits until it has. Says whether it ended well.
    pub(crate) async fn stop(self) -> bool {
        self.0.stop().await
    }
}
