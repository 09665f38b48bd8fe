//! The worker process: one line in, one line out, then one query after another over Arrow Flight.
//!
//! The gateway starts it with a pipe as standard input, writes a [`Bootstrap`] to it, reads a [`Ready`] from standard
//! output and keeps the pipe open. When the pipe closes, for whatever reason, the worker ends.

use std::io::{BufRead, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::uri::Authority;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use url::Url;
use wasmhouse_storage::bucket::{Bucket, BucketConfig};
use wasmhouse_storage::clock::Clock;
use wasmhouse_storage::tables::Tables;
use wasmhouse_storage::{BoxError, ids::ProjectId};

use super::meter::Gauge;
use super::offload::{self, Offloaded};
use super::task::Tasks;
use super::{head, memory};
use crate::cluster::{
    Certificates, Channels, Errand, Inspector, KEEPALIVE_EVERY, KEEPALIVE_TIMEOUT, Sealed, Unsealed, unseal,
};
use crate::session::{Engine, Resources};
use crate::task::{Order, Task};

/// What a worker is told at its start.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bootstrap {
    /// What a caller has to seal with what it asks.
    pub token: String,
    /// Where tables live.
    pub bucket: BucketConfig,
    /// Where to listen.
    pub listening: Listening,
    /// What a query may use.
    pub resources: Resources,
    /// What the whole process may hold.
    pub process_bytes: u64,
    /// What it shows to those who connect, and whom it believes. None: nothing is encrypted.
    pub certificates: Option<Certificates>,
    /// How to log.
    pub log: WorkerLog,
}

/// How a worker logs: as its gateway does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerLog {
    /// Lines of JSON rather than of text.
    pub json: bool,
    /// Which events, in the words of `tracing_subscriber::EnvFilter`.
    pub level: String,
}

/// Where a worker listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listening {
    /// The address; port 0 takes a free one.
    pub at: SocketAddr,
    /// What others call it by, with or without a port. None: the address.
    pub advertised: Option<String>,
}

/// What a worker answers when it can be asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Where others reach it.
    pub url: Url,
}

impl Ready {
    fn new(listening: &Listening, at: SocketAddr, scheme: &str) -> Result<Self, BoxError> {
        let Some(advertised) = &listening.advertised else {
            let url = Url::parse(&format!("{scheme}://{at}"))?;
            return Ok(Self { url });
        };
        // The port of HTTP is a port, too.
        let url = match advertised.parse::<Authority>()?.port() {
            Some(_) => format!("{scheme}://{advertised}"),
            None => format!("{scheme}://{advertised}:{}", at.port()),
        };
        Ok(Self { url: Url::parse(&url)? })
    }
}

/// How long the headers of an answer may wait to leave with the first that is said, a small answer in one piece. Without
/// anything to say they tell that the task was taken.
const HEADERS_WAIT: Duration = Duration::from_millis(20);

/// Serves until standard input closes. `start_log` is called first, with what the gateway says about logs.
pub async fn serve(start_log: impl FnOnce(&WorkerLog) -> Result<(), BoxError>) -> Result<(), BoxError> {
    let bootstrap = read_bootstrap()?;
    start_log(&bootstrap.log)?;
    end_with_the_pipe();
    stay_when_asked_to_stop()?;
    memory::limit(bootstrap.process_bytes);

    let listener = TcpListener::bind(bootstrap.listening.at).await?;
    let scheme = if bootstrap.certificates.is_some() {
        "https"
    } else {
        "http"
    };
    let ready = Ready::new(&bootstrap.listening, listener.local_addr()?, scheme)?;
    let mut server = tonic::transport::Server::builder();
    if let Some(certificates) = &bootstrap.certificates {
        server = server.tls_config(certificates.server())?;
    }
    let bucket = Bucket::open(&bootstrap.bucket)?;
    let engine = Arc::new(Engine::new(&bucket, &bootstrap.resources)?);
    let gauge = Gauge::new(bucket.clone());
    let tasks = Tasks {
        engine: Arc::clone(&engine),
        bucket: bucket.clone(),
        inspector: Arc::new(Inspector::new(Clock::System)),
        channels: Channels::new(Handle::current(), bootstrap.certificates),
        errand: Arc::default(),
        gauge,
    };
    let worker = tasks.worker();
    let threads = offload::threads(bootstrap.resources.threads)?;
    let door = Door {
        token: bootstrap.token,
        project: OnceLock::new(),
        desk: Arc::new(head::Desk {
            engine,
            tasks: tasks.clone(),
            threads: threads.clone(),
            worker: worker.clone(),
            url: ready.url.clone(),
            tables: Tables::new(bucket.clone()),
            bucket,
        }),
    };
    let parts = Offloaded::new(worker.into_worker_server(), threads);
    let parts = InterceptedService::new(parts, move |request: Request<()>| {
        tasks.admit(&request.metadata().clone().into_headers())?;
        Ok(request)
    });

    println!("{}", serde_json::to_string(&ready)?);
    std::io::stdout().flush()?;

    // Rows of one batch may be large; the caller is our own gateway.
    let service = FlightServiceServer::new(door)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX);
    // Without it a small answer waits 40 ms for the acknowledgement of the one before.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    server
        // A head that is gone without a word leaves no tasks behind.
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(service)
        .add_service(parts)
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

