//! Opening, resuming and filtering.

use kinesis_core::{Aggregate, HashKey, UserRecord};
use proptest::prelude::*;

use md5::Digest;

use super::*;

fn sequence(number: u64) -> SequenceNumber {
    number.to_string().parse().expect("digits")
}

fn stream_record(number: u64, data: impl Into<Bytes>) -> StreamRecord {
    StreamRecord {
        sequence_number: sequence(number),
        partition_key: "outer".into(),
        data: data.into(),
        approximate_arrival_millis: Some(number),
    }
}

fn aggregate(members: impl IntoIterator<Item = UserRecord>) -> Bytes {
    let mut aggregate = Aggregate::new();
    for member in members {
        aggregate.push(member);
    }
    aggregate.encode()
}

fn numbered(count: u64) -> Bytes {
    aggregate((0..count).map(|index| UserRecord::new(format!("key-{index}"), index.to_string())))
}

fn positions(unpacked: &Unpacked) -> Vec<(String, u64)> {
    let position = |record: &Record| (record.sequence_number.to_string(), record.sub_sequence);
    unpacked.records.iter().map(position).collect()
}

#[test]
fn plain_records_and_members_come_out_in_order_with_their_positions() {
    let mut unpacker = Unpacker::new(&Position::TrimHorizon, None);
    let unpacked = unpacker.unpack(vec![
        stream_record(1, "plain"),
        stream_record(2, numbered(3)),
    ]);
    let expected =
        [("1", 0), ("2", 0), ("2", 1), ("2", 2)].map(|(number, sub)| (number.to_owned(), sub));
    assert_eq!(positions(&unpacked), expected);
    assert_eq!(&*unpacked.records[0].partition_key, "outer");
    assert_eq!(&*unpacked.records[3].partition_key, "key-2");
    assert!(!unpacked.records[0].aggregated && unpacked.records[1].aggregated);
    assert!(unpacked.bytes > 4 * size_of::<Record>());
}

#[test]
fn what_an_answer_takes_opened_is_known_before_it_is_opened() {
    let mut broken = numbered(40).to_vec();
    broken[30] ^= 1;
    let answer = vec![
        stream_record(1, "plain"),
        stream_record(2, numbered(5_000)),
        stream_record(3, broken.clone()),
    ];
    let came: usize = answer.iter().map(|record| record.data.len() + 5).sum();
    let opened = opened_bytes(&answer);
    let broken = 39 * size_of::<Record>();
    let around = 3 * STREAM_RECORD_BYTES + 5_002 * size_of::<Record>();
    assert_eq!(opened, came + around + broken);
    assert!(opened > 6 * came, "members are small");
    let unpacked = Unpacker::new(&Position::TrimHorizon, None).unpack(answer.clone());
    assert_eq!(unpacked.bytes, opened - broken, "it is delivered as it is");
    let mut resumed = Unpacker::new(&Position::at(sequence(2), 4_000), None);
    let rest = resumed.unpack(answer);
    assert_eq!(rest.records.len(), 1_000);
    let gone = 4_001 * size_of::<Record>() + 5 + 5 + STREAM_RECORD_BYTES + size_of::<Record>();
    assert_eq!(
        rest.bytes,
        unpacked.bytes - gone,
        "the whole aggregate stays"
    );
}

#[test]
fn a_checkpoint_in_the_middle_of_an_aggregate_resumes_with_the_next_member() {
    let mut unpacker = Unpacker::new(&Position::at(sequence(2), 1), None);
    let unpacked = unpacker.unpack(vec![
        stream_record(2, numbered(4)),
        stream_record(3, "plain"),
    ]);
    let expected = [("2", 2), ("2", 3), ("3", 0)].map(|(number, sub)| (number.to_owned(), sub));
    assert_eq!(positions(&unpacked), expected);
    assert_eq!(unpacked.gap_before, None);
}

#[test]
fn a_checkpointed_plain_record_is_not_delivered_again() {
    let mut unpacker = Unpacker::new(&Position::at(sequence(2), 0), None);
    let unpacked = unpacker.unpack(vec![stream_record(2, "done")]);
    assert!(unpacked.records.is_empty());
    let unpacked = unpacker.unpack(vec![stream_record(3, "new")]);
    assert_eq!(positions(&unpacked), [("3".to_owned(), 0)]);
    assert_eq!(
        unpacked.gap_before, None,
        "the checkpointed record was there"
    );
}

#[test]
fn a_trimmed_checkpoint_is_reported_with_the_first_record_after_the_gap() {
    let mut unpacker = Unpacker::new(&Position::at(sequence(2), 0), None);
    assert_eq!(unpacker.unpack(Vec::new()).gap_before, None);
    assert_eq!(unpacker.unseen_checkpoint(), Some(&sequence(2)));
    let unpacked = unpacker.unpack(vec![stream_record(7, "oldest kept")]);
    assert_eq!(unpacked.gap_before, Some(sequence(7)));
    assert_eq!(positions(&unpacked), [("7".to_owned(), 0)]);
    assert_eq!(
        unpacker.unpack(vec![stream_record(8, "next")]).gap_before,
        None
    );
}

