//! The pace of reading and what failures lead to.

use super::*;

const IDLE: Duration = Duration::from_secs(1);

fn poll(start: StartAt) -> (Poll, Instant) {
    let now = kinesis_core::Clock::system().now();
    (Poll::new(start, IDLE, Rand::seeded(7), now), now)
}

fn answer(last: Option<&str>, behind: u64) -> Answer {
    Answer {
        next_iterator: Some("next".into()),
        last: last.map(|last| last.parse().expect("digits")),
        records: 0,
        bytes: 0,
        opened_bytes: 0,
        millis_behind_latest: behind,
    }
}

fn sequence(digits: &str) -> SequenceNumber {
    digits.parse().expect("digits")
}

#[test]
fn reading_goes_on_at_once_while_behind_and_pauses_at_the_tip() {
    let (mut poll, now) = poll(StartAt::TrimHorizon);
    assert_eq!(poll.next(now), Ask::Iterator(StartAt::TrimHorizon));
    poll.on_iterator("first".into());
    assert_eq!(poll.next(now), Ask::Records("first".into()));
    assert!(!poll.on_answer(answer(Some("5"), 1000), now));
    assert_eq!(poll.next(now), Ask::Records("next".into()));
    poll.on_answer(answer(Some("6"), 0), now);
    assert_eq!(poll.next(now), Ask::Wait(now + IDLE));
    assert_eq!(poll.next(now + IDLE), Ask::Records("next".into()));
}

#[test]
fn a_reader_that_is_behind_keeps_to_five_reads_a_second() {
    let (mut poll, start) = poll(StartAt::TrimHorizon);
    poll.on_iterator("first".into());
    let mut now = start;
    let mut reads = 0;
    while now < start + Duration::from_secs(10) {
        match poll.next(now) {
            Ask::Wait(until) => now = until,
            Ask::Records(_) => {
                reads += 1;
                poll.on_answer(answer(Some("5"), 9), now);
            }
            Ask::Iterator(at) => panic!("{at:?}"),
        }
    }
    assert!((50..=55).contains(&reads), "{reads} reads in 10 s");
}

#[test]
fn a_reader_of_full_answers_keeps_to_two_mebibytes_a_second() {
    let (mut poll, start) = poll(StartAt::TrimHorizon);
    poll.on_iterator("first".into());
    let mut now = start;
    let mut bytes = 0;
    while now < start + Duration::from_secs(60) {
        match poll.next(now) {
            Ask::Wait(until) => now = until,
            Ask::Records(_) => {
                bytes += limits::GET_RECORDS_MAX_BYTES;
                let full = Answer {
                    bytes: limits::GET_RECORDS_MAX_BYTES as u64,
                    ..answer(Some("5"), 9)
                };
                poll.on_answer(full, now);
            }
            Ask::Iterator(at) => panic!("{at:?}"),
        }
    }
    let quota = limits::SHARD_READ_BYTES_PER_SECOND * 60;
    assert!(
        bytes <= quota + 2 * limits::GET_RECORDS_MAX_BYTES,
        "{bytes} bytes in 60 s"
    );
}

#[test]
fn an_expired_iterator_is_replaced_at_once_behind_the_last_record() {
    let (mut poll, now) = poll(StartAt::AtSequence(sequence("3")));
    poll.on_iterator("first".into());
    assert_eq!(
        poll.on_trouble(Trouble::Iterator, now),
        Verdict::Again {
            pause: Duration::ZERO,
            attempts: 1
        }
    );
    assert_eq!(
        poll.next(now),
        Ask::Iterator(StartAt::AtSequence(sequence("3"))),
        "nothing was read yet"
    );
    poll.on_iterator("second".into());
    poll.on_answer(answer(Some("8"), 5), now);
    poll.on_answer(answer(None, 5), now);
    poll.on_trouble(Trouble::Iterator, now);
    assert_eq!(
        poll.next(now),
        Ask::Iterator(StartAt::AfterSequence(sequence("8")))
    );
}

