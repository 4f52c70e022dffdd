//! The handle that applications hold.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use kinesis_core::{Clock, InvalidRecord, Rand, UserRecord};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Bound, Reason};
use crate::pipeline::Pipeline;
use crate::pipeline::intake::{Entry, Message, Room};
use crate::pipeline::outcome::Slots;
use crate::service::{Board, NOT_ENDED, Service, Tasks};
use crate::stream::StreamRef;
use crate::{Delivery, DeliveryFuture, Error, RecordSink, Settings};

/// Flushes on their way to the service task; more wait for their turn.
/// Source: none, reasonable default.
const FLUSH_SLOTS: usize = 16;

/// The longest deadline that `close` counts with: a year. Source: none, keeps the arithmetic safe.
const CLOSE_DEADLINE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Puts records into one stream.
///
/// A cheap clone: all clones feed one service task on the runtime in which [`Builder::build`] ran.
///
/// # Order
/// Records with one hash key (one partition key without explicit hash keys) that one caller gives
/// one after another reach the stream in that order, also when requests fail in part, are retried,
/// or the stream is resharded. What order cannot survive: a request that timed out here and is
/// stored later all the same may leave an older duplicate behind a newer record; and with
/// [`Settings::ordered`] off a record that is sent again may be overtaken by others of its request,
/// and small records may pass a large one that waits for its shard's quota.
/// [`Settings::ordered_per_shard`] keeps all records of a shard in the order of their acceptance.
///
/// A stream whose record distribution is AUTO has no order: the service places records wherever it
/// likes. The producer learns that from the stream, predicts no shard, and packs whatever comes
/// into full aggregates. `kinesis-consumer` reads them. **The KCL up to 3.5 drops them**, because it
/// holds every member against its shard's keys: turn [`Settings::aggregation_enabled`] off for it.
/// No event tells that a stream was set from AUTO back to UNIFORM. The producer notices by some
/// Kinesis records in a row that lie where their keys belong (five with four shards, ten with two) and
/// asks; aggregates that left before the answer are acknowledged, and such readers drop them.
///
/// # Delivery
/// At least once: a record whose outcome was unknown (timeout, lost connection) is sent again and
/// may be stored twice. `Ok` means stored in a place where a KCL consumer reads it, but for what is
/// said above of AUTO.
///
/// # Ending
/// [`Producer::flush`] waits for what was accepted, [`Producer::close`] ends the producer. When
/// the last handle is dropped without `close`, the task delivers what is buffered for at most 30
/// seconds, without waiting for company; what is left then fails. If the runtime shuts down
/// first, what is left fails at once. Neither blocks the drop. Every outstanding
/// [`DeliveryFuture`] resolves in each of these cases.
pub struct Producer {
    inner: Arc<Inner>,
    /// Each handle has its own, so that handles on several threads do not wait for each other.
    slots: Slots,
}

struct Inner {
    room: Arc<Room>,
    board: Arc<Board>,
    clock: Clock,
    started: Instant,
    to_service: mpsc::Sender<Message>,
    flush_slots: Arc<Semaphore>,
    closing: watch::Sender<Option<Instant>>,
    abandoned: Arc<AtomicU64>,
    ended: CancellationToken,
}

/// What is accepted and not yet resolved.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Outstanding {
    /// User records.
    pub records: u64,
    /// Their bytes of data and partition key.
    pub bytes: u64,
    /// How long ago the oldest of them was accepted; `None` if there is none. One that was just
    /// accepted may not be seen yet.
    pub oldest_age: Option<Duration>,
}

/// The components of a producer; see [`Producer::builder`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
    client: Client,
    stream: Arc<str>,
    settings: Settings,
    clock: Clock,
    rand: Option<Rand>,
}

impl Builder {
    /// The options; the defaults otherwise.
    pub fn settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// The clock that deadlines, limits and waits go by; the system's otherwise. What bounds a
    /// request is tokio's time.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The source of jitter; seeded by the system otherwise.
    pub fn rand(self, rand: Rand) -> Self {
        Self {
            rand: Some(rand),
            ..self
        }
    }

