//! Reading, seeking, visibility and retention of one shard.

use super::*;

const NOW_MS: u64 = 1_795_399_200_000;

fn shard() -> Shard {
    let identity = Identity {
        index: 17,
        range: HashKeyRange::FULL,
        parent: None,
        adjacent_parent: None,
        created_ms: NOW_MS,
        created_s: NOW_MS / 1000,
    };
    Shard::open(identity, Arc::default())
}

/// A shard with `count` readable records, one a second.
fn shard_with(count: u64) -> Shard {
    let shard = shard();
    for at in 0..count {
        shard.log().append(
            "key".into(),
            Bytes::from(format!("{at}")),
            None,
            NOW_MS + at * 1000,
        );
    }
    shard.log().publish_all();
    shard
}

fn texts(batch: &Batch) -> Vec<&str> {
    batch
        .records
        .iter()
        .map(|record| std::str::from_utf8(&record.data).unwrap())
        .collect()
}

fn read(shard: &Shard, from: u64) -> Batch {
    shard.log().read(from, 100, 1000, NOW_MS + 60_000)
}

#[test]
fn a_record_is_readable_only_once_it_is_published() {
    let shard = shard();
    shard
        .log()
        .append("key".into(), Bytes::from("a"), None, NOW_MS);
    shard
        .log()
        .append("key".into(), Bytes::from("b"), None, NOW_MS);
    let start = shard.log().seek(Start::TrimHorizon);
    assert!(read(&shard, start).records.is_empty());
    assert_eq!(shard.log().seek(Start::Latest), start);
    shard.publish(2);
    assert_eq!(texts(&read(&shard, start)), ["a"]);
    shard.publish(3);
    assert_eq!(texts(&read(&shard, start)), ["a", "b"]);
}

#[test]
fn a_read_goes_on_where_the_last_one_ended() {
    let shard = shard_with(5);
    let first = shard.log().read(0, 2, 1000, NOW_MS + 10_000);
    assert_eq!(texts(&first), ["0", "1"]);
    assert_eq!(first.behind_ms, 8000);
    let second = shard.log().read(first.next, 100, 1000, NOW_MS + 10_000);
    assert_eq!(texts(&second), ["2", "3", "4"]);
    assert_eq!(second.behind_ms, 0);
    assert!(read(&shard, second.next).records.is_empty());
    shard
        .log()
        .append("key".into(), Bytes::from("5"), None, NOW_MS);
    shard.log().publish_all();
    assert_eq!(texts(&read(&shard, second.next)), ["5"]);
}

#[test]
fn a_read_is_bounded_in_bytes_but_gives_at_least_one_record() {
    let shard = shard_with(5); // each of 4 bytes with its key
    assert_eq!(shard.log().read(0, 100, 8, NOW_MS).records.len(), 2);
    assert_eq!(shard.log().read(0, 100, 1, NOW_MS).records.len(), 1);
}

#[test]
fn a_closed_shard_ends_only_after_its_last_record() {
    let shard = shard_with(2);
    shard.close(NOW_MS + 5000);
    let first = shard.log().read(0, 1, 1000, NOW_MS);
    assert!(!first.ended);
    assert!(read(&shard, first.next).ended);
    assert!(read(&shard, u64::MAX).ended);
}

#[test]
fn a_closed_shard_does_not_end_before_its_last_record_is_stored() {
    let shard = shard_with(1);
    shard
        .log()
        .append("key".into(), Bytes::from("late"), None, NOW_MS);
    shard.close(NOW_MS);
    assert!(!read(&shard, 2).ended);
    shard.publish(3);
    assert_eq!(texts(&read(&shard, 2)), ["late"]);
}

