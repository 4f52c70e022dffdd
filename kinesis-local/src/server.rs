//! The way in over a socket: HTTP/1.1 and HTTP/2 with prior knowledge, plain or inside TLS, on one
//! port.
//!
//! ```text
//! accept ─▶ a place among max_connections ─▶ the first byte: TLS? ─▶ handshake ─┐
//!    │                                          └─ no ──────────────────────────┴▶ the first bytes
//!    └─ waits when all places are taken; the kernel's queue holds      tell the HTTP ─▶ Service::call
//!       who comes then
//! ```
//!
//! Promises: a connection that sends no request, or a half one, or no other one after the last, does not
//! keep its place for ever. Nor does an answer of which not even 32 KiB could be written in that
//! time: it is cut, alone on HTTP/2, with its connection on HTTP/1.1. A subscription that has nothing
//! to push is no such answer and lives its five minutes. A request whose body does not come gives up its
//! place to others (see [`places`]). At the end every connection finishes the requests it has, within a
//! deadline.
//!
//! Nor does one that is read too slowly keep what others wait for, its memory or its request's place: an
//! answer of which nothing was written for a second is cut then, and so is one that would take more than a
//! minute, which is a reader of less than 280 KiB a second for the largest (see
//! [`answers`](crate::answers)). So that somebody who reads is seen to, the kernel holds little of an
//! answer that is not sent, [`SEND_BUFFER_BYTES`].
//!
//! What clients can make us hold is bounded, by 1 GiB for 512 connections, whatever they do and leave,
//! beside what streams, tables and buckets are and what a handler makes of a request while it runs:
//!
//! | | in all |
//! |---|---|
//! | bodies of more than 16 KiB, from their first bytes until they were read (see [`route`](crate::route)) | 256 MiB |
//! | answers of more than 16 KiB and events, until they are written (see [`answers`](crate::answers)) | 192 MiB, and 64 MiB that wait |
//! | requests under way, [`REQUESTS_MAX`]: a head, 16 KiB of a body, then as much of an answer or 64 KiB of an object; [`LOCAL_REQUESTS_MAX`] more for the pages under `/_local/` | 325 MiB |
//! | what HTTP/2 clients send ahead on [`WIDE_WINDOWS`] connections | 128 MiB |
//! | what a connection has read or is to write beside that: 128 KiB each | 64 MiB for 512 |
//!
//! What changes streams and queues takes the memory of its answer before its effect. An answer of DynamoDB, or
//! of DeleteObjects, of more than 16 KiB that finds none is refused with 503 after its effect, as may any
//! request whose answer is lost.
//!
//! Deliberately absent: the HTTP/1.1 upgrade to HTTP/2 (SDKs do not use it).

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kinesis_core::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answers::{Answers, Full as NoRoom, HoldsShare, PIECE_BYTES};
use crate::error::{Error, ErrorKind};
use crate::metrics::CONNECTIONS;
use crate::route::{Busy, Service, Unanswered};
use crate::tls::{FIRST_BYTE, Identity};

mod activity;
mod answering;
mod places;
mod streams;

use activity::{Activity, UnderWay};
use answering::{Answering, Held};
use places::{Arriving, LOCAL_REQUESTS_MAX, Places, REQUESTS_MAX};
use streams::Streams;

/// Longest head of an HTTP/1.1 request, in bytes. Source: none; a signed request has about 2 KiB.
const HTTP1_HEAD_MAX_BYTES: usize = 64 * 1024;

/// What the kernel is asked to hold of answers that the other end has not taken, in bytes a connection;
/// Linux takes twice as much, of which a third has to be free before more is written. Source: none,
/// reasonable default: what it grows to by itself are 4 MiB, of which somebody who takes 280 KiB a second
/// frees a third in five seconds, and looks like nobody until then.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;

/// Connections that the kernel holds before they are accepted. Source: tokio's default.
const BACKLOG: u32 = 1024;

/// Headers of a request. Source: hyper's default.
const HTTP1_HEADERS_MAX: usize = 100;

/// Longest header list of an HTTP/2 request, in bytes. Source: hyper's default.
const HTTP2_HEADERS_MAX_BYTES: u32 = 16 * 1024;

/// Requests at once on an HTTP/2 connection. Source: none; a consumer of enhanced fan-out has one
/// subscription per shard on a few connections.
const HTTP2_STREAMS_MAX: u32 = 256;

/// What an HTTP/2 client may send of a body before it is read, in bytes. Source: none; smaller ones cost a
/// client that waits for acknowledgements (Nagle's algorithm) 40 ms each.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// The same for all bodies of a connection together, of [`WIDE_WINDOWS`] connections: bodies that wait
/// for memory leave room for those that have it, as long as there are less than 16 of them. Source:
/// none, reasonable default.
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 16 * HTTP2_STREAM_WINDOW_BYTES;

