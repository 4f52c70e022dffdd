//! One subscription to a shard: the call, and its events in our own types, taken only when there is
//! room for them.
//!
//! ```text
//! SubscribeToShard ─▶ Subscription::next ─▶ Taken::Event(event, its part of the budget)
//!                        │ the event waits at the gate until that is reserved
//!                        └ nothing for STALLED_AFTER while there was room: Taken::Stalled
//! ```
//!
//! Promise: dropping a [`Subscription`] closes its stream. The SDK's own protection against stalled
//! streams is switched off for these calls: it cannot tell a stream without data from one that
//! waits for room.

use std::sync::Arc;

use aws_sdk_kinesis::config::StalledStreamProtectionConfig;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput;
use aws_sdk_kinesis::types::{
    ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use aws_smithy_types::DateTime;
use kinesis_core::SequenceNumber;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, ErrorKind};
use crate::fetch::budget::Reservation;
use crate::fetch::buffer::Filler;
use crate::fetch::call::{Failure, Reader};
use crate::fetch::connections::Seat;
use crate::fetch::fan_out::{Reason, STALLED_AFTER, Trouble, UNREAD_PATIENCE};
use crate::fetch::gate::{Gate, Gatekeeper};
use crate::fetch::listen::Opens;
use crate::fetch::poll::StartAt;
use crate::fetch::unpack::StreamRecord;
use crate::lease::ChildShard;

/// One event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) records: Vec<StreamRecord>,
    /// Absent at the shard's end.
    pub(crate) continuation: Option<SequenceNumber>,
    pub(crate) children: Vec<ChildShard>,
    pub(crate) millis_behind_latest: u64,
}

/// What waiting for an event came to.
#[derive(Debug)]
pub(crate) enum Taken {
    /// With its length and the part of the budget that was reserved for it; small events have none.
    Event(Event, Option<(usize, Reservation)>),
    /// The stream is over, as after five minutes.
    Over,
    Stalled,
    /// There was no room in the budget for [`UNREAD_PATIENCE`], for an event of so many bytes.
    NoRoom {
        wanted: usize,
    },
    Failed(Failure<Trouble>),
}

/// A running subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    output: SubscribeToShardOutput,
    gate: Arc<Gate>,
    _seat: Seat,
}

impl Reader {
    /// Subscribes from `start_at` on.
    pub(crate) async fn subscribe(
        &self,
        consumer_arn: &str,
        start_at: &StartAt,
    ) -> Result<Subscription, Failure<Trouble>> {
        let (gate, seat) = (Arc::new(Gate::default()), self.connections.seat());
        let timeouts = seat.timeouts(self.kinesis.config().timeout_config());
        let request = self
            .kinesis
            .subscribe_to_shard()
            .consumer_arn(consumer_arn)
            .shard_id(self.shard_id.as_str())
            .starting_position(position(start_at)?)
            .customize()
            .config_override(
                aws_sdk_kinesis::config::Builder::new()
                    .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
                    .timeout_config(timeouts),
            )
            .interceptor(Gatekeeper(Arc::clone(&gate)));
        let of = || {
            format!(
                "subscribing to shard {} of stream {}",
                self.shard_id, self.stream
            )
        };
        // On the heap: the future of an SDK call is large, and there is one per shard.
        match timeout(self.timeout, Box::pin(request.send())).await {
            Ok(Ok(output)) => Ok(Subscription {
                output,
                gate,
                _seat: seat,
            }),
            Ok(Err(error)) => Err(failed(of(), error)),
            Err(elapsed) => Err(other(
                Error::new(
                    ErrorKind::Unavailable,
                    format!("{} took longer than {:?}", of(), self.timeout),
                )
                .with_source(elapsed),
            )),
        }
    }

    /// A subscription without a sign of life.
    pub(crate) fn stalled(&self) -> Error {
        let text = format!(
            "the subscription to shard {} of stream {} had no event for {STALLED_AFTER:?}",
            self.shard_id, self.stream
        );
        Error::new(ErrorKind::Unavailable, text)
    }

    /// A subscription that was over before its first event.
    pub(crate) fn empty_subscription(&self) -> Error {
        let text = format!(
            "the subscription to shard {} of stream {} ended before its first event",
            self.shard_id, self.stream
        );
        Error::new(ErrorKind::Unavailable, text)
    }

