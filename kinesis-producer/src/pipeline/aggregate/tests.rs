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

fn now() -> Instant {
    Clock::system().now()
}

fn ids(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.id).collect()
}

#[test]
fn a_single_record_is_sent_raw_with_its_own_key() {
    let mut queue = Queue::new(AggregateLimits {
        count: 10,
        bytes: 1000,
    });
    queue.push_back(entry(0, "key", 5, now()));
    assert_eq!(queue.next_size(), 8);
    let record = queue.cut(None).expect("one record");
    assert_eq!(
        (&*record.partition_key, record.explicit_hash_key),
        ("key", None)
    );
    assert_eq!(record.data, vec![b'd'; 5]);
}

#[test]
fn an_aggregate_carries_the_envelope_of_the_kpl() {
    let mut queue = Queue::new(AggregateLimits {
        count: 10,
        bytes: 1000,
    });
    for id in 0..3 {
        queue.push_back(entry(id, &format!("key{id}"), 5, now()));
    }
    let record = queue
        .cut(Some("shardId-000000000000".into()))
        .expect("one record");
    assert_eq!(&*record.partition_key, "a");
    assert_eq!(
        record.explicit_hash_key,
        Some(HashKey::of_partition_key("key0"))
    );
    let Deaggregated::Members(members) = deaggregate(&record.data) else {
        panic!("an aggregate")
    };
    assert_eq!(members.len(), 3);
    assert!(record.members.iter().all(|member| member.attempts == 1));
}

#[test]
fn a_record_as_large_as_an_aggregate_goes_by_itself_in_its_turn() {
    let mut queue = Queue::new(AggregateLimits {
        count: 10,
        bytes: 100,
    });
    for (id, data) in [5, 99, 5, 5].into_iter().enumerate() {
        queue.push_back(entry(id as u64, "k", data, now()));
    }
    let cuts: Vec<_> = std::iter::from_fn(|| queue.cut(None)).collect();
    let cuts: Vec<_> = cuts.iter().map(|cut| ids(&cut.members)).collect();
    assert_eq!(cuts, [vec![0], vec![1], vec![2, 3]]);
}

#[test]
fn what_is_put_back_stands_before_what_is_younger() {
    let mut queue = Queue::new(AggregateLimits {
        count: 2,
        bytes: 1000,
    });
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
    let mut queue = Queue::new(AggregateLimits {
        count: 2,
        bytes: 1000,
    });
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
    ) {
        let mut queue = Queue::new(AggregateLimits { count, bytes });
        let mut cuts = Vec::new();
        for (id, (key, data)) in sizes.iter().enumerate() {
            queue.push_back(entry(id as u64, &"k".repeat(key + 1), *data, now()));
            if id % cut_every == 0 {
                cuts.extend(queue.cut(None));
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
        }
        let left: Vec<u64> = cuts.iter().flat_map(|record| ids(&record.members)).collect();
        prop_assert_eq!(left, (0..sizes.len() as u64).collect::<Vec<_>>());
    }
}
