//! Order where shards split. (A merge joins two orders, which records under way to either parent
//! do not keep among each other; the order of each key through both is in the tests beside.)

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn order_per_shard_survives_splits(seed: u64, faults in 0u64..30) {
        let settings = Settings {
            ordered_per_shard: true,
            ..small(true)
        };
        let mut world = World::new(seed, settings, 2);
        (world.faults, world.merges) = (faults, false);
        for _ in 0..400 {
            world.step();
        }
        world.settle();
        world.check_outcomes(|error| error.kind() == ErrorKind::Rejected);
        world.check_order();
        world.check_order_per_shard();
    }
}
