//! SubscribeToShard: reading a shard by push.
//!
//! ```text
//! subscribe ─▶ initial-response ─▶ event … event ─▶ end of the life, of the shard, or exception
//!                                  on write, and every 5 s without one
//! ```
//! Promises: an event comes when a record is stored, not on a timer; at most a few events wait for
//! a slow reader, then the shard is not read on for it (nobody else is held up), and over a socket they
//! count among the [answers](crate::answers) that wait. One subscription
//! per consumer and shard: a second within 5 s is refused, a later one takes over and the first
//! ends with `ResourceInUseException`. Every event has either a `ContinuationSequenceNumber` and
//! no `ChildShards`, or, as the last of a closed shard, no number and its `ChildShards`: the one
//! form that KCL 2 and 3 accept. A subscription lasts five minutes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kinesis_core::limits::{SUBSCRIPTION_LIFETIME, SUBSCRIPTION_TAKEOVER_AFTER};
use kinesis_core::{Clock, TokenBucket};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::consumers::no_consumer;
use super::encryption::check_reading;
use super::get::{
    ChildShard, ITERATOR_TYPES, StartRequest, child_shards, could_not_find_shard,
    encode_child_shards, encode_records, encoded_bytes,
};
use super::{Inner, Reply};
use crate::answers::{Answers, Share};
use crate::body::ResponseBody;
use crate::catalog::StreamCell;
use crate::limits::fan_out_pace;
use crate::log::Log;
use crate::stream::consumer::parse_consumer_arn;
use crate::stream::encryption::KmsKeys;
use crate::stream::lifecycle::{Delays, Status};
use crate::stream::shard::{Batch, Identity, Record, Shard, parse_shard_index};

use crate::wire::constraint::Constraints;
use crate::wire::event;
use crate::wire::fault::Fault;
use crate::wire::read::{Boolean, Structure, Text, Timestamp, decode};
use crate::wire::write::{Encode, Writer};
use crate::wire::{Body, Format};

/// An event comes at least this often. Source: developer guide ("about every 5 seconds").
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Events that wait for a slow reader. Source: none, reasonable default.
const EVENTS_AHEAD: usize = 4;

/// Most records of one event. Source: service limit of GetRecords.
const EVENT_MAX_RECORDS: usize = 10_000;

/// Most bytes of records in one event, larger single records apart. Source: none, reasonable
/// default; well below the 16 MiB of an event-stream frame.
const EVENT_MAX_BYTES: usize = 1024 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct SubscribeToShardRequest<'a> {
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
    shard_id: Option<Text<'a>>,
    starting_position: Option<Structure<StartingPosition<'a>>>,
    dry_run: Option<Boolean>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct StartingPosition<'a> {
    r#type: Option<Text<'a>>,
    sequence_number: Option<Text<'a>>,
    timestamp: Option<Timestamp>,
}

#[derive(Debug)]
struct SubscribeToShardEvent<'a> {
    shard: &'a Identity,
    batch: &'a Batch,
    /// Not before the last record that there is.
    now_ms: u64,
    child_shards: Vec<ChildShard>,
}

impl Encode for SubscribeToShardEvent<'_> {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            encode_records(writer, self.shard, &self.batch.records);
            if self.child_shards.is_empty() {
                // It moves with time even without records, and lies below the next record's.
                let last = self.batch.next.saturating_sub(1);
                let at_ms = match self.batch.records.last() {
                    Some(record) => record.arrival_ms,
                    None => self.now_ms,
                };
                let number = self.shard.sequence_number(last, at_ms);
                writer.key("ContinuationSequenceNumber");
                writer.plain(number.as_str());
            }
            writer.key("MillisBehindLatest");
            writer.integer(self.batch.behind_ms);
            encode_child_shards(writer, &self.child_shards);
        });
    }
}

/// The subscriptions of all consumers, by consumer and shard.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    active: Mutex<HashMap<Key, Active>>,
    /// Cancelled when the service closes.
    ended: CancellationToken,
}

/// A consumer's ARN and the shard's index.
type Key = (String, u32);

#[derive(Debug)]
struct Active {
    since: Instant,
    /// When it was last asked for, but for calls that came too fast.
    called: Instant,
    stop: CancellationToken,
}

/// Why a place is not given.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Refused {
    InUse,
    TooOften,
}

