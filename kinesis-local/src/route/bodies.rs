//! The bodies of requests on their way into memory.
//!
//! ```text
//! the first 16 KiB ─▶ a share of the memory for bodies, of the announced length ─▶ the rest ─▶ whole
//!                       └ waits while others have it            └ behind its time,      └ the share is of
//!                                                                 and others wait: cut    the real length
//! ```
//! Promises: a body has at most 16 MiB and all together a bounded share of memory; who announces
//! much and sends nothing takes nobody's place; who stops half-way keeps a place only while nobody
//! else wants it, so a half-open client stalls another for [`LOOK_EVERY`] at most. An oversize body
//! is read to its end, within bounds, so that its sender sees the answer.
//!
//! **Who keeps a share while others wait for one**: who sends fast enough to be whole at the time-out for
//! bodies (of 16 MiB in a minute: 280 KiB a second, from the share's first second on), and in no case
//! slower than 32 KiB a second. One that is behind would be refused in the end, and would only keep its
//! place until then. So a share is given up after one time-out at most, and who waits for one waits for
//! bodies that arrive.
//!
//! A share belongs to the bytes: it is free when they are, which is when the request was read and
//! carried out, before the answer is written or held back on purpose. (A latency on purpose *before* a
//! call holds its body, as a slow service would.) What waits for something to happen, a receive from a
//! queue, is given no share at all: its requests are short, and longer ones are refused.
//!
//! Times are of the machine and not of the instance's clock, as all time-outs of connections are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Limited};
use kinesis_core::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
pub(super) const UNSHARED_BODY_BYTES: usize = 16 * 1024;

/// How often it is looked at whether a body comes fast enough to keep its share. Source: none,
/// reasonable default: longer than a lost packet takes to be sent again.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a body has to send at least between two looks to keep its share while others wait, in bytes. Source:
/// none, reasonable default: what a quarter of a megabit a second carries.
const KEEPS_SHARE_BYTES: usize = 32 * 1024;

/// The memory for bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    /// KiB that are free.
    room: Arc<Semaphore>,
    /// Requests that wait for some.
    waiting: AtomicUsize,
    /// How long a body may take to arrive.
    timeout: Duration,
}

/// Why a body is not there.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum NotArrived {
    TooLarge,
    /// It ended before its time.
    CutShort,
    /// It held a share which others want, and was behind its time.
    TooSlow,
    /// It was not whole at the time-out.
    TooLate,
}

impl Bodies {
    pub(super) fn new(timeout: Duration) -> Self {
        Self::with(BODIES_MAX_KIB, timeout)
    }

    pub(super) fn with(kib: usize, timeout: Duration) -> Self {
        Self {
            room: Arc::new(Semaphore::new(kib)),
            waiting: AtomicUsize::new(0),
            timeout,
        }
    }

    #[cfg(test)]
    pub(super) fn free_kib(&self) -> usize {
        self.room.available_permits()
    }

