//! What comes back after a crash, at any byte.

use std::sync::Arc;

use bytes::Bytes;
use kinesis_core::HashKey;
use proptest::prelude::*;

use super::*;
use crate::catalog::{StreamCell, Streams};
use crate::error::ErrorKind;
use crate::stream::shard::{Batch, Record};
use crate::stream::tests::new_stream;

mod after_a_crash;

const NOW_MS: u64 = 1_795_399_200_000;

fn home() -> Arc<Place> {
    Arc::new(Place::new("000000000000", "us-east-1"))
}

fn named(streams: Vec<Arc<StreamCell>>) -> Streams {
    let named = streams.into_iter();
    named.map(|cell| (Arc::clone(&cell.name), cell)).collect()
}

fn open(dir: &Path) -> (Log, Streams) {
    let (log, held) = Log::open(Some(dir), &home(), NOW_MS).unwrap();
    (log, named(held.streams))
}

fn all(shard: &Shard) -> Batch {
    shard.log().read(0, usize::MAX, usize::MAX, NOW_MS)
}

async fn create(log: &Log, name: &str, shards: u32) -> Arc<StreamCell> {
    let new = new_stream(name, shards);
    let cell = Arc::new(StreamCell::new(&new, &home()));
    log.submit(Entry::CreateStream(new), None, None)
        .stored()
        .await
        .unwrap();
    cell
}

fn append(log: &Log, cell: &StreamCell, shard: u32, data: &str) -> Ticket {
    let shard = Arc::clone(cell.read().shard(shard).unwrap());
    let mut records = shard.log();
    let record = records.append("key".into(), Bytes::from(data.to_owned()), None, NOW_MS);
    let publish = (Arc::clone(&shard), records.taken_end());
    let index = shard.identity.index;
    let entry = Entry::Records {
        stream: cell.id,
        shard: index,
        key: None,
        records: vec![record],
    };
    log.submit(entry, Some(publish), None)
}

fn texts(cell: &StreamCell, shard: u32) -> Vec<String> {
    let shard = Arc::clone(cell.read().shard(shard).unwrap());
    let text = |record: &Record| String::from_utf8(record.data.to_vec()).unwrap();
    all(&shard).records.iter().map(text).collect()
}

/// A log with one frame per change, and how many changes each length of the file holds.
async fn small_log(dir: &Path) -> Vec<u64> {
    let path = dir.join(FILE_NAME);
    let length = || std::fs::metadata(&path).unwrap().len();
    let (log, _) = open(dir);
    let mut ends = vec![length()];
    let cell = create(&log, "orders", 1).await;
    ends.push(length());
    for data in ["a", "", "ccc"] {
        append(&log, &cell, 0, data).stored().await.unwrap();
        ends.push(length());
    }
    let split = Entry::Split {
        stream: cell.id,
        shard: 0,
        key: HashKey(1 << 127),
        at_ms: NOW_MS,
    };
    log.submit(split, None, None).stored().await.unwrap();
    ends.push(length());
    ends
}

/// The changes that are there: the stream, its records, its split.
fn changes(streams: &Streams) -> usize {
    streams.get("orders").map_or(0, |cell| {
        let (records, shards) = (texts(cell, 0), cell.read().shards().len());
        assert_eq!(records, ["a", "", "ccc"][..records.len()]);
        1 + records.len() + usize::from(shards == 3)
    })
}

#[tokio::test]
async fn a_log_cut_at_any_byte_gives_back_every_change_before_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let ends = small_log(dir.path()).await;
    let whole = std::fs::read(dir.path().join(FILE_NAME)).unwrap();
    for cut in 0..=whole.len() {
        let torn = tempfile::tempdir().unwrap();
        std::fs::write(torn.path().join(FILE_NAME), &whole[..cut]).unwrap();
        let (log, streams) = open(torn.path());
        let expected = ends
            .iter()
            .filter(|&&end| end <= cut as u64)
            .count()
            .saturating_sub(1);
        assert_eq!(changes(&streams), expected, "cut at {cut}");
        // The next change is kept behind the cut.
        log.submit(
            Entry::CreateStream(NewStreamNamed("next").into()),
            None,
            None,
        )
        .stored()
        .await
        .unwrap();
        assert!(open(torn.path()).1.contains_key("next"), "cut at {cut}");
    }
}

