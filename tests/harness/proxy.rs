//! A network between a gateway and a worker, with weather: what is sent may take long, get stuck, or never arrive.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// How a network behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weather {
    /// As one wants it.
    Fair,
    /// Everything takes so long, each way.
    Slow(Duration),
    /// One packet in twenty is lost, and comes when it is sent again; what is behind it waits.
    Lossy,
    /// Nothing arrives, and nobody is told.
    Cut,
}

/// Passes on to one address what comes to another.
pub(crate) struct Proxy {
    at: SocketAddr,
    to: SocketAddr,
    weather: watch::Sender<Weather>,
}

impl Proxy {
    /// In fair weather, between two ports that are free.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let behind = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let (at, to) = (address(&listener), address(&behind));
        let (weather, seen) = watch::channel(Weather::Fair);
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(to).await else {
                    continue;
                };
                number += 2;
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                pass(near_in, far_out, seen.clone(), number);
                pass(far_in, near_out, seen.clone(), number + 1);
            }
        });
        Self { at, to, weather }
    }

    /// Where others connect.
    pub(crate) fn at(&self) -> SocketAddr {
        self.at
    }

    /// Where they are passed on to.
    pub(crate) fn to(&self) -> SocketAddr {
        self.to
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("it listens")
}

/// One direction of a connection. Closing it in the middle of a cut is not seen on the other side either.
fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut weather: watch::Receiver<Weather>, seed: u64) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(1_000);
    let mut chance = StdRng::seed_from_u64(seed);
    let seen = weather.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let delay = match *seen.borrow() {
                Weather::Slow(delay) => delay,
                Weather::Lossy if chance.random_bool(0.05) => Duration::from_millis(250),
                _ => Duration::ZERO,
            };
            if sender
                .send((Instant::now() + delay, buffer[..length].to_vec()))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((due, bytes)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            let is_over = weather
                .wait_for(|weather| !matches!(weather, Weather::Cut))
                .await
                .is_err();
            if is_over || to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = weather.wait_for(|weather| !matches!(weather, Weather::Cut)).await;
    });
}