/// HTTP/2 connections at once that have windows of that size. Source: none, reasonable default: 128 MiB
/// of them.
const WIDE_WINDOWS: usize = 32;

/// Both windows of the HTTP/2 connections beyond, in bytes. Source: RFC 9113, section 6.9.2.
const HTTP2_NARROW_WINDOW_BYTES: u32 = 65_535;

/// How often an HTTP/2 peer is asked whether it is still there. Source: none, reasonable default.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long an HTTP/2 peer may take to answer that. Source: hyper's default.
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long to wait before accepting again after the system refused (too many open files).
/// Source: none, reasonable default.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket and its connections.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    #[cfg(feature = "tls")]
    identity: Option<Identity>,
    /// Cancelled: accept no more, finish what there is.
    closing: CancellationToken,
    /// Cancelled: drop what there is.
    closed: CancellationToken,
    connections: TaskTracker,
}

/// What a connection needs.
struct Shared {
    service: Service,
    /// `None`: no TLS.
    identity: Option<Identity>,
    /// How long a client may take for the head of a request, the pause before it included; and how long
    /// for the next piece of an answer.
    head_timeout: Duration,
    answers: Answers,
    requests: Places,
    /// The pages under `/_local/`.
    local_requests: Places,
    /// Places for connections with wide windows.
    wide_windows: Arc<Semaphore>,
    closing: CancellationToken,
    closed: CancellationToken,
}

impl Server {
    /// Listens on `address` and serves `service`, with an identity inside TLS too.
    pub(crate) async fn listen(
        address: SocketAddr,
        service: Service,
        max_connections: usize,
        head_timeout: Duration,
        identity: Option<Identity>,
    ) -> Result<Self, Error> {
        let refused = |error: std::io::Error| {
            Error::new(
                ErrorKind::Listen,
                format!(
                    "cannot listen on {address}; if another program uses the port, stop it or \
                     choose another port (0 takes a free one)"
                ),
            )
            .with_source(error)
        };
        if !address.ip().is_loopback() {
            if service.takes_any_credentials() {
                tracing::warn!(%address, "other machines can use this server: it accepts any credentials");
            } else {
                tracing::warn!(%address, "other machines can use the pages under /_local/ without credentials");
            }
        }
        let listener = listener(address).map_err(refused)?;
        let server = Self {
            address: listener.local_addr().map_err(refused)?,
            #[cfg(feature = "tls")]
            identity: identity.clone(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
            connections: TaskTracker::new(),
        };
        let shared = Arc::new(Shared {
            service,
            identity,
            head_timeout,
            answers: Answers::new(),
            requests: Places::new(REQUESTS_MAX),
            local_requests: Places::new(LOCAL_REQUESTS_MAX),
            wide_windows: Arc::new(Semaphore::new(WIDE_WINDOWS)),
            closing: server.closing.clone(),
            closed: server.closed.clone(),
        });
        let accepting = accept(
            listener,
            shared,
            max_connections,
            server.connections.clone(),
        );
        server.connections.spawn(accepting);
        server.connections.close();
        Ok(server)
    }

    /// The address that is really listened on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The CA of a certificate of our own.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_ca_pem(&self) -> Option<&str> {
        self.identity.as_ref().and_then(Identity::ca_pem)
    }

