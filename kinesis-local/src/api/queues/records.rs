//! ReceiveQueueRecords, AcknowledgeQueueRecords, UpdateQueueRecordsVisibility, and the same on dead
//! letters with RestoreDeadLetterQueueRecords.
//!
//! Promises: a receive that finds nothing waits and is woken by a record that is written, made
//! visible or whose timeout ends; it does not poll. A receive whose caller goes away while it waits
//! takes nothing any more. What a receive takes is in flight from then on, also if the caller goes
//! away before the answer: it becomes visible again after its timeout.
//! With a data directory deliveries and acknowledgements are on the disk before they are answered,
//! so handles, receive counts and timeouts outlive a crash; only a delivery that was not answered
//! may be one that never was.

use std::slice;
use std::time::Duration;

use serde::Deserialize;

use super::super::encryption::check_reading;
use super::super::{Inner, Reply};
use super::VISIBILITY_MAX_S;
use crate::answers::UNSHARED_BYTES;
use crate::catalog::StreamCell;
use crate::log::Ticket;
use crate::log::entry::Entry;
use crate::stream::attached::AttachedId;
use crate::stream::change::Change;
use crate::stream::lifecycle::Status;
use crate::stream::queue::change::{Handed, QueueChange};
use crate::stream::queue::handle::{Handle, Refusal};
use crate::stream::queue::{Delivery, Key, Lane, Queue};
use crate::stream::shard::Record;
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Integer, List, Structure, Text, decode};
use crate::wire::write::{Encode, Writer};

/// Records of one receive, and entries of one request. Source: API model.
const RECORDS_MAX: usize = 10;
/// Longest that a receive waits. Source: API model.
const WAIT_MAX_S: i32 = 20;
/// How long a receive waits unless told otherwise. Source: API model.
const WAIT_DEFAULT_S: i32 = 9;

/// The states in which a queue delivers. Source: API model, of ReceiveQueueRecords and UpdateQueue.
const DELIVERING: [Status; 2] = [Status::Active, Status::Updating];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct ReceiveRequest<'a> {
    #[serde(rename = "QueueARN")]
    queue_arn: Option<Text<'a>>,
    limit: Option<Integer>,
    wait_time_seconds: Option<Integer>,
    visibility_timeout_seconds: Option<Integer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct EntriesRequest<'a> {
    #[serde(rename = "QueueARN")]
    queue_arn: Option<Text<'a>>,
    entries: Option<List<Structure<EntryRequest<'a>>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct EntryRequest<'a> {
    receipt_handle: Option<Text<'a>>,
    visibility_timeout_seconds: Option<Integer>,
}

/// What a delivery takes in an answer beside data and partition key, in bytes. Source: API model, a receipt
/// handle of 1,024 characters; a record's id of 56, times, and their names.
const DELIVERY_BYTES: usize = 1536;

/// What is to become of received records.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Fate {
    Acknowledged,
    Hidden,
    Restored,
}

/// What a receive found.
enum Found {
    Records(Ticket, Vec<DeliveryAnswer>),
    /// Records whose answer takes up to so many bytes, which is more than there is room for: they were
    /// not taken.
    Larger(usize),
    /// Nothing, and nothing becomes visible before that time, in milliseconds since the Unix epoch.
    Nothing(Option<u64>),
}

#[derive(Debug)]
struct DeliveryAnswer {
    delivery: Delivery,
    record_id: String,
}

#[derive(Debug)]
struct ReceiveAnswer(Vec<DeliveryAnswer>);

impl Encode for ReceiveAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("QueueRecords");
            writer.list(&self.0, |writer, answer| {
                let Delivery {
                    record,
                    handle,
                    first_ms,
                    receives,
                } = &answer.delivery;
                writer.structure(|writer| {
                    writer.key("ReceiptHandle");
                    writer.plain(&handle.seal());
                    writer.key("RecordId");
                    writer.plain(&answer.record_id);
                    if !record.partition_key.is_empty() {
                        writer.key("PartitionKey");
                        writer.text(&record.partition_key);
                    }
                    writer.key("Data");
                    writer.blob(&record.data);
                    writer.key("ApproximateArrivalTimestamp");
                    writer.timestamp(record.arrival_ms);
                    writer.key("FirstReceiveTimestamp");
                    writer.timestamp(*first_ms);
                    writer.key("ReceiveCount");
                    writer.integer(u64::from(*receives));
                });
            });
        });
    }
}

