//! A producer whose ListShards is refused, while PutRecords works or does not.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn everything_is_resolved_and_nothing_is_lost_whatever_list_shards_says(
        seed: u64, faults in 0u64..80
    ) {
        let mut world = World::new(seed, small(true), 1 + (seed % 4) as u32);
        world.list_faults = &[
            Class::Unavailable, Class::NotFound, Class::AccessDenied, Class::Client,
            Class::Rejected, Class::Encryption,
        ];
        world.faults = faults;
        for _ in 0..400 {
            world.step();
        }
        world.settle();
        world.check_outcomes(|error| error.kind() != ErrorKind::Undelivered);
    }
}

/// A record that was sent without a map, because none came in time.
fn sent_unmapped() -> World {
    let mut world = World::new(5, Settings::default(), 2);
    world.faults = 100;
    world.accept(false);
    world.pump();
    while world.requests.is_empty() {
        world.load_map();
        world.now = world
            .pipeline
            .next_wake(world.now)
            .expect("the map or the end of the wait");
        world.pump();
    }
    world
}

#[test]
fn a_record_in_flight_when_the_walk_fails_for_good_is_not_left_waiting() {
    let mut world = sent_unmapped();
    while !std::mem::take(&mut world.loading) {
        world.now = world.pipeline.next_wake(world.now).expect("another walk");
        world.pump();
    }
    let denied = Cause::new("ListShards", Class::AccessDenied, "AccessDeniedException");
    world.pipeline.map_loaded(Err(denied), world.now);
    let (flight, ..) = world.requests.swap_remove(0);
    let down = Cause::new("PutRecords", Class::Unavailable, "Test");
    world.pipeline.completed(flight, Err(down), world.now);
    world.settle();
    world.check_outcomes(|_| false);
}

#[test]
fn a_producer_that_ends_does_not_wait_for_a_map_that_fails() {
    let mut world = World::new(5, Settings::default(), 2);
    world.accept(false);
    world.pump();
    world.faults = 100;
    world.load_map();
    world.pump();
    assert!(world.requests.is_empty(), "the map may still come");
    world.pipeline.drain();
    world.pump();
    assert_eq!(world.requests.len(), 1);
    world.settle();
    world.check_outcomes(|_| false);
}

#[test]
fn what_landed_elsewhere_is_not_judged_by_a_walk_that_began_before_it_was_sent() {
    let mut world = ready(Settings::default(), 1);
    // The map has grown old: a walk begins beside this record.
    world.now += Duration::from_secs(80);
    world.accept(false);
    world.pump();
    assert!(std::mem::take(&mut world.loading));
    let before = ShardMap::new(world.shards.iter().cloned());
    world.now += Duration::from_millis(1);
    for _ in 0..50 {
        world.accept(false);
    }
    world.answer(0);
    world.pump();
    assert_eq!(world.requests[0].1.len(), 1, "one aggregate");
    let halves = HashKeyRange::FULL.split_even(2).into_iter().zip(1..);
    world.shards = halves.map(|(range, index)| shard(index, range)).collect();
    world.answer(0);
    assert_eq!(world.pipeline.undecided.len(), 1);
    world.pipeline.map_loaded(Ok(before), world.now);
    assert_eq!(world.pipeline.undecided.len(), 1, "no wiser than before");
    world.settle();
    world.check_outcomes(|_| false);
    let stored = world.log.len();
    assert!(stored < 10, "{stored} Kinesis records: again as aggregates");
}