    fn event(&self, event: SubscribeToShardEvent) -> Result<Event, Failure<Trouble>> {
        let convert = || {
            let continuation = match event.continuation_sequence_number {
                text if text.is_empty() => None,
                text => Some(SequenceNumber::try_from(text).map_err(|_| {
                    self.malformed("an event has no valid continuation sequence number")
                })?),
            };
            Ok(Event {
                records: self.in_our_types(event.records)?,
                continuation,
                children: self.children(event.child_shards)?,
                millis_behind_latest: u64::try_from(event.millis_behind_latest).unwrap_or(0),
            })
        };
        convert().map_err(|failure: Failure| other(failure.error))
    }
}

impl Subscription {
    /// Waits for the next event, and for its part of the budget.
    pub(crate) async fn next(
        &mut self,
        reader: &Reader,
        filler: &Filler,
        opens: Opens,
        now: Instant,
    ) -> Taken {
        let mut reservation = None;
        let mut stalled_at = now + STALLED_AFTER;
        let mut received = std::pin::pin!(self.output.event_stream.recv());
        let received = loop {
            tokio::select! {
                biased;
                received = &mut received => break received,
                bytes = self.gate.asked() => {
                    let wanted = opens.of(bytes);
                    let Ok(room) = timeout(UNREAD_PATIENCE, filler.reserve_event(wanted)).await else {
                        return Taken::NoRoom { wanted };
                    };
                    reservation = Some((bytes, room));
                    self.gate.open();
                    // What is left of the event has as long to arrive as a new one.
                    stalled_at = reader.clock.now() + STALLED_AFTER;
                }
                () = sleep_until(stalled_at) => return Taken::Stalled,
            }
        };
        let event = match received {
            Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => event,
            Ok(Some(_)) => {
                let failure = reader.malformed("the subscription sent an event of an unknown kind");
                return Taken::Failed(other(failure.error));
            }
            Ok(None) => return Taken::Over,
            Err(error) => {
                let of = format!(
                    "the subscription to shard {} of stream {}",
                    reader.shard_id, reader.stream
                );
                return Taken::Failed(failed(of, error));
            }
        };
        match reader.event(event) {
            Ok(event) => Taken::Event(event, reservation),
            Err(failure) => Taken::Failed(failure),
        }
    }
}

fn position(start_at: &StartAt) -> Result<StartingPosition, Failure<Trouble>> {
    let position = StartingPosition::builder();
    let position = match start_at {
        StartAt::TrimHorizon => position.r#type(ShardIteratorType::TrimHorizon),
        StartAt::Latest => position.r#type(ShardIteratorType::Latest),
        StartAt::Timestamp { epoch_millis } => position
            .r#type(ShardIteratorType::AtTimestamp)
            .timestamp(DateTime::from_millis(
                i64::try_from(*epoch_millis).unwrap_or(i64::MAX),
            )),
        StartAt::AtSequence(sequence_number) => position
            .r#type(ShardIteratorType::AtSequenceNumber)
            .sequence_number(sequence_number.as_str()),
        StartAt::AfterSequence(sequence_number) => position
            .r#type(ShardIteratorType::AfterSequenceNumber)
            .sequence_number(sequence_number.as_str()),
    };
    position.build().map_err(|error| {
        let text = "a subscription's position has no type";
        other(Error::new(ErrorKind::Internal, text).with_source(error))
    })
}

fn failed<E, R>(of: String, error: SdkError<E, R>) -> Failure<Trouble>
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let code = error.code().map(str::to_owned);
    let error = Error::aws(of, error);
    Failure {
        trouble: trouble(code.as_deref(), error.kind()),
        error,
    }
}

fn other(error: Error) -> Failure<Trouble> {
    Failure {
        error,
        trouble: Trouble::Other,
    }
}

/// Source: error list of SubscribeToShard, and the exceptions of its event stream, Kinesis API
/// 2013-12-02.
fn trouble(code: Option<&str>, kind: ErrorKind) -> Trouble {
    match code {
        Some("ResourceInUseException") => Trouble::InUse,
        Some("ResourceNotFoundException") => Trouble::NotFound,
        Some("InvalidArgumentException") => Trouble::Position,
        _ if kind == ErrorKind::Denied => Trouble::Refused(Reason::Denied),
        _ => Trouble::Other,
    }
}
