//! Reading a shard ahead of its processor: one task per held lease.
//!
//! ```text
//! Poll (when to ask) ───▶ GetShardIterator / GetRecords ──┬─▶ Unpacker (open, filter) ─▶ buffer ─▶ shard task
//!   ▲                            │ throttled, failed, expired                            │
//!   └────────────────────────────┘                         │            limits of the shard, budget of the worker
//! FanOut (when, where) ─▶ SubscribeToShard ─▶ gate ─ event ─┘
//!   ▲                            │ over, cut, stalled, in use
//!   └────────────────────────────┘
//! ```
//!
//! A shard is read by one of the two at a time; fan-out falls back to polling for a while where the
//! settings let it.
//!
//! Promise: every record of the shard behind the start position is sent once, in order, then the
//! shard's end with its children. Failed calls are made again for ever with a bounded pause. The
//! task stops when its [`Fetching`] is dropped; what it had fetched is dropped with it.
//!
//! What stops it otherwise: a shard that the service does not know for
//! [`poll::NOT_FOUND_PATIENCE`]. If the stream is there and does not list the shard, the shard has
//! expired with all its records ([`Fetched::Expired`]); if there is no stream, someone has to look
//! ([`Fetched::NotFound`]).
//!
//! Deliberately absent: reading one shard both ways at once.

mod ask;
mod budget;
pub(crate) mod buffer;
mod call;
mod connections;
mod fan_out;
mod gate;
mod gauges;
mod listen;
mod placement;
mod poll;
mod registration;
mod subscribe;
pub(crate) mod unpack;

use std::fmt;
use std::sync::Arc;

use kinesis_core::{Clock, Position, Rand, ShardId};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, debug, warn};

use crate::error::{Error, ErrorKind};
use crate::lease::{ChildShard, Lease};
use crate::metrics;
use crate::record::Record;
use crate::settings::{Retrieval, Settings};
use crate::stream::{Source, StreamId};
pub(crate) use budget::Budget;
use buffer::{BufferLimits, Filler, Hold, Room, Slot, buffer};
use call::{Failure, Reader};
pub(crate) use connections::Connections;
use fan_out::FanOut;
pub(crate) use gauges::{Counted, Lag, TELL_EVERY, TellsTotals, Totals};
use listen::Listening;
pub(crate) use placement::Placement;
pub(crate) use poll::StartAt;
use poll::{Ask, Poll, Trouble};
pub(crate) use registration::Registration;
use unpack::{StreamRecord, Unpacked, Unpacker};

/// Failures in a row before throttling is worth a WARN. Source: KCL `ThrottlingReporter`, 5.
const THROTTLES_BEFORE_WARNING: u32 = 5;

/// The same where the service did not answer, or failed. Source: the attempts of the SDK's standard mode.
const FAILURES_BEFORE_WARNING: u32 = 3;

/// Records that are ready to be processed.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) records: Arc<[Record]>,
    /// Position of the last record.
    pub(crate) end: Position,
    pub(crate) millis_behind_latest: u64,
    /// Payload bytes.
    pub(crate) data_bytes: u64,
    _hold: Hold,
}

impl Batch {
    /// A batch of `records`; `None` of an empty one.
    pub(crate) fn new(records: Vec<Record>, millis_behind_latest: u64, hold: Hold) -> Option<Self> {
        Some(Self {
            end: records.last()?.position(),
            millis_behind_latest,
            data_bytes: records.iter().map(|record| record.data.len() as u64).sum(),
            records: records.into(),
            _hold: hold,
        })
    }
}

/// What the fetch task sends, in the order of the shard.
#[derive(Debug)]
pub(crate) enum Fetched {
    Batch(Batch),
    /// Every record was sent and the shard has no more.
    End(Vec<ChildShard>),
    /// The stream no longer has the shard: it was closed, and retention took all that it held.
    Expired {
        error: Error,
        children: Vec<ChildShard>,
    },
    /// There is no such stream.
    NotFound(Error),
}

/// What reading needs, the same for all shards of a stream.
#[derive(Clone)]
pub(crate) struct FetchContext {
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    /// The same without retries, for `GetRecords`: each attempt counts against the shard's reads.
    pub(crate) kinesis_once: aws_sdk_kinesis::Client,
    /// What logs and metrics call the stream.
    pub(crate) stream: Arc<str>,
    pub(crate) source: Arc<Source>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: Clock,
    pub(crate) rand: Rand,
    pub(crate) budget: Arc<Budget>,
    pub(crate) totals: Arc<Totals>,
    pub(crate) connections: Arc<Connections>,
    /// Present if shards are to be read by fan-out.
    pub(crate) registration: Option<Arc<Registration>>,
    pub(crate) placement: Arc<Placement>,
}