    /// Waits for a share; `None`: there is no room any more. Cancel safe: who gives up waits no more.
    async fn share(&self, kib: u32) -> Option<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.room);
        if let Ok(share) = Arc::clone(&room).try_acquire_many_owned(kib) {
            return Some(share);
        }
        let _waiting = Waiting::count(&self.waiting);
        room.acquire_many_owned(kib).await.ok()
    }

    fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The whole body, of `longest` bytes at most, which keeps its share until it is dropped.
    pub(super) async fn arriving<B>(&self, body: B, longest: usize) -> Result<Bytes, NotArrived>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let now = || Clock::system().now();
        let hint = body.size_hint();
        // An unannounced length counts as the largest.
        let announced = hint.upper().unwrap_or(longest as u64).min(longest as u64) as usize;
        let mut oversize = hint.lower() > longest as u64;
        let mut body = Box::pin(Limited::new(body, longest + OVERSIZE_DRAIN_BYTES));
        let mut first = Bytes::new();
        let mut shared: Option<Shared> = None;
        // The time in which it waits for its share is not the client's.
        let mut until = now() + self.timeout;
        loop {
            let frame = async {
                match &mut shared {
                    None => Ok(body.frame().await),
                    Some(shared) => self.next_frame(body.as_mut(), &mut shared.pace).await,
                }
            };
            let frame = tokio::time::timeout_at(until, frame).await;
            let frame = frame.map_err(|_| NotArrived::TooLate)??;
            let Some(frame) = frame else { break };
            // Ended before its time, or larger than what is read to be polite.
            let frame = frame.map_err(|_| match oversize {
                true => NotArrived::TooLarge,
                false => NotArrived::CutShort,
            })?;
            let Ok(data) = frame.into_data() else {
                continue; // trailers
            };
            let length = match &shared {
                Some(shared) => shared.bytes.len(),
                None => first.len(),
            };
            oversize |= length + data.len() > longest;
            if oversize {
                (first, shared) = (Bytes::new(), None); // read to its end, so that the sender sees the answer
                continue;
            }
            match &mut shared {
                Some(shared) => shared.add(&data),
                None if first.is_empty() && data.len() <= UNSHARED_BODY_BYTES => first = data,
                None => {
                    let mut bytes = Vec::with_capacity(UNSHARED_BODY_BYTES.max(data.len()));
                    bytes.extend_from_slice(&first);
                    bytes.extend_from_slice(&data);
                    first = bytes.into();
                }
            }
            if shared.is_none() && first.len() > UNSHARED_BODY_BYTES {
                let kib = announced.max(first.len()).div_ceil(1024) as u32;
                let share = tokio::time::timeout(self.timeout, self.share(kib)).await;
                let share = share.map_err(|_| NotArrived::TooLate)?;
                let share = share.ok_or(NotArrived::CutShort)?;
                until = now() + self.timeout;
                shared = Some(Shared::begin(share, &first, announced, self.timeout));
                first = Bytes::new();
            }
        }
        if oversize {
            return Err(NotArrived::TooLarge);
        }
        Ok(shared.map_or(first, Shared::whole))
    }

    /// The next frame of a body that has a share, unless it is too slow to keep it.
    async fn next_frame<B>(
        &self,
        mut body: std::pin::Pin<&mut B>,
        pace: &mut Pace,
    ) -> Result<Option<Result<Frame<Bytes>, B::Error>>, NotArrived>
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
                        return Err(NotArrived::TooSlow);
                    }
                }
            }
        }
    }
}

/// A body that has a share.
#[derive(Debug)]
struct Shared {
    share: OwnedSemaphorePermit,
    bytes: Vec<u8>,
    pace: Pace,
}

impl Shared {
    fn begin(share: OwnedSemaphorePermit, first: &[u8], length: usize, timeout: Duration) -> Self {
        // Memory that is not written to costs nothing yet.
        let mut bytes = Vec::with_capacity(length.max(first.len()));
        bytes.extend_from_slice(first);
        Self {
            share,
            bytes,
            pace: Pace::begin(Clock::system().now(), length, timeout),
        }
    }

    fn add(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        self.pace.sent += data.len();
    }

    /// The whole body, with a share of its real length.
    fn whole(mut self) -> Bytes {
        self.bytes.shrink_to_fit();
        let needed = self.bytes.len().div_ceil(1024);
        let too_much = self.share.num_permits().saturating_sub(needed);
        drop(self.share.split(too_much));
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// How fast a body comes since it has a share.
#[derive(Debug)]
struct Pace {
    began: Instant,
    looked: Instant,
    /// Bytes in all, and up to the last look.
    sent: usize,
    seen: usize,
    /// Bytes that are to come in `timeout`.
    length: usize,
    timeout: Duration,
}

impl Pace {
    fn begin(now: Instant, length: usize, timeout: Duration) -> Self {
        Self {
            began: now,
            looked: now,
            sent: 0,
            seen: 0,
            length,
            timeout,
        }
    }

    fn next_look(&self) -> Instant {
        self.looked + LOOK_EVERY
    }

    /// Whether too little has come: since the last look, or for what is to come in all.
    fn look(&mut self, now: Instant) -> bool {
        let since_then = self.sent - self.seen;
        (self.looked, self.seen) = (now, self.sent);
        let due = self.length as u128 * (now - self.began).as_millis() / self.timeout.as_millis();
        since_then < KEEPS_SHARE_BYTES || (self.sent as u128) < due
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
    /// What the edge of Kinesis and DynamoDB answers.
    pub(super) fn not_arrived(self, why: NotArrived) -> Response<ResponseBody> {
        let late = |text| {
            let kind = "RequestTimeoutException";
            self.refusal(StatusCode::REQUEST_TIMEOUT, kind, text)
        };
        match why {
            NotArrived::TooLarge => self.too_large(),
            NotArrived::CutShort => self.refusal(
                StatusCode::BAD_REQUEST,
                "SerializationException",
                "the body of the request ended before its time",
            ),
            NotArrived::TooSlow => {
                late("the body of the request came too slowly while others waited for its place")
            }
            NotArrived::TooLate => late("the body of the request took too long to arrive"),
        }
    }
}