impl Subscriptions {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place at `key` from who had it; refused if it was taken less than 5 s ago, even if
    /// that subscription has ended since.
    ///
    /// `calls_per_second` of 0: as often as one likes. What is refused for calls that came too fast does
    /// not count as one: who asks again and again gets in.
    fn take(
        &self,
        key: Key,
        calls_per_second: u32,
        now: Instant,
    ) -> Result<CancellationToken, Refused> {
        let recent =
            |active: &Active| now.duration_since(active.since) < SUBSCRIPTION_TAKEOVER_AFTER;
        let mut active = self.lock();
        if let Some(active) = active.get_mut(&key) {
            let pause = now.duration_since(active.called);
            if recent(active) {
                active.called = now;
                return Err(Refused::InUse);
            }
            if calls_per_second > 0 && pause < Duration::from_secs(1) / calls_per_second {
                return Err(Refused::TooOften);
            }
        }
        // Forgets those that ended: the map holds no more than runs, and the last 5 s.
        active.retain(|_, other| !other.stop.is_cancelled() || recent(other));
        let stop = CancellationToken::new();
        if let Some(other) = active.insert(
            key,
            Active {
                since: now,
                called: now,
                stop: stop.clone(),
            },
        ) {
            other.stop.cancel();
        }
        Ok(stop)
    }

    /// Ends the subscriptions of a consumer that is deregistered.
    pub(super) fn end_consumer(&self, arn: &str) {
        self.lock().retain(|(consumer, _), active| {
            if consumer == arn {
                active.stop.cancel();
            }
            consumer != arn
        });
    }

    /// Cancelled when the service closes.
    pub(super) fn closing(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Waits until the service closes.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Ends all: the service closes.
    pub(super) fn end_all(&self) {
        self.ended.cancel();
    }
}

/// One running subscription.
#[derive(Debug)]
struct Subscription {
    /// How the payloads of the events are encoded.
    format: Format,
    clock: Clock,
    log: Log,
    kms: KmsKeys,
    delays: Delays,
    consumer_arn: String,
    cell: Arc<StreamCell>,
    shard: Arc<Shard>,
    /// The counter of the next record.
    next: u64,
    /// What the consumer's 2 MiB a second allow, if that is limited.
    pace: Option<TokenBucket>,
    frames: mpsc::Sender<Bytes>,
    /// The memory for its events; `None`: the subscriber's, who is in this process.
    answers: Option<Answers>,
    /// Cancelled by the next subscription, or when the consumer is deregistered.
    stop: CancellationToken,
    /// Cancelled when the service closes.
    closing: CancellationToken,
    deadline: Instant,
}

/// Why a subscription ends.
#[derive(Clone, Debug, Eq, PartialEq)]
enum End {
    ShardRead,
    LifeOver,
    ReaderLeft,
    ServiceClosing,
    Stopped,
    StreamGone,
    StoreFailed,
    /// The key of a record cannot be used.
    KeyUnusable(Box<Fault>),
}

impl Subscription {
    async fn run(mut self) {
        let end = match self.serve().await {
            Ok(()) => End::ShardRead,
            Err(end) => end,
        };
        let fault = match end {
            End::ShardRead | End::LifeOver | End::ReaderLeft | End::ServiceClosing => None,
            End::Stopped if self.is_registered() => Some(in_use(&self.consumer_arn)),
            End::Stopped => Some(Fault::not_found(format!(
                "Consumer {}, account {} not found.",
                self.consumer_arn, self.cell.place.account
            ))),
            End::StreamGone => Some(Fault::not_found(format!(
                "Stream {} under account {} not found.",
                self.cell.name, self.cell.place.account
            ))),
            // The one name that the model has for it in an event stream.
            End::StoreFailed => Some(Fault::new("InternalFailureException", "The store failed.")),
            End::KeyUnusable(fault) => Some(*fault),
        };
        if let Some(fault) = fault {
            let frame = event::exception(self.format, &fault);
            // A reader that does not even take this in time (the network's, not the clock's) learns
            // it from the end of the stream.
            if tokio::time::timeout(HEARTBEAT, self.frames.send(frame))
                .await
                .is_err()
            {
                tracing::debug!(stream = %self.cell.name, "A subscriber did not read its end.");
            }
        }
        self.stop.cancel(); // its place counts as free, five seconds after it was taken
    }