/// What became of each entry, by its handle.
#[derive(Debug, Default)]
struct EntriesAnswer {
    successful: Vec<String>,
    failed: Vec<(String, Refusal)>,
}

impl Encode for EntriesAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("Successful");
            writer.list(&self.successful, |writer, handle| {
                writer.structure(|writer| {
                    writer.key("ReceiptHandle");
                    writer.text(handle);
                });
            });
            writer.key("Failed");
            writer.list(&self.failed, |writer, (handle, refusal)| {
                let (code, message) = refusal.told();
                writer.structure(|writer| {
                    writer.key("ReceiptHandle");
                    writer.text(handle);
                    writer.key("ErrorCode");
                    writer.plain(code);
                    writer.key("ErrorMessage");
                    writer.plain(message);
                });
            });
        });
    }
}

impl Inner {
    pub(in crate::api) async fn receive_queue_records(
        &self,
        body: Body<'_>,
    ) -> Result<Reply, Fault> {
        self.receive(body, Lane::Normal).await
    }

    pub(in crate::api) async fn receive_dead_letter_queue_records(
        &self,
        body: Body<'_>,
    ) -> Result<Reply, Fault> {
        self.receive(body, Lane::DeadLetter).await
    }

    pub(in crate::api) async fn acknowledge_queue_records(
        &self,
        body: Body<'_>,
    ) -> Result<Reply, Fault> {
        self.hand(body, Lane::Normal, Fate::Acknowledged).await
    }

    pub(in crate::api) async fn update_queue_records_visibility(
        &self,
        body: Body<'_>,
    ) -> Result<Reply, Fault> {
        self.hand(body, Lane::Normal, Fate::Hidden).await
    }

    pub(in crate::api) async fn acknowledge_dead_letter_queue_records(
        &self,
        body: Body<'_>,
    ) -> Result<Reply, Fault> {
        self.hand(body, Lane::DeadLetter, Fate::Acknowledged).await
    }

    pub(in crate::api) async fn update_dead_letter_queue_records_visibility(
        &self,
        body: Body<'_>,
    ) -> Result<Reply, Fault> {
        self.hand(body, Lane::DeadLetter, Fate::Hidden).await
    }

    pub(in crate::api) async fn restore_dead_letter_queue_records(
        &self,
        body: Body<'_>,
    ) -> Result<Reply, Fault> {
        self.hand(body, Lane::DeadLetter, Fate::Restored).await
    }

    async fn receive(&self, body: Body<'_>, lane: Lane) -> Result<Reply, Fault> {
        let request: ReceiveRequest<'_> = decode(body)?;
        check_receive(&request)?;
        self.check_writable()?;
        let arn = request.queue_arn.as_deref().unwrap_or_default();
        let (cell, id) = self.queue_cell(arn)?;
        let wait = request
            .wait_time_seconds
            .map_or(WAIT_DEFAULT_S, |seconds| seconds.0);
        let deadline = self.clock.now() + Duration::from_secs(u64::from(wait.unsigned_abs()));
        let mut news = cell.read().watch();
        // Who is in this process has room.
        let unshared = body.answers.map_or(usize::MAX, |_| UNSHARED_BYTES);
        let (mut room, mut share) = (unshared, None);
        loop {
            news.mark_unchanged(); // before looking: nothing that comes later is missed
            if self.left.is_cancelled() {
                return Ok(Reply::to(body, &ReceiveAnswer(Vec::new()))); // nobody reads it
            }
            let next_ms = match self.look(&request, arn, &cell, id, lane, room)? {
                Found::Records(ticket, records) => {
                    self.stored(ticket).await?;
                    return Ok(Reply::to(body, &ReceiveAnswer(records)).with(share));
                }
                Found::Larger(bytes) => {
                    drop(share.take()); // who waits for room has none
                    (share, room) = (body.share_ahead(bytes).await?, bytes);
                    continue;
                }
                Found::Nothing(next_ms) => next_ms,
            };
            (room, share) = (unshared, None); // others may have taken what it was for
            if self.clock.now() >= deadline {
                return Ok(Reply::to(body, &ReceiveAnswer(Vec::new())));
            }
            let until_next = next_ms.map(|next_ms| next_ms.saturating_sub(self.now_ms()).max(1));
            let next = until_next.map(|ms| self.clock.now() + Duration::from_millis(ms));
            tokio::select! {
                biased;
                () = self.left.cancelled() => {}
                _ = news.changed() => {}
                () = self.clock.sleep_until(next.map_or(deadline, |at| at.min(deadline))) => {}
                () = cell.gone.cancelled() => return Err(self.no_queue(arn)),
                () = self.subscriptions.ended() => {
                    return Ok(Reply::to(body, &ReceiveAnswer(Vec::new())));
                }
            }
        }
    }

