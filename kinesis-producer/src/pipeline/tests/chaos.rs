//! Whatever the service does: nothing is lost, doubled where it must not be, or out of order.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn nothing_is_lost_or_reordered_whatever_the_service_does(seed: u64, faults in 0u64..40) {
        let mut world = World::new(seed, small(true), 1 + (seed % 4) as u32);
        world.faults = faults;
        for _ in 0..400 {
            world.step();
        }
        world.settle();
        world.check_outcomes(|error| error.kind() == ErrorKind::Rejected
            && error.record().is_some_and(|record| record.data[0] == POISON));
        world.check_order();
    }

    #[test]
    fn nothing_is_lost_with_several_kinesis_records_of_a_shard_in_a_request(seed: u64) {
        let mut world = World::new(seed, small(false), 2);
        world.faults = 20;
        for _ in 0..400 {
            world.step();
        }
        world.settle();
        world.check_outcomes(|error| error.kind() == ErrorKind::Rejected);
    }

    #[test]
    fn without_faults_order_holds_in_either_mode(seed: u64, ordered: bool) {
        let mut world = World::new(seed, small(ordered), 3);
        world.reshards = ordered;
        for _ in 0..300 {
            world.step();
        }
        world.settle();
        world.check_outcomes(|_| false);
        world.check_order();
    }

    #[test]
    fn order_per_shard_survives_whatever_the_service_does(seed: u64, faults in 0u64..40) {
        let mut world = per_shard(seed, faults);
        world.reshards = false;
        keeps_the_order_of_each_shard(world);
    }

    /// A merge joins two orders, which records under way to either parent do not keep among each
    /// other; that of each key through both is in the tests beside.
    #[test]
    fn order_per_shard_survives_splits(seed: u64, faults in 0u64..30) {
        let mut world = per_shard(seed, faults);
        world.merges = false;
        keeps_the_order_of_each_shard(world);
    }

    #[test]
    fn what_is_left_at_a_deadline_comes_back_once(seed: u64) {
        let mut world = World::new(seed, small(true), 2);
        world.faults = 30;
        for _ in 0..200 {
            world.step();
        }
        let open = world.accepted.iter().enumerate().filter(|(_, record)| record.result.is_none());
        let open: Vec<usize> = open.map(|(at, _)| at).collect();
        let left = world.pipeline.abandon();
        world.observe();
        // What was well stored and only waited for a fresh map is acknowledged.
        let back = open.iter().filter(|at| matches!(world.accepted[**at].result, Some(Err(_))));
        prop_assert_eq!(left, back.count() as u64);
        world.check_outcomes(|error| {
            matches!(error.kind(), ErrorKind::Undelivered | ErrorKind::Rejected)
        });
    }
}

#[test]
fn the_lanes_of_closed_shards_are_forgotten() {
    let mut world = World::new(7, small(true), 3);
    for _ in 0..2_000 {
        world.step();
    }
    world.settle();
    // A record for each shard, so that the latest map is known.
    for _ in 0..50 {
        world.accept(false);
    }
    world.settle();
    let closed = world
        .shards
        .iter()
        .filter_map(|shard| shard.id.index())
        .max();
    assert!(closed > Some(30), "many shards were closed: {closed:?}");
    let lanes = world.pipeline.lanes.len();
    assert!(lanes <= 9, "{lanes} lanes of at most 8 open shards");
}

fn per_shard(seed: u64, faults: u64) -> World {
    let settings = Settings {
        ordered_per_shard: true,
        ..small(true)
    };
    let mut world = World::new(seed, settings, 2);
    world.faults = faults;
    world
}

fn keeps_the_order_of_each_shard(mut world: World) {
    for _ in 0..400 {
        world.step();
    }
    world.settle();
    world.check_outcomes(|error| error.kind() == ErrorKind::Rejected);
    world.check_order();
    world.check_order_per_shard();
}