#[test]
fn positions_are_found_by_time_and_by_number() {
    let shard = shard_with(5); // counters 1 to 5
    let second = NOW_MS / 1000;
    let seek = |start| shard.log().seek(start);
    assert_eq!(seek(Start::Timestamp(NOW_MS + 1500)), 3);
    assert_eq!(seek(Start::Timestamp(NOW_MS + 9000)), 6);
    assert_eq!(seek(Start::Timestamp(0)), 1);
    assert_eq!(seek(Start::At(2, second + 1)), 2);
    assert_eq!(seek(Start::After(2, second + 1)), 3);
    assert_eq!(seek(Start::At(0, second)), 1);
    assert_eq!(seek(Start::Latest), 6);
    assert_eq!(seek(Start::After(5, second + 4)), 6);
}

#[test]
fn a_continuation_number_lies_between_its_record_and_the_next() {
    let shard = shard_with(3);
    // The number of record 2, but of a later second, as an idle subscription gives it.
    let later_s = NOW_MS / 1000 + 500;
    assert_eq!(shard.log().seek(Start::After(2, later_s)), 3);
    assert_eq!(shard.log().seek(Start::At(2, later_s)), 3);
}

#[test]
fn a_number_ahead_of_the_tip_is_waited_for() {
    let shard = shard_with(3);
    assert_eq!(shard.log().seek(Start::At(10, 0)), 10);
    assert_eq!(
        shard
            .log()
            .seek(Start::After(SequenceParts::COUNTER_MAX, 0)),
        1 << 63
    );
}

#[test]
fn arrival_times_never_go_back() {
    let shard = shard();
    let first = shard.log().append("key".into(), Bytes::new(), None, NOW_MS);
    let second = shard
        .log()
        .append("key".into(), Bytes::new(), None, NOW_MS - 1000);
    assert_eq!(second.arrival_ms, first.arrival_ms);
    assert!(second.counter > first.counter);
}

#[test]
fn expired_records_are_forgotten_and_readers_go_on_behind_them() {
    let shard = shard_with(5);
    shard.log().trim(NOW_MS + 2500);
    assert_eq!(shard.log().len(), 2);
    assert_eq!(shard.log().seek(Start::TrimHorizon), 4);
    assert_eq!(texts(&read(&shard, 1)), ["3", "4"]);
    shard.log().trim(u64::MAX);
    assert_eq!(shard.log().seek(Start::TrimHorizon), 6);
}

#[test]
fn numbers_carry_shard_creation_counter_and_second() {
    let shard = shard();
    let parts = shard
        .identity
        .sequence_number(7, NOW_MS + 999)
        .parts()
        .unwrap();
    assert_eq!((parts.shard_index, parts.counter), (17, 7));
    assert_eq!(
        (parts.shard_created_s, parts.written_s),
        (NOW_MS / 1000, NOW_MS / 1000)
    );
    let starting = shard.identity.starting_sequence_number();
    let ending = shard.identity.ending_sequence_number(NOW_MS);
    assert!(starting < shard.identity.sequence_number(1, NOW_MS));
    assert!(
        ending
            > shard
                .identity
                .sequence_number(SequenceParts::COUNTER_MAX - 1, u64::MAX >> 20)
    );
}

#[test]
fn a_recovered_shard_goes_on_above_its_last_number() {
    let shard = shard();
    let record = |counter| Record {
        counter,
        arrival_ms: NOW_MS,
        partition_key: "key".into(),
        data: Bytes::new(),
        key: None,
    };
    assert!(shard.log().restore(record(4)));
    assert!(
        !shard.log().restore(record(4)),
        "a number is not given twice"
    );
    assert!(!shard.log().restore(record(3)));
    assert!(shard.log().restore(record(9)));
    assert_eq!(
        shard
            .log()
            .append("key".into(), Bytes::new(), None, NOW_MS)
            .counter,
        10
    );
}

#[tokio::test]
async fn who_watches_before_reading_misses_nothing() {
    let shard = shard();
    let mut changes = shard.watch();
    changes.mark_unchanged();
    shard.log().append("key".into(), Bytes::new(), None, NOW_MS);
    shard.publish(2);
    changes.changed().await.unwrap();
    shard.close(NOW_MS);
    changes.changed().await.unwrap();
}