    /// Takes what can be received now, if its answer has no more bytes than `room`.
    fn look(
        &self,
        request: &ReceiveRequest<'_>,
        arn: &str,
        cell: &StreamCell,
        id: AttachedId,
        lane: Lane,
        room: usize,
    ) -> Result<Found, Fault> {
        let stream = cell.read();
        let mut queue = stream.queue(id.own).ok_or_else(|| self.no_queue(arn))?;
        self.check_queue(&queue, arn, &DELIVERING, Fault::invalid_argument)?;
        let max = request
            .limit
            .map_or(RECORDS_MAX, |limit| limit.0.max(1) as usize);
        let hidden_s = request
            .visibility_timeout_seconds
            .map_or(queue.attributes.visibility_s, |seconds| {
                seconds.0.unsigned_abs()
            });
        let hide = Duration::from_secs(u64::from(hidden_s));
        let now_ms = self.now_ms();
        let chosen = queue.choose(&stream, lane, max, now_ms);
        if chosen.is_empty() {
            return Ok(Found::Nothing(queue.next_visible_ms()));
        }
        for (_, record) in &chosen {
            check_reading(&self.kms, slice::from_ref(record))?;
        }
        let in_answer = |(_, record): &(Key, Record)| {
            let data = record.data.len().div_ceil(3) * 4; // as base64
            data + 6 * record.partition_key.len() + DELIVERY_BYTES
        };
        let bytes = chosen.iter().map(in_answer).sum();
        if bytes > room {
            return Ok(Found::Larger(bytes));
        }
        let (deliveries, change) = queue.hand_over_to(chosen, lane, hide, now_ms);
        let answers = deliveries.into_iter().filter_map(|delivery| {
            let Key { shard, counter } = delivery.handle.key;
            let shard = &stream.shard(shard)?.identity;
            let number = shard.sequence_number(counter, delivery.record.arrival_ms);
            Some(DeliveryAnswer {
                record_id: number.as_str().to_owned(),
                delivery,
            })
        });
        let answers = answers.collect();
        let ticket = self.submit_to_queue(cell, id, change, now_ms);
        Ok(Found::Records(ticket, answers))
    }

    async fn hand(&self, body: Body<'_>, lane: Lane, fate: Fate) -> Result<Reply, Fault> {
        let request: EntriesRequest<'_> = decode(body)?;
        check_entries(&request, lane, fate)?;
        self.check_writable()?;
        let arn = request.queue_arn.as_deref().unwrap_or_default();
        let (cell, id) = self.queue_cell(arn)?;
        let List(entries) = request.entries.unwrap_or_default();
        let mut answer = EntriesAnswer::default();
        let ticket = {
            let stream = cell.read();
            let mut queue = stream.queue(id.own).ok_or_else(|| self.no_queue(arn))?;
            self.check_queue(&queue, arn, &DELIVERING, Fault::invalid_argument)?;
            let now_ms = queue.settle(self.now_ms());
            let held = sort_out(&queue, lane, &entries, &mut answer);
            let until = |seconds: i32| now_ms + u64::from(seconds.unsigned_abs()) * 1000;
            let change = QueueChange::Handed(match fate {
                Fate::Acknowledged => Handed::Acknowledged(keys(&held)),
                Fate::Restored => Handed::Restored(keys(&held)),
                Fate::Hidden => Handed::Hidden(
                    held.iter()
                        .map(|&(key, seconds)| (key, until(seconds)))
                        .collect(),
                ),
            });
            let was_full = queue.is_full();
            queue.apply(&change, now_ms);
            if fate != Fate::Acknowledged || was_full {
                stream.wake(); // there may be something to receive now
            }
            (!held.is_empty()).then(|| self.submit_to_queue(&cell, id, change, now_ms))
        };
        if let Some(ticket) = ticket {
            self.stored(ticket).await?;
        }
        Ok(Reply::to(body, &answer))
    }

