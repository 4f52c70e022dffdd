use std::time::Duration;

use kinesis_core::{Clock, Deaggregated, deaggregate};
use proptest::prelude::*;

use super::*;
use crate::pipeline::intake::Room;
use crate::pipeline::outcome::Slots;

fn entry(id: u64, key: &str, data: usize, at: Instant) -> Entry {
    let room = Arc::new(Room::new("stream".into(), 1000, 1 << 30));
    let record = UserRecord::new(key, vec![b'd'; data]);
    let (mut entry, _outcome) = Entry::new(record, &Slots::new(room), at);
    entry.id = id;
    entry
}

fn limits(count: usize, bytes: usize, envelope: EnvelopeKey) -> AggregateLimits {
    AggregateLimits {
        count,
        envelope,
        bytes,
    }
}

fn data(record: &mut KinesisRecord) -> Vec<u8> {
    let mut sealed = Data::seal_each(vec![record.take_data()]);
    sealed.pop().expect("one")
}

fn now() -> Instant {
    Clock::system().now()
}

fn ids(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.id).collect()
}

#[test]
fn a_single_record_is_sent_raw_with_its_own_key() {
    let mut queue = Queue::new(limits(10, 1000, EnvelopeKey::Constant));
    queue.push_back(entry(0, "key", 5, now()));
    assert_eq!(queue.next_size(), 8);
    let mut record = queue.cut(None).expect("one record");
    assert_eq!(
        (&*record.partition_key, record.explicit_hash_key),
        ("key", None)
    );
    assert_eq!(data(&mut record), vec![b'd'; 5]);
}

#[test]
fn an_aggregate_carries_the_envelope_of_the_kpl() {
    let mut queue = Queue::new(limits(10, 1000, EnvelopeKey::Constant));
    for id in 0..3 {
        queue.push_back(entry(id, &format!("key{id}"), 5, now()));
    }
    let mut record = queue
        .cut(Some("shardId-000000000000".into()))
        .expect("one record");
    assert_eq!(&*record.partition_key, "a");
    assert_eq!(
        record.explicit_hash_key,
        Some(HashKey::of_partition_key("key0"))
    );
    let data = data(&mut record);
    assert_eq!(data.len(), record.data_len);
    assert_eq!(data.capacity(), data.len(), "the SDK takes it as it is");
    let Deaggregated::Members(members) = deaggregate(&data.into()) else {
        panic!("an aggregate")
    };
    assert_eq!(members.len(), 3);
    assert!(record.members.iter().all(|member| member.attempts == 1));
}

#[test]
fn what_goes_once_more_as_it_is_has_the_same_bytes() {
    let mut queue = Queue::new(limits(3, 1000, EnvelopeKey::Constant));
    for id in 0..4 {
        let mut entry = entry(id, &format!("key{}", id % 2), 5, now());
        entry.record.explicit_hash_key = (id == 1).then_some(HashKey(7));
        queue.push_back(entry);
    }
    for members in [3, 1] {
        let mut record = queue.cut(None).expect("a record");
        assert_eq!(record.members.len(), members);
        let first = data(&mut record);
        assert_eq!(data(&mut record), first);
    }
}

#[test]
fn a_record_as_large_as_an_aggregate_goes_by_itself_in_its_turn() {
    let mut queue = Queue::new(limits(10, 100, EnvelopeKey::Constant));
    for (id, data) in [5, 99, 5, 5].into_iter().enumerate() {
        queue.push_back(entry(id as u64, "k", data, now()));
    }
    let cuts: Vec<_> = std::iter::from_fn(|| queue.cut(None)).collect();
    let cuts: Vec<_> = cuts.iter().map(|cut| ids(&cut.members)).collect();
    assert_eq!(cuts, [vec![0], vec![1], vec![2, 3]]);
}

#[test]
fn what_is_put_back_stands_before_what_is_younger() {
    let mut queue = Queue::new(limits(2, 1000, EnvelopeKey::Constant));
    for id in 0..6 {
        queue.push_back(entry(id, "k", 1, now()));
    }
    let first = queue.cut(None).expect("0 and 1");
    let second = queue.cut(None).expect("2 and 3");
    queue.put_back(second.members);
    queue.put_back(first.members);
    assert_eq!(ids(&queue.drain()), [0, 1, 2, 3, 4, 5]);
    assert!(queue.is_empty() && !queue.is_full());
}

#[test]
fn only_what_is_old_expires_and_the_rest_keeps_its_order() {
    let start = now();
    let mut queue = Queue::new(limits(2, 1000, EnvelopeKey::Constant));
    for id in 0..5 {
        queue.push_back(entry(id, "k", 1, start + Duration::from_secs(id)));
    }
    assert!(queue.expire(start - Duration::from_secs(1)).is_empty());
    assert_eq!(
        ids(&queue.expire(start + Duration::from_secs(2))),
        [0, 1, 2]
    );
    assert_eq!(ids(&queue.drain()), [3, 4]);
}

