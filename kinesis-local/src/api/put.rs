//! PutRecord and PutRecords: a record's way into its shard.
//!
//! Promises: records of one request that go to the same shard get numbers in their order in the
//! request; the answer comes after every record it acknowledges is stored. A throttled record of
//! PutRecords fails alone, and so does one that is refused on purpose.

use std::fmt::{self, Display};
use std::sync::Arc;

use bytes::Bytes;
use kinesis_core::limits::{
    PARTITION_KEY_MAX_CHARS, PUT_RECORDS_MAX_BYTES, PUT_RECORDS_MAX_RECORDS,
    RECORD_MAX_BYTES_LARGEST,
};
use kinesis_core::{HashKey, SequenceNumber, ShardId};
use serde::Deserialize;

use super::encryption::check_writing;
use super::{Inner, Reply, no_stream, unwritable};
use crate::catalog::StreamCell;
use crate::fault::EntryFaults;
use crate::log::entry::Entry;
use crate::log::{Room, Ticket};
use crate::stream::Stream;
use crate::stream::distribution::Distribution;
use crate::stream::lifecycle::Status;
use crate::stream::shard::{Record, Shard};
use crate::wire::Body;
use crate::wire::constraint::{Constraints, at_least_long, at_most_long};
use crate::wire::fault::Fault;
use crate::wire::read::{Blob, Boolean, List, Structure, Text, decode};
use crate::wire::write::{Encode, Writer};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct PutRecordRequest<'a> {
    stream_name: Option<Text<'a>>,
    data: Option<Blob>,
    partition_key: Option<Text<'a>>,
    explicit_hash_key: Option<Text<'a>>,
    sequence_number_for_ordering: Option<Text<'a>>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
    dry_run: Option<Boolean>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct PutRecordsRequest<'a> {
    records: Option<List<Structure<PutRecordsEntry<'a>>>>,
    stream_name: Option<Text<'a>>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
    dry_run: Option<Boolean>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct PutRecordsEntry<'a> {
    data: Option<Blob>,
    explicit_hash_key: Option<Text<'a>>,
    partition_key: Option<Text<'a>>,
}

/// Where a record went.
#[derive(Debug)]
struct Place {
    shard_id: ShardId,
    sequence_number: SequenceNumber,
}

impl Place {
    fn encode_members(&self, writer: &mut Writer) {
        writer.key("ShardId");
        writer.plain(self.shard_id.as_str());
        writer.key("SequenceNumber");
        writer.plain(self.sequence_number.as_str());
    }
}

#[derive(Debug)]
struct PutRecordAnswer {
    place: Place,
    encrypted: bool,
}

impl Encode for PutRecordAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            self.place.encode_members(writer);
            encode_encryption(writer, self.encrypted);
        });
    }
}

#[derive(Debug)]
struct PutRecordsAnswer {
    entries: Vec<Placed>,
    encrypted: bool,
}

impl Encode for PutRecordsAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("FailedRecordCount");
            writer.integer(self.entries.iter().filter(|entry| entry.is_err()).count() as u64);
            writer.key("Records");
            writer.list(&self.entries, |writer, entry| match entry {
                Ok(place) => writer.structure(|writer| place.encode_members(writer)),
                Err(fault) => writer.structure(|writer| {
                    writer.key("ErrorCode");
                    writer.plain(&fault.code);
                    writer.key("ErrorMessage");
                    writer.text(fault.message.as_deref().unwrap_or_default());
                }),
            });
            encode_encryption(writer, self.encrypted);
        });
    }
}

/// `"EncryptionType":"KMS"`, or nothing: the service does not say `NONE`.
pub(super) fn encode_encryption(writer: &mut Writer, encrypted: bool) {
    if encrypted {
        writer.key("EncryptionType");
        writer.plain("KMS");
    }
}

/// A record that passed the model's constraints.
#[derive(Debug)]
struct Incoming {
    /// `None`: any shard will do.
    hash_key: Option<HashKey>,
    partition_key: Arc<str>,
    data: Bytes,
}

/// The version of sequence numbers at which the service itself fails. Source: kinesalite
/// `actions/putRecord.js`, whose suite ran against the service.
const UNREADABLE_VERSION: u8 = 3;

/// A record's place, or why it has none.
type Placed = Result<Place, Fault>;

/// Bytes that an answer of PutRecords takes per record. Source: a 56-digit number, a shard id and
/// their names.
const ANSWER_ENTRY_BYTES: usize = 136;

/// The most that it takes, of a record that its shard has no room for. Source: the code and text of that, with
/// a stream's name of 128 characters.
const ANSWER_ENTRY_MAX_BYTES: usize = 320;

