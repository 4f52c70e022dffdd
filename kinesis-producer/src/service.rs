//! The one task behind all handles of a producer: carries messages, requests and time to the
//! pipeline.
//!
//! It ends when everything is settled after `close` or after the last handle is gone, and at the
//! deadline in any case. Requests run as tasks of its own, aborted with it, so that encoding and
//! signing use all the runtime's threads; what they carry stays in the pipeline, so that a panic or
//! abort in one loses no record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use kinesis_core::limits::RECORD_MAX_BYTES_LARGEST;
use kinesis_core::{Clock, ShardMap};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::DropGuard;
use tracing::Instrument;

use crate::Settings;
use crate::attempts::micros;
use crate::error::{Bound, Cause, Class};
use crate::pipeline::Pipeline;
use crate::pipeline::intake::{Message, Room};
use crate::pipeline::retry::Answer;
use crate::pipeline::send::put_records;
use crate::shard_map::list_shards;
use crate::stream::{StreamRef, StreamTraits, describe};

/// Messages taken from the intake at a time. Source: none, reasonable default; bounds how long
/// answers wait behind new records.
const INTAKE_BATCH: usize = 1024;

/// How long the task goes on delivering after the last handle was dropped.
/// Source: none, reasonable default; the KPL's default time to live of a record.
pub(crate) const DROP_DEADLINE: Duration = Duration::from_secs(30);

/// In place of a count: the task has not ended, or was dropped before it could count.
pub(crate) const NOT_ENDED: u64 = u64::MAX;

/// What the service task tells the handles.
#[derive(Debug)]
pub(crate) struct Board {
    /// Data and key of the largest record that is accepted: as set, and as the stream says.
    record_bytes_max: AtomicUsize,
    record_bytes_max_set: usize,
    /// What set it.
    bound_set: Bound,
    /// A record was refused for what the stream said of itself.
    refused: Notify,
    started: Instant,
    /// When the oldest outstanding record was accepted, in microseconds after `started`, plus 1;
    /// 0 = there is none.
    oldest: AtomicU64,
}

impl Board {
    pub(crate) fn new(settings: &Settings, started: Instant) -> Self {
        let record_bytes_max = settings.record_bytes_max();
        let bound_set = if settings.max_user_record_size == Some(record_bytes_max) {
            Bound::Setting
        } else if record_bytes_max < RECORD_MAX_BYTES_LARGEST {
            Bound::Buffer
        } else {
            Bound::Service
        };
        Self {
            record_bytes_max: AtomicUsize::new(record_bytes_max),
            record_bytes_max_set: record_bytes_max,
            bound_set,
            refused: Notify::new(),
            started,
            oldest: AtomicU64::new(0),
        }
    }

    pub(crate) fn record_bytes_max(&self) -> usize {
        self.record_bytes_max.load(Ordering::Relaxed)
    }

    /// What sets [`Self::record_bytes_max`].
    fn bound(&self) -> Bound {
        if self.record_bytes_max() < self.record_bytes_max_set {
            Bound::Stream
        } else {
            self.bound_set
        }
    }

    /// A record was refused for [`Self::record_bytes_max`]; what sets it.
    pub(crate) fn refused(&self) -> Bound {
        let bound = self.bound();
        if matches!(bound, Bound::Stream) {
            self.refused.notify_one();
        }
        bound
    }

    fn stream_takes(&self, bytes: usize) {
        let bytes = bytes.min(self.record_bytes_max_set);
        self.record_bytes_max.store(bytes, Ordering::Relaxed);
    }

    fn oldest_is(&self, accepted_at: Option<Instant>) {
        let since = |at: Instant| micros(at.saturating_duration_since(self.started)) + 1;
        self.oldest
            .store(accepted_at.map_or(0, since), Ordering::Relaxed);
    }

    pub(crate) fn oldest_age(&self, now: Instant) -> Option<Duration> {
        let since = self.oldest.load(Ordering::Relaxed).checked_sub(1)?;
        let accepted_at = self.started + Duration::from_micros(since);
        Some(now.saturating_duration_since(accepted_at))
    }
}