    /// Sends events until the shard's end, or until something else ends the subscription.
    async fn serve(&mut self) -> Result<(), End> {
        self.send(event::initial_response(self.format)).await?;
        let mut changes = self.shard.watch();
        let mut heartbeat = self.clock.now() + HEARTBEAT;
        loop {
            changes.mark_unchanged(); // before reading: nothing that comes later is missed
            let batch = self.read();
            let idle = batch.records.is_empty() && !batch.ended;
            if idle && self.clock.now() < heartbeat {
                tokio::select! {
                    biased;
                    end = self.interrupted() => return Err(end),
                    _ = changes.changed() => {}
                    () = self.clock.sleep_until(heartbeat) => {}
                }
                continue;
            }
            check_reading(&self.kms, &batch.records)
                .map_err(|fault| End::KeyUnusable(Box::new(fault)))?;
            self.keep_pace(&batch).await?;
            if batch.ended {
                self.log.settled().await.map_err(|_| End::StoreFailed)?;
            }
            let share = self.share(encoded_bytes(&batch.records)).await?;
            let event = self.event(&batch);
            let event = match share {
                Some(share) => share.hold(event),
                None => event,
            };
            self.send(event).await?;
            if batch.ended {
                return Ok(());
            }
            self.next = batch.next;
            heartbeat = self.clock.now() + HEARTBEAT;
        }
    }

    fn read(&self) -> Batch {
        let now_ms = self.clock.epoch_millis();
        let horizon_ms = self.cell.read().horizon_ms(now_ms);
        let mut log = self.shard.log();
        log.trim(horizon_ms);
        log.read(self.next, EVENT_MAX_RECORDS, EVENT_MAX_BYTES, now_ms)
    }

    fn event(&self, batch: &Batch) -> Bytes {
        let mut writer = Writer::with_capacity(self.format, encoded_bytes(&batch.records));
        let children = batch
            .ended
            .then(|| child_shards(&self.cell.read(), &self.shard));
        SubscribeToShardEvent {
            shard: &self.shard.identity,
            batch,
            // Below the last record's it would lead a reader back to that record.
            now_ms: self
                .clock
                .epoch_millis()
                .max(self.shard.log().last_arrival_ms()),
            child_shards: children.unwrap_or_default(),
        }
        .encode(&mut writer);
        event::subscribe_to_shard_event(self.format, writer.into_bytes())
    }

