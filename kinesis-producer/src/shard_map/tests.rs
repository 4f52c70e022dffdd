use kinesis_core::Clock;

use super::*;

fn map(shards: u32) -> ShardMap {
    let ranges = HashKeyRange::FULL.split_even(shards);
    ShardMap::new(ranges.into_iter().zip(0..).map(|(range, index)| Shard {
        id: ShardId::from_index(index),
        range,
        parent: None,
        adjacent_parent: None,
        starting_sequence_number: "0".parse().expect("a number"),
        ending_sequence_number: None,
    }))
}

fn cause(class: Class) -> Cause {
    Cause::new("ListShards", class, "Test")
}

const MILLISECOND: Duration = Duration::from_millis(1);

/// A keeper with a map of two shards.
fn in_use(now: Instant, rand: &Rand) -> MapKeeper {
    let mut keeper = MapKeeper::new();
    keeper.needed(now);
    assert!(keeper.begin(now));
    keeper.loaded(map(2), now, rand);
    keeper
}

#[test]
fn nobody_asks_for_a_map_before_a_record_needs_it_and_then_one_at_a_time() {
    let now = Clock::system().now();
    let mut keeper = MapKeeper::new();
    assert!(!keeper.begin(now));
    keeper.needed(now);
    assert!(keeper.begin(now));
    keeper.needed(now);
    assert!(!keeper.begin(now + REFRESH_INTERVAL), "one walk at a time");
    assert_eq!(
        keeper.unmapped_from(now, false),
        Some(now + COLD_START_WAIT)
    );
}

#[test]
fn a_record_that_landed_elsewhere_asks_for_a_map_younger_than_its_request() {
    let (start, rand) = (Clock::system().now(), Rand::seeded(3));
    let mut keeper = MapKeeper::new();
    keeper.needed(start);
    assert!(keeper.begin(start));
    assert_eq!(keeper.loaded(map(2), start, &rand), Change::Resharded);
    assert!(
        !keeper.suspect(start - MILLISECOND, start, &rand),
        "the map is younger"
    );
    let sent_at = start + MILLISECOND;
    assert!(keeper.suspect(sent_at, sent_at, &rand));
    let again = start + REFRESH_MIN_INTERVAL;
    assert!(
        !keeper.begin(again - MILLISECOND),
        "not sooner than the least interval"
    );
    assert!(keeper.begin(again));
    assert!(keeper.suspect(again, again, &rand), "one is on its way");
    assert_eq!(keeper.loaded(map(2), again, &rand), Change::None);
    assert!(
        keeper.suspect(again, again, &rand),
        "that walk began no later than the request"
    );
    assert!(keeper.begin(again + REFRESH_MIN_INTERVAL));
}

#[test]
fn a_map_that_grows_old_is_asked_for_by_the_next_record_at_a_time_of_its_own() {
    let start = Clock::system().now();
    let mut waits = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let (mut keeper, rand) = (MapKeeper::new(), Rand::seeded(seed));
        keeper.needed(start);
        assert!(keeper.begin(start));
        keeper.loaded(map(2), start, &rand);
        assert_eq!(keeper.next_at(), None, "nothing is sent");
        assert!(!keeper.begin(start + REFRESH_INTERVAL * 60));
        keeper.needed(start);
        waits.insert(keeper.next_at().expect("in use") - start);
    }
    // Of a hundred draws the ends of the range are all but reached, and no two are alike.
    let (least, most) = (REFRESH_INTERVAL * 3 / 4, REFRESH_INTERVAL * 5 / 4);
    assert_eq!(waits.len(), 100);
    assert!(
        waits.iter().all(|wait| (least..=most).contains(wait)),
        "{waits:?}"
    );
    let close = REFRESH_INTERVAL / 20;
    assert!(
        waits.first().is_some_and(|wait| *wait < least + close),
        "{waits:?}"
    );
    assert!(
        waits.last().is_some_and(|wait| *wait > most - close),
        "{waits:?}"
    );
}

#[test]
fn a_map_in_use_survives_failed_refreshes() {
    let (now, rand) = (Clock::system().now(), Rand::seeded(3));
    let mut keeper = in_use(now, &rand);
    let later = now + REFRESH_INTERVAL * 2;
    keeper.needed(later);
    assert!(keeper.begin(later));
    assert!(!keeper.failed(&cause(Class::AccessDenied), later, &rand));
    assert_eq!(keeper.map().map(ShardMap::len), Some(2));
    keeper.needed(later);
    assert!(keeper.next_at().is_some(), "and is tried again");
}

#[test]
fn a_cold_start_outlasts_an_outage_but_not_a_missing_stream() {
    let (now, rand) = (Clock::system().now(), Rand::seeded(3));
    let mut keeper = MapKeeper::new();
    keeper.needed(now);
    assert!(keeper.begin(now));
    assert!(!keeper.failed(&cause(Class::Unavailable), now, &rand));
    let again = keeper.next_at().expect("tried again");
    assert!(keeper.begin(again));
    assert!(keeper.failed(&cause(Class::NotFound), again, &rand));
    assert_eq!(keeper.next_at(), None, "until the next record");
    keeper.needed(again);
    assert!(keeper.next_at().is_some());
}