pub(crate) struct Service {
    pub(crate) client: Client,
    pub(crate) stream: StreamRef,
    pub(crate) request_timeout: Duration,
    pub(crate) clock: Clock,
    pub(crate) pipeline: Pipeline,
    pub(crate) room: Arc<Room>,
    pub(crate) intake: mpsc::Receiver<Message>,
    /// The deadline of `close`, once it was called.
    pub(crate) closing: watch::Receiver<Option<Instant>>,
    /// Records given up at the deadline; [`NOT_ENDED`] until the task has ended in order.
    pub(crate) abandoned: Arc<AtomicU64>,
    pub(crate) board: Arc<Board>,
    pub(crate) tasks: Tasks,
    /// Tells the handles that the task has ended. The last field, so dropped after the pipeline
    /// has settled whatever is left in it.
    pub(crate) ended: DropGuard,
}

/// What runs beside the loop.
#[derive(Default)]
pub(crate) struct Tasks {
    running: JoinSet<Done>,
    /// What each task carries, to find it again if the task panics.
    carried: BTreeMap<Id, Carried>,
}

#[derive(Copy, Clone, Debug)]
enum Carried {
    /// A flight.
    Put(u64),
    /// The shard map, what the stream is like, or both.
    Look { shards: bool, traits: bool },
}

enum Done {
    Put(u64, Result<Vec<Answer>, Cause>),
    Look {
        shards: Option<Result<ShardMap, Cause>>,
        traits: Option<Result<StreamTraits, Cause>>,
    },
}

impl Service {
    pub(crate) async fn run(mut self) {
        let mut messages = Vec::with_capacity(INTAKE_BATCH);
        let (mut open, mut handles) = (true, true);
        let mut deadline: Option<Instant> = None;
        loop {
            let now = self.clock.now();
            self.start_work(now);
            if !open && self.pipeline.is_empty() || deadline.is_some_and(|at| at <= now) {
                break;
            }
            let wake = self
                .pipeline
                .next_wake(now)
                .into_iter()
                .chain(deadline)
                .min();
            tokio::select! {
                count = self.intake.recv_many(&mut messages, INTAKE_BATCH), if open => {
                    self.receive(&mut messages);
                    if count == 0 {
                        open = false;
                        self.pipeline.drain();
                        let latest = self.clock.now() + DROP_DEADLINE;
                        deadline = deadline.or(Some(latest));
                    }
                }
                Some(done) = self.tasks.running.join_next_with_id() => self.done(done),
                changed = self.closing.changed(), if handles => {
                    handles = changed.is_ok();
                    let asked = *self.closing.borrow_and_update();
                    if asked.is_some() {
                        self.intake.close();
                        self.pipeline.drain();
                        deadline = asked;
                    }
                }
                () = self.board.refused.notified() => {
                    self.pipeline.doubt_traits(self.clock.now());
                }
                () = sleep_until(&self.clock, wake) => {}
            }
            let now = self.clock.now();
            self.board.oldest_is(self.pipeline.oldest());
            let (records, bytes) = self.room.outstanding();
            self.pipeline
                .measure_pending(records, bytes, self.board.oldest_age(now));
        }
        self.end().await;
    }

    fn start_work(&mut self, now: Instant) {
        while let Some(request) = self.pipeline.next_request(now) {
            let (client, stream) = (self.client.clone(), self.stream.clone());
            let (timeout, flight) = (self.request_timeout, request.flight);
            let span = tracing::debug_span!(
                "put_records",
                stream = %stream.name,
                flight,
                records = request.records.len(),
                bytes = request.bytes,
            );
            let put = async move {
                let reply = put_records(client, &stream, request.records, timeout).await;
                Done::Put(flight, reply)
            };
            let task = self.tasks.running.spawn(put.instrument(span));
            self.tasks.carried.insert(task.id(), Carried::Put(flight));
        }
        // Asked first for its shards: that asks what the stream is like too.
        let shards = self.pipeline.begin_map_load(now);
        let traits = self.pipeline.begin_describe(now);
        if shards && traits && !self.pipeline.has_map() {
            // The first records wait for both, so that they are packed as the stream takes them.
            self.look(true, true);
        } else {
            // A map that is refreshed has records waiting that landed elsewhere.
            if shards {
                self.look(true, false);
            }
            if traits {
                self.look(false, true);
            }
        }
    }

