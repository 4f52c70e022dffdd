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
fn without_linger_a_batch_leaves_as_soon_as_a_slot_is_free() {
    let settings = Settings {
        record_max_buffered_time: Duration::ZERO,
        max_in_flight: 2,
        ..Settings::default()
    };
    let mut world = under_way(settings, Duration::from_millis(40));
    let slots = |world: &World| world.requests.len();
    // The second slot is free: no wait, though a request is under way.
    let before = world.now;
    while slots(&world) < 2 {
        world.accept(false);
        world.pump();
    }
    assert_eq!(world.now, before);
    // No slot is free: what comes gathers, and nothing but an answer lets it leave.
    for _ in 0..200 {
        world.accept(false);
        world.pump();
    }
    world.now += Duration::from_millis(39);
    world.pump();
    assert_eq!(slots(&world), 2);
    let before = world.now;
    world.answer(0);
    world.pump();
    assert_eq!((slots(&world), world.now), (2, before), "at the answer");
    let (_, puts, _) = &world.requests[1];
    let members: usize = puts
        .iter()
        .map(
            |put| match deaggregate(&Bytes::copy_from_slice(&put.data)) {
                Deaggregated::Members(members) => members.len(),
                Deaggregated::Raw(_) | Deaggregated::Damaged { .. } => 1,
            },
        )
        .sum();
    assert!(members > 20, "all that gathered for free shards: {members}");
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

/// What became of an even load.
struct Played {
    /// From acceptance to answer.
    latencies: Vec<Duration>,
    requests: usize,
    kinesis_records: usize,
}

impl Played {
    fn quantile(&self, quantile: f64) -> Duration {
        self.latencies[((self.latencies.len() - 1) as f64 * quantile) as usize]
    }
}

/// Plays two seconds of `per_second` records of 100 bytes over a thousand keys.
fn play(shards: u32, per_second: u32, round_trip: Duration) -> Played {
    let settings = Settings {
        rate_limit: 1_000_000,
        ..Settings::default()
    };
    let mut world = ready(settings, shards);
    let (start, records) = (world.now, 2 * per_second);
    let data = Bytes::from(vec![0; 100]);
    let mut outcomes = Vec::new();
    let mut on_their_way: VecDeque<(Instant, u64)> = VecDeque::new();
    let mut played = Played {
        latencies: Vec::new(),
        requests: 0,
        kinesis_records: 0,
    };
    loop {
        world.pump();
        world.load_map();
        for (flight, puts, _) in &world.requests {
            if on_their_way
                .back()
                .is_none_or(|(_, newest)| newest < flight)
            {
                on_their_way.push_back((world.now + round_trip, *flight));
                played.requests += 1;
                played.kinesis_records += puts.len();
            }
        }
        let number = outcomes.len() as u32;
        let arrival = start + Duration::from_secs(1) * number / per_second;
        let arrival = Some(arrival).filter(|_| number < records);
        let back = on_their_way.front().map(|(at, _)| *at);
        if arrival.is_none() && back.is_none() && world.pipeline.is_empty() {
            break;
        }
        let wake = world.pipeline.next_wake(world.now);
        let next = arrival.into_iter().chain(back).chain(wake).min();
        world.now = next.expect("something to wait for").max(world.now);
        if arrival == Some(world.now) {
            let key = format!("vehicle-{}", number * 7919 % 1000);
            let record = UserRecord::new(key, data.clone());
            world.slots.room().try_take(record.size()).expect("room");
            let (entry, outcome) = Entry::new(record, &world.slots, world.now);
            world.pipeline.accept(entry, world.now);
            outcomes.push(outcome);
        }
        if back == Some(world.now) {
            let (_, flight) = on_their_way.pop_front().expect("it is back");
            let at = world.requests.iter().position(|(of, ..)| *of == flight);
            let (_, puts, _) = world.requests.remove(at.expect("it was sent"));
            let stored = |put: &Put| Answer::Stored {
                shard_id: put.predicted().expect("the map is known"),
                sequence_number: "1".parse().expect("a number"),
            };
            let answers = puts.iter().map(stored).collect();
            world.pipeline.completed(flight, Ok(answers), world.now);
        }
    }
    for outcome in outcomes {
        let delivery = outcome.now_or_never().expect("settled").expect("delivered");
        played.latencies.push(delivery.sent_after + delivery.took);
    }
    played.latencies.sort_unstable();
    played
}

#[test]
fn at_any_load_a_record_waits_for_its_shard_and_hardly_for_company() {
    let round_trip = Duration::from_millis(10);
    for (shards, per_second) in [(4, 1_000), (4, 10_000), (64, 1_000), (64, 10_000)] {
        let played = play(shards, per_second, round_trip);
        let (p50, p99) = (played.quantile(0.5), played.quantile(0.99));
        let per_round_trip = played.requests / 200;
        println!(
            "{shards} shards, {per_second} records/s: p50 {p50:?}, p99 {p99:?}, {} requests, {} \
             Kinesis records",
            played.requests, played.kinesis_records
        );
        // A record that just missed a request of its shard waits for that to come back.
        assert!(p99 <= round_trip * 9 / 4, "{p99:?}");
        assert!(per_round_trip <= 5, "{} requests", played.requests);
    }
}