struct NewStreamNamed(&'static str);

impl From<NewStreamNamed> for crate::stream::NewStream {
    fn from(named: NewStreamNamed) -> Self {
        Self {
            id: 77,
            ..new_stream(named.0, 1)
        }
    }
}

#[tokio::test]
async fn a_changed_byte_is_an_error_that_names_the_file_and_the_offset() {
    let dir = tempfile::tempdir().unwrap();
    let ends = small_log(dir.path()).await;
    let path = dir.path().join(FILE_NAME);
    let whole = std::fs::read(&path).unwrap();
    let last_frame = ends[ends.len() - 2] as usize;
    for at in 0..last_frame {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        std::fs::write(&path, &changed).unwrap();
        let error = Log::open(Some(dir.path()), &home(), NOW_MS).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}");
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        if at >= frame::FILE_HEAD.len() {
            let frame = ends.iter().rfind(|&&end| end <= at as u64).unwrap();
            assert!(
                text.contains(&format!("offset {frame} ")),
                "byte {at}: {text}"
            );
        }
        assert_eq!(
            std::fs::read(&path).unwrap(),
            changed,
            "the file is left as it is"
        );
    }
}

#[tokio::test]
async fn after_an_orderly_end_a_changed_byte_of_the_last_write_is_noticed_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let (log, _) = open(dir.path());
    create(&log, "orders", 1).await;
    log.close().await;
    log.close().await;
    let mut bytes = std::fs::read(&path).unwrap();
    assert_eq!(changes(&open(dir.path()).1), 1);
    bytes[40] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(
        Log::open(Some(dir.path()), &home(), NOW_MS)
            .unwrap_err()
            .kind(),
        ErrorKind::Corrupt
    );
}

#[tokio::test]
async fn a_file_of_something_else_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    for foreign in [
        &b"something else"[..],
        b"something else entirely, and longer",
    ] {
        std::fs::write(&path, foreign).unwrap();
        let error = Log::open(Some(dir.path()), &home(), NOW_MS).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(std::fs::read(&path).unwrap(), foreign);
    }
}

#[tokio::test]
async fn records_are_readable_only_once_they_are_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let cell = create(&log, "orders", 1).await;
    let hold = log.file.as_ref().unwrap().writer.lock().unwrap();
    let ticket = append(&log, &cell, 0, "a");
    assert!(texts(&cell, 0).is_empty());
    drop(hold);
    ticket.stored().await.unwrap();
    assert_eq!(texts(&cell, 0), ["a"]);
}

#[tokio::test]
async fn concurrent_changes_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let cell = create(&log, "orders", 1).await;
    let before = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
    let tickets: Vec<Ticket> = {
        let _hold = log.file.as_ref().unwrap().writer.lock().unwrap();
        (0..100)
            .map(|at| append(&log, &cell, 0, &format!("{at}")))
            .collect()
    };
    for ticket in tickets {
        ticket.stored().await.unwrap();
    }
    let bytes = std::fs::read(dir.path().join(FILE_NAME)).unwrap();
    let frames = bytes[before as usize..]
        .windows(4)
        .filter(|bytes| bytes == b"KLF\x01")
        .count();
    assert_eq!(frames, 1);
    assert_eq!(
        texts(open(dir.path()).1.get("orders").unwrap(), 0).len(),
        100
    );
}

