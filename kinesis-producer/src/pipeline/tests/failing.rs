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
    for number in 1..=500 {
        let explicit_hash_key = None;
        world.accept_own(number, number == 333, explicit_hash_key);
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

/// Ten requests of 500 records each, one to each of ten shards, all under way at once; `poisoned` of a
/// shard's records are bad. How many requests each shard had, if those answers come first that are
/// refusals.
fn ten_requests(aggregation_enabled: bool, poisoned: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    let settings = Settings {
        aggregation_enabled,
        max_in_flight: 256,
        ..Settings::default()
    };
    let mut world = ready(settings, 10);
    let ranges = HashKeyRange::FULL.split_even(10);
    // With aggregation it is one request that has an aggregate for each shard.
    for (shard, range) in ranges.iter().enumerate() {
        for at in 0..500 {
            let key = HashKey(range.start().0 + at as u128);
            let number = world.accepted.len();
            world.accept_own(number, poisoned(shard, at), Some(key));
        }
    }
    world.pump();
    let first: Vec<_> = world
        .requests
        .iter()
        .map(|(_, puts, _)| puts.len())
        .collect();
    let expected = if aggregation_enabled {
        vec![10]
    } else {
        vec![500; 10]
    };
    assert_eq!(first, expected);
    let shard_of = |puts: &[Put]| {
        let key = puts[0].explicit_hash_key.expect("a key");
        ranges.iter().position(|range| range.contains(key))
    };
    let mut requests = vec![0; 10];
    while !world.requests.is_empty() {
        let refused = |(_, puts, _): &(u64, Vec<Put>, Option<Reply>)| {
            puts.iter().any(|put| is_poison(&put.data))
        };
        let next = world.requests.iter().position(refused).unwrap_or(0);
        requests[shard_of(&world.requests[next].1).expect("a shard")] += 1;
        world.answer(next);
        world.pump();
    }
    assert!(world.pipeline.is_empty());
    world.check_outcomes(|error| error.kind() == ErrorKind::Rejected);
    for (number, record) in world.accepted.iter().enumerate().skip(1) {
        let (shard, at) = ((number - 1) / 500, (number - 1) % 500);
        let delivered = matches!(record.result, Some(Ok(_)));
        assert_eq!(delivered, !poisoned(shard, at), "{shard}: {at}");
    }
    requests
}

#[test]
fn ten_poisoned_requests_at_once_lose_no_healthy_record_and_each_keeps_within_its_bound() {
    for bad in [0, 333, 499] {
        let requests = ten_requests(false, |_, at| at == bad);
        assert!(
            requests.iter().all(|count| *count <= 20),
            "{bad}: {requests:?}"
        );
        // Ten aggregates of one request: it is cut up first, then each of them.
        let requests = ten_requests(true, |_, at| at == bad);
        assert!(requests.iter().sum::<usize>() <= 220, "{bad}: {requests:?}");
    }
}

#[test]
fn a_search_that_meets_refusals_only_ends_and_the_others_go_on() {
    for aggregation_enabled in [false, true] {
        let requests = ten_requests(aggregation_enabled, |shard, at| shard < 9 || at == 333);
        let count: usize = requests.iter().take(9).sum();
        assert!(count <= 9 * 140, "{aggregation_enabled}: {requests:?}");
    }
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

#[test]
fn a_backlog_whose_shard_was_split_asks_for_the_map_again_after_a_walk_that_failed() {
    let mut world = ready(small(true), 1);
    for _ in 0..1_000 {
        world.accept(false);
    }
    world.pipeline.drain();
    world.now += Duration::from_secs(1);
    world.merges = false;
    world.reshard();
    let (mut walks, mut requests) = (0, 0);
    for _ in 0..100_000 {
        world.pump();
        if world.loading && walks == 0 {
            world.loading = false;
            let failed = Cause::new("ListShards", Class::Unavailable, "Test");
            world.pipeline.map_loaded(Err(failed), world.now);
            walks += 1;
        } else if world.loading {
            world.load_map();
            walks += 1;
        } else if !world.requests.is_empty() {
            world.now += Duration::from_millis(20);
            world.answer(0);
            requests += 1;
        } else if world.pipeline.is_empty() {
            break;
        } else {
            let wake = world.pipeline.next_wake(world.now);
            world.now = wake.expect("something to wait for");
        }
    }
    assert!(walks >= 2 && requests > 0, "{walks} walks");
    world.check_outcomes(|_| false);
    world.check_order();
    let dropped = world.log.iter().filter(|stored| stored.visible.is_empty());
    let dropped = dropped.count();
    assert!(dropped < 60, "{dropped} aggregates were stored in vain");
}

#[test]
fn a_lane_whose_credentials_stay_expired_fails_after_one_minute_for_all_it_holds() {
    let mut world = ready(Settings::default(), 1);
    for number in 0..2_000 {
        world.accept_own(number + 1, false, None);
    }
    for _ in 0..20 {
        let record = UserRecord::new("large", vec![0; 40_000]);
        world.slots.room().try_take(record.size()).expect("room");
        let (entry, outcome) = Entry::new(record, &world.slots, world.now);
        world.pipeline.accept(entry, world.now);
        world.accepted.push(Accepted {
            key: 0,
            outcome,
            result: None,
        });
    }
    let begin = world.now;
    let mut failed_at = Vec::new();
    while !world.pipeline.is_empty() {
        world.pump();
        world.loading = false;
        if world.requests.is_empty() {
            let wake = world.pipeline.next_wake(world.now);
            world.now = wake.expect("a backoff").max(world.now);
            continue;
        }
        let (flight, ..) = world.requests.remove(0);
        let expired = Cause::new("PutRecords", Class::AccessDenied, "ExpiredTokenException");
        let before = world
            .accepted
            .iter()
            .filter(|one| one.result.is_some())
            .count();
        world.now += Duration::from_millis(20);
        let answer = Err(expired.stale(true));
        world.pipeline.completed(flight, answer, world.now);
        world.observe();
        let after = world
            .accepted
            .iter()
            .filter(|one| one.result.is_some())
            .count();
        if after > before {
            failed_at.push(world.now - begin);
        }
    }
    assert!(failed_at.len() > 10, "{} Kinesis records", failed_at.len());
    assert!(failed_at[0] >= Duration::from_secs(60), "{failed_at:?}");
    let last = failed_at[failed_at.len() - 1];
    assert!(last < Duration::from_secs(75), "{failed_at:?}");
    world.check_outcomes(|error| error.kind() == ErrorKind::AccessDenied);
}

/// Whether an AUTO stream's producer sends at once again after a request that was stored but for one
/// Kinesis record.
fn goes_on_after(class: Class) -> bool {
    let mut world = ready(small(true), 2);
    let auto = StreamTraits {
        auto: true,
        ..StreamTraits::unknown()
    };
    world.pipeline.learned(auto, world.now);
    for _ in 0..30 {
        world.accept(false);
    }
    world.pump();
    let (flight, puts, _) = world.requests.remove(0);
    assert!(puts.len() > 1 && world.requests.is_empty(), "one request");
    let mut answers: Vec<_> = puts.iter().map(|put| world.store(put)).collect();
    answers[0] = Answer::Failed(Arc::new(Cause::new("PutRecords", class, "Test")));
    world.pipeline.completed(flight, Ok(answers), world.now);
    world.pump();
    let goes_on = !world.requests.is_empty();
    world.settle();
    goes_on
}

#[test]
fn of_an_auto_stream_a_part_that_was_throttled_stops_nothing_and_one_that_failed_does() {
    assert!(goes_on_after(Class::Throttled));
    assert!(!goes_on_after(Class::Unavailable));
}