proptest! {
    #[test]
    fn every_record_leaves_once_in_order_and_no_aggregate_is_over_its_limits(
        sizes in prop::collection::vec((0usize..4, 0usize..300), 1..120),
        count in 1usize..20,
        bytes in 64usize..500,
        cut_every in 1usize..30,
        put_back: bool,
        envelope in prop::sample::select(vec![
            EnvelopeKey::Constant,
            EnvelopeKey::FirstMember,
            EnvelopeKey::Common,
        ]),
    ) {
        let mut queue = Queue::new(limits(count, bytes, envelope));
        let mut cuts = Vec::new();
        for (id, (key, data)) in sizes.iter().enumerate() {
            queue.push_back(entry(id as u64, &"k".repeat(key + 1), *data, now()));
            if id % cut_every == 0 {
                let cut = queue.cut(None);
                match cut {
                    Some(record) if put_back && id % 3 == 0 => queue.put_back(record.members),
                    cut => cuts.extend(cut),
                }
            }
        }
        loop {
            let expected = queue.next_size();
            let Some(record) = queue.cut(None) else { break };
            prop_assert_eq!(record.size(), expected);
            cuts.push(record);
        }
        prop_assert!(queue.is_empty());
        for record in &cuts {
            prop_assert!(record.members.len() <= count);
            prop_assert!(record.members.len() == 1 || record.size() <= bytes);
            let keys: Vec<_> = record.members.iter().map(|m| &m.record.partition_key).collect();
            match envelope {
                EnvelopeKey::Constant if keys.len() > 1 => {
                    prop_assert_eq!(&*record.partition_key, "a");
                }
                EnvelopeKey::Constant | EnvelopeKey::FirstMember => {
                    prop_assert!(keys.len() > 1 && envelope == EnvelopeKey::Constant
                        || record.partition_key == *keys[0]);
                }
                EnvelopeKey::Common => {
                    prop_assert!(keys.iter().all(|key| **key == record.partition_key));
                }
            }
        }
        let left = cuts.iter().flat_map(|record| &record.members);
        let mut left: Vec<_> = left.map(|m| (m.record.partition_key.len(), m.id)).collect();
        prop_assert_eq!(left.len(), sizes.len());
        if envelope != EnvelopeKey::Common {
            prop_assert!(left.is_sorted_by_key(|(_, id)| *id));
        }
        // Of each key, in order; a stable sort keeps the order of what left.
        left.sort_by_key(|(key, _)| *key);
        prop_assert!(left.is_sorted(), "{left:?}");
    }
}

#[test]
fn records_of_one_key_find_each_other_among_others() {
    let mut queue = Queue::new(limits(10, 1000, EnvelopeKey::Common));
    for (id, key) in ["a", "b", "a", "c", "b", "a"].into_iter().enumerate() {
        queue.push_back(entry(id as u64, key, 1, now()));
    }
    let mut cuts = Vec::new();
    while !queue.is_empty() {
        let key = queue.next_hash_key();
        let record = queue.cut(None).expect("not empty");
        assert_eq!(key, Some(record.members[0].hash_key));
        cuts.push((record.partition_key.to_string(), ids(&record.members)));
    }
    let expected = [("a", vec![0, 2, 5]), ("b", vec![1, 4]), ("c", vec![3])];
    assert_eq!(cuts, expected.map(|(key, ids)| (key.to_owned(), ids)));
}

#[test]
fn a_record_does_not_overtake_one_of_its_hash_key_under_another_partition_key() {
    let explicit = |id, key: &str, hash_key| {
        let mut entry = entry(id, key, 5, now());
        entry.record.explicit_hash_key = Some(HashKey(hash_key));
        entry.hash_key = HashKey(hash_key);
        entry
    };
    for refilled in [false, true] {
        let mut queue = Queue::new(limits(10, 1000, EnvelopeKey::Common));
        let entries = [
            explicit(0, "x", 1),
            explicit(1, "y", 7),
            explicit(2, "x", 2),
            explicit(3, "x", 7),
            explicit(4, "y", 7),
        ];
        if refilled {
            queue.put_back(entries.into());
        } else {
            entries.into_iter().for_each(|entry| queue.push_back(entry));
        }
        let mut cut = Vec::new();
        while let Some(record) = queue.cut(None) {
            cut.push(ids(&record.members));
        }
        let order: Vec<_> = cut.iter().flatten().copied().collect();
        let place = |id| order.iter().position(|at| *at == id);
        assert!(place(1) < place(3) && place(3) < place(4), "{cut:?}");
        assert_eq!(cut[0], [0, 2], "what has no order with it may");
    }
}

#[test]
fn a_record_that_was_refused_in_an_aggregate_has_less_company() {
    let mut queue = Queue::new(limits(100, 100_000, EnvelopeKey::Constant));
    let mut entries: Vec<_> = (0..10).map(|id| entry(id, "key", 5, now())).collect();
    entries
        .iter_mut()
        .take(5)
        .for_each(|entry| entry.company = 3);
    queue.put_back(entries);
    queue.push_back(entry(10, "key", 5, now()));
    let cuts = std::iter::from_fn(|| queue.cut(None).map(|record| record.members.len()));
    assert_eq!(cuts.collect::<Vec<_>>(), [3, 3, 5]);
}

#[test]
fn what_is_put_back_in_front_leaves_a_long_backlog_where_it_is() {
    let mut queue = Queue::new(limits(3, 10_000, EnvelopeKey::Constant));
    let count = 9_000;
    for id in 0..count {
        queue.push_back(entry(id, "k", 1, now()));
    }
    let first = queue.cut(None).expect("three").members;
    let room = queue.rest.capacity();
    queue.put_back(first);
    // Made anew, it would have room for what there is.
    assert_eq!(queue.rest.capacity(), room);
    assert_eq!(ids(&queue.drain()), (0..count).collect::<Vec<_>>());
}