impl Log {
    /// From now on nothing can be written: a file that is only read stands for a disk that fails.
    pub(crate) fn lose_disk(&self, dir: &Path) {
        let file = File::open(dir.join(FILE_NAME)).unwrap();
        self.file.as_ref().unwrap().writer.lock().unwrap().file = file;
    }
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_acknowledged_or_readable_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let cell = create(&log, "orders", 1).await;
    append(&log, &cell, 0, "kept").stored().await.unwrap();
    log.lose_disk(dir.path());
    let failure = append(&log, &cell, 0, "lost").stored().await.unwrap_err();
    assert!(failure.to_string().contains("changes.log"), "{failure}");
    assert!(append(&log, &cell, 0, "later").stored().await.is_err());
    assert!(log.check().is_err());
    assert!(log.admit(1).await.is_err());
    assert_eq!(texts(&cell, 0), ["kept"]);
    assert_eq!(
        texts(open(dir.path()).1.get("orders").unwrap(), 0),
        ["kept"]
    );
}

#[tokio::test]
async fn an_abandoned_log_writes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let cell = create(&log, "orders", 1).await;
    append(&log, &cell, 0, "kept").stored().await.unwrap();
    log.abandon();
    assert!(append(&log, &cell, 0, "late").stored().await.is_err());
    log.close().await;
    assert_eq!(
        texts(open(dir.path()).1.get("orders").unwrap(), 0),
        ["kept"]
    );
}

#[tokio::test]
async fn a_sealed_log_writes_what_nobody_waits_for_and_nothing_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let (log, _) = open(dir.path());
    let cell = create(&log, "orders", 1).await;
    for at in 0..100 {
        drop(append(&log, &cell, 0, &format!("{at}")));
    }
    log.seal().await;
    let sealed = std::fs::read(&path).unwrap();
    assert!(append(&log, &cell, 0, "late").stored().await.is_err());
    log.close().await;
    log.seal().await;
    assert_eq!(std::fs::read(&path).unwrap(), sealed);
    let stored = texts(open(dir.path()).1.get("orders").unwrap(), 0);
    assert_eq!(stored.len(), 100);
}

#[tokio::test]
async fn a_change_of_streams_that_failed_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    create(&log, "orders", 1).await;
    assert!(log.settled().await.is_ok());
    let path = dir.path().join(FILE_NAME);
    log.file.as_ref().unwrap().writer.lock().unwrap().file = File::open(&path).unwrap();
    let delete = Entry::DeleteStream {
        stream: 1,
        at_ms: NOW_MS,
    };
    assert!(log.submit(delete, None, None).stored().await.is_err());
    assert!(log.settled().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_stands_while_the_log_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let cell = create(&log, "orders", 1).await;
    let writing = async {
        for at in 0..20 {
            append(&log, &cell, 0, &format!("{at}"))
                .stored()
                .await
                .unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_millis(1), writing)
        .await
        .unwrap();
}

#[tokio::test]
async fn every_kind_of_change_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let cell = create(&log, "orders", 2).await;
    let tags = [("k".to_owned(), "v".to_owned())].into();
    let name = || "fan-out".to_owned();
    for entry in [
        Entry::RegisterConsumer {
            stream: cell.id,
            name: name(),
            at_ms: NOW_MS,
            tags,
        },
        Entry::DeregisterConsumer {
            stream: cell.id,
            name: name(),
            at_ms: NOW_MS,
        },
        Entry::RegisterConsumer {
            stream: cell.id,
            name: name(),
            at_ms: 5,
            tags: [].into(),
        },
        Entry::Merge {
            stream: cell.id,
            shard: 0,
            adjacent: 1,
            at_ms: NOW_MS,
        },
        Entry::CreateStream(NewStreamNamed("other").into()),
        Entry::DeleteStream {
            stream: 77,
            at_ms: 9,
        },
    ] {
        log.submit(entry, None, None).stored().await.unwrap();
    }
    let (_, held) = Log::open(Some(dir.path()), &home(), NOW_MS).unwrap();
    assert_eq!(held.last_stream_id, 77);
    let streams = named(held.streams);
    assert_eq!(streams["other"].read().life.deleted_ms, Some(9));
    let stream = streams["orders"].read();
    assert_eq!(stream.consumers["fan-out"].life.created_ms, 5);
    assert_eq!(stream.shards().len(), 3);
    assert_eq!(stream.open_count(), 1);
}