    /// Puts a change in line for the log; the caller holds the queue in which it was made.
    fn submit_to_queue(
        &self,
        cell: &StreamCell,
        id: AttachedId,
        change: QueueChange,
        at_ms: u64,
    ) -> Ticket {
        let change = Change::Queue { id: id.own, change };
        let entry = Entry::Change {
            stream: cell.id,
            at_ms,
            change,
        };
        self.log.submit(entry, None, None)
    }
}

/// The records behind the handles, with the timeout asked for; tells of each entry which it is.
fn sort_out(
    queue: &Queue,
    lane: Lane,
    entries: &[Structure<EntryRequest<'_>>],
    answer: &mut EntriesAnswer,
) -> Vec<(Key, i32)> {
    let mut held = Vec::new();
    for Structure(entry) in entries {
        let text = entry.receipt_handle.as_deref().unwrap_or_default();
        let key = Handle::open(text).and_then(|handle| queue.held(&handle, lane));
        match key {
            Ok(key) => {
                let seconds = entry.visibility_timeout_seconds;
                held.push((key, seconds.map_or(0, |seconds| seconds.0)));
                answer.successful.push(text.to_owned());
            }
            Err(refusal) => answer.failed.push((text.to_owned(), refusal)),
        }
    }
    held
}

fn keys(held: &[(Key, i32)]) -> Vec<Key> {
    held.iter().map(|&(key, _)| key).collect()
}

fn check_receive(request: &ReceiveRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.queue_arn(request.queue_arn.as_deref());
    let limit = request.limit.map(|limit| limit.0);
    constraints.range("limit", limit, 1, RECORDS_MAX as i32);
    let wait = request.wait_time_seconds.map(|seconds| seconds.0);
    constraints.range("waitTimeSeconds", wait, 1, WAIT_MAX_S);
    let hidden = request.visibility_timeout_seconds.map(|seconds| seconds.0);
    constraints.range("visibilityTimeoutSeconds", hidden, 0, VISIBILITY_MAX_S);
    constraints.done()
}

fn check_entries(request: &EntriesRequest<'_>, lane: Lane, fate: Fate) -> Result<(), Fault> {
    let name = match (lane, fate) {
        (Lane::Normal, Fate::Hidden) => "UpdateQueueRecordsVisibilityRequestEntry",
        (Lane::Normal, _) => "AcknowledgeQueueRecordsRequestEntry",
        (Lane::DeadLetter, Fate::Acknowledged) => "AcknowledgeDeadLetterQueueRecordsRequestEntry",
        (Lane::DeadLetter, Fate::Hidden) => "UpdateDeadLetterQueueRecordsVisibilityRequestEntry",
        (Lane::DeadLetter, Fate::Restored) => "RestoreDeadLetterQueueRecordsRequestEntry",
    };
    let mut constraints = Constraints::default();
    constraints.queue_arn(request.queue_arn.as_deref());
    constraints.present(request.entries.is_some(), "entries");
    if let Some(List(entries)) = &request.entries {
        constraints.structures("entries", entries.len(), RECORDS_MAX, name);
        for (at, Structure(entry)) in (1..=RECORDS_MAX).zip(entries) {
            let handle = entry.receipt_handle.as_deref();
            constraints.receipt_handle(format_args!("entries.{at}.member.receiptHandle"), handle);
            if fate == Fate::Hidden {
                let path = format!("entries.{at}.member.visibilityTimeoutSeconds");
                let seconds = entry.visibility_timeout_seconds.map(|seconds| seconds.0);
                constraints.present(seconds.is_some(), &path);
                constraints.range(&path, seconds, 0, VISIBILITY_MAX_S);
            }
        }
    }
    constraints.done()
}
