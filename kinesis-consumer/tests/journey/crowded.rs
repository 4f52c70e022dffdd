//! A worker whose budget is taken by shards that are stuck, nearly all of it.
//!
//! What finds no room is asked for again and again, and is nearly 1 MB each time: a debug build takes ten
//! seconds and more for each of these, so they are not of the everyday loop (feature `slow`). `growing` has
//! what is.

use std::time::Duration;

use kinesis_consumer::Settings;

use crate::fan_out::by_fan_out;
use crate::growing::{one_goes_on_beside_stuck_ones, without_room};

#[tokio::test(start_paused = true)]
async fn a_shard_without_room_for_an_event_is_polled_in_small_steps_instead() {
    // More than common pool and what is kept for events have room for.
    let counts = one_goes_on_beside_stuck_ones(19, by_fan_out(), Duration::ZERO).await;
    let (polled, unread) = without_room(&counts, "fan_out");
    assert!(polled > 0, "nobody went over to polling");
    assert!(unread > 0, "every event had room");
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_room_is_counted_and_asked_for_again_in_smaller_steps() {
    let settings = Settings::default();
    let counts = one_goes_on_beside_stuck_ones(19, settings, Duration::ZERO).await;
    let (_, unread) = without_room(&counts, "polling");
    assert!(unread > 0, "every answer had room");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_was_slow_when_its_event_found_no_room_is_polled_once_it_holds_nothing() {
    // Longer than an event waits; so the subscription is let go first.
    let first = Duration::from_secs(20);
    let counts = one_goes_on_beside_stuck_ones(19, by_fan_out(), first).await;
    let (polled, _) = without_room(&counts, "fan_out");
    assert!(polled > 0, "nobody went over to polling");
}
