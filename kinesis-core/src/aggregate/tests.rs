//! The format held against published vectors, and against prost as an independent protobuf.

use bytes::Bytes;
use md5::{Digest, Md5};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::{HashKey, UserRecord};

/// The aggregate as a protobuf library sees it: the oracle.
mod oracle {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct AggregatedRecord {
        #[prost(string, repeated, tag = "1")]
        pub(super) partition_key_table: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub(super) explicit_hash_key_table: Vec<String>,
        #[prost(message, repeated, tag = "3")]
        pub(super) records: Vec<Record>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Record {
        #[prost(uint64, required, tag = "1")]
        pub(super) partition_key_index: u64,
        #[prost(uint64, optional, tag = "2")]
        pub(super) explicit_hash_key_index: Option<u64>,
        #[prost(bytes = "vec", required, tag = "3")]
        pub(super) data: Vec<u8>,
        #[prost(message, repeated, tag = "4")]
        pub(super) tags: Vec<Tag>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Tag {
        #[prost(string, required, tag = "1")]
        pub(super) key: String,
        #[prost(string, optional, tag = "2")]
        pub(super) value: Option<String>,
    }
}

fn record(key: &str, hash_key: Option<u128>, data: &[u8]) -> UserRecord {
    let record = UserRecord::new(key, data.to_vec());
    match hash_key {
        Some(hash_key) => record.with_explicit_hash_key(HashKey(hash_key)),
        None => record,
    }
}

fn aggregate(records: &[UserRecord]) -> Aggregate {
    let mut aggregate = Aggregate::new();
    for record in records {
        aggregate.push(record.clone());
    }
    aggregate
}

fn frame(protobuf: &[u8]) -> Bytes {
    [&MAGIC[..], protobuf, &Md5::digest(protobuf)[..]]
        .concat()
        .into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn members(data: &Bytes) -> Vec<UserRecord> {
    match deaggregate(data) {
        Deaggregated::Members(members) => members,
        other => panic!("not taken apart whole: {other:?}"),
    }
}

#[test]
fn the_published_vectors_are_written_byte_for_byte_and_read_back() {
    let vectors: [(&[UserRecord], &str); 3] = [
        (
            &[record("a", None, b"x"), record("a", None, b"y")],
            "f3899ac20a01611a0508001a01781a0508001a01794ce17b1ac841e7ccc082e6c0e097f7f6",
        ),
        (
            &[record("a", Some(123), b"x"), record("b", None, b"")],
            "f3899ac20a01610a016212033132331a07080010001a01781a0408011a00087a01ec7f1b414f44a03edbc13\
             ca6d6",
        ),
        (
            &[record("ключ", None, b"x"), record("a", None, b"y")],
            "f3899ac20a08d0bad0bbd18ed1870a01611a0508001a01781a0508011a01798b4bfc31801b49431c9a600b\
             f333db0b",
        ),
    ];
    for (records, expected) in vectors {
        let encoded = aggregate(records).encode();
        assert_eq!(hex(&encoded), expected);
        assert_eq!(members(&encoded), records);
    }
}

#[test]
fn an_index_beyond_127_takes_two_bytes() {
    let records: Vec<_> = (0..130)
        .map(|n| record(&format!("k{n}"), None, b"d"))
        .collect();
    let encoded = aggregate(&records).encode();
    assert_eq!(encoded.len(), 1602);
    let digest = sha2::Sha256::digest(&encoded);
    assert_eq!(
        hex(&digest),
        "15f65a00840129439b5c17df089f6539198c6ebf4acf26546c9afb2771de8b48"
    );
    assert_eq!(members(&encoded), records);
}

#[test]
fn what_the_real_kpl_wrote_is_read_and_written_again_byte_for_byte() {
    let captured = [
        (
            &include_bytes!("../../fixtures/aggregates/kpl-with-hash-keys.bin")[..],
            4,
            true,
        ),
        (
            &include_bytes!("../../fixtures/aggregates/kpl-without-hash-keys.bin")[..],
            8,
            false,
        ),
    ];
    for (bytes, count, hash_keys) in captured {
        let members = members(&Bytes::from_static(bytes));
        assert_eq!(members.len(), count);
        assert!(
            members
                .iter()
                .all(|member| member.explicit_hash_key.is_some() == hash_keys)
        );
        assert_eq!(aggregate(&members).encode(), bytes);
    }
}

#[test]
fn of_the_members_that_were_given_to_the_real_kpl_its_bytes_are_made() {
    let captured = [
        (
            &include_bytes!("../../fixtures/aggregates/kpl-1.0.7-flights.bin")[..],
            include_str!("../../fixtures/aggregates/kpl-1.0.7-flights.members"),
        ),
        (
            &include_bytes!("../../fixtures/aggregates/kpl-1.0.7-mixed.bin")[..],
            include_str!("../../fixtures/aggregates/kpl-1.0.7-mixed.members"),
        ),
    ];
    for (bytes, listed) in captured {
        let records: Vec<_> = listed
            .lines()
            .map(|line| {
                let [key, hash_key, data] = line.split('\t').collect::<Vec<_>>()[..] else {
                    panic!("three fields, not {line:?}");
                };
                let hash_key = (!hash_key.is_empty()).then(|| hash_key.parse().expect("decimal"));
                record(key, hash_key, data.as_bytes())
            })
            .collect();
        assert_eq!(aggregate(&records).encode(), bytes);
        assert_eq!(members(&Bytes::from_static(bytes)), records);
    }
}

#[test]
fn an_empty_aggregate_has_the_size_of_its_frame() {
    let empty = Aggregate::new();
    assert_eq!(
        (empty.encoded_len(), empty.encode().len(), empty.len()),
        (20, 20, 0)
    );
}

#[test]
fn members_are_slices_of_the_input_not_copies() {
    let encoded = aggregate(&[record("a", None, &[7; 1000])]).encode();
    let data = &members(&encoded)[0].data;
    assert!(encoded.as_ptr_range().contains(&data.as_ptr()));
}

#[test]
fn what_is_no_aggregate_is_raw_with_the_reason() {
    let good = aggregate(&[record("a", None, b"x"), record("b", None, b"y")]).encode();
    let mut flipped = good.to_vec();
    flipped[10] ^= 1;
    let raw = |data: Bytes| match deaggregate(&data) {
        Deaggregated::Raw(reason) => reason,
        other => panic!("taken apart: {other:?}"),
    };
    assert_eq!(raw(Bytes::new()), RawReason::NotAggregated);
    assert_eq!(
        raw(Bytes::from_static(b"{\"delay\":1}")),
        RawReason::NotAggregated
    );
    assert_eq!(
        raw(good.slice(..20)),
        RawReason::NotAggregated,
        "nothing but a frame"
    );
    assert_eq!(raw(flipped.into()), RawReason::Checksum);
    assert_eq!(raw(good.slice(..good.len() - 1)), RawReason::Checksum);
    let malformed = [
        (&b"\x0a\x05a"[..], "a field is cut short"),
        (b"\x08\x01", "a field has another type"),
        (b"\x0b", "a field's wire type is unknown"),
        (b"\x02\x00", "a field has number 0"),
        (
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "a number is cut short or too long",
        ),
        (b"\x0a\x01\xff", "a key is not UTF-8"),
        (b"\x12\x01x", "an explicit hash key is no number"),
        (
            b"\x0a\x01a\x1a\x02\x1a\x00",
            "a record has no partition key index",
        ),
        (b"\x0a\x01a\x1a\x02\x08\x00", "a record has no data"),
        (
            b"\x0a\x01a\x1a\x04\x08\x01\x1a\x00",
            "an index has no entry",
        ),
        (
            b"\x0a\x01a\x1a\x06\x08\x00\x10\x00\x1a\x00",
            "an index has no entry",
        ),
        (
            b"\x0a\x01a\x1a\x04\x08\x00\x18\x00",
            "a record's field has another type",
        ),
    ];
    for (protobuf, reason) in malformed {
        assert_eq!(
            raw(frame(protobuf)),
            RawReason::Malformed(reason),
            "{protobuf:?}"
        );
    }
}

#[test]
fn a_member_that_cannot_be_read_costs_itself_alone() {
    // "a" has data "x"; the second names a key that is not in the table, the third has no data.
    let protobuf = b"\x0a\x01a\x1a\x05\x08\x00\x1a\x01x\x1a\x04\x08\x07\x1a\x00\x1a\x02\x08\x00\x1a\x05\x08\x00\x1a\x01y";
    let expected = Deaggregated::Damaged {
        members: vec![
            Some(UserRecord::new("a", "x")),
            None,
            None,
            Some(UserRecord::new("a", "y")),
        ],
        reason: "an index has no entry",
    };
    assert_eq!(deaggregate(&frame(protobuf)), expected);
}

#[test]
fn what_a_newer_writer_may_add_is_read_over() {
    // Records before tables, an unknown varint, fixed32, fixed64 and text, a tag, an index of
    // padded length, a table entry nobody uses.
    let record = b"\x1a\x01x\x08\x80\x00\x22\x03\x0a\x01t\x28\x07";
    let mut protobuf = vec![0x1a, record.len() as u8];
    protobuf.extend_from_slice(record);
    protobuf
        .extend_from_slice(b"\x0a\x01a\x0a\x01b\x20\x01\x2d\0\0\0\0\x31\0\0\0\0\0\0\0\0\x3a\x01z");
    assert_eq!(members(&frame(&protobuf)), [UserRecord::new("a", "x")]);
}

fn any_record() -> impl Strategy<Value = UserRecord> {
    // Few distinct keys so that tables are shared, many sizes around the varint's edges.
    let key = prop_oneof![
        "[a-d]{1,2}",
        prop::sample::select(vec!["x".repeat(127), "x".repeat(128), "ключ".to_owned()]),
    ];
    let hash_key = prop::option::of(prop_oneof![0u128..300, any::<u128>(), Just(u128::MAX)]);
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        (120usize..136).prop_map(|len| vec![1; len]),
        (16_370usize..16_390).prop_map(|len| vec![2; len]),
    ];
    (key, hash_key, data).prop_map(|(key, hash_key, data)| record(&key, hash_key, &data))
}

#[test]
fn members_are_counted_without_being_taken_apart() {
    assert_eq!(members_at_most(b"plain"), 1);
    assert_eq!(members_at_most(b""), 1);
    let mut aggregate = Aggregate::new();
    // Cut at every byte, each opened: few members, of lengths that take one byte and two.
    for number in (0..300).step_by(6) {
        aggregate.push(UserRecord::new(format!("key-{number}"), vec![7; number]));
    }
    let encoded = aggregate.encode();
    assert_eq!(members_at_most(&encoded), 50);
    for cut in 0..encoded.len() {
        let opened = match deaggregate(&encoded.slice(..cut)) {
            Deaggregated::Raw(_) => 1,
            Deaggregated::Members(members) => members.len(),
            Deaggregated::Damaged { members, .. } => members.len(),
        };
        assert!(members_at_most(&encoded[..cut]) >= opened);
    }
}

proptest! {
    #[test]
    fn the_predicted_size_is_the_encoded_length(
        records in prop::collection::vec(any_record(), 0..300)
    ) {
        let mut aggregate = Aggregate::new();
        for record in records {
            let predicted = aggregate.size_with(&record);
            aggregate.push(record);
            prop_assert_eq!(aggregate.encoded_len(), predicted);
        }
        prop_assert_eq!(aggregate.encode().len(), aggregate.encoded_len());
    }

    #[test]
    fn what_is_written_is_what_a_protobuf_library_writes_and_reads(
        records in prop::collection::vec(any_record(), 1..150)
    ) {
        let encoded = aggregate(&records).encode();
        let protobuf = &encoded[MAGIC.len()..encoded.len() - CHECKSUM_BYTES];
        let decoded = oracle::AggregatedRecord::decode(protobuf).expect("a protobuf");
        prop_assert_eq!(decoded.encode_to_vec(), protobuf);
        let read: Vec<_> = decoded.records.iter().map(|member| {
            let key = &decoded.partition_key_table[member.partition_key_index as usize];
            let hash_key = member.explicit_hash_key_index
                .map(|index| decoded.explicit_hash_key_table[index as usize].parse::<u128>().expect("decimal"));
            record(key, hash_key, &member.data)
        }).collect();
        prop_assert_eq!(&read, &records);
        prop_assert_eq!(members(&encoded), records);
    }

    #[test]
    fn what_a_protobuf_library_writes_is_read(
        keys in prop::collection::vec("[a-z]{0,5}", 1..20),
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<Vec<u8>>()), 1..50),
    ) {
        let message = oracle::AggregatedRecord {
            explicit_hash_key_table: vec!["00123".to_owned()],
            records: picks.iter().map(|(key, tagged, data)| oracle::Record {
                partition_key_index: key.index(keys.len()) as u64,
                explicit_hash_key_index: tagged.then_some(0),
                data: data.clone(),
                tags: tagged
                    .then(|| oracle::Tag { key: "t".to_owned(), value: None })
                    .into_iter()
                    .collect(),
            }).collect(),
            partition_key_table: keys.clone(),
        };
        let expected: Vec<_> = picks.iter().map(|(key, tagged, data)| {
            record(&keys[key.index(keys.len())], tagged.then_some(123), data)
        }).collect();
        prop_assert_eq!(members(&frame(&message.encode_to_vec())), expected);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(protobuf: Vec<u8>, data: Vec<u8>) {
        let _ = (deaggregate(&frame(&protobuf)), deaggregate(&data.into()));
    }

    #[test]
    fn a_damaged_byte_is_always_noticed(
        records in prop::collection::vec(any_record(), 1..5), at: prop::sample::Index, bit in 0u8..8,
    ) {
        let mut encoded = aggregate(&records).encode().to_vec();
        let at = at.index(encoded.len());
        encoded[at] ^= 1 << bit;
        prop_assert!(matches!(deaggregate(&encoded.into()), Deaggregated::Raw(_)));
    }
}
