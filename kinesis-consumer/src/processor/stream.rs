//! The records of a consumer as one stream, each to be acknowledged.
//!
//! ```text
//! shard 0 ─▶ at most `in_flight` not acknowledged ─┐
//! shard 1 ─▶ at most `in_flight` not acknowledged ─┼─▶ RecordStream ─▶ Delivery ─┬▶ ack()
//! shard 2 ─▶ …                                     ┘       ▲                     ├▶ fail(error)
//!                                                          └── the shard waits ◀─┴▶ dropped: again
//! ```
//!
//! Each shard has a bounded channel of its own, which the stream goes through in turn: a record
//! that is not acknowledged holds up its shard alone, once `in_flight` of it are out, of as many batches as
//! that takes, or what a shard may read ahead.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::{BoxStream, SelectAll, StreamExt};
use kinesis_core::ShardId;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::each::{Each, ForEach, ShardRecord};
use super::{ProcessorError, RecordProcessor, RecordProcessorFactory};
use crate::stream::StreamId;

/// Shards that wait in a channel for the stream's next poll. Source: none, reasonable default; one
/// that finds no room there waits with its records.
const NEW_SHARDS_MAX: usize = 1_024;

const DROPPED: &str = "the record stream was dropped";

/// How often acknowledged records are checkpointed.
/// Source: none, reasonable default: what a crash repeats at most, at one write of the lease table.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// The records of a consumer as a stream, and the factory that feeds it. At most `in_flight` records
/// (at least 1) of each shard are out at once.
///
/// ```
/// use futures::StreamExt;
/// use kinesis_consumer::{Consumer, record_stream};
/// use tokio_util::sync::CancellationToken;
///
/// async fn board(
///     kinesis: aws_sdk_kinesis::Client,
///     dynamodb: aws_sdk_dynamodb::Client,
///     shutdown: CancellationToken,
/// ) -> Result<(), Box<dyn std::error::Error>> {
///     let (mut records, factory) = record_stream(100);
///     let consumer = Consumer::builder("board", "flights", kinesis, dynamodb, factory).build()?;
///     let running = tokio::spawn(consumer.run(shutdown));
///     while let Some(delivery) = records.next().await {
///         println!("{}", delivery.record().partition_key);
///         delivery.ack();
///     }
///     Ok(running.await??)
/// }
/// ```
///
/// - **Order**: the records of a shard come in its order, whatever was acknowledged; there is none
///   between shards.
/// - **Many at a time**: `in_flight` of a shard come before any of them is acknowledged, whatever batches
///   they are read in, so a loop may take a number of them first, as long as what it takes of a
///   shard fits into `in_flight` and what a shard reads ahead:
///   [`max_records_count`](crate::Settings::max_records_count), and in bytes the lesser of
///   [`max_byte_size`](crate::Settings::max_byte_size) and the shard's share of
///   [`max_buffered_bytes`](crate::Settings::max_buffered_bytes), which is ⅝ of that divided by the shards
///   that the worker holds: of the default, 256 MiB, 1.6 MiB of a hundred shards and 160 KiB of a thousand. Put a bound on its time too: of a quiet stream the
///   hundredth record may be long in coming, and the children of a shard that was split or merged come only
///   when all of it is acknowledged. `ready_chunks(100)` takes what is there, up to a hundred:
///
///   ```
///   use futures::StreamExt;
///   use kinesis_consumer::{BoxError, Delivery, RecordStream};
///
///   async fn store(flights: &[Delivery]) -> Result<(), BoxError> {
///       println!("{} at once", flights.len());
///       Ok(())
///   }
///
///   async fn run(records: RecordStream) -> Result<(), BoxError> {
///       let mut chunks = records.ready_chunks(100);
///       while let Some(chunk) = chunks.next().await {
///           store(&chunk).await?;
///           for delivery in chunk {
///               delivery.ack();
///           }
///       }
///       Ok(())
///   }
///   ```
///
///   A shard of which records are out and none is acknowledged for one to two minutes says so by a WARN.
/// - **Checkpoints** are made for you, at the last record of a shard up to which all are
///   acknowledged, every five seconds while there is something new, and when the worker stops, the lease is
///   handed over or the shard ends.
/// - **Failures** ([`Delivery::fail`], or a delivery that is dropped) go the way of
///   [`Settings::on_failure`](crate::Settings::on_failure), of each record by itself: it comes again after a
///   pause in which no new one of its shard comes, and before those that were not out yet. What was
///   acknowledged does not come again.
/// - **Wrapped**: processors of yours that pass their calls on to those of this factory have them go through
///   batch by batch, each done or failed as a whole; then no more than a batch is out at once.
/// - **The end**: the stream ends once the consumer has ended. Take from it until then, since a shard
///   that stops waits for the records that are out, up to its deadline. If the stream is dropped, the
///   consumer stops with an error at the next record of any shard (or at once, where one is out or waits
///   in the stream), and no record is to blame for it; what was acknowledged is checkpointed before. Where
///   nothing more may come, cancel `shutdown` too.
/// - **A lost lease**: records that wait in the stream when their lease is lost are not delivered; one
///   that is out already is told by [`Delivery::ack`].
/// - **Cancel safety**: `next` is cancel safe.
pub fn record_stream(in_flight: usize) -> (RecordStream, impl RecordProcessorFactory) {
    let (sender, arrivals) = mpsc::channel(NEW_SHARDS_MAX);
    let stream = RecordStream {
        arrivals: Some(arrivals),
        shards: SelectAll::new(),
    };
    let in_flight = in_flight.max(1);
    (stream, Factory { sender, in_flight })
}

