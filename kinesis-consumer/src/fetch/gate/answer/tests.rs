//! Which answers of the service fit into the room for what is expected.

use std::fmt::Write;

use futures::FutureExt;
use kinesis_core::{Clock, Rand};

use super::*;
use crate::fetch::Budget;
use crate::fetch::buffer::{BufferLimits, Filler, buffer};
use crate::fetch::poll::{Answer, Poll as Polling, StartAt};

const MOST_RECORDS: u32 = 10_000;
const KEY: &str = "0123456789";

/// The body of an answer with records of so many bytes of payload and key, as long as the service
/// writes it.
fn body_of(sizes: impl Iterator<Item = usize>) -> SdkBody {
    let iterator = "A".repeat(300);
    let mut json =
        format!(r#"{{"MillisBehindLatest":86400000,"NextShardIterator":"{iterator}","Records":["#);
    for size in sizes {
        let data = "A".repeat((size - KEY.len()).div_ceil(3) * 4);
        let number = "4".repeat(56);
        let written = write!(
            json,
            r#"{{"ApproximateArrivalTimestamp":1764112345.123,"Data":"{data}","EncryptionType":"NONE","PartitionKey":"{KEY}","SequenceNumber":"{number}"}},"#
        );
        written.expect("a string takes all");
    }
    json.push_str("]}");
    SdkBody::from(json)
}

/// A shard beside a stuck one that holds all of the common pool: it has a piece of 64 KiB.
struct Beside {
    filler: Filler,
    _stuck: crate::fetch::budget::Reservation,
    _member: crate::fetch::budget::Member,
}

async fn beside_a_stuck_one() -> Beside {
    let budget = Budget::new(4 * 2 * 64 * limits::KIB);
    let no_limits = BufferLimits {
        bytes: usize::MAX,
        records: usize::MAX,
    };
    let (filler, receiver) = buffer(no_limits, &budget);
    // Nobody reads; nothing is sent either.
    std::mem::forget(receiver);
    let _member = budget.join();
    let _stuck = budget.reserve(budget.largest()).await;
    Beside {
        filler,
        _stuck,
        _member,
    }
}

fn polling(rand: Rand) -> Polling {
    let now = Clock::system().now();
    Polling::new(StartAt::TrimHorizon, std::time::Duration::ZERO, rand, now)
}

/// Reads so many answers of a backlog of records of `size`s; how many had to wait.
async fn held_up(answers: usize, rand: Rand, size: impl Fn() -> usize) -> usize {
    let shard = beside_a_stuck_one().await;
    let mut poll = polling(rand);
    let mut held_up = 0;
    for nth in 0..answers {
        let slot = shard.filler.slot(poll.wanted(MOST_RECORDS)).await;
        let slot = slot.expect("somebody reads");
        assert_eq!(slot.bytes(), 64 * limits::KIB, "a piece");
        let limit = poll.limit(MOST_RECORDS, slot.bytes());
        let sizes: Vec<_> = (0..limit).map(|_| size()).collect();
        let bytes: usize = sizes.iter().sum();
        let gate = Arc::new(Gate::default());
        let door = Doorkeeper {
            gate: Arc::clone(&gate),
            room: slot.bytes(),
        };
        door.hold(&mut body_of(sizes.iter().copied()));
        held_up += usize::from(gate.asked().now_or_never().is_some());
        let opened = bytes + limit as usize * 256;
        let read = Answer {
            next_iterator: None,
            last: None,
            records: u64::from(limit),
            bytes: bytes as u64,
            opened_bytes: opened as u64,
            millis_behind_latest: 1_000,
        };
        poll.on_answer(read, Clock::system().now());
        // Once it has seen a few, it makes use of what it has.
        assert!(nth < 3 || opened * 2 >= slot.bytes(), "{opened} bytes");
    }
    held_up
}

#[tokio::test(start_paused = true)]
async fn records_of_any_usual_size_pass_in_a_piece_while_the_common_pool_is_full() {
    for bytes in [11, 100, 500, 1_000, 2_700, 10_000, 40_000] {
        let held_up = held_up(20, Rand::seeded(1), || bytes).await;
        assert_eq!(held_up, 0, "records of {bytes} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn records_whose_sizes_vary_around_their_mean_pass_too() {
    // Always the same: of a thousand seeds there are some whose sizes lie far from their mean for once.
    for seed in 0..8 {
        println!("seed {seed}");
        let rand = Rand::seeded(seed);
        for most in [200, 1_000, 2_000] {
            let size = || 11 + rand.below(most) as usize;
            let held_up = held_up(100, rand.fork(), size).await;
            assert!(held_up <= 2, "{held_up} of 100, up to {most} bytes");
        }
    }
}

#[test]
fn an_answer_that_is_larger_than_the_room_asks_for_what_it_takes_and_waits() {
    let gate = Arc::new(Gate::default());
    let door = Doorkeeper {
        gate: Arc::clone(&gate),
        room: 64 * limits::KIB,
    };
    let mut body = body_of(std::iter::repeat_n(1_000, 100));
    door.hold(&mut body);
    let asked = gate.asked().now_or_never().expect("it waits");
    assert!((100_000..=100 * 1_160 + 1_024).contains(&asked), "{asked}");
    let polled = futures::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
    assert!(polled.now_or_never().is_none(), "nothing is read");
    gate.open();
    let polled = futures::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
    assert!(polled.now_or_never().is_some());
}

#[test]
fn a_full_answer_fits_into_the_room_for_one() {
    let gate = Arc::new(Gate::default());
    let door = Doorkeeper {
        gate: Arc::clone(&gate),
        room: limits::GET_RECORDS_MAX_BYTES,
    };
    let mut body = body_of(std::iter::repeat_n(limits::GET_RECORDS_MAX_BYTES / 40, 40));
    door.hold(&mut body);
    assert_eq!(gate.asked().now_or_never(), None);
}
