//! How workers are reached, by their gateway and by each other.
//!
//! A peer that goes silent is noticed, whatever its kernel still acknowledges: both ends ask for a sign of life, and hang up
//! without one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::error::DataFusionError;
use datafusion_distributed::grpc::{self, BoxCloneSyncChannel};
use datafusion_distributed::{ChannelResolver, WorkerChannel};
use moka::sync::Cache;
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint};
use url::Url;
use wasmhouse_storage::BoxError;

use super::tls::Certificates;

/// How long a peer may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a peer is asked for a sign of life.
pub(crate) const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);

/// How long it may take to give one. The threads that answer run no plans, so one that does not is frozen or cut off.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(6);

/// How long a connection that nobody uses is kept.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// Connections to other workers. A clone has the same ones.
#[derive(Clone)]
pub(crate) struct Channels {
    open: Cache<Url, Channel>,
    keeper: Keeper,
    certificates: Option<Arc<Certificates>>,
}

/// Where connections are kept alive, whoever uses them: not on threads that run plans.
#[derive(Clone)]
struct Keeper(Handle);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Keeper {
    fn execute(&self, connection: F) {
        self.0.spawn(connection);
    }
}

impl Channels {
    /// Connections that these threads keep alive.
    pub(crate) fn new(threads: Handle, certificates: Option<Certificates>) -> Self {
        Self {
            open: Cache::builder().max_capacity(1_000).time_to_idle(KEPT_FOR).build(),
            keeper: Keeper(threads),
            certificates: certificates.map(Arc::new),
        }
    }

    /// A connection to `url`, which is made when it is first used.
    fn channel(&self, url: &Url) -> Result<Channel, BoxError> {
        if let Some(channel) = self.open.get(url) {
            return Ok(channel);
        }
        let channel = endpoint(url, self.certificates.as_deref())?
            .executor(self.keeper.clone())
            .connect_lazy();
        self.open.insert(url.clone(), channel.clone());
        Ok(channel)
    }
}

/// How a worker at `url` is connected to, by its gateway and by other workers. Who has certificates talks to nobody who has none.
pub(super) fn endpoint(url: &Url, certificates: Option<&Certificates>) -> Result<Endpoint, BoxError> {
    let endpoint = Endpoint::from_shared(url.to_string())?
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    match (certificates, url.scheme()) {
        (Some(certificates), "https") => Ok(endpoint.tls_config(certificates.client())?),
        (None, "http") => Ok(endpoint),
        (Some(_), _) => Err(
            "its address has no encryption, but `workers.tls` is set here; start that worker with `workers.tls`, too"
                .into(),
        ),
        (None, _) => Err("its address wants certificates, but `workers.tls` is not set here".into()),
    }
}

#[async_trait]
impl ChannelResolver for Channels {
    async fn get_worker_client_for_url(&self, url: &Url) -> Result<Box<dyn WorkerChannel>, DataFusionError> {
        let channel = self.channel(url).map_err(DataFusionError::External)?;
        Ok(grpc::create_worker_client(BoxCloneSyncChannel::new(channel)))
    }
}