#[test]
fn iterators_that_are_refused_again_and_again_are_asked_for_with_pauses() {
    let (mut poll, now) = poll(StartAt::TrimHorizon);
    let mut pauses = Duration::ZERO;
    for _ in 0..20 {
        poll.on_iterator("refused".into());
        let Verdict::Again { pause, .. } = poll.on_trouble(Trouble::Iterator, now) else {
            panic!("gave up")
        };
        assert!(pause <= FETCH_BACKOFF_MAX);
        pauses += pause;
    }
    assert!(pauses > Duration::from_secs(20), "{pauses:?}");
}

#[test]
fn latest_is_the_instant_of_the_row_for_every_owner_and_without_one_that_of_the_start() {
    let lease = |checkpoint, counter, starts_at_millis| Lease {
        counter,
        starts_at_millis,
        ..Lease::new(kinesis_core::ShardId::from_index(0), checkpoint)
    };
    let start = |lease: &Lease| StartAt::of_lease(lease, InitialPosition::Latest).pinned(9_000);
    let at = |epoch_millis| StartAt::Timestamp { epoch_millis };
    // 1 is whoever made the lease and took it; 2 another whom it was given to; and so on.
    for counter in [1, 2, 3, 77] {
        let row = lease(Position::Latest, counter, Some(5_000));
        assert_eq!(start(&row), at(5_000), "{counter}");
        let of_kcl = lease(Position::Latest, counter, None);
        assert_eq!(start(&of_kcl), at(9_000), "{counter}");
        let instant = lease(Position::AtTimestamp, counter, Some(5_000));
        assert_eq!(start(&instant), at(5_000), "{counter}");
        let read = lease(Position::at(sequence("4"), 0), counter, Some(5_000));
        assert_eq!(start(&read), StartAt::AtSequence(sequence("4")));
        let horizon = lease(Position::TrimHorizon, counter, Some(5_000));
        assert_eq!(start(&horizon), StartAt::TrimHorizon);
    }
}

#[test]
fn failures_are_never_given_up_except_a_shard_that_stays_unknown() {
    let (mut poll, mut now) = poll(StartAt::TrimHorizon);
    poll.on_iterator("first".into());
    for _ in 0..1000 {
        let Verdict::Again { pause, .. } = poll.on_trouble(Trouble::Other, now) else {
            panic!("gave up")
        };
        assert!(pause <= FETCH_BACKOFF_MAX);
        now += pause;
    }
    assert!(matches!(
        poll.on_trouble(Trouble::NotFound, now),
        Verdict::Again { .. }
    ));
    now += NOT_FOUND_PATIENCE;
    assert_eq!(poll.on_trouble(Trouble::NotFound, now), Verdict::GiveUp);
}

#[test]
fn a_shard_that_is_found_again_gets_its_patience_back() {
    let (mut poll, now) = poll(StartAt::TrimHorizon);
    poll.on_trouble(Trouble::NotFound, now);
    poll.on_iterator("found".into());
    assert_eq!(poll.unknown_since, None);
    poll.on_trouble(Trouble::NotFound, now);
    poll.on_found();
    let later = now + NOT_FOUND_PATIENCE;
    assert!(matches!(
        poll.on_trouble(Trouble::NotFound, later),
        Verdict::Again { .. }
    ));
}

#[test]
fn a_shard_ends_when_there_is_no_next_iterator() {
    let (mut poll, now) = poll(StartAt::TrimHorizon);
    poll.on_iterator("first".into());
    assert!(poll.on_answer(
        Answer {
            next_iterator: None,
            ..answer(Some("9"), 0)
        },
        now
    ));
}

#[test]
fn a_checkpoint_says_where_to_start() {
    let at = |position: Position, initial| StartAt::checkpoint(&position, initial);
    let instant = InitialPosition::AtTimestamp(77);
    assert_eq!(
        at(Position::at(sequence("4"), 2), instant),
        StartAt::AtSequence(sequence("4"))
    );
    assert_eq!(at(Position::TrimHorizon, instant), StartAt::TrimHorizon);
    assert_eq!(at(Position::Latest, instant), StartAt::Latest);
    assert_eq!(
        at(Position::AtTimestamp, instant),
        StartAt::Timestamp { epoch_millis: 77 }
    );
    assert_eq!(
        at(Position::AtTimestamp, InitialPosition::Latest),
        StartAt::TrimHorizon,
        "better twice than never"
    );
}