impl Inner {
    pub(super) async fn put_record(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: PutRecordRequest<'_> = decode(body)?;
        check_put_record(&request)?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let distribution = cell.read().distribution;
        let key = request.partition_key.as_deref();
        let mut missing = Constraints::default();
        check_key_is_there(&mut missing, distribution, "partitionKey", key);
        missing.done()?;
        let hash_key = hash_key(distribution, key, request.explicit_hash_key.as_deref())?;
        let ordering = request.sequence_number_for_ordering.as_deref();
        self.check_ordering(ordering, distribution, &cell)?;
        let data = request.data.map(|data| data.0).unwrap_or_default();
        let partition_key = key.unwrap_or_default().into();
        let (placed, encrypted) = self
            .put(
                &cell,
                vec![Incoming {
                    hash_key,
                    partition_key,
                    data,
                }],
                request.dry_run,
                None,
            )
            .await?;
        match placed.into_iter().next() {
            Some(placed) => {
                let place = placed?;
                Ok(Reply::to(body, &PutRecordAnswer { place, encrypted }))
            }
            None => Err(Fault::internal("The record was not placed.")),
        }
    }

    pub(super) async fn put_records(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: PutRecordsRequest<'_> = decode(body)?;
        check_put_records(&request)?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let distribution = cell.read().distribution;
        check_keys_are_there(distribution, request.records.as_ref())?;
        let mut incoming = Vec::new();
        for Structure(entry) in request.records.unwrap_or_default().0 {
            incoming.push(Incoming {
                hash_key: hash_key(
                    distribution,
                    entry.partition_key.as_deref(),
                    entry.explicit_hash_key.as_deref(),
                )?,
                partition_key: entry.partition_key.as_deref().unwrap_or_default().into(),
                data: entry.data.map(|data| data.0).unwrap_or_default(),
            });
        }
        if incoming.iter().map(Incoming::size).sum::<usize>() > PUT_RECORDS_MAX_BYTES {
            return Err(Fault::invalid_argument("Records size exceeds 10 MB limit"));
        }
        let most = 64 + incoming.len() * ANSWER_ENTRY_MAX_BYTES;
        let share = body.share_ahead(most).await?;
        let (entries, encrypted) = self
            .put(&cell, incoming, request.dry_run, body.faults)
            .await?;
        let mut writer =
            Writer::with_capacity(body.format, 64 + entries.len() * ANSWER_ENTRY_BYTES);
        PutRecordsAnswer { entries, encrypted }.encode(&mut writer);
        Ok(Reply::Answer(writer.into_bytes()).with(share))
    }

    /// Places the records and waits until they are stored; whether they are encrypted.
    async fn put(
        &self,
        cell: &StreamCell,
        incoming: Vec<Incoming>,
        dry_run: Option<Boolean>,
        faults: Option<&EntryFaults>,
    ) -> Result<(Vec<Placed>, bool), Fault> {
        let bytes = incoming.iter().map(Incoming::size).sum();
        let room = self
            .log
            .admit(bytes)
            .await
            .map_err(|failure| unwritable(&failure))?;
        let (placed, encrypted, ticket) = self.place(cell, incoming, dry_run, faults, &room)?;
        self.scale_if_due(cell);
        if let Some(ticket) = ticket {
            ticket
                .stored()
                .await
                .map_err(|failure| unwritable(&failure))?;
        }
        Ok((placed, encrypted))
    }

    /// Gives every record its shard and number; the ticket tells when all are stored.
    fn place(
        &self,
        cell: &StreamCell,
        incoming: Vec<Incoming>,
        dry_run: Option<Boolean>,
        faults: Option<&EntryFaults>,
        room: &Room,
    ) -> Result<(Vec<Placed>, bool, Option<Ticket>), Fault> {
        let stream = cell.read();
        match stream.status(self.now_ms(), self.delays) {
            Status::Active | Status::Updating => {}
            Status::Creating | Status::Deleting | Status::Gone => {
                return Err(no_stream(&cell.name, &cell.place.account));
            }
        }
        for record in &incoming {
            check_size(record, stream.record_max_bytes as usize)?;
        }
        let key = stream
            .encryption
            .in_force(self.now_ms(), self.delays.update);
        check_writing(&self.kms, key)?;
        Fault::unless_dry_run(dry_run)?;
        let mut placed: Vec<(usize, Placed)> = Vec::with_capacity(incoming.len());
        let mut by_shard: Vec<(u32, usize, Incoming)> = Vec::with_capacity(incoming.len());
        for (at, record) in incoming.into_iter().enumerate() {
            let shard = match record.hash_key {
                Some(key) => stream.route(key),
                None => stream.next_in_turn(),
            };
            let identity = &shard.identity;
            let (name, account) = (&*cell.name, &*cell.place.account);
            let fault = |faults: &EntryFaults| faults.next(identity.id().as_str(), name, account);
            match faults.and_then(fault) {
                Some(fault) => placed.push((at, Err(fault))),
                None => by_shard.push((identity.index, at, record)),
            }
        }
        by_shard.sort_by_key(|(shard, at, _)| (*shard, *at));
        let mut last = None;
        let mut rest = by_shard.into_iter().peekable();
        while let Some((index, at, record)) = rest.next() {
            let mut group = vec![(at, record)];
            while let Some((_, at, record)) = rest.next_if(|(shard, _, _)| *shard == index) {
                group.push((at, record));
            }
            if let Some(shard) = stream.shard(index) {
                last = self
                    .append(cell, &stream, shard, group, &mut placed, room)
                    .or(last);
            }
        }
        placed.sort_by_key(|(at, _)| *at);
        let placed = placed.into_iter().map(|(_, placed)| placed).collect();
        Ok((placed, key.is_some(), last))
    }