#[test]
fn a_map_with_a_hole_is_used_and_soon_asked_for_again() {
    let (now, rand) = (Clock::system().now(), Rand::seeded(3));
    let mut keeper = MapKeeper::new();
    keeper.needed(now);
    assert!(keeper.begin(now));
    let whole = map(3);
    let holed = ShardMap::new(
        whole
            .shards()
            .filter(|shard| shard.id != ShardId::from_index(1))
            .cloned(),
    );
    keeper.loaded(holed, now, &rand);
    assert_eq!(keeper.next_at(), Some(now + REFRESH_MIN_INTERVAL));
    assert_eq!(keeper.unmapped_from(now, false), Some(now));
}

#[test]
fn walks_for_records_that_landed_elsewhere_begin_at_random_times() {
    let (start, rand) = (Clock::system().now(), Rand::seeded(3));
    let later = start + Duration::from_secs(10);
    let mut begins: Vec<_> = (0..20)
        .map(|_| {
            let mut keeper = MapKeeper::new();
            keeper.needed(start);
            assert!(keeper.begin(start));
            keeper.loaded(map(2), start, &rand);
            assert!(keeper.suspect(later, later, &rand));
            let at = keeper.next_at().expect("a walk");
            // Others of the same reshard do not draw again.
            assert!(keeper.suspect(later, later, &rand));
            assert_eq!(keeper.next_at(), Some(at));
            at
        })
        .collect();
    begins.sort();
    begins.dedup();
    assert_eq!(begins.len(), 20, "seed 3");
    assert!(begins[0] >= later && begins[19] <= later + REFRESH_JITTER);
}

#[test]
fn a_record_that_landed_elsewhere_does_not_hurry_walks_that_fail() {
    let (start, rand) = (Clock::system().now(), Rand::seeded(3));
    let mut keeper = MapKeeper::new();
    keeper.needed(start);
    assert!(keeper.begin(start));
    keeper.loaded(map(2), start, &rand);
    let mut now = start;
    for _ in 0..8 {
        keeper.needed(now);
        now = keeper.next_at().expect("again");
        assert!(keeper.begin(now));
        keeper.failed(&cause(Class::Unavailable), now, &rand);
    }
    keeper.needed(now);
    let backoff = keeper.next_at();
    assert!(backoff.is_some());
    assert!(!keeper.suspect(now, now, &rand), "nobody waits for them");
    assert_eq!(keeper.next_at(), backoff);
}

#[test]
fn a_walk_that_failed_is_tried_again_for_a_record_that_landed_elsewhere() {
    let (start, rand) = (Clock::system().now(), Rand::seeded(3));
    let mut keeper = MapKeeper::new();
    keeper.needed(start);
    assert!(keeper.begin(start));
    keeper.loaded(map(2), start, &rand);
    let later = start + Duration::from_secs(10);
    assert!(keeper.suspect(later, later, &rand));
    let at = keeper.next_at().expect("a walk");
    assert!(keeper.begin(at));
    keeper.failed(&cause(Class::Unavailable), at, &rand);
    assert_eq!(keeper.next_at(), None, "until anything asks for it");
    assert!(!keeper.suspect(at, at, &rand));
    assert!(keeper.next_at().is_some_and(|again| again >= at));
}

#[test]
fn an_id_whose_range_changed_is_another_stream_s() {
    let (now, rand) = (Clock::system().now(), Rand::seeded(3));
    let mut keeper = MapKeeper::new();
    keeper.loaded(map(2), now, &rand);
    assert_eq!(keeper.loaded(map(4), now, &rand), Change::OtherStream);
    keeper.forget();
    assert_eq!(keeper.loaded(map(2), now, &rand), Change::Resharded);
}

#[test]
fn a_walk_through_a_stream_that_is_gone_meanwhile_gives_no_map() {
    let (now, rand) = (Clock::system().now(), Rand::seeded(3));
    let mut keeper = in_use(now, &rand);
    let later = now + REFRESH_INTERVAL * 2;
    keeper.needed(later);
    assert!(keeper.begin(later));
    keeper.forget();
    keeper.needed(later);
    assert_eq!(keeper.loaded(map(2), later, &rand), Change::Stale);
    assert!(keeper.map().is_none());
    let again = later + REFRESH_MIN_INTERVAL;
    assert!(keeper.begin(again), "who waits has not been forgotten");
    assert_eq!(keeper.loaded(map(4), again, &rand), Change::Resharded);
}

#[test]
fn at_the_end_the_first_map_is_not_waited_for_as_long() {
    let (now, rand) = (Clock::system().now(), Rand::seeded(3));
    let mut keeper = MapKeeper::new();
    keeper.needed(now);
    let until = now + COLD_START_WAIT_AT_END;
    assert_eq!(keeper.unmapped_from(now, true), Some(until));
    assert!(keeper.begin(now));
    keeper.failed(&cause(Class::Unavailable), now, &rand);
    assert_eq!(keeper.unmapped_from(now, true), Some(now));
}