#[test]
fn as_many_records_are_asked_for_as_a_shard_gives_in_a_second() {
    let (mut poll, now) = poll(StartAt::TrimHorizon);
    let mut after = |records, bytes, most| {
        let answer = Answer {
            records,
            bytes,
            ..answer(Some("5"), 9)
        };
        poll.on_answer(answer, now);
        poll.limit(most, limits::GET_RECORDS_MAX_BYTES)
    };
    let second = limits::SHARD_READ_BYTES_PER_SECOND as u64;
    assert_eq!(after(0, 0, 10_000), FIRST_RECORDS, "nothing is known yet");
    assert_eq!(after(40, 40 * second / 20, 10_000), 20);
    assert_eq!(after(0, 0, 10_000), 20, "no records tell nothing");
    assert_eq!(after(20, 20 * 100, 10_000), 40, "others may come again");
    assert_eq!(after(20, 20 * 100, 10_000), 80);
    for _ in 0..7 {
        after(20, 20 * 100, 10_000);
    }
    assert_eq!(
        after(20, 20 * 100, 10_000),
        10_000,
        "never more than is set"
    );
    assert_eq!(after(1, 5 * second, 10_000), 1);
    for _ in 0..16 {
        after(3, 0, 10_000);
    }
    assert_eq!(after(3, 0, 10_000), 10_000, "empty records without keys");
    assert_eq!(after(0, 0, 7), 7);
}

#[test]
fn room_is_asked_for_as_much_as_is_expected_and_an_answer_asks_for_no_more_than_there_is() {
    let (mut poll, now) = poll(StartAt::TrimHorizon);
    let all = limits::GET_RECORDS_MAX_BYTES;
    assert_eq!(poll.wanted(10_000), all, "nothing is known yet");
    assert_eq!(poll.limit(10_000, 500 * limits::KIB), 10);
    assert_eq!(poll.limit(10_000, 0), 1, "one at least");
    let mut after = |records, bytes| {
        let answer = Answer {
            records,
            bytes,
            ..answer(Some("5"), 9)
        };
        poll.on_answer(answer, now);
        (
            poll.wanted(10_000),
            poll.limit(10_000, all),
            poll.limit(10_000, 64 * limits::KIB),
        )
    };
    let kib = limits::KIB as u64;
    // With what is around them, and a quarter more than the mean makes.
    let with =
        |records: usize, bytes: usize| (records * (bytes + 160) + limits::KIB).div_ceil(4) * 5;
    assert_eq!(after(10, 10 * 100), (with(10_000, 100), 10_000, 197));
    let (wanted, ..) = after(10, 10 * 30 * kib);
    assert_eq!(wanted, with(68, 30 * limits::KIB));
    assert_eq!(after(1, 3_000 * kib), (with(1, 3_000 * limits::KIB), 1, 1));
    assert_eq!(after(1, 10_240 * kib), (all, 1, 1), "no answer has more");
}

#[test]
fn an_answer_without_room_is_asked_for_in_smaller_steps_and_counts_against_the_quota() {
    let (mut poll, now) = poll(StartAt::TrimHorizon);
    poll.on_iterator("first".into());
    assert!(matches!(poll.next(now), Ask::Records(_)));
    let small = Answer {
        records: 10,
        bytes: 10 * 100,
        ..answer(Some("5"), 9)
    };
    poll.on_answer(small, now);
    let room = 64 * limits::KIB;
    let mut limits_asked = Vec::new();
    let mut now = now;
    while limits_asked.last() != Some(&1) {
        match poll.next(now) {
            Ask::Wait(until) => now = until,
            Ask::Records(iterator) => {
                assert_eq!(iterator, "next", "nothing was read");
                let limit = poll.limit(10_000, room);
                limits_asked.push(limit);
                let records = (limits::GET_RECORDS_MAX_BYTES / limits::MIB).min(limit as usize);
                poll.on_unread(limit, (records * limits::MIB) as u64, now);
            }
            Ask::Iterator(at) => panic!("{at:?}"),
        }
    }
    assert_eq!(limits_asked, [197, 1]);
    let Ask::Wait(until) = poll.next(now) else {
        panic!("what was not read is owed")
    };
    assert!(until > now);
    let mut pauses = Duration::ZERO;
    for _ in 0..20 {
        poll.on_unread(1, limits::MIB as u64, now);
        assert!(poll.not_before <= now + FETCH_BACKOFF_MAX);
        pauses += poll.not_before - now;
    }
    assert!(pauses > Duration::from_secs(20), "{pauses:?}");
}