    /// Appends the records of one shard, in their order.
    fn append(
        &self,
        cell: &StreamCell,
        stream: &Stream,
        shard: &Arc<Shard>,
        group: Vec<(usize, Incoming)>,
        placed: &mut Vec<(usize, Placed)>,
        room: &Room,
    ) -> Option<Ticket> {
        let (now_ms, now) = (self.now_ms(), self.clock.now());
        let shard_id = shard.identity.id();
        let key = stream.encryption.in_force(now_ms, self.delays.update);
        let mut numbered = Vec::with_capacity(group.len());
        let mut log = shard.log();
        log.trim(stream.horizon_ms(now_ms));
        for (at, record) in group {
            if !log
                .limits
                .take_write(self.quotas.as_deref(), record.size(), now)
            {
                placed.push((at, Err(rate_exceeded(&shard_id, cell))));
                continue;
            }
            let record = log.append(record.partition_key, record.data, key.clone(), now_ms);
            let sequence_number = shard
                .identity
                .sequence_number(record.counter, record.arrival_ms);
            placed.push((
                at,
                Ok(Place {
                    shard_id: shard_id.clone(),
                    sequence_number,
                }),
            ));
            numbered.push(record);
        }
        if numbered.is_empty() {
            return None;
        }
        let bytes = numbered.iter().map(Record::size).sum();
        stream.observe(shard.identity.index, bytes, numbered.len(), now_ms);
        if !self.log.is_durable() {
            log.publish_all();
            drop(log);
            shard.wake();
            return None;
        }
        // Submitted under the shard's lock: the log keeps the order of the numbers.
        let publish = (Arc::clone(shard), log.taken_end());
        let entry = Entry::Records {
            stream: cell.id,
            shard: shard.identity.index,
            key: key.clone(),
            records: numbered,
        };
        Some(self.log.submit(entry, Some(publish), room.clone()))
    }

    /// A number "for ordering" has to be one that the service could have given before now.
    fn check_ordering(
        &self,
        number: Option<&str>,
        distribution: Distribution,
        cell: &StreamCell,
    ) -> Result<(), Fault> {
        let Some(number) = number else { return Ok(()) };
        if distribution == Distribution::Auto {
            return Err(Fault::invalid_argument(
                "SequenceNumberForOrdering cannot be used on a stream with the record distribution \
                 strategy AUTO.",
            ));
        }
        let parsed = SequenceNumber::try_from(number).ok();
        let version = parsed.as_ref().and_then(SequenceNumber::stated_version);
        if version == Some(UNREADABLE_VERSION) {
            return Err(Fault::wordless());
        }
        let origin = parsed.and_then(|number| number.origin());
        let past = |written_s: u64| written_s * 1000 <= self.now_ms();
        if origin.is_some_and(|origin| origin.written_s.is_none_or(past)) {
            return Ok(());
        }
        Err(Fault::invalid_argument(format!(
            "ExclusiveMinimumSequenceNumber {number} used in PutRecord on stream {} under account \
             {} is invalid.",
            cell.name, cell.place.account
        )))
    }
}

pub(super) fn rate_exceeded(shard: &ShardId, cell: &StreamCell) -> Fault {
    let (stream, account) = (&cell.name, &cell.place.account);
    Fault::throttled(format!(
        "Rate exceeded for shard {shard} in stream {stream} under account {account}."
    ))
}