/// The records of a consumer, of all its shards; see [`record_stream`].
pub struct RecordStream {
    /// `None` once the consumer makes no more shards.
    arrivals: Option<mpsc::Receiver<mpsc::Receiver<Delivery>>>,
    shards: SelectAll<BoxStream<'static, Delivery>>,
}

impl Stream for RecordStream {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        while let Some(arrivals) = &mut self.arrivals {
            match arrivals.poll_recv(cx) {
                Poll::Ready(Some(mut shard)) => {
                    let records = futures::stream::poll_fn(move |cx| shard.poll_recv(cx));
                    self.shards.push(records.boxed());
                }
                Poll::Ready(None) => self.arrivals = None,
                Poll::Pending => break,
            }
        }
        loop {
            return match self.shards.poll_next_unpin(cx) {
                // Its lease was lost while it waited here: it is the next owner's.
                Poll::Ready(Some(delivery)) if delivery.answer.is_closed() => continue,
                // No shard now; there may be one later.
                Poll::Ready(None) if self.arrivals.is_some() => Poll::Pending,
                next => next,
            };
        }
    }
}

impl fmt::Debug for RecordStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordStream")
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}

/// A record to be acknowledged. Dropped without that, it fails with [`ProcessorError::Retry`].
#[must_use = "a delivery that is dropped has failed, and the record comes again"]
pub struct Delivery {
    record: ShardRecord,
    answer: oneshot::Sender<Result<(), ProcessorError>>,
}

impl Delivery {
    /// The record.
    pub fn record(&self) -> &crate::Record {
        &self.record.record
    }

    /// The shard it came from.
    pub fn shard_id(&self) -> &ShardId {
        &self.record.shard_id
    }

    /// The stream it came from, where the consumer reads several.
    pub fn stream(&self) -> Option<&StreamId> {
        self.record.stream.as_ref()
    }

    /// The record is done. Whether its shard still waits for it: if not, the lease was lost, and the
    /// record goes to the next owner too.
    pub fn ack(self) -> bool {
        self.answer.send(Ok(())).is_ok()
    }

    /// The record is not done.
    pub fn fail(self, error: ProcessorError) {
        // Without a shard that waits for it, it goes to the next owner anyway.
        drop(self.answer.send(Err(error)));
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

struct Factory {
    sender: mpsc::Sender<mpsc::Receiver<Delivery>>,
    in_flight: usize,
}

impl Factory {
    fn of(&self, stream: Option<StreamId>, shard_id: &ShardId) -> Box<dyn RecordProcessor> {
        let settings = ForEach {
            concurrency: self.in_flight,
            order_per_key: false,
            checkpoint_interval: CHECKPOINT_INTERVAL,
        };
        let shard = Arc::new(Shard::new(self.sender.clone(), self.in_flight));
        let deliver = Arc::new(move |record| {
            let answered = shard.deliver(record);
            let answer: futures::future::BoxFuture<'static, _> = Box::pin(answered);
            answer
        });
        Box::new(Each::new(settings, stream, shard_id.clone(), deliver))
    }
}

impl RecordProcessorFactory for Factory {
    fn create(&self, shard_id: &ShardId) -> Box<dyn RecordProcessor> {
        self.of(None, shard_id)
    }

    fn create_for(&self, stream: &StreamId, shard_id: &ShardId) -> Box<dyn RecordProcessor> {
        self.of(Some(stream.clone()), shard_id)
    }
}

/// One shard's way into the stream.
struct Shard {
    records: mpsc::Sender<Delivery>,
    /// The other end of `records`, until the stream is told of it.
    unannounced: Mutex<Option<Unannounced>>,
}

type Unannounced = (
    mpsc::Sender<mpsc::Receiver<Delivery>>,
    mpsc::Receiver<Delivery>,
);

impl Shard {
    fn new(arrivals: mpsc::Sender<mpsc::Receiver<Delivery>>, in_flight: usize) -> Self {
        // Room for all that can be out: a record that is acknowledged has left the channel.
        let (records, shard) = mpsc::channel(in_flight);
        Self {
            records,
            unannounced: Mutex::new(Some((arrivals, shard))),
        }
    }

    /// Tells the stream of the shard, once; waits until it has room. Cancel safe.
    async fn announce(&self) -> Result<(), ProcessorError> {
        let mut unannounced = self.unannounced.lock().await;
        let Some((arrivals, _)) = &*unannounced else {
            return Ok(());
        };
        let dropped = |_| ProcessorError::fatal(DROPPED);
        let permit = arrivals.clone().reserve_owned().await.map_err(dropped)?;
        if let Some((_, shard)) = unannounced.take() {
            permit.send(shard);
        }
        Ok(())
    }

    /// Puts the record into the stream now, in the order of the calls; the future waits for its
    /// acknowledgement.
    fn deliver(
        self: &Arc<Self>,
        record: ShardRecord,
    ) -> impl Future<Output = Result<(), ProcessorError>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        let delivery = Delivery { record, answer };
        let sent = self
            .records
            .try_send(delivery)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Closed(_) => DROPPED,
                mpsc::error::TrySendError::Full(_) => "more records are out than allowed",
            });
        let shard = Arc::clone(self);
        async move {
            sent.map_err(ProcessorError::fatal)?;
            shard.announce().await?;
            answered.await.unwrap_or_else(|_| {
                // Nobody refused the record: what was in the stream went with it.
                Err(match shard.records.is_closed() {
                    true => ProcessorError::fatal(DROPPED),
                    false => ProcessorError::retry("the delivery was dropped"),
                })
            })
        }
    }
}

#[cfg(test)]
mod tests;