    /// Accepts no more connections and lets the open ones finish their requests.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Waits for every connection's end; those that last longer than `deadline` are cut.
    pub(crate) async fn wait(&self, deadline: Duration) {
        self.close();
        let waited = tokio::time::timeout(deadline, self.connections.wait()).await;
        if waited.is_err() {
            tracing::warn!(
                connections = self.connections.len(),
                "connections were still open at the shutdown deadline and were cut"
            );
        }
        self.closed.cancel();
        self.connections.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// A socket that listens; the ones of its connections have its options.
fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // On Windows it would let two programs listen on one port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    max_connections: usize,
    connections: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(max_connections));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let Some(Some((accepted, place))) = shared.closing.run_until_cancelled(next).await else {
            return;
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(serve(stream, Arc::clone(&shared), place));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Counts a connection as open until dropped.
struct Open(metrics::Gauge);

impl Open {
    fn count() -> Self {
        let gauge = metrics::gauge!(CONNECTIONS);
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Serves one connection until its end.
async fn serve(stream: TcpStream, shared: Arc<Shared>, _place: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "answers on this connection may be delayed");
    }
    let _open = Open::count();
    let Some(identity) = &shared.identity else {
        return converse(stream, &shared).await;
    };
    // Nothing is lost when the server closes before a request came.
    match shared
        .closing
        .run_until_cancelled(is_tls(&stream, shared.head_timeout))
        .await
    {
        Some(Some(true)) => {
            let handshake = shared
                .closing
                .run_until_cancelled(identity.accept(stream))
                .await;
            if let Some(Some(stream)) = handshake {
                converse(stream, &shared).await;
            }
        }
        Some(Some(false)) => converse(stream, &shared).await,
        Some(None) | None => {}
    }
}

/// Whether the client begins with TLS; `None`: it says nothing in time.
async fn is_tls(stream: &TcpStream, head_timeout: Duration) -> Option<bool> {
    let mut first = [0];
    match tokio::time::timeout(head_timeout, stream.peek(&mut first)).await {
        Ok(Ok(1)) => Some(first[0] == FIRST_BYTE),
        Ok(Ok(_) | Err(_)) | Err(_) => None,
    }
}

/// Answers the requests of one connection until its end.
async fn converse<S>(stream: S, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::begin();
    let cut = CancellationToken::new();
    let wide = Arc::clone(&shared.wide_windows).try_acquire_owned().ok();
    let builder = protocol(shared.head_timeout, wide.is_some());
    let wide = Mutex::new(wide);
    let service = service_fn(|request: Request<Incoming>| {
        if request.version() != Version::HTTP_2 {
            // HTTP/1.1 has no windows.
            drop(wide.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        let (shared, under_way, cut) = (Arc::clone(shared), activity.request(), cut.clone());
        async move { answer(request, shared, under_way, cut).await }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // hyper knows a time limit for the heads of HTTP/1.1 alone: not for telling the protocols apart,
    // not for a pause of HTTP/2, not for an answer that nobody reads.
    let mut look = pin!(tokio::time::sleep(shared.head_timeout));
    let mut closing = false;
    let mut said_goodbye = false;
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = shared.closed.cancelled() => return,
            () = cut.cancelled() => return,
            () = shared.closing.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = look.as_mut() => {
                let now = Clock::system().now();
                let unread_until = activity.cut_the_unread(shared.head_timeout, now);
                let idle_since = activity.idle_since().unwrap_or(now);
                let idle_until = idle_since + shared.head_timeout;
                if now < idle_until {
                    let next = unread_until.map_or(idle_until, |until| until.min(idle_until));
                    look.as_mut().reset(next);
                } else if said_goodbye || !activity.has_seen_a_request() {
                    return;
                } else {
                    said_goodbye = true;
                    connection.as_mut().graceful_shutdown();
                    look.as_mut().reset(now + shared.head_timeout);
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended early");
    }
}

/// Answers one request, if there is a place for it, and for its answer.
async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    under_way: UnderWay,
    connection: CancellationToken,
) -> Result<Response<Answering>, Unanswered> {
    let (mut head, body) = request.into_parts();
    let busy = Busy::to(&head);
    let places = match busy.is_local() {
        true => &shared.local_requests,
        false => &shared.requests,
    };
    let too_busy = || shared.service.dated(busy.answer());
    let mut place = places.take(&head).await;
    let (answer, share) = if let Some(taken) = &place {
        head.extensions.insert(shared.answers.clone());
        head.extensions.insert(taken.clone());
        let (body, gave_up) = Arriving::begin(body, places.clone());
        let request = Request::from_parts(head, body);
        let answer = shared.service.call(request).await?;
        if gave_up.is_so() {
            place = None; // it is wanted now, not when this answer was read
            (too_busy(), None)
        } else {
            let holds_share = answer.extensions().get::<HoldsShare>().is_some();
            let bytes = match holds_share {
                true => 0,
                false => answer.body().in_memory(),
            };
            match shared.answers.share_in_time(bytes).await {
                Ok(share) => (answer, share),
                Err(NoRoom) => (too_busy(), None),
            }
        }
    } else {
        (too_busy(), None)
    };
    let holds_share = share.is_some() || answer.extensions().get::<HoldsShare>().is_some();
    let held = Held {
        under_way,
        place,
        share,
        holds_share,
    };
    let stream = streams::cut().unwrap_or_else(|| connection.clone());
    let rooms = (&shared.answers, places);
    Ok(answer.map(|body| Answering::begin(body, held, rooms, stream, connection)))
}

fn protocol(head_timeout: Duration, wide: bool) -> auto::Builder<Streams> {
    let (stream_window, connection_window) = match wide {
        true => (HTTP2_STREAM_WINDOW_BYTES, HTTP2_CONNECTION_WINDOW_BYTES),
        false => (HTTP2_NARROW_WINDOW_BYTES, HTTP2_NARROW_WINDOW_BYTES),
    };
    let mut builder = auto::Builder::new(Streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HTTP1_HEAD_MAX_BYTES)
        .max_headers(HTTP1_HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_send_buf_size(PIECE_BYTES)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .max_header_list_size(HTTP2_HEADERS_MAX_BYTES);
    builder
}

#[cfg(test)]
mod tests;
