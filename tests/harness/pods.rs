//! A Kubernetes that has one workload: an API server that says and is told how many pods it has, and the pods themselves, each a
//! `wasmhouse worker`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::host::Host;

/// The scale of the workload, as the API spells it (autoscaling/v1).
const SCALE: &str = "/apis/apps/v1/namespaces/house/deployments/wasmhouse-worker/scale";

/// One workload, `deployment/wasmhouse-worker` in the namespace `house`. Its pods end with the test.
pub(crate) struct Pods {
    kubeconfig: PathBuf,
    wanted: watch::Receiver<u64>,
    history: Arc<Mutex<Vec<u64>>>,
}

#[derive(Clone)]
struct Api {
    wanted: Arc<watch::Sender<u64>>,
    history: Arc<Mutex<Vec<u64>>>,
}

impl Pods {
    /// An API server on loopback, and a kubeconfig for it in `folder`.
    pub(crate) async fn start(folder: &Path) -> Self {
        let (sender, wanted) = watch::channel(0);
        let api = Api {
            wanted: Arc::new(sender),
            history: Arc::default(),
        };
        let history = Arc::clone(&api.history);
        let router = Router::new().route(SCALE, get(read).patch(change)).with_state(api);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });

        let kubeconfig = folder.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: \"http://{address}\"}}}}]\n\
             users: [{{name: test, user: {{}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test, namespace: house}}}}]\n"
        );
        std::fs::write(&kubeconfig, text).expect("the folder is ours");
        Self {
            kubeconfig,
            wanted,
            history,
        }
    }

    /// How a gateway finds the API server.
    pub(crate) fn kubeconfig(&self) -> String {
        format!("kubeconfig = {:?}\n", self.kubeconfig)
    }

    /// Starts and stops workers as it is told, for a warehouse with this data and these settings.
    pub(crate) fn run(&self, data: &Path, config: &Path) {
        let (mut wanted, data, config) = (self.wanted.clone(), data.to_owned(), config.to_owned());
        tokio::spawn(async move {
            let mut pods: Vec<Host> = Vec::new();
            loop {
                let count = *wanted.borrow_and_update() as usize;
                while pods.len() < count {
                    pods.push(Host::start(&data, Some(&config)).await);
                }
                for gone in pods.drain(count..) {
                    tokio::spawn(gone.stop());
                }
                if wanted.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// How many pods there are to be.
    pub(crate) fn wanted(&self) -> u64 {
        *self.wanted.borrow()
    }

    /// The most pods that there ever were to be.
    pub(crate) fn most(&self) -> u64 {
        let history = self.history.lock().expect("nobody panics here");
        history.iter().copied().max().unwrap_or(0)
    }
}

async fn read(State(api): State<Api>) -> Json<Value> {
    Json(scale(*api.wanted.borrow()))
}

async fn change(State(api): State<Api>, body: String) -> Json<Value> {
    let patch: Value = serde_json::from_str(&body).expect("a patch is JSON");
    let replicas = patch["spec"]["replicas"].as_u64().expect("a number of replicas");
    api.history.lock().expect("nobody panics here").push(replicas);
    api.wanted.send_replace(replicas);
    Json(scale(replicas))
}

fn scale(replicas: u64) -> Value {
    json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": { "name": "wasmhouse-worker", "namespace": "house" },
        "spec": { "replicas": replicas },
        "status": { "replicas": replicas },
    })
}
