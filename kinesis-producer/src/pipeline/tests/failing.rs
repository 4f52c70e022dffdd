//! What failures, refusals and missing maps do.

use super::*;

#[test]
fn a_failing_shard_does_not_hold_up_the_others() {
    let mut world = ready(Settings::default(), 2);
    world.faults = 100;
    for _ in 0..20 {
        world.accept(false);
    }
    world.pump();
    world.answer(0);
    world.faults = 0;
    // Both shards failed and back off; whatever ends first goes by itself.
    let wake = world.pipeline.next_wake(world.now).expect("the backoff");
    world.now = wake.max(world.now);
    world.pump();
    assert_eq!(world.requests.len(), 1);
    assert_eq!(
        world.requests[0].1.len(),
        1,
        "only one shard's backoff is over"
    );
    world.settle();
    world.check_outcomes(|_| false);
}

#[test]
fn a_record_past_its_time_to_live_fails_with_the_last_cause() {
    let ttl = Duration::from_secs(2);
    let mut world = ready(
        Settings {
            record_ttl: Some(ttl),
            ..Settings::default()
        },
        1,
    );
    world.accept(false);
    world.pump();
    world.faults = 100;
    let begin = world.now;
    while world.accepted[1].result.is_none() {
        if world.requests.is_empty() {
            world.now = world
                .pipeline
                .next_wake(world.now)
                .expect("backoff or expiry");
        } else {
            world.answer(0);
        }
        world.pump();
    }
    let error = world.accepted[1]
        .result
        .take()
        .expect("resolved")
        .expect_err("expired");
    assert_eq!(error.kind(), ErrorKind::Expired);
    assert!(error.attempts() > 1 && std::error::Error::source(&error).is_some());
    assert_eq!(world.now, begin + ttl);
}

#[test]
fn one_invalid_record_among_many_is_found_within_twenty_requests() {
    let settings = Settings {
        aggregation_enabled: false,
        ..Settings::default()
    };
    let mut world = ready(settings, 1);
    // Explicit hash keys would do as well; here every record has a key of its own.
    for number in 1..=500 {
        let mut data = vec![if number == 333 { POISON } else { 0 }; 2];
        data.extend_from_slice(&(number as u64).to_be_bytes());
        let record = UserRecord::new(format!("own-{number}"), data);
        world.slots.room().try_take(record.size()).expect("room");
        let (entry, outcome) = Entry::new(record, &world.slots, world.now);
        world.pipeline.accept(entry, world.now);
        world.accepted.push(Accepted {
            key: 0,
            outcome,
            result: None,
        });
    }
    let mut requests = 0;
    loop {
        world.pump();
        if world.requests.is_empty() {
            break;
        }
        requests += 1;
        world.answer(0);
    }
    assert!(world.pipeline.is_empty());
    assert!(requests <= 20, "{requests} requests");
    world.check_outcomes(|error| error.kind() == ErrorKind::Rejected);
    let failed = world
        .accepted
        .iter()
        .filter(|record| matches!(record.result, Some(Err(_))));
    assert_eq!(failed.count(), 1);
}

#[test]
fn a_cold_start_without_a_map_goes_unaggregated_after_a_bounded_wait() {
    let mut world = World::new(5, Settings::default(), 2);
    world.faults = 100;
    for _ in 0..10 {
        world.accept(false);
    }
    world.pump();
    let begin = world.now;
    while world.requests.is_empty() {
        world.load_map();
        world.now = world
            .pipeline
            .next_wake(world.now)
            .expect("the map or the end of the wait");
        world.pump();
    }
    assert_eq!(world.now, begin + Duration::from_secs(5));
    assert!(
        world.requests[0]
            .1
            .iter()
            .all(|put| &*put.partition_key != "a")
    );
    world.settle();
    world.check_outcomes(|_| false);
    world.check_order();
}

#[test]
fn a_cold_start_at_a_stream_that_is_not_there_fails_with_the_cause() {
    let mut world = World::new(5, Settings::default(), 2);
    world.accept(false);
    world.pump();
    assert!(std::mem::take(&mut world.loading));
    let missing = Cause::new("ListShards", Class::NotFound, "ResourceNotFoundException");
    world.pipeline.map_loaded(Err(missing), world.now);
    world.observe();
    world.check_outcomes(|error| error.kind() == ErrorKind::NotFound);
    assert!(world.pipeline.is_empty());
    world.accept(false);
    world.settle();
    assert!(
        matches!(world.accepted[1].result, Some(Ok(_))),
        "the stream exists by now"
    );
}
