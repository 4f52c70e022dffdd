//! A stream that is deleted, and created again under its name with other shards of the same ids.

use super::*;

/// A world with an aggregate in flight that was cut for the only shard of the first stream.
fn aggregate_in_flight() -> World {
    let mut world = ready(Settings::default(), 1);
    world.accept(false);
    world.pump();
    for _ in 0..50 {
        world.accept(false);
    }
    world.answer(0);
    world.pump();
    assert_eq!(world.requests[0].1.len(), 1, "one aggregate");
    world
}

fn recreate(world: &mut World, shards: u32) {
    let ranges = HashKeyRange::FULL.split_even(shards).into_iter().zip(0..);
    world.shards = ranges.map(|(range, index)| shard(index, range)).collect();
    world.log.clear();
    // What the first stream took is gone with it.
    for record in &mut world.accepted {
        if matches!(record.result, Some(Ok(_))) {
            record.result = Some(Err(Error::stopped()));
        }
    }
}

fn settle_and_check(world: &mut World) {
    world.settle();
    let gone = |error: &Error| error.record().is_none();
    assert_eq!(world.slots.room().outstanding(), (0, 0));
    for (number, record) in world.accepted.iter().enumerate() {
        match record.result.as_ref().expect("resolved") {
            Ok(_) => {
                let mut visible = world.log.iter().flat_map(|stored| &stored.visible);
                assert!(
                    visible.any(|seen| *seen == number),
                    "record {number} is lost"
                );
            }
            Err(error) => assert!(gone(error), "record {number}: {error:?}"),
        }
    }
}

#[test]
fn an_aggregate_in_flight_is_not_acknowledged_by_another_stream_s_shard_of_the_id() {
    let mut world = aggregate_in_flight();
    recreate(&mut world, 4);
    let map = ShardMap::new(world.shards.iter().cloned());
    world.pipeline.map_loaded(Ok(map), world.now);
    settle_and_check(&mut world);
}

/// A request of its own fails because there is no such stream.
fn not_found(world: &mut World, missing: Cause) {
    let lost = world.pipeline.next_flight;
    let flight = Flight {
        records: Vec::new(),
        named: false,
        search: None,
        sent_at: world.now,
        oldest: None,
    };
    world.pipeline.flights.insert(lost, flight);
    world.pipeline.completed(lost, Err(missing), world.now);
}

#[test]
fn what_landed_elsewhere_is_decided_though_the_map_was_dropped_meanwhile() {
    let mut world = aggregate_in_flight();
    let halves = HashKeyRange::FULL.split_even(2).into_iter().zip(1..);
    world.shards = halves.map(|(range, index)| shard(index, range)).collect();
    world.answer(0);
    assert_eq!(world.pipeline.undecided.len(), 1);
    let missing = Cause::new("PutRecords", Class::NotFound, "ResourceNotFoundException");
    not_found(&mut world, missing);
    settle_and_check(&mut world);
}

/// An AUTO stream whose answers about itself are on their way.
fn asked_about_itself() -> (World, StreamTraits) {
    let mut world = aggregate_in_flight();
    let auto = StreamTraits {
        auto: true,
        ..StreamTraits::unknown()
    };
    // A record that comes when both are old has them asked for again.
    world.now += Duration::from_secs(3600);
    world.accept(false);
    assert!(world.pipeline.begin_map_load(world.now));
    assert!(world.pipeline.begin_describe(world.now));
    (world, auto)
}

#[test]
fn what_the_stream_before_said_late_is_not_held_true_of_the_next_one() {
    let (mut world, auto) = asked_about_itself();
    let of_the_first = ShardMap::new(world.shards.iter().cloned());
    let missing = Cause::new("PutRecords", Class::NotFound, "ResourceNotFoundException");
    not_found(&mut world, missing);
    recreate(&mut world, 4);
    world.pipeline.learned(auto, world.now);
    world.pipeline.map_loaded(Ok(of_the_first), world.now);
    assert!(
        !world.pipeline.traits.auto,
        "no shard would have a range of its own"
    );
    assert!(!world.pipeline.has_map());
    for _ in 0..50 {
        world.accept(false);
    }
    settle_and_check(&mut world);
}

#[test]
fn a_map_that_is_another_stream_s_takes_what_the_one_before_said_with_it() {
    let (mut world, auto) = asked_about_itself();
    world.pipeline.learned(auto, world.now);
    assert!(world.pipeline.traits.auto);
    recreate(&mut world, 4);
    let map = ShardMap::new(world.shards.iter().cloned());
    world.pipeline.map_loaded(Ok(map), world.now);
    assert!(!world.pipeline.traits.auto);
    for _ in 0..50 {
        world.accept(false);
    }
    settle_and_check(&mut world);
}

#[test]
fn nothing_is_acknowledged_by_the_map_of_a_stream_that_was_not_found() {
    for operation in ["PutRecords", "ListShards"] {
        let mut world = aggregate_in_flight();
        let missing = || Cause::new(operation, Class::NotFound, "ResourceNotFoundException");
        if operation == "ListShards" {
            world.pipeline.map_loaded(Err(missing()), world.now);
        } else {
            not_found(&mut world, missing());
        }
        recreate(&mut world, 4);
        settle_and_check(&mut world);
    }
}

#[test]
fn what_is_left_of_a_part_asks_for_the_map_that_was_dropped() {
    let settings = Settings {
        record_ttl: Some(Duration::from_secs(10)),
        ..Settings::default()
    };
    let mut world = ready(settings, 1);
    world.accept(false);
    world.pump();
    world.accept(false);
    world.now += Duration::from_secs(5);
    world.accept(false);
    world.answer(0);
    world.pump();
    // The two of them were refused together, and wait to be sent as they are.
    world.requests.clear();
    let (_, Flight { records, .. }) = world.pipeline.flights.pop_first().expect("two");
    assert_eq!(records[0].members.len(), 2);
    world.pipeline.parts.push_back(Part {
        records,
        named: false,
        search: None,
    });
    let missing = Cause::new("PutRecords", Class::NotFound, "ResourceNotFoundException");
    not_found(&mut world, missing);
    world.now += Duration::from_secs(6);
    world.settle();
    let result = |number: usize| world.accepted[number].result.as_ref().expect("resolved");
    let kind = result(2).as_ref().map_err(Error::kind).err();
    assert_eq!(kind, Some(ErrorKind::Expired), "the older one");
    assert!(result(3).is_ok(), "{:?}", result(3));
}
