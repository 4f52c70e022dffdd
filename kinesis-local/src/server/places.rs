//! The places of requests that are under way.
//!
//! ```text
//! a request's head ─▶ a place ─▶ its body arrives ─▶ it is carried out ─▶ its answer is written
//!                      │              └ less than 32 KiB of it in a second, and others wait: gives it up
//!                      └ waits while all are taken, for 4 s,             └ not read fast enough, and others
//!                        and is then told to come again                    wait: cut
//! ```
//! Promises: who sends heads and no bodies, or does not read, takes nobody's place; what may be held before
//! its body is whole is bounded by the places. Subscriptions and receives that wait leave an eighth of them to
//! the others: a client whose requests do nothing but wait holds up only those of the same kind. The pages
//! under `/_local/` have places of their own, so that they tell what is the matter when there are no others.
//!
//! Times are of the machine and not of the instance's clock, as all time-outs of connections are.

use std::future::Future as _;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};
use kinesis_core::Clock;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};

use crate::answers::{LOOK_EVERY, PIECE_BYTES, Readers, Reading, Watched};
use crate::body::BoxError;
use crate::route::Place;

/// Requests under way at once on all connections, subscriptions included; others are told to come again.
/// Source: none, reasonable default: the subscriptions of twenty consumers of two hundred shards.
pub(super) const REQUESTS_MAX: usize = 4096;

/// The same for the pages under `/_local/`. Source: none, reasonable default: people and probes ask for them.
pub(super) const LOCAL_REQUESTS_MAX: usize = 64;

/// Requests that wait for a place, of which there is no more than the head. Source: none, reasonable default.
const WAITING_MAX: usize = 256;

/// How long they wait. Source: none: whoever may be made to give up its place has done so by then. An
/// answer that HTTP/2 has taken over is cut at the second look, with its connection.
const WAIT_MAX: Duration = LOOK_EVERY.saturating_mul(4);

/// Operations whose requests wait on purpose, for seconds or minutes. Source: API model.
const LASTING: [&str; 3] = [
    "SubscribeToShard",
    "ReceiveQueueRecords",
    "ReceiveDeadLetterQueueRecords",
];

/// One place of so many is never taken by those. Source: none, reasonable default: 512 of 4,096.
const KEPT_OF: usize = 8;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// Of the free ones, those that a request that waits on purpose may take.
    lasting: Arc<Semaphore>,
    waiting_room: Arc<Semaphore>,
    /// The answers of those that have one.
    readers: Readers,
}

impl Places {
    pub(super) fn new(requests: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(requests)),
            lasting: Arc::new(Semaphore::new(requests - requests / KEPT_OF)),
            waiting_room: Arc::new(Semaphore::new(WAITING_MAX)),
            readers: Readers::new(),
        }
    }

    /// A place for the request with this head; `None`: there is none. Cuts answers that are not read
    /// meanwhile. Cancel safe; first come, first served.
    pub(super) async fn take(&self, head: &Parts) -> Option<Place> {
        let lasting = match lasts(head) {
            true => Some(Arc::clone(&self.lasting).try_acquire_owned().ok()?),
            false => None,
        };
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(Place::new(place, lasting));
        }
        let _waits = self.waiting_room.try_acquire().ok()?;
        let mut place = pin!(Arc::clone(&self.free).acquire_owned());
        let until = Clock::system().now() + WAIT_MAX;
        loop {
            tokio::select! {
                biased;
                place = place.as_mut() => return Some(Place::new(place.ok()?, lasting)),
                () = tokio::time::sleep_until(until) => return None,
                () = tokio::time::sleep(LOOK_EVERY) => self.readers.cut_the_slow(),
            }
        }
    }

    /// The answer of a request that has a place.
    pub(super) fn watch(&self, reading: &Arc<Reading>) -> Watched {
        self.readers.watch(reading)
    }

    fn are_wanted(&self) -> bool {
        self.waiting_room.available_permits() < WAITING_MAX
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.free.available_permits()
    }
}

fn lasts(head: &Parts) -> bool {
    let target = head.headers.get("x-amz-target");
    let operation = target
        .and_then(|target| target.to_str().ok())
        .and_then(|target| target.rsplit('.').next());
    operation.is_some_and(|operation| LASTING.contains(&operation))
}

/// The body of a request that has a place. It ends in an error to give that up.
#[derive(Debug)]
pub(super) struct Arriving<B> {
    body: B,
    places: Places,
    gave_up: GaveUp,
    /// When it is next looked at; there once the body was waited for.
    look: Option<Pin<Box<Sleep>>>,
    /// Bytes since the last look.
    came: usize,
    /// When it was last given out, and not asked for more yet: what follows is not its sender's time.
    given_at: Option<Instant>,
}

/// Whether a request gave up its place.
#[derive(Clone, Debug, Default)]
pub(super) struct GaveUp(Arc<AtomicBool>);

impl GaveUp {
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<B> Arriving<B> {
    pub(super) fn begin(body: B, places: Places) -> (Self, GaveUp) {
        let gave_up = GaveUp::default();
        let arriving = Self {
            body,
            places,
            gave_up: gave_up.clone(),
            look: None,
            came: 0,
            given_at: None,
        };
        (arriving, gave_up)
    }
}

impl<B> Body for Arriving<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let arriving = self.get_mut();
        let now = || Clock::system().now();
        if let (Some(given_at), Some(look)) = (arriving.given_at.take(), &mut arriving.look) {
            let next = look.deadline() + (now() - given_at);
            look.as_mut().reset(next);
        }
        // What is there already is not late.
        if let Poll::Ready(frame) = Pin::new(&mut arriving.body).poll_frame(context) {
            arriving.given_at = Some(now());
            if let Some(data) = frame
                .as_ref()
                .and_then(|frame| frame.as_ref().ok()?.data_ref())
            {
                arriving.came += data.len();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let look = &mut arriving.look;
        let look = look.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK_EVERY)));
        loop {
            ready!(look.as_mut().poll(context));
            if std::mem::take(&mut arriving.came) < PIECE_BYTES && arriving.places.are_wanted() {
                arriving.gave_up.0.store(true, Ordering::Relaxed);
                return Poll::Ready(Some(Err("its place is wanted by others".into())));
            }
            look.as_mut().reset(now() + LOOK_EVERY);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(operation: &str) -> Parts {
        let request = http::Request::builder();
        let request = request.header("x-amz-target", format!("Kinesis_20131202.{operation}"));
        request.body(()).unwrap().into_parts().0
    }

    #[tokio::test(start_paused = true)]
    async fn who_only_waits_leaves_an_eighth_of_the_places_to_the_others() {
        let places = Places::new(16);
        let mut taken = Vec::new();
        for operation in LASTING.iter().cycle().take(14) {
            taken.push(places.take(&head(operation)).await.unwrap());
        }
        for operation in LASTING {
            assert!(places.take(&head(operation)).await.is_none(), "{operation}");
        }
        let put = places.take(&head("PutRecord")).await;
        let others = [put, places.take(&head("GetRecords")).await];
        assert!(others.iter().all(Option::is_some));
        assert!(places.take(&head("PutRecord")).await.is_none());
        drop((taken.pop(), others));
        assert!(places.take(&head("SubscribeToShard")).await.is_some());
    }
}