fn any_record() -> impl Strategy<Value = Record> {
    (
        any::<u64>(),
        any::<u64>(),
        ".{1,20}",
        prop::collection::vec(any::<u8>(), 0..50),
    )
        .prop_map(|(counter, arrival_ms, key, data)| Record {
            counter,
            arrival_ms,
            partition_key: key.into(),
            data: data.into(),
            key: None,
        })
}

proptest! {
    #[test]
    fn records_decode_to_what_was_encoded(
        mut records in prop::collection::vec(any_record(), 0..5),
        key in prop::option::of("alias/[a-z]{1,9}"),
    ) {
        let key: Option<Arc<str>> = key.map(Into::into);
        for record in &mut records {
            record.key = key.clone();
        }
        let entry = Entry::Records { stream: 3, shard: 9, key, records };
        let mut encoded = Vec::new();
        entry.encode(&mut encoded);
        let mut bytes = Bytes::from(encoded.clone());
        let decoded = Entry::decode(&mut bytes).unwrap();
        prop_assert!(bytes.is_empty());
        prop_assert_eq!(format!("{decoded:?}"), format!("{entry:?}"));
        for cut in 0..encoded.len() {
            prop_assert!(Entry::decode(&mut Bytes::from(encoded[..cut].to_vec())).is_err());
        }
    }

    #[test]
    fn rubbish_is_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() && Entry::decode(&mut bytes).is_ok() {}
    }
}

/// `fixtures/v1.log`: two streams, one of them deleted; "orders" has three records, a split at
/// half and a merge of the children, and the consumer "fan-out"; closed in order.
const VERSION_1: &[u8] = include_bytes!("fixtures/v1.log");

#[tokio::test]
async fn a_log_of_version_1_is_read_by_every_later_version() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE_NAME), VERSION_1).unwrap();
    let (_, held) = Log::open(Some(dir.path()), &home(), NOW_MS).unwrap();
    assert_eq!(held.last_stream_id, 77);
    let streams = named(held.streams);
    assert!(streams["other"].read().life.deleted_ms.is_some());
    let orders = &streams["orders"];
    assert_eq!(texts(orders, 0), ["a", "", "ccc"]);
    let stream = orders.read();
    assert_eq!(stream.shards().len(), 4);
    assert_eq!(stream.open_count(), 1);
    assert_eq!(stream.consumers["fan-out"].life.created_ms, NOW_MS);
}

#[tokio::test]
async fn the_fixture_is_what_this_version_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let cell = create(&log, "orders", 1).await;
    for data in ["a", "", "ccc"] {
        append(&log, &cell, 0, data).stored().await.unwrap();
    }
    let (stream, at_ms) = (cell.id, NOW_MS);
    for entry in [
        Entry::Split {
            stream,
            shard: 0,
            key: HashKey(1 << 127),
            at_ms,
        },
        Entry::Merge {
            stream,
            shard: 1,
            adjacent: 2,
            at_ms,
        },
        Entry::RegisterConsumer {
            stream,
            name: "fan-out".into(),
            at_ms,
            tags: [].into(),
        },
        Entry::CreateStream(NewStreamNamed("other").into()),
        Entry::DeleteStream { stream: 77, at_ms },
    ] {
        log.submit(entry, None, None).stored().await.unwrap();
    }
    log.close().await;
    let written = std::fs::read(dir.path().join(FILE_NAME)).unwrap();
    assert_eq!(written, VERSION_1);
}