impl Incoming {
    /// What the service counts: data and key.
    fn size(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

fn check_put_record(request: &PutRecordRequest<'_>) -> Result<(), Fault> {
    let own = |constraints: &mut Constraints| {
        check_data(constraints, "data", request.data.as_ref());
        check_partition_key(
            constraints,
            "partitionKey",
            request.partition_key.as_deref(),
        );
        constraints.hash_key("explicitHashKey", request.explicit_hash_key.as_deref());
        constraints.sequence_number(
            "sequenceNumberForOrdering",
            request.sequence_number_for_ordering.as_deref(),
        );
    };
    let (name, arn) = (&request.stream_name, &request.stream_arn);
    Constraints::of_stream(name, own, arn, &request.stream_id)
}

fn check_put_records(request: &PutRecordsRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.present(request.records.is_some(), "records");
    let records = request
        .records
        .as_ref()
        .map_or(&[][..], |records| &records.0);
    if request.records.is_some() {
        let shown = Entries(records.len());
        constraints.check(!records.is_empty(), "records", &shown, at_least_long(1));
        let few = records.len() <= PUT_RECORDS_MAX_RECORDS;
        constraints.check(
            few,
            "records",
            &shown,
            at_most_long(PUT_RECORDS_MAX_RECORDS),
        );
    }
    for (at, Structure(entry)) in records.iter().enumerate() {
        let at = at + 1;
        check_data(
            &mut constraints,
            format_args!("records.{at}.member.data"),
            entry.data.as_ref(),
        );
        constraints.hash_key(
            format_args!("records.{at}.member.explicitHashKey"),
            entry.explicit_hash_key.as_deref(),
        );
        check_partition_key(
            &mut constraints,
            format_args!("records.{at}.member.partitionKey"),
            entry.partition_key.as_deref(),
        );
    }
    constraints.stream_name(request.stream_name.as_deref());
    constraints.stream_arn(request.stream_arn.as_deref());
    constraints.stream_id(request.stream_id.as_deref());
    constraints.done()
}

fn check_data(constraints: &mut Constraints, path: impl Display, data: Option<&Blob>) {
    constraints.present(data.is_some(), &path);
    if let Some(Blob(data)) = data {
        let fits = data.len() <= RECORD_MAX_BYTES_LARGEST;
        constraints.check(
            fits,
            path,
            Buffer(data.len()),
            at_most_long(RECORD_MAX_BYTES_LARGEST),
        );
    }
}

fn check_partition_key(constraints: &mut Constraints, path: impl Display, key: Option<&str>) {
    if let Some(key) = key {
        constraints.length(path, key, 1, PARTITION_KEY_MAX_CHARS);
    }
}

/// The model does not require a partition key since AUTO is there, but the default strategy does,
/// in the words that the model's constraint had.
fn check_key_is_there(
    constraints: &mut Constraints,
    distribution: Distribution,
    path: impl Display,
    key: Option<&str>,
) {
    match distribution {
        Distribution::UserPartitionKey => constraints.present(key.is_some(), path),
        Distribution::Auto => {}
    }
}

fn check_keys_are_there(
    distribution: Distribution,
    records: Option<&List<Structure<PutRecordsEntry<'_>>>>,
) -> Result<(), Fault> {
    let mut missing = Constraints::default();
    let records = records.map_or(&[][..], |records| &records.0);
    for (at, Structure(entry)) in records.iter().enumerate() {
        let path = format_args!("records.{}.member.partitionKey", at + 1);
        let key = entry.partition_key.as_deref();
        check_key_is_there(&mut missing, distribution, path, key);
    }
    missing.done()
}

/// The stream's own bound on a record, which lies at or below the model's.
fn check_size(record: &Incoming, max_bytes: usize) -> Result<(), Fault> {
    if record.size() <= max_bytes {
        return Ok(());
    }
    // Where only the key makes it too large, the data would have to be shorter by the key.
    let max_data = if record.data.len() > max_bytes {
        max_bytes
    } else {
        max_bytes - record.partition_key.len()
    };
    let mut constraints = Constraints::default();
    constraints.check(
        false,
        "data",
        Buffer(record.data.len()),
        at_most_long(max_data),
    );
    constraints.done()
}

/// The key that leads a record to its shard; `None`: it goes to any.
fn hash_key(
    distribution: Distribution,
    partition_key: Option<&str>,
    explicit: Option<&str>,
) -> Result<Option<HashKey>, Fault> {
    if distribution == Distribution::Auto {
        return Ok(None);
    }
    let Some(explicit) = explicit else {
        let key = HashKey::of_partition_key(partition_key.unwrap_or_default());
        return Ok(Some(key));
    };
    explicit.parse().map(Some).map_err(|_| {
        Fault::invalid_argument(format!(
            "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. \
             Specified value was {explicit}"
        ))
    })
}

/// How the service prints a blob.
struct Buffer(usize);

impl Display for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "java.nio.HeapByteBuffer[pos=0 lim={0} cap={0}]", self.0)
    }
}

/// How the service prints a list of entries.
struct Entries(usize);

impl Display for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ENTRY: &str = "com.amazonaws.kinesis.v20131202.PutRecordsRequestEntry@c965e310";
        f.write_str("[")?;
        for at in 0..self.0 {
            write!(f, "{}{ENTRY}", if at == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}
