//! When a record leaves.

use super::*;

#[test]
fn an_idle_producer_sends_at_once_and_a_busy_one_gathers_company() {
    let mut world = ready(Settings::default(), 1);
    world.accept(false);
    world.pump();
    assert_eq!(world.requests.len(), 1, "idle: no linger");
    for _ in 0..50 {
        world.accept(false);
        world.pump();
    }
    assert_eq!(world.requests.len(), 1, "one request of a shard at a time");
    world.answer(0);
    world.pump();
    assert_eq!(world.requests.len(), 1);
    assert_eq!(world.requests[0].1.len(), 1, "one aggregate");
}

/// A world of four shards whose answers take `round_trip`, with one request under way.
fn under_way(settings: Settings, round_trip: Duration) -> World {
    let mut world = ready(settings, 4);
    for _ in 0..100 {
        world.accept(false);
        world.pump();
        world.now += round_trip;
        world.answer(0);
    }
    world.pump();
    assert!(world.pipeline.is_empty());
    world.accept(false);
    world.pump();
    assert_eq!(world.requests.len(), 1);
    world
}

#[test]
fn beside_another_request_records_gather_for_a_quarter_of_a_round_trip() {
    let round_trip = Duration::from_millis(40);
    let mut world = under_way(Settings::default(), round_trip);
    for _ in 0..100 {
        world.accept(false);
        world.pump();
    }
    assert_eq!(world.requests.len(), 1);
    let wake = world.pipeline.next_wake(world.now).expect("a departure");
    let waited = wake - world.now;
    assert!(
        waited <= round_trip / 4 && waited > round_trip / 5,
        "{waited:?}"
    );
    world.now = wake;
    world.pump();
    assert_eq!(world.requests.len(), 2, "the other three shards, together");
    assert_eq!(world.requests[1].1.len(), 3);
}

#[test]
fn a_request_that_is_never_answered_holds_up_no_other_shard() {
    let mut world = under_way(Settings::default(), Duration::from_millis(40));
    world.now += Duration::from_secs(3);
    for sent in 2..=4 {
        while world.requests.len() < sent {
            world.accept(false);
            world.pump();
        }
        world.now += Duration::from_millis(10);
    }
}

#[test]
fn a_record_gathers_company_no_longer_than_its_linger() {
    for linger in [Duration::from_millis(5), Duration::ZERO] {
        let settings = Settings {
            record_max_buffered_time: linger,
            ..Settings::default()
        };
        let mut world = under_way(settings, Duration::from_millis(40));
        let began = world.now;
        while world.requests.len() < 2 {
            for _ in 0..20 {
                world.accept(false);
            }
            world.pump();
            if world.requests.len() < 2 {
                world.now = world.pipeline.next_wake(world.now).expect("the linger");
                world.pump();
            }
        }
        assert_eq!(world.now - began, linger);
    }
}

#[test]
fn a_light_load_over_many_shards_makes_four_requests_a_round_trip() {
    const MILLISECOND: Duration = Duration::from_millis(1);
    let round_trip = 40 * MILLISECOND;
    let mut world = ready(Settings::default(), 64);
    let mut left: Vec<(u64, Instant)> = Vec::new();
    for _ in 0..4_000 {
        world.now += MILLISECOND;
        world.accept(false);
        world.pump();
        for (flight, ..) in &world.requests {
            if !left.iter().any(|(known, _)| known == flight) {
                left.push((*flight, world.now));
            }
        }
        while let Some(at) = world.requests.iter().position(|(flight, ..)| {
            let left = left.iter().find(|(known, _)| known == flight);
            left.is_some_and(|(_, at)| *at + round_trip <= world.now)
        }) {
            world.answer(at);
            world.pump();
        }
    }
    world.settle();
    let requests = left.len();
    assert!(
        (300..=420).contains(&requests),
        "{requests} requests in 100 round trips"
    );
}

#[test]
fn a_flush_cuts_the_linger_of_what_came_before_it() {
    let mut world = under_way(Settings::default(), Duration::from_millis(40));
    for _ in 0..100 {
        world.accept(false);
        world.pump();
    }
    world.flush();
    world.pump();
    assert_eq!(world.requests.len(), 2);
    world.settle();
    assert!(world.flushes[0].2);
}