    /// Starts the producer. Nothing is sent before the first record, not even ListShards.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSettings`](crate::ErrorKind::InvalidSettings) if a setting is out of
    /// bounds, the stream is neither a name nor a stream's ARN, or there is no tokio runtime here
    /// that has its timers enabled.
    pub fn build(self) -> Result<Producer, Error> {
        let Self {
            client,
            stream,
            settings,
            clock,
            rand,
        } = self;
        settings.validate()?;
        let target = StreamRef::parse(&stream)?;
        let stream = Arc::clone(&target.name);
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_no_runtime| Error::new(Reason::NoRuntime))?;
        // Nothing else tells whether a runtime has timers. The task would panic as this does.
        std::panic::catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO)))
            .map_err(|_no_timers| Error::new(Reason::NoTimers))?;
        let room = Arc::new(Room::new(
            Arc::clone(&stream),
            settings.max_buffered_records,
            settings.max_buffered_bytes,
        ));
        // Every message holds a record's room or a flush slot, so the channel is never full.
        let (to_service, intake) = mpsc::channel(settings.max_buffered_records + FLUSH_SLOTS);
        let (closing, closing_seen) = watch::channel(None);
        let (abandoned, ended) = (
            Arc::new(AtomicU64::new(NOT_ENDED)),
            CancellationToken::new(),
        );
        let rand = rand.unwrap_or_else(Rand::from_entropy);
        let board = Arc::new(Board::new(&settings, clock.now()));
        let service = Service {
            client,
            stream: target,
            request_timeout: settings.request_timeout,
            clock: clock.clone(),
            pipeline: Pipeline::new(stream, settings.clone(), rand, clock.now()),
            room: Arc::clone(&room),
            intake,
            closing: closing_seen,
            abandoned: Arc::clone(&abandoned),
            board: Arc::clone(&board),
            tasks: Tasks::default(),
            ended: ended.clone().drop_guard(),
        };
        runtime.spawn(service.run());
        let inner = Inner {
            room,
            board,
            started: clock.now(),
            clock,
            to_service,
            flush_slots: Arc::new(Semaphore::new(FLUSH_SLOTS)),
            closing,
            abandoned,
            ended,
        };
        Ok(Producer {
            slots: Slots::new(Arc::clone(&inner.room)),
            inner: Arc::new(inner),
        })
    }
}

impl Producer {
    /// A producer for `stream` (its name, or its ARN if it is another account's) over an SDK client of the caller's, which needs no
    /// special set-up: its retries are not used for PutRecords, and its credentials must allow
    /// `kinesis:PutRecords` and `kinesis:ListShards`, and better `kinesis:DescribeStreamSummary`
    /// too. Region, endpoint, FIPS, dual-stack, proxy and certificates are the client's.
    pub fn builder(client: Client, stream: impl Into<Arc<str>>) -> Builder {
        Builder {
            client,
            stream: stream.into(),
            settings: Settings::default(),
            clock: Clock::system(),
            rand: None,
        }
    }

    /// Delivers one record: waits for room, then for the outcome.
    ///
    /// For many records at a time use [`Self::enqueue`]: one `send` after another takes a round
    /// trip each.
    ///
    /// # Errors
    /// As [`Self::enqueue`]; and why the record was not delivered. The record comes back in the
    /// error either way.
    ///
    /// Without [`Settings::record_ttl`] an outage is waited out, however long it lasts; an endpoint that
    /// cannot be reached at all is one too.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, the record is not sent. Dropped afterwards it is delivered
    /// all the same, and its outcome goes unseen.
    pub async fn send(&self, record: UserRecord) -> Result<Delivery, Error> {
        self.enqueue(record).await?.await
    }