#[test]
fn a_broken_aggregate_is_delivered_as_it_is_and_counted() {
    let whole = numbered(3);
    let mut broken = whole.to_vec();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let mut unpacker = Unpacker::new(&Position::TrimHorizon, None);
    let unpacked = unpacker.unpack(vec![stream_record(1, broken.clone())]);
    assert_eq!(unpacked.corrupt, 1);
    assert!(unpacked.corrupt_reason.is_some());
    assert_eq!(unpacked.records.len(), 1);
    assert_eq!(unpacked.records[0].data, broken);
    assert!(!unpacked.records[0].aggregated);
}

#[test]
fn a_member_that_cannot_be_read_is_dropped_and_counted_and_the_others_keep_their_places() {
    // The second of three names a key that is not in the aggregate's table.
    let protobuf =
        b"\x0a\x01a\x1a\x05\x08\x00\x1a\x01x\x1a\x04\x08\x07\x1a\x00\x1a\x05\x08\x00\x1a\x01y";
    let mut damaged = b"\xf3\x89\x9a\xc2".to_vec();
    damaged.extend_from_slice(protobuf);
    damaged.extend_from_slice(&md5::Md5::digest(protobuf));
    let mut unpacker = Unpacker::new(&Position::TrimHorizon, None);
    let unpacked = unpacker.unpack(vec![stream_record(1, damaged.clone())]);
    let expected = [("1".to_owned(), 0), ("1".to_owned(), 2)];
    assert_eq!(positions(&unpacked), expected);
    assert_eq!((unpacked.corrupt_members, unpacked.corrupt), (1, 0));
    assert_eq!(unpacked.corrupt_reason, Some("an index has no entry"));

    let mut resumed = Unpacker::new(&Position::at(sequence(1), 1), None);
    let unpacked = resumed.unpack(vec![stream_record(1, damaged)]);
    assert_eq!(positions(&unpacked), [("1".to_owned(), 2)]);
    assert_eq!(unpacked.corrupt_members, 0, "counted before the checkpoint");
}

#[test]
fn members_of_another_shard_are_dropped_and_counted_and_the_rest_stays() {
    let half = HashKeyRange::FULL.split_even(2);
    let member = |data: &'static str, key| UserRecord::new("key", data).with_explicit_hash_key(key);
    let data = aggregate([
        member("mine", half[0].start()),
        member("foreign", half[1].start()),
        member("mine too", half[0].end()),
    ]);
    let mut unpacker = Unpacker::new(&Position::TrimHorizon, Some(half[0]));
    let mut unpacked = unpacker.unpack(vec![stream_record(1, data.clone())]);
    let span = HashKeyRange::new(half[0].start(), half[1].start()).expect("a range");
    assert_eq!(unpacked.records.len(), 3);
    assert_eq!(unpacked.foreign, [Foreign { at: 1, span }]);
    let whole = unpacked.bytes;
    assert_eq!(unpacked.drop_foreign(|member| member.span == span), 1);
    assert_eq!(
        positions(&unpacked),
        [("1".to_owned(), 0), ("1".to_owned(), 2)]
    );
    // Its payload is a part of the aggregate's.
    assert_eq!(whole - unpacked.bytes, size_of::<Record>());
    let unpacked = Unpacker::new(&Position::TrimHorizon, None).unpack(vec![stream_record(1, data)]);
    assert_eq!(
        (unpacked.records.len(), unpacked.foreign.len()),
        (3, 0),
        "without a range nothing is dropped"
    );
}

#[test]
fn a_plain_record_is_never_taken_for_another_shards() {
    let nothing = HashKeyRange::new(HashKey(0), HashKey(0));
    let mut unpacker = Unpacker::new(&Position::TrimHorizon, nothing);
    assert_eq!(
        unpacker
            .unpack(vec![stream_record(1, "plain")])
            .records
            .len(),
        1
    );
}

proptest! {
    /// From any checkpoint, in answers of any size: exactly the records behind it, in order.
    #[test]
    fn resuming_delivers_exactly_what_lies_behind_the_checkpoint(
        counts in prop::collection::vec(0_u64..5, 1..20),
        checkpoint in (0_usize..20, 0_u64..6),
        answer_size in 1_usize..6,
    ) {
        let all: Vec<StreamRecord> = counts
            .iter()
            .zip(10..)
            .map(|(&members, number)| match members {
                0 => stream_record(number, "plain"),
                members => stream_record(number, numbered(members)),
            })
            .collect();
        let everything = positions(&Unpacker::new(&Position::TrimHorizon, None).unpack(all.clone()));
        let number = 10 + (checkpoint.0 % counts.len()) as u64;
        let start = Position::at(sequence(number), checkpoint.1);
        let mut unpacker = Unpacker::new(&start, None);
        // The service starts at the checkpointed sequence number.
        let from: Vec<_> = all.into_iter().filter(|record| record.sequence_number >= sequence(number)).collect();
        let mut resumed = Vec::new();
        for answer in from.chunks(answer_size) {
            let unpacked = unpacker.unpack(answer.to_vec());
            prop_assert_eq!(unpacked.gap_before.clone(), None);
            resumed.extend(positions(&unpacked));
        }
        let expected: Vec<_> = everything
            .into_iter()
            .filter(|(at, sub)| Position::at(at.parse().expect("digits"), *sub) > start)
            .collect();
        prop_assert_eq!(resumed, expected);
    }
}
