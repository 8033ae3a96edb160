//! Accepts connections and speaks HTTP/1 on them, within limits that slow clients cannot use up.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::address::Bound;
use super::routes::{self, State};

/// Largest request head.
const HEAD_BYTES: usize = 8 * 1_024;
/// Longest wait for a request head, on a kept connection too.
const HEAD_WAIT: Duration = Duration::from_secs(5);
/// Connections at a time.
pub(super) const SEATS: usize = 64;
/// Longest wait for answers under way when closing.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Told when the listener closes; also when its owner is gone.
type Stopped = watch::Receiver<bool>;

/// Connections, oldest first.
///
/// An answer takes no time of its own, so a connection that lasts waits for its client. When all seats are taken, the one that has
/// lasted longest is closed: however many slow clients there are, a probe that knocks gets a seat.
#[derive(Debug, Default)]
struct Seats {
    taken: Mutex<VecDeque<JoinHandle<()>>>,
}

/// Serves until told to stop, then lets answers under way finish.
pub(super) async fn serve(listeners: Vec<Bound>, state: State, mut stopped: Stopped) {
    let state = Arc::new(state);
    let seats = Arc::new(Seats::default());
    let mut loops = JoinSet::new();
    for listener in listeners {
        let (seats, stopped) = (Arc::clone(&seats), stopped.clone());
        match listener {
            Bound::Tcp(listener) => loops.spawn(accept_tcp(listener, routes::router(&state, false), seats, stopped)),
            Bound::Unix(listener, file) => {
                let router = routes::router(&state, true);
                loops.spawn(async move {
                    accept_unix(&listener, router, seats, stopped).await;
                    drop(file);
                })
            }
        };
    }
    stop(&mut stopped).await;
    while loops.join_next().await.is_some() {}
    seats.clear().await;
}

async fn accept_tcp(listener: TcpListener, router: Router, seats: Arc<Seats>, mut stopped: Stopped) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop(&mut stopped) => return,
        };
        match accepted {
            Ok((stream, _)) => seats.take(converse(stream, router.clone(), stopped.clone())).await,
            Err(error) => refused(&error).await,
        }
    }
}

async fn accept_unix(listener: &UnixListener, router: Router, seats: Arc<Seats>, mut stopped: Stopped) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop(&mut stopped) => return,
        };
        match accepted {
            Ok((stream, _)) => seats.take(converse(stream, router.clone(), stopped.clone())).await,
            Err(error) => refused(&error).await,
        }
    }
}

/// Out of descriptors, most likely: they come back, and asking at once would only burn CPU.
async fn refused(error: &std::io::Error) {
    tracing::debug!(event = "admin.accept_failed", %error, "a connection cannot be accepted");
    sleep(Duration::from_millis(50)).await;
}

/// One connection from first request to last.
async fn converse<S>(stream: S, router: Router, mut stopped: Stopped)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let is_stopping = tokio::select! {
        // Whatever goes wrong here is the client's affair.
        _ = connection.as_mut() => false,
        () = stop(&mut stopped) => true,
    };
    if is_stopping {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

async fn stop(stopped: &mut Stopped) {
    // An error means that the owner is gone, which says the same.
    let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
}

// === impl Seats ===

impl Seats {
    async fn take(&self, conversation: impl Future<Output = ()> + Send + 'static) {
        {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            if taken.len() >= SEATS {
                taken.retain(|seat| !seat.is_finished());
            }
            if taken.len() >= SEATS
                && let Some(oldest) = taken.pop_front()
            {
                oldest.abort();
            }
            taken.push_back(tokio::spawn(conversation));
        }
        // Let it look at what has already arrived before a crowd behind it can take its seat.
        tokio::task::yield_now().await;
    }

    /// Waits for all of them, but not for ever.
    async fn clear(&self) {
        let mut taken = std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async {
            for seat in &mut taken {
                let _ = seat.await;
            }
        };
        if timeout(CLOSE_WAIT, all).await.is_err() {
            taken.iter().for_each(JoinHandle::abort);
        }
    }
}
