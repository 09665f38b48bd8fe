//! Requests whose work is done on other threads than those that keep connections alive.
//!
//! A plan may keep a thread busy for seconds. A connection whose thread is busy answers nothing, not even that its worker
//! lives, and a task that a busy thread has just woken is not taken over by an idle one. So plans run in a runtime of their own
//! ([`threads`]), and what they say comes over to the connection piece by piece.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// Pieces of an answer that may wait for the network before the plan has to.
const PIECES_IN_FLIGHT: usize = 2;

/// Stack of a thread that parses or plans: deep expressions are walked by recursion.
pub const STACK_BYTES: usize = 16 << 20;

/// So many threads for plans, for as long as the process lives.
pub(super) fn threads(count: usize) -> std::io::Result<Handle> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(count.max(1))
        .thread_name("plan")
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    // A runtime must not be dropped where others wait; this one ends with the process.
    std::mem::forget(runtime);
    Ok(handle)
}

/// A service that does its work, and that of its answers, on these threads.
#[derive(Clone)]
pub(super) struct Offloaded<S> {
    service: S,
    threads: Handle,
}

impl<S> Offloaded<S> {
    pub(super) fn new(service: S, threads: Handle) -> Self {
        Self { service, threads }
    }
}

impl<S: NamedService> NamedService for Offloaded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Offloaded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that said it is ready is the one that is called.
        let next = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, next);
        let threads = self.threads.clone();
        Box::pin(async move {
            let work = AbortOnDropHandle::new(threads.spawn(async move { service.call(request).await }));
            let response = match work.await {
                Ok(Ok(response)) => response,
                Err(error) => return Ok(Status::internal(error.to_string()).into_http()),
            };
            Ok(response.map(|body| carried_over(body, &threads)))
        })
    }
}

/// The same answer, made on these threads. Dropping it stops the work.
fn carried_over(mut body: Body, threads: &Handle) -> Body {
    let (pieces, carried) = mpsc::channel(PIECES_IN_FLIGHT);
    let work = threads.spawn(async move {
        while let Some(piece) = body.frame().await {
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    });
    let work = AbortOnDropHandle::new(work);
    Body::new(StreamBody::new(ReceiverStream::new(carried).map(move |piece| {
        let _keep = &work;
        piece
    })))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures::stream;
    use http_body::Frame;
    use tower::service_fn;

    use super::*;

    /// Says three words, each on the thread that makes it.
    async fn words(_: Request<Body>) -> Result<Response<Body>, Infallible> {
        let word = |number| {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            Ok::<_, Status>(Frame::data(Bytes::from(format!("{number} of {name};"))))
        };
        let body = StreamBody::new(stream::iter(1..=3).map(word));
        Ok(Response::new(Body::new(body)))
    }

    #[tokio::test]
    async fn an_answer_is_made_on_the_threads_for_plans_and_arrives_whole() {
        let threads = threads(1).expect("a thread");
        let mut service = Offloaded::new(service_fn(words), threads);

        let answer = service.call(Request::new(Body::empty())).await.expect("an answer");
        let text = answer.into_body().collect().await.expect("all of it").to_bytes();

        assert_eq!(text, "1 of plan;2 of plan;3 of plan;");
    }

    #[tokio::test]
    async fn a_thread_that_is_busy_keeps_no_other_from_what_it_has_said() {
        let threads = threads(1).expect("a thread");
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
        let busy = move |_: Request<Body>| {
            let wait = std::sync::Arc::clone(&wait);
            let second = move |number: u32| {
                if number == 2 {
                    // Until the first was heard, which nobody could if it needed this thread.
                    let wait = wait.lock().expect("one waits");
                    wait.recv_timeout(Duration::from_secs(30)).expect("the first was heard");
                }
                Ok::<_, Status>(Frame::data(Bytes::from(number.to_string())))
            };
            let body = StreamBody::new(stream::iter(1..=2).map(second));
            std::future::ready(Ok::<_, Infallible>(Response::new(Body::new(body))))
        };
        let mut service = Offloaded::new(service_fn(busy), threads);

        let answer = service.call(Request::new(Body::empty())).await.expect("an answer");
        let mut body = answer.into_body();
        let first = body.frame().await.expect("a piece").expect("no error");
        done.send(()).expect("it waits");
        let second = body.frame().await.expect("a piece").expect("no error");

        let text = |piece: Frame<Bytes>| piece.into_data().expect("data");
        assert_eq!((text(first), text(second)), (Bytes::from("1"), Bytes::from("2")));
    }
}
