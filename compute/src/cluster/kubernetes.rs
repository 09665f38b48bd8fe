//! Workers that Kubernetes starts: as many pods of a workload as are wanted, each running `wasmhouse worker`.
//!
//! Pods register like all workers that run by themselves; here it is only said how many there are to be. A pod that is told to
//! stop lets its query end, so whichever of them Kubernetes chooses, none is lost.

mod workload;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};
use wasmhouse_storage::BoxError;
use wasmhouse_storage::workers::Need;

use self::workload::Workload;
use super::registered::Registered;
use crate::causes;

/// How often it is looked at how many pods are wanted.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long it is not looked again, however many begin to wait: all of them are seen at the next look.
const CALM: Duration = Duration::from_millis(200);

/// Which pods there are to be.
#[derive(Clone, Debug)]
pub struct KubernetesConfig {
    /// `deployment/NAME` or `statefulset/NAME`.
    pub workload: String,
    /// Where it is. None: where this process is, or its kubeconfig says.
    pub namespace: Option<String>,
    /// The file that says how to reach the cluster. None: what `kubectl` would use, or the account of this process's pod.
    pub kubeconfig: Option<PathBuf>,
    /// Pods that are there though nobody wants any.
    pub least: u32,
    /// Pods that there are at most.
    pub most: u32,
    /// How long a worker may be idle before one less is wanted.
    pub idle: Duration,
    /// How long a query waits for pods beside its first. It goes on with those that there are then.
    pub start_time: Duration,
}

/// Says how many pods there are to be, for as long as this lives.
pub(super) struct Scaler {
    start_time: Duration,
    /// Whether there may be more pods than are somebody's now.
    has_room: Arc<AtomicBool>,
    /// Dropping it ends the task.
    _task: AbortOnDropHandle<()>,
}

impl Scaler {
    /// Finds the workload and begins to look after it.
    pub(super) async fn start(config: KubernetesConfig, registered: Arc<Registered>) -> Result<Self, BoxError> {
        let workload = Workload::find(&config).await?;
        // What is wrong with its name or our rights, the operator hears at the start.
        workload.replicas().await.map_err(|error| {
            let cause = causes(error.as_ref());
            format!("the workload {} of Kubernetes cannot be read: {cause}", config.workload)
        })?;
        let has_room = Arc::new(AtomicBool::new(true));
        Ok(Self {
            start_time: config.start_time,
            has_room: Arc::clone(&has_room),
            _task: AbortOnDropHandle::new(tokio::spawn(look_after(workload, config, registered, has_room))),
        })
    }

    /// How long it pays to wait for a pod.
    pub(super) fn start_time(&self) -> Duration {
        self.start_time
    }

    /// Whether who waits for a pod may hope for one.
    pub(super) fn starts_more(&self) -> bool {
        self.has_room.load(Ordering::Relaxed)
    }
}

async fn look_after(
    workload: Workload,
    config: KubernetesConfig,
    registered: Arc<Registered>,
    has_room: Arc<AtomicBool>,
) {
    let mut seen = 0;
    loop {
        match scale(&workload, &config, &registered, seen).await {
            Ok(Look { need, is_settled }) => {
                has_room.store(need.taken < u64::from(config.most), Ordering::Relaxed);
                seen = need.wanted;
                if is_settled {
                    // The first who waits does not wait for the next look, too.
                    let _ = tokio::time::timeout(LOOK_EVERY, registered.changed()).await;
                }
            }
            Err(error) => {
                warn!("pods could not be asked for: {}", causes(error.as_ref()));
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        tokio::time::sleep(CALM).await;
    }
}

/// What was seen at a look.
struct Look {
    /// How many workers are wanted, whether there may be so many or not.
    need: Need,
    /// Whether there are to be as many pods.
    is_settled: bool,
}

/// Looks how many workers are wanted, and says it. `seen` is what was wanted at the look before: in between a worker may have
/// been waited for and there, or be told of by a gateway that has it already, so only what is wanted twice is started.
async fn scale(
    workload: &Workload,
    config: &KubernetesConfig,
    registered: &Registered,
    seen: u64,
) -> Result<Look, BoxError> {
    let need = registered.need_of_all(config.idle).await?;
    let wanted = need.wanted;
    let pods = |workers: u64| {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        workers.min(config.most).max(config.least)
    };
    let there = workload.replicas().await?;
    let target = match pods(wanted) > there {
        true => pods(wanted.min(seen)).max(there),
        false => pods(wanted),
    };
    if target != there {
        info!(there, target, "{} is scaled from {there} to {target}", config.workload);
        workload.scale_to(target).await?;
    }
    Ok(Look {
        need,
        is_settled: target == pods(wanted),
    })
}