    /// Waits until the consumer's throughput allows the batch.
    async fn keep_pace(&mut self, batch: &Batch) -> Result<(), End> {
        let bytes: usize = batch.records.iter().map(Record::size).sum();
        loop {
            let now = self.clock.now();
            let Some(pace) = &mut self.pace else {
                return Ok(());
            };
            let Err(wait) = pace.try_take(0, bytes as u64, now) else {
                return Ok(());
            };
            tokio::select! {
                biased;
                end = self.interrupted() => return Err(end),
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    /// Waits for memory for an event of so many bytes; subscribers who do not read give up theirs.
    async fn share(&self, bytes: usize) -> Result<Option<Share>, End> {
        let Some(answers) = &self.answers else {
            return Ok(None);
        };
        tokio::select! {
            biased;
            end = self.interrupted() => Err(end),
            share = answers.share(bytes) => share.map(Some).map_err(|_| End::ServiceClosing),
        }
    }

    /// Waits for room, so that a slow reader slows only itself.
    async fn send(&self, frame: Bytes) -> Result<(), End> {
        tokio::select! {
            biased;
            end = self.interrupted() => Err(end),
            sent = self.frames.send(frame) => sent.map_err(|_| End::ReaderLeft),
        }
    }

    /// Ends when the subscription has to.
    async fn interrupted(&self) -> End {
        tokio::select! {
            biased;
            () = self.frames.closed() => End::ReaderLeft,
            () = self.stop.cancelled() => End::Stopped,
            () = self.stream_gone() => End::StreamGone,
            () = self.closing.cancelled() => End::ServiceClosing,
            () = self.clock.sleep_until(self.deadline) => End::LifeOver,
        }
    }

    /// Waits until the stream is gone: while it is DELETING it is read on, as by GetRecords.
    async fn stream_gone(&self) {
        self.cell.gone.cancelled().await;
        let deleted_ms = self.cell.read().life.deleted_ms.unwrap_or_default();
        let past_ms = self.clock.epoch_millis().saturating_sub(deleted_ms);
        let left = self
            .delays
            .delete
            .saturating_sub(Duration::from_millis(past_ms));
        self.clock.sleep(left).await;
    }

    fn is_registered(&self) -> bool {
        let stream = self.cell.read();
        let consumer = parse_consumer_arn(&self.consumer_arn)
            .and_then(|(_, name, _)| stream.consumers.get(name));
        consumer.is_some_and(|consumer| consumer.life.deleted_ms.is_none())
    }
}

impl Inner {
    pub(super) async fn subscribe_to_shard(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: SubscribeToShardRequest<'_> = decode(body)?;
        check_subscribe_to_shard(&request)?;
        let arn = request.consumer_arn.as_deref().unwrap_or_default();
        let (cell, consumer) = self.consumer_by_arn(arn)?;
        self.check_consumer_active(&cell, consumer)?;
        let shard_id = request.shard_id.as_deref().unwrap_or_default();
        let shard = match parse_shard_index(shard_id) {
            Some(index) => self.readable_shard(&cell, index)?,
            None => return Err(could_not_find_shard(shard_id, &cell)),
        };
        let Structure(position) = request.starting_position.unwrap_or_default();
        let start = StartRequest {
            kind: position.r#type.as_deref().unwrap_or_default(),
            sequence_number: position.sequence_number.as_deref(),
            timestamp: position.timestamp,
        };
        let start = self.start(start, &cell, &shard)?;
        Fault::unless_dry_run(request.dry_run)?;
        self.settled().await?;
        let now = self.clock.now();
        let key = (arn.to_owned(), shard.identity.index);
        let calls = self.quotas.as_ref();
        let calls = calls.map_or(0, |quotas| quotas.subscriptions_per_second);
        let stop = self.subscriptions.take(key, calls, now);
        let stop = stop.map_err(|refused| match refused {
            Refused::InUse => in_use(arn),
            Refused::TooOften => Fault::limit_exceeded(format!(
                "Rate exceeded for consumer {arn} and shard {}.",
                shard.identity.id()
            )),
        })?;
        self.check_still_registered(&cell, arn, &stop)?;
        let (frames, events) = ResponseBody::channel(EVENTS_AHEAD);
        let next = shard.log().seek(start);
        let subscription = Subscription {
            format: body.format,
            clock: self.clock.clone(),
            log: self.log.clone(),
            kms: self.kms.clone(),
            delays: self.delays,
            consumer_arn: arn.to_owned(),
            next,
            pace: fan_out_pace(self.quotas.as_deref(), now),
            frames,
            answers: body.answers.cloned(),
            stop,
            closing: self.subscriptions.ended.clone(),
            deadline: now + SUBSCRIPTION_LIFETIME,
            cell: Arc::clone(&cell),
            shard,
        };
        tokio::spawn(subscription.run());
        Ok(Reply::Events(events))
    }

    /// A consumer that was deregistered while the call waited for the log: `end_consumer`, which is
    /// called under the stream's lock, had no subscription to end.
    fn check_still_registered(
        &self,
        cell: &StreamCell,
        arn: &str,
        stop: &CancellationToken,
    ) -> Result<(), Fault> {
        let (_, name, created_s) = parse_consumer_arn(arn).unwrap_or_default();
        let stream = cell.read();
        let life = stream.consumers.get(name).map(|consumer| consumer.life);
        if life.is_some_and(|life| life.created_ms / 1000 == created_s && life.deleted_ms.is_none())
        {
            return Ok(());
        }
        stop.cancel();
        Err(no_consumer(arn, &cell.place.account))
    }

    fn check_consumer_active(&self, cell: &StreamCell, name: &str) -> Result<(), Fault> {
        let stream = cell.read();
        let Some(consumer) = stream.consumers.get(name) else {
            return Ok(());
        };
        match consumer.life.status(self.now_ms(), self.delays) {
            Status::Active => Ok(()),
            Status::Creating | Status::Updating | Status::Deleting | Status::Gone => {
                Err(Fault::in_use(format!(
                    "Consumer {name} with creation timestamp {} under stream: {} , account {} is not \
                 in ACTIVE status.",
                    consumer.life.created_ms / 1000,
                    cell.name,
                    cell.place.account
                )))
            }
        }
    }
}

fn in_use(consumer_arn: &str) -> Fault {
    Fault::in_use(format!(
        "Another active subscription exists for this consumer: {consumer_arn}"
    ))
}

fn check_subscribe_to_shard(request: &SubscribeToShardRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.present(request.consumer_arn.is_some(), "consumerARN");
    constraints.consumer_arn(request.consumer_arn.as_deref());
    constraints.stream_id(request.stream_id.as_deref());
    constraints.present(request.shard_id.is_some(), "shardId");
    constraints.shard_id("shardId", request.shard_id.as_deref());
    constraints.present(request.starting_position.is_some(), "startingPosition");
    if let Some(Structure(position)) = &request.starting_position {
        constraints.present(position.r#type.is_some(), "startingPosition.type");
        let kind = position.r#type.as_deref();
        constraints.one_of("startingPosition.type", kind, &ITERATOR_TYPES);
        let number = position.sequence_number.as_deref();
        constraints.sequence_number("startingPosition.sequenceNumber", number);
    }
    constraints.done()
}