    /// Hands one record over and returns once it is accepted, with a future for its outcome.
    ///
    /// Waits while the outstanding records or bytes are at their bound. Room is given first come,
    /// first served: a large record that waits is not overtaken by small ones.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecord`](crate::ErrorKind::InvalidRecord) or
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed); the record comes back in the error.
    ///
    /// # Cancel safety
    /// Dropped before it returns, the record is not sent and no room is taken.
    pub async fn enqueue(&self, record: UserRecord) -> Result<DeliveryFuture, Error> {
        let record = self.checked(record)?;
        if !self.inner.room.take(record.size()).await {
            return Err(self.closed(record));
        }
        self.hand_over(record)
    }

    /// Delivers many records: hands them over one after another, waiting for room, and then waits
    /// for all outcomes, which come in the order of the records. A record that fails does not keep
    /// the others from being sent.
    ///
    /// # Cancel safety
    /// Dropped, it leaves the records that were handed over on their way, and their outcomes
    /// unseen; the others are not sent.
    pub async fn send_batch(
        &self,
        records: impl IntoIterator<Item = UserRecord>,
    ) -> Vec<Result<Delivery, Error>> {
        let mut accepted = Vec::new();
        for record in records {
            accepted.push(self.enqueue(record).await);
        }
        let mut outcomes = Vec::with_capacity(accepted.len());
        for outcome in accepted {
            outcomes.push(match outcome {
                Ok(outcome) => outcome.await,
                Err(error) => Err(error),
            });
        }
        outcomes
    }

    /// A [`futures::Sink`] of records into this producer. Each sink answers for its own records.
    pub fn sink(&self) -> RecordSink {
        RecordSink::new(self.clone())
    }

    /// Hands one record over if there is room for it now and nobody waits for some.
    ///
    /// # Errors
    /// As [`Self::enqueue`], and [`ErrorKind::Full`](crate::ErrorKind::Full) if there is no room;
    /// the record comes back in the error.
    pub fn try_send(&self, record: UserRecord) -> Result<DeliveryFuture, Error> {
        use tokio::sync::TryAcquireError;
        let record = self.checked(record)?;
        match self.inner.room.try_take(record.size()) {
            Ok(()) => self.hand_over(record),
            Err(TryAcquireError::Closed) => Err(self.closed(record)),
            Err(TryAcquireError::NoPermits) => Err(self.full(record)),
        }
    }

    /// Ends when every record accepted before the call is resolved, delivered or failed; their
    /// outcomes are in their own futures. None of them waits for company any longer; backoff
    /// after failures goes on, without [`Settings::record_ttl`] for as long as an outage lasts. Records
    /// accepted later do not prolong it.
    ///
    /// # Cancel safety
    /// Dropping it only stops the waiting.
    pub async fn flush(&self) {
        // The semaphore is never closed, and without a slot there is nothing to wait for.
        if let Ok(slot) = Arc::clone(&self.inner.flush_slots).acquire_owned().await {
            let (done, resolved) = oneshot::channel();
            let message = Message::Flush { done, _slot: slot };
            if self.inner.to_service.try_send(message).is_ok() && resolved.await.is_ok() {
                return;
            }
        }
        // The producer is ending: then everything is resolved when it has ended.
        self.inner.ended.cancelled().await;
    }

    /// Ends the producer for all its handles: refuses new records, delivers what was accepted, and
    /// at `deadline` (from now) fails what is left, handing the records back in their errors.
    /// Waits until the service task has ended. Called again, the earlier deadline counts.
    ///
    /// # Errors
    /// [`ErrorKind::Undelivered`](crate::ErrorKind::Undelivered) if the deadline left records
    /// undelivered, or if the service task was gone before it could deliver: its runtime shut down.
    ///
    /// # Cancel safety
    /// Dropping it after its first poll only stops the waiting; the producer closes all the same.
    pub async fn close(&self, deadline: Duration) -> Result<(), Error> {
        let at = self.inner.clock.now() + deadline.min(CLOSE_DEADLINE_MAX);
        self.inner.room.close();
        self.inner
            .closing
            .send_modify(|asked| *asked = Some(asked.map_or(at, |old| old.min(at))));
        self.inner.ended.cancelled().await;
        match self.inner.abandoned.load(Ordering::Acquire) {
            0 => Ok(()),
            NOT_ENDED => Err(Error::stopped()),
            records => {
                let stream = Arc::clone(self.inner.room.stream());
                Err(Error::new(Reason::Deadline { stream, records }))
            }
        }
    }

    /// What is accepted and not yet resolved.
    #[must_use]
    pub fn outstanding(&self) -> Outstanding {
        let (records, bytes) = self.inner.room.outstanding();
        let oldest_age = self.inner.board.oldest_age(self.inner.clock.now());
        Outstanding {
            records,
            bytes,
            oldest_age,
        }
    }

    /// The stream's name, also where it was given by ARN.
    #[must_use]
    pub fn stream(&self) -> &str {
        self.inner.room.stream()
    }

    fn checked(&self, record: UserRecord) -> Result<UserRecord, Error> {
        match record.validate(self.inner.board.record_bytes_max()) {
            Ok(()) => Ok(record),
            Err(source) => {
                let stream = Arc::clone(self.inner.room.stream());
                let bound = match source {
                    InvalidRecord::TooLarge { .. } => self.inner.board.refused(),
                    _ => Bound::None,
                };
                let reason = Reason::Record {
                    stream,
                    source,
                    bound,
                };
                Err(Error::new(reason).about(record, 0))
            }
        }
    }

    /// The record has its room; from here on it is accepted or comes back.
    fn hand_over(&self, record: UserRecord) -> Result<DeliveryFuture, Error> {
        let (entry, outcome) = Entry::new(record, &self.slots, self.inner.started);
        match self.inner.to_service.try_send(Message::Record(entry)) {
            Ok(()) => Ok(outcome),
            Err(refused) => match refused.into_inner() {
                Message::Record(entry) => Err(entry.take_back(Reason::Closed {
                    stream: Arc::clone(self.inner.room.stream()),
                })),
                Message::Flush { .. } => Err(Error::stopped()),
            },
        }
    }

    pub(crate) fn full(&self, record: UserRecord) -> Error {
        let Outstanding { records, bytes, .. } = self.outstanding();
        let stream = Arc::clone(self.inner.room.stream());
        let reason = Reason::Full {
            stream,
            records,
            bytes,
        };
        Error::new(reason).about(record, 0)
    }

    fn closed(&self, record: UserRecord) -> Error {
        let stream = Arc::clone(self.inner.room.stream());
        Error::new(Reason::Closed { stream }).about(record, 0)
    }
}

impl Clone for Producer {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            slots: Slots::new(Arc::clone(&self.inner.room)),
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("stream", &self.stream())
            .field("outstanding", &self.outstanding())
            .finish_non_exhaustive()
    }
}
