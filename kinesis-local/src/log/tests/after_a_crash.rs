//! What the disk and the memory hold after a start, and what the bytes of users cannot do to it.

use std::io::Write as _;

use super::*;
use crate::disk;

const HOUR_MS: u64 = 3_600_000;

fn append_at(log: &Log, cell: &StreamCell, shard: u32, data: &[u8], at_ms: u64) -> Ticket {
    let shard = Arc::clone(cell.read().shard(shard).unwrap());
    let mut records = shard.log();
    let record = records.append("key".into(), Bytes::copy_from_slice(data), None, at_ms);
    let entry = Entry::Records {
        stream: cell.id,
        shard: shard.identity.index,
        key: None,
        records: vec![record],
    };
    let publish = (Arc::clone(&shard), records.taken_end());
    log.submit(entry, Some(publish), None)
}

fn kept(cell: &StreamCell, shard: u32) -> usize {
    let stream = cell.read();
    stream.shard(shard).unwrap().log().len()
}

#[tokio::test]
async fn what_is_read_at_a_start_and_its_name_are_synced_before_anyone_sees_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    // A new log, and one whose writer may have been killed between write and sync.
    let both = [path, dir.path().to_owned()];
    assert_eq!(disk::synced_by(|| drop(open(dir.path()))), both);
    let (log, _) = open(dir.path());
    create(&log, "orders", 1).await;
    assert_eq!(disk::synced_by(|| drop(open(dir.path()))), both);
}

#[tokio::test]
async fn a_record_keeps_no_more_of_a_shared_frame_than_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let cell = create(&log, "orders", 2).await;
    let tickets: Vec<Ticket> = {
        let _hold = log.file.as_ref().unwrap().writer.lock().unwrap();
        (0..10)
            .map(|at| append(&log, &cell, at % 2, "a record"))
            .collect()
    };
    for ticket in tickets {
        ticket.stored().await.unwrap();
    }
    let (_, streams) = open(dir.path());
    let orders = streams["orders"].read();
    let mut batches = Vec::new();
    for shard in orders.shards() {
        batches.push(all(shard));
        shard.log().forget_all();
    }
    let records = batches.iter().flat_map(|batch| &batch.records);
    assert_eq!(records.clone().count(), 10);
    for record in records {
        assert!(record.data.is_unique(), "{record:?} shares its memory");
    }
}

#[tokio::test]
async fn a_start_gives_up_what_is_expired_or_deleted_while_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let cell = create(&log, "orders", 2).await;
    let gone = StreamCell::new(&NewStreamNamed("gone").into(), &home());
    let new = Entry::CreateStream(NewStreamNamed("gone").into());
    log.submit(new, None, None).stored().await.unwrap();
    for (cell, shard, at_ms) in [
        (&*cell, 0, NOW_MS - 30 * HOUR_MS),
        (&cell, 1, NOW_MS - 30 * HOUR_MS),
        (&gone, 0, NOW_MS - HOUR_MS),
        (&cell, 0, NOW_MS),
    ] {
        let ticket = append_at(&log, cell, shard, b"data", at_ms);
        ticket.stored().await.unwrap();
    }
    let delete = Entry::DeleteStream {
        stream: gone.id,
        at_ms: NOW_MS,
    };
    log.submit(delete, None, None).stored().await.unwrap();
    let (_, streams) = open(dir.path());
    assert_eq!(kept(&streams["orders"], 0), 1);
    assert_eq!(kept(&streams["orders"], 1), 0);
    assert_eq!(kept(&streams["gone"], 0), 0);
    // A clock that is set right after it ran ahead gives nothing up that is readable by it.
    let earlier = NOW_MS - 20 * HOUR_MS;
    let (_, held) = Log::open(Some(dir.path()), &home(), earlier).unwrap();
    assert_eq!(held.latest_ms, NOW_MS);
    let streams = named(held.streams);
    assert_eq!(kept(&streams["orders"], 0), 2);
    assert_eq!(kept(&streams["orders"], 1), 1);
}

#[tokio::test]
async fn a_torn_write_of_the_bytes_of_another_log_is_cut_off_as_any_other() {
    let other = tempfile::tempdir().unwrap();
    small_log(other.path()).await;
    let other = std::fs::read(other.path().join(FILE_NAME)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let (log, _) = open(dir.path());
    let cell = create(&log, "orders", 1).await;
    append(&log, &cell, 0, "kept").stored().await.unwrap();
    let ticket = append_at(&log, &cell, 0, &other, NOW_MS);
    ticket.stored().await.unwrap();
    drop(log);
    let whole = std::fs::read(&path).unwrap();
    let mut wrong_end = whole.clone();
    *wrong_end.last_mut().unwrap() ^= 1;
    for torn in [&whole[..whole.len() - 1], &wrong_end] {
        std::fs::write(&path, torn).unwrap();
        let (_, streams) = open(dir.path());
        assert_eq!(texts(&streams["orders"], 0), ["kept"]);
    }
}

#[tokio::test]
async fn a_torn_head_before_the_bytes_of_another_log_is_refused_and_the_file_left_as_it_is() {
    let other = tempfile::tempdir().unwrap();
    small_log(other.path()).await;
    let other = std::fs::read(other.path().join(FILE_NAME)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let (log, _) = open(dir.path());
    let cell = create(&log, "orders", 1).await;
    append(&log, &cell, 0, "kept").stored().await.unwrap();
    let before = std::fs::read(&path).unwrap().len();
    let ticket = append_at(&log, &cell, 0, &other, NOW_MS);
    ticket.stored().await.unwrap();
    drop(log);
    let mut torn = std::fs::read(&path).unwrap();
    torn[before] ^= 1;
    std::fs::write(&path, &torn).unwrap();
    let refused = Log::open(Some(dir.path()), &home(), NOW_MS).unwrap_err();
    assert_eq!(refused.kind(), crate::error::ErrorKind::Corrupt);
    assert_eq!(std::fs::read(&path).unwrap(), torn);
}

#[tokio::test]
async fn a_write_that_found_no_space_is_refused_and_cut_off_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let (log, _) = open(dir.path());
    let cell = create(&log, "orders", 1).await;
    append(&log, &cell, 0, "kept").stored().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    append(&log, &cell, 0, "half").stored().await.unwrap();
    let half = std::fs::read(&path).unwrap();
    let half = &half[before.len()..(before.len() + half.len()) / 2];
    std::fs::write(&path, &before).unwrap();
    // The disk takes half of the frame and then nothing.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    log.file.as_ref().unwrap().writer.lock().unwrap().file = full.unwrap();
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    file.write_all(half).unwrap();
    let failure = append(&log, &cell, 0, "lost").stored().await.unwrap_err();
    assert!(failure.to_string().contains("No space left"), "{failure}");
    assert!(append(&log, &cell, 0, "later").stored().await.is_err());
    // Space was made.
    let (log, streams) = open(dir.path());
    let cell = &streams["orders"];
    assert_eq!(texts(cell, 0), ["kept"]);
    append(&log, cell, 0, "next").stored().await.unwrap();
    let (_, streams) = open(dir.path());
    assert_eq!(texts(&streams["orders"], 0), ["kept", "next"]);
}