fn read_bootstrap() -> Result<Bootstrap, BoxError> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// A thread of its own, since a runtime whose threads are all planning would not notice.
fn end_with_the_pipe() {
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        // The gateway writes nothing more, so this returns when the gateway is gone.
        let _ = std::io::stdin().lock().read_to_end(&mut rest);
        std::process::exit(0);
    });
}

/// A service manager sends its order to stop to every process. The gateway obeys it when its queries have ended, and then
/// ends its workers by closing their pipes.
fn stay_when_asked_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        // A signal that somebody listens to no longer ends the process.
        let mut signals = signal(kind)?;
        tokio::spawn(async move { while signals.recv().await.is_some() {} });
    }
    Ok(())
}

/// The calls a worker answers are `DoExchange` and `DoAction`; the rest of Arrow Flight is not spoken here.
struct Door {
    token: String,
    desk: Arc<head::Desk>,
    /// Whose worker this is, once its gateway has said so.
    project: OnceLock<ProjectId>,
}

impl Door {
    /// What a gateway asks for, if one has sealed it. The first project for which it does has the worker, now and for ever.
    fn admit<T>(&self, request: &Request<T>) -> Result<Sealed, Status> {
        let seal = request.metadata().get("authorization");
        let seal = seal
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .unwrap_or_default();
        let sealed = unseal(&self.token, seal, &Clock::System).map_err(|why| match why {
            Unsealed::Forged => Status::unauthenticated("not for you"),
            Unsealed::Late => {
                Status::unauthenticated("what is asked is too old; the clocks of the machines must agree")
            }
        })?;
        let project = &sealed.errand().project;
        match self.project.get_or_init(|| project.clone()) == project {
            true => Ok(sealed),
            false => Err(Status::permission_denied("this worker belongs to another project")),
        }
    }

    /// What is asked is about the errand that the worker is on, or it is on none.
    fn is_on(&self, errand: &Errand) -> Result<(), Status> {
        match self.desk.tasks.is_on(errand) {
            true => Ok(()),
            false => Err(Status::permission_denied("this worker is on another errand")),
        }
    }
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl FlightService for Door {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        let sealed = self.admit(&request)?;
        let mut words = request.into_inner();
        let first = words
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("no task"))?;
        let task: Task = serde_json::from_slice(&first.app_metadata)
            .map_err(|error| Status::invalid_argument(format!("the task cannot be read: {error}")))?;
        let errand = Errand::from(&task);
        if !sealed.is_for(&first.app_metadata) || *sealed.errand() != errand {
            return Err(Status::permission_denied("the task is not what was sealed"));
        }
        self.desk.tasks.begin(&errand);
        let mut answers = head::answer(Arc::clone(&self.desk), task, words).await.boxed();
        let first = tokio::time::timeout(HEADERS_WAIT, answers.next()).await;
        let first = stream::iter(first.ok().flatten());
        Ok(Response::new(first.chain(answers).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(not_spoken())
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(not_spoken())
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(not_spoken())
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(not_spoken())
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(not_spoken())
    }

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        Err(not_spoken())
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        Err(not_spoken())
    }

    /// What the gateway has to say to a worker whose query has another one as its head.
    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let sealed = self.admit(&request)?;
        let body = request.into_inner().body;
        if !sealed.is_for(&body) {
            return Err(Status::permission_denied("the order is not what was sealed"));
        }
        let errand = sealed.errand();
        let order = serde_json::from_slice(&body)
            .map_err(|error| Status::invalid_argument(format!("the order cannot be read: {error}")))?;
        let tasks = &self.desk.tasks;
        let usage = match order {
            Order::Serve { tickets } => {
                tasks.begin(errand);
                tasks.share(&tickets);
                tasks.gauge.read()
            }
            Order::Look => tasks.gauge.so_far(),
            Order::ReadMeter => {
                self.is_on(errand)?;
                tasks.gauge.read()
            }
            // Whatever runs here runs for nobody.
            Order::End => {
                self.is_on(errand)?;
                std::process::exit(0)
            }
        };
        let usage = serde_json::to_vec(&usage).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(
            stream::iter([Ok(arrow_flight::Result::new(usage))]).boxed(),
        ))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(not_spoken())
    }
}

fn not_spoken() -> Status {
    Status::unimplemented("a worker answers DoExchange and DoAction only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_called_by_what_it_is_told_and_by_its_own_port_if_that_says_none() {
        let at: SocketAddr = "0.0.0.0:7433".parse().expect("an address");
        let called = |advertised: &str| {
            let listening = Listening {
                at,
                advertised: Some(advertised.to_owned()),
            };
            let ready = Ready::new(&listening, at, "http");
            ready.expect("an address").url.to_string()
        };

        assert_eq!(called("worker-1"), "http://worker-1:7433/");
        assert_eq!(called("[2001:db8::7]"), "http://[2001:db8::7]:7433/");
        assert_eq!(called("worker-1:9000"), "http://worker-1:9000/");
        assert_eq!(called("worker-1:80"), "http://worker-1/");
    }
}