    /// Asks for the shards, for what the stream is like, or for both.
    fn look(&mut self, shards: bool, traits: bool) {
        let (client, stream) = (self.client.clone(), self.stream.clone());
        let timeout = self.request_timeout;
        let span = tracing::debug_span!("look_at_stream", stream = %stream.name, shards, traits);
        let look = async move {
            let map = async {
                match shards {
                    true => Some(list_shards(&client, &stream, timeout).await),
                    false => None,
                }
            };
            let summary = async {
                match traits {
                    true => Some(describe(&client, &stream).await),
                    false => None,
                }
            };
            let (shards, traits) = tokio::join!(map, summary);
            Done::Look { shards, traits }
        };
        let task = self.tasks.running.spawn(look.instrument(span));
        let carried = Carried::Look { shards, traits };
        self.tasks.carried.insert(task.id(), carried);
    }

    fn receive(&mut self, messages: &mut Vec<Message>) {
        let now = self.clock.now();
        let records = |message: &&Message| matches!(message, Message::Record(_));
        self.pipeline
            .measure_received(messages.iter().filter(records).count());
        for message in messages.drain(..) {
            match message {
                Message::Record(entry) => self.pipeline.accept(entry, now),
                Message::Flush { done, _slot } => self.pipeline.flush(done),
            }
        }
    }

    fn done(&mut self, done: Result<(Id, Done), JoinError>) {
        let now = self.clock.now();
        let done = match done {
            Ok((task, done)) => {
                self.tasks.carried.remove(&task);
                done
            }
            Err(error) => {
                tracing::error!(stream = %self.stream.name, %error, "A request panicked.");
                let Some(carried) = self.tasks.carried.remove(&error.id()) else {
                    return;
                };
                carried.panicked()
            }
        };
        match done {
            Done::Put(flight, reply) => self.pipeline.completed(flight, reply, now),
            Done::Look { shards, traits } => {
                match traits {
                    Some(Ok(traits)) => self.pipeline.learned(traits, now),
                    Some(Err(cause)) => self.pipeline.not_described(&cause, now),
                    None => {}
                }
                if let Some(shards) = shards {
                    self.pipeline.map_loaded(shards, now);
                }
            }
        }
        self.board.stream_takes(self.pipeline.record_bytes_max());
    }

    /// Fails what the deadline left, in the pipeline and in the channel.
    async fn end(mut self) {
        self.room.close();
        self.intake.close();
        let mut messages = Vec::new();
        // To the very end: a handle on another thread may be about to put its message into the
        // slot that it has. None waits while it has one, so neither does this for long.
        while self.intake.recv_many(&mut messages, INTAKE_BATCH).await > 0 {
            self.receive(&mut messages);
        }
        // Answers that are there by now count.
        while let Some(done) = self.tasks.running.try_join_next_with_id() {
            self.done(done);
        }
        let abandoned = self.pipeline.abandon();
        self.abandoned.store(abandoned, Ordering::Release);
        self.board.oldest_is(None);
        self.pipeline.measure_pending(0, 0, None);
        if abandoned > 0 {
            tracing::error!(
                stream = %self.stream.name, records = abandoned,
                "The producer ended with records undelivered; their errors give them back."
            );
        }
        drop(self.ended);
    }
}

impl Carried {
    /// What is taken for the answer of a task that had none.
    fn panicked(self) -> Done {
        let panicked = |operation| Cause::new(operation, Class::Unavailable, "Panic");
        match self {
            Self::Put(flight) => Done::Put(flight, Err(panicked("PutRecords"))),
            Self::Look { shards, traits } => Done::Look {
                shards: shards.then(|| Err(panicked("ListShards"))),
                traits: traits.then(|| Err(panicked("DescribeStreamSummary"))),
            },
        }
    }
}

async fn sleep_until(clock: &Clock, wake: Option<Instant>) {
    match wake {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