#[test]
fn what_is_asked_for_fits_into_what_was_wanted_for_it() {
    let (mut poll, now) = poll(StartAt::TrimHorizon);
    for thousands in (0..2_000).rev() {
        let bytes = thousands * 997;
        let answer = Answer {
            records: 1,
            bytes,
            ..answer(Some("5"), 9)
        };
        poll.on_answer(answer, now);
        let all = poll.limit(10_000, limits::GET_RECORDS_MAX_BYTES);
        assert_eq!(poll.limit(10_000, poll.wanted(10_000)), all, "{bytes}");
    }
}

#[test]
fn records_that_open_to_more_than_they_are_take_the_room_for_that() {
    let (mut poll, now) = poll(StartAt::TrimHorizon);
    let (kib, all) = (limits::KIB as u64, limits::GET_RECORDS_MAX_BYTES);
    let opened_of_50_kib = |records: u64, kib_opened: u64| Answer {
        records,
        bytes: records * 50 * kib,
        opened_bytes: records * kib_opened * kib,
        ..answer(Some("5"), 9)
    };
    poll.on_answer(opened_of_50_kib(10, 60), now);
    assert_eq!(
        poll.limit(10_000, all),
        40,
        "what a shard gives in a second"
    );
    assert_eq!(poll.limit(10_000, 800 * limits::KIB), 10);
    poll.on_answer(opened_of_50_kib(10, 300), now);
    let wanted = poll.wanted(10_000);
    assert!((all * 9 / 10..=all).contains(&wanted), "{wanted}");
    assert_eq!(poll.limit(10_000, all), 27);
    assert_eq!(poll.limit(10_000, 800 * limits::KIB), 2);
    poll.on_answer(opened_of_50_kib(10, 50), now);
    assert_eq!(
        poll.limit(10_000, all),
        40,
        "of 150 KiB, others may come again"
    );
    // What was not opened is asked for in smaller steps, and with a pause where they cannot be.
    let unopened = opened_of_50_kib(40, 1_000);
    poll.on_unopened(&unopened, now);
    assert_eq!(poll.limit(10_000, all), 8);
    assert_eq!((poll.owed_bytes, poll.not_before), (unopened.bytes, now));
    poll.on_unopened(&opened_of_50_kib(8, 1_000), now);
    assert_eq!(poll.limit(10_000, all), 4, "they are not all alike");
    poll.on_unopened(&opened_of_50_kib(1, 9_000), now);
    assert_eq!(poll.limit(10_000, all), 1);
    assert!(poll.not_before > now);
}

#[test]
fn an_answer_without_room_is_owed_for_without_what_is_around_its_records() {
    let (mut poll, now) = poll(StartAt::TrimHorizon);
    poll.on_unread(100, 100 * (1000 + 160) + 1024, now);
    assert_eq!(poll.owed_bytes, 100_000);
    poll.on_unread(100, 5, now);
    assert_eq!(poll.owed_bytes, 0);
}

#[test]
fn an_instant_within_the_second_that_the_service_tells_is_not_ahead_of_it() {
    // Told as 7,000, 300 ms after reading began: it began between 6,700 and 7,699.
    let began_at = 7_000 - 300;
    assert!(!was_ahead(6_000, began_at) && !was_ahead(7_000, began_at));
    assert!(!was_ahead(began_at + 999, began_at));
    assert!(was_ahead(began_at + 1_000, began_at));
}
