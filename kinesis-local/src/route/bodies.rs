//! The bodies of requests on their way into memory.
//!
//! ```text
//! the first 16 KiB ─▶ a share of the memory for bodies, of the announced length ─▶ the rest ─▶ whole
//!                       └ waits while others have it                    └ slow, and others wait:
//!                                                                         cut, its share given up
//! ```
//! Promises: a body has at most 16 MiB and all together a bounded share of memory; who announces
//! much and sends nothing takes nobody's place; who stops half-way keeps a place only while nobody
//! else wants it, so a half-open client stalls another for [`LOOK_EVERY`] at most. An oversize body
//! is read to its end, within bounds, so that its sender sees the answer.
//!
//! Times are of the machine and not of the instance's clock, as all time-outs of connections are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Limited};
use kinesis_core::Clock;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::Edge;
use crate::body::{BoxError, ResponseBody};

/// Largest request body of Kinesis and DynamoDB, in bytes. Source: DynamoDB's 16 MB request limit;
/// it also holds the 10 MiB of a full PutRecords, which is 14 MiB as base64 in JSON.
pub(super) const BODY_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Bodies held at once, all requests together, in KiB. Source: none, reasonable default: sixteen of
/// the largest. A request waits for its share before its body is read.
pub(super) const BODIES_MAX_KIB: usize = 16 * BODY_MAX_BYTES / 1024;

/// How much of an oversize body is read and thrown away so that the sender sees the answer instead
/// of a broken connection, in bytes. Source: none, reasonable default.
const OVERSIZE_DRAIN_BYTES: usize = 4 * BODY_MAX_BYTES;

/// What a body may have sent before its share of [`BODIES_MAX_KIB`] is asked for, in bytes: most
/// requests are shorter, and never wait. So what is not shared is bounded by this for each request
/// that the connections can have at once. Source: none.
const UNSHARED_BODY_BYTES: usize = 16 * 1024;

/// How often it is looked at whether a body comes fast enough to keep its share. Source: none,
/// reasonable default: longer than a lost packet takes to be sent again.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a body has to send between two looks to keep its share while others wait, in bytes. Source:
/// none, reasonable default: what a quarter of a megabit a second carries.
const KEEPS_SHARE_BYTES: usize = 32 * 1024;

/// The memory for bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    /// KiB that are free.
    room: Semaphore,
    /// Requests that wait for some.
    waiting: AtomicUsize,
}

/// What a body has of the memory, until it is dropped.
pub(super) type Share<'a> = Option<SemaphorePermit<'a>>;

impl Bodies {
    pub(super) fn new() -> Self {
        Self {
            room: Semaphore::new(BODIES_MAX_KIB),
            waiting: AtomicUsize::new(0),
        }
    }

    #[cfg(test)]
    pub(super) fn free_kib(&self) -> usize {
        self.room.available_permits()
    }

    /// Waits for a share. Cancel safe: who gives up waits no more.
    async fn share(&self, kib: u32) -> Share<'_> {
        if let Ok(share) = self.room.try_acquire_many(kib) {
            return Some(share);
        }
        let _waiting = Waiting::count(&self.waiting);
        self.room.acquire_many(kib).await.ok()
    }

    fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The whole body and its share, or the answer that refuses the request.
    pub(super) async fn arriving<B>(
        &self,
        body: B,
        edge: Edge,
    ) -> Result<(Bytes, Share<'_>), Response<ResponseBody>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let hint = body.size_hint();
        let mut body = Box::pin(Limited::new(body, BODY_MAX_BYTES + OVERSIZE_DRAIN_BYTES));
        let mut chunks: Vec<Bytes> = Vec::new();
        let mut length = 0;
        let mut shared: Option<(Share<'_>, Pace)> = None;
        let mut oversize = hint.lower() > BODY_MAX_BYTES as u64;
        loop {
            let frame = match &mut shared {
                None => body.frame().await,
                Some((_, pace)) => match self.next_frame(body.as_mut(), pace).await {
                    Ok(frame) => frame,
                    Err(TooSlow) => return Err(edge.too_slow()),
                },
            };
            let Some(frame) = frame else { break };
            let Ok(frame) = frame else {
                // Ended before its time, or larger than what is read to be polite.
                return Err(if oversize {
                    edge.too_large()
                } else {
                    edge.cut_short()
                });
            };
            let Ok(data) = frame.into_data() else {
                continue; // trailers
            };
            length += data.len();
            oversize |= length > BODY_MAX_BYTES;
            if oversize {
                chunks.clear(); // read to its end, so that the sender sees the answer
                shared = None;
                continue;
            }
            match &mut shared {
                Some((_, pace)) => pace.sent += data.len(),
                None if length > UNSHARED_BODY_BYTES => {
                    // An unannounced length counts as the largest.
                    let bytes = hint.upper().unwrap_or(BODY_MAX_BYTES as u64);
                    let kib = bytes.min(BODY_MAX_BYTES as u64).div_ceil(1024) as u32;
                    let share = self.share(kib).await;
                    shared = Some((share, Pace::from(Clock::system().now())));
                }
                None => {}
            }
            chunks.push(data);
        }
        if oversize {
            return Err(edge.too_large());
        }
        let whole = match chunks.len() {
            1 => chunks.remove(0),
            _ => chunks.concat().into(),
        };
        Ok((whole, shared.and_then(|(share, _)| share)))
    }

    /// The next frame of a body that has a share, unless it is too slow to keep it.
    async fn next_frame<B>(
        &self,
        mut body: std::pin::Pin<&mut B>,
        pace: &mut Pace,
    ) -> Result<Option<Result<Frame<Bytes>, B::Error>>, TooSlow>
    where
        B: Body<Data = Bytes>,
    {
        loop {
            tokio::select! {
                biased; // what is there already is not late
                frame = body.frame() => return Ok(frame),
                () = tokio::time::sleep_until(pace.next_look()) => {
                    let slow = pace.look(Clock::system().now());
                    if slow && self.is_wanted() {
                        return Err(TooSlow);
                    }
                }
            }
        }
    }
}

/// A body that holds a share which others want, and does not send.
struct TooSlow;

/// How fast a body comes, from look to look.
#[derive(Debug)]
struct Pace {
    looked: Instant,
    sent: usize,
}

impl From<Instant> for Pace {
    fn from(now: Instant) -> Self {
        Self {
            looked: now,
            sent: 0,
        }
    }
}

impl Pace {
    fn next_look(&self) -> Instant {
        self.looked + LOOK_EVERY
    }

    /// Whether too little has come since the last look.
    fn look(&mut self, now: Instant) -> bool {
        let slow = self.sent < KEEPS_SHARE_BYTES;
        *self = Self::from(now);
        slow
    }
}

/// Counts as waiting until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn count(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Edge {
    fn too_slow(self) -> Response<ResponseBody> {
        self.refusal(
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeoutException",
            "the body of the request came too slowly while others waited for its place",
        )
    }
}