/// A running fetch task; dropping it stops the task.
pub(crate) struct Fetching {
    receiver: mpsc::Receiver<Fetched>,
    lag: Arc<Lag>,
    _task: AbortOnDropHandle<()>,
}

impl Fetching {
    /// The next thing fetched; `None` only if the task broke down. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Fetched> {
        self.receiver.recv().await
    }

    /// How far it is behind, to be kept for as long as that counts.
    pub(crate) fn lag(&self) -> Arc<Lag> {
        Arc::clone(&self.lag)
    }
}

impl FetchContext {
    /// Starts to read the shard of `lease` right behind its checkpoint.
    pub(crate) fn start(&self, lease: &Lease) -> Fetching {
        let shard_id = StreamId::shard_of_key(&lease.shard_id);
        let (start, range) = (&lease.checkpoint, lease.range);
        let limits = BufferLimits {
            bytes: self.settings.max_byte_size,
            records: self.settings.max_records_count,
        };
        let (filler, receiver) = buffer(limits, &self.budget);
        let start_at = StartAt::of_lease(lease, self.source.initial);
        let now = self.clock.now();
        // Before the first checkpoint of a row that begins at the newest record.
        let from_newest = (lease.checkpoint == Position::Latest).then_some(now);
        // Of a row that names no instant it is this one, whatever registering or throttling take, unless
        // the service says what time it is.
        let start_at = start_at.pinned(self.clock.epoch_millis());
        let idle = self.settings.idle_time_between_reads;
        let listening = self.registration.as_ref().map(|registration| {
            let rules = self.fan_out_rules(start_at.clone(), now);
            Listening::new(rules, Arc::clone(registration))
        });
        let lag = Arc::new(Lag::new(
            Arc::clone(&self.totals.application),
            Arc::clone(&self.stream),
            shard_id.to_string(),
        ));
        let task = Task {
            reader: Reader::new(self, &shard_id),
            poll: Poll::new(start_at, idle, self.rand.fork(), now),
            listening,
            unpacker: Unpacker::new(start, range),
            start: start.clone(),
            from_newest,
            names_instant: lease.starts_at_millis.is_some(),
            corrupt_seen: false,
            lag: Arc::clone(&lag),
            context: self.clone(),
            shard_id,
            _tells: TellsTotals(Arc::clone(&self.totals)),
        };
        let task = tokio::spawn(task.run(filler).in_current_span());
        Fetching {
            receiver,
            lag,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn fan_out_rules(&self, start_at: StartAt, now: Instant) -> FanOut {
        let may_fall_back = match &self.settings.retrieval {
            Retrieval::Polling => true,
            Retrieval::FanOut(settings) => settings.fall_back_to_polling,
        };
        FanOut::new(start_at, may_fall_back, self.rand.fork(), now)
    }
}

struct Task {
    context: FetchContext,
    shard_id: ShardId,
    reader: Reader,
    /// The polling of the shard; in use while `listening` is absent or has fallen back.
    poll: Poll,
    listening: Option<Listening>,
    unpacker: Unpacker,
    start: Position,
    /// When reading the newest began, while it is not settled which instant that is.
    from_newest: Option<Instant>,
    /// Whether the lease's row has an instant for its checkpoint.
    names_instant: bool,
    corrupt_seen: bool,
    lag: Arc<Lag>,
    _tells: TellsTotals,
}

impl Task {
    async fn run(mut self, filler: Filler) {
        let last = loop {
            let step = if let Some(begun) = self.from_newest {
                self.settle_start(begun).await
            } else if self.listens() {
                self.listen(&filler).await
            } else {
                self.ask(&filler).await
            };
            match step {
                Step::Continue => {}
                Step::Last(last) => break last,
                Step::Abandoned => return,
                Step::Unknown(error) => {
                    if let Some(last) = self.look_for_shard(error).await {
                        break last;
                    }
                }
            }
        };
        filler.finish(last).await;
    }

    /// Opens what came and puts it into the buffer.
    async fn deliver(
        &mut self,
        slot: Slot<'_>,
        records: Vec<StreamRecord>,
        millis_behind_latest: u64,
    ) {
        let mut unpacked = self.unpacker.unpack(records);
        if !unpacked.foreign.is_empty() {
            let members = unpacked.foreign.len() as u64;
            let placement = &self.context.placement;
            let ancestors = if placement.is_by_key(&self.reader).await {
                placement.ancestors(&self.reader).await
            } else {
                Vec::new()
            };
            let dropped =
                unpacked.drop_foreign(|member| placement::is_explained(member, &ancestors));
            if dropped > 0 {
                self.report_foreign_dropped(dropped);
            }
            if dropped < members {
                ::metrics::counter!(metrics::FOREIGN_MEMBERS_DELIVERED, "stream" => self.stream())
                    .increment(members - dropped);
            }
        }
        self.report(&unpacked);
        let (bytes, count) = (unpacked.bytes, unpacked.records.len());
        slot.send(bytes, count, |hold| {
            Batch::new(unpacked.records, millis_behind_latest, hold)
        });
        self.context.totals.tell();
    }

    /// The end of the shard, with the children the service told or lists.
    async fn end(&mut self, told: Vec<ChildShard>) -> Step {
        if let Some(checkpoint) = self.unpacker.unseen_checkpoint() {
            self.report_gap(checkpoint.as_str(), "none, the shard has ended");
        }
        let mut children = told;
        while children.is_empty() {
            let failure = match self.reader.survey().await {
                Ok(survey) if !survey.children.is_empty() => {
                    children = survey.children;
                    break;
                }
                Ok(_) => Failure::other(Error::new(
                    ErrorKind::Unavailable,
                    format!(
                        "shard {} has ended and its children are not listed yet",
                        self.shard_id
                    ),
                )),
                Err(failure) => failure,
            };
            if let Step::Unknown(error) = self.trouble(failure) {
                return Step::Last(Fetched::NotFound(error));
            }
            if let Ask::Wait(until) = self.poll.next(self.context.clock.now()) {
                tokio::time::sleep_until(until).await;
            }
        }
        Step::Last(Fetched::End(children))
    }

    /// The shard has been unknown for a while: is it the shard that is gone, or the stream?
    async fn look_for_shard(&mut self, error: Error) -> Option<Fetched> {
        match self.reader.survey().await {
            Ok(survey) if survey.listed => {
                self.poll.on_found();
                if let Some(listening) = &mut self.listening {
                    listening.on_found();
                }
                None
            }
            Ok(survey) => Some(Fetched::Expired {
                error,
                children: survey.children,
            }),
            Err(failure) if failure.trouble == Trouble::NotFound => {
                Some(Fetched::NotFound(failure.error))
            }
            Err(failure) => {
                self.trouble(failure);
                None
            }
        }
    }

    fn report(&mut self, unpacked: &Unpacked) {
        if let Some(first) = &unpacked.gap_before {
            self.report_gap(self.start.checkpoint(), first.as_str());
        }
        if let Some(reason) = unpacked.corrupt_reason {
            ::metrics::counter!(metrics::CORRUPT_AGGREGATES, "stream" => self.stream())
                .increment(unpacked.corrupt);
            ::metrics::counter!(metrics::CORRUPT_MEMBERS_DROPPED, "stream" => self.stream())
                .increment(unpacked.corrupt_members);
            metrics::skipped(self.stream(), "corrupt_member", unpacked.corrupt_members);
            if self.corrupt_seen {
                debug!(
                    records = unpacked.corrupt,
                    members = unpacked.corrupt_members,
                    reason,
                    "Broken aggregates were delivered raw, or without the members that cannot be read."
                );
            } else {
                self.corrupt_seen = true;
                warn!(
                    records = unpacked.corrupt,
                    members = unpacked.corrupt_members,
                    reason,
                    "A record begins like an aggregate and cannot be opened: it is delivered as it is, or without the members that cannot be read where others can. Further ones of this shard are only counted."
                );
            }
        }
    }

    fn report_foreign_dropped(&self, members: u64) {
        ::metrics::counter!(metrics::FOREIGN_MEMBERS_DROPPED, "stream" => self.stream())
            .increment(members);
        metrics::skipped(self.stream(), "foreign_member", members);
        debug!(
            members,
            "Members of aggregates that belong to another shard were dropped."
        );
    }

    /// The record that reading resumed from was not there any more.
    fn report_gap(&self, checkpoint: &str, first: &str) {
        ::metrics::counter!(metrics::TRIMMED_CHECKPOINTS, "stream" => self.stream()).increment(1);
        warn!(
            checkpoint,
            first,
            "The checkpointed record is no longer in the stream: records between it and the first one read may have been trimmed before they were processed. Reading goes on with the oldest record kept."
        );
    }

    fn measure_lag(&self, millis_behind_latest: u64) {
        self.lag.tell(millis_behind_latest);
    }

    fn count_without_room(&self, retrieval: &'static str) {
        ::metrics::counter!(metrics::FETCHES_WITHOUT_ROOM, "stream" => self.stream(), "retrieval" => retrieval)
            .increment(1);
    }

    fn stream(&self) -> Arc<str> {
        Arc::clone(&self.context.stream)
    }
}

/// What comes of a call.
enum Step {
    Continue,
    Last(Fetched),
    /// Nobody reads any more.
    Abandoned,
    /// The stream or shard has been unknown for too long.
    Unknown(Error),
}

/// The innermost cause, which says what a service answered.
fn cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

impl fmt::Debug for Fetching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetching").finish_non_exhaustive()
    }
}
