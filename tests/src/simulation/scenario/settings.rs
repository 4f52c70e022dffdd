//! What a seed decides about a fleet before it begins.

use std::time::Duration;

use kinesis_consumer::{
    FanOutSettings, ForEach, InitialPosition, LeaseAssignment, LeaseSettings, OnFailure, Retrieval,
    Settings, UtilizationSettings,
};
use kinesis_core::Rand;
use kinesis_local::testing::START_MS;

use crate::simulation::processor::{Mood, Temper, Way};

/// The longest that the stream is written to before an application comes that starts at an instant, in
/// milliseconds. Source: none; time for some records in each shard.
const AHEAD_MILLIS_MAX: u64 = 40_000;

/// How often workers report how busy they are. Source: none; three times as often as by default, so that
/// more is moved.
const REPORTS: Duration = Duration::from_secs(10);

/// The consumers' settings.
pub(super) fn settings(rand: &Rand) -> Settings {
    let retrieval = match rand.below(3) {
        0 => Retrieval::FanOut(FanOutSettings::default()),
        _ => Retrieval::Polling,
    };
    let on_failure = match rand.below(2) {
        0 => OnFailure::DeadLetter { attempts: 3 },
        _ => OnFailure::Retry,
    };
    let assignment = match rand.below(2) {
        0 => LeaseAssignment::LeaseCount,
        _ => LeaseAssignment::WorkerUtilization(UtilizationSettings {
            // Every 7 to 21 s, in which a report or two come.
            variance_balancing_frequency: 4 + rand.below(9) as u32,
            ..UtilizationSettings::default()
        }),
    };
    Settings {
        initial_position: initial(rand),
        retrieval,
        on_failure,
        // As many as keep up with the writer, slow batches and all.
        max_records: 5 + rand.below(20) as u32,
        shutdown_timeout: Duration::from_secs(1 + rand.below(20)),
        lease: LeaseSettings {
            worker_metrics_interval: REPORTS,
            assignment,
            ..LeaseSettings::default()
        },
        ..Settings::default()
    }
}

/// Where records that fail stop their shard, in place of one of three fleets that try for ever.
pub(super) fn stops(rand: &Rand, on_failure: OnFailure) -> OnFailure {
    match (on_failure, rand.below(3)) {
        (OnFailure::Retry, 0) => OnFailure::Stop {
            attempts: 1 + rand.below(3) as u32,
        },
        _ => on_failure,
    }
}

/// How the destination of dead letters behaves.
pub(super) fn mood(rand: &Rand) -> Mood {
    let part = Duration::from_secs(10 + rand.below(30));
    let stretch = part + Duration::from_secs(10 + rand.below(60));
    Mood {
        fails_every: [0, 2, 5][rand.below(3) as usize],
        away: Some((part, stretch)).filter(|_| rand.below(2) == 0),
    }
}

/// One read of how many is late.
pub(super) fn late_every(rand: &Rand) -> u64 {
    [0, 0, 3, 12][rand.below(4) as usize]
}

/// Where the application starts: at an instant that is over when the first worker comes.
fn initial(rand: &Rand) -> InitialPosition {
    match rand.below(4) {
        0 => InitialPosition::Latest,
        1 => InitialPosition::AtTimestamp(START_MS + rand.below(AHEAD_MILLIS_MAX)),
        _ => InitialPosition::TrimHorizon,
    }
}

/// How long the stream is written to before the first worker comes.
pub(super) fn ahead(rand: &Rand, settings: &Settings) -> Duration {
    Duration::from_millis(match settings.initial_position {
        InitialPosition::TrimHorizon => 0,
        InitialPosition::Latest => rand.below(AHEAD_MILLIS_MAX),
        InitialPosition::AtTimestamp(millis) => millis - START_MS + rand.below(10_000),
    })
}

/// How processors behave.
pub(super) fn temper(rand: &Rand) -> Temper {
    Temper {
        slow: Duration::from_secs(1 + rand.below(14)),
        slow_every: [0, 8, 30][rand.below(3) as usize],
        fails_every: [0, 12, 40][rand.below(3) as usize],
    }
}

/// How processors go through a shard.
pub(super) fn way(rand: &Rand) -> Way {
    match rand.below(4) {
        0 => Way::Prepared,
        1 => Way::Each(ForEach {
            concurrency: 1 + rand.below(6) as usize,
            order_per_key: rand.below(4) > 0,
            checkpoint_interval: Duration::from_millis(100 + rand.below(5_000)),
        }),
        _ => Way::Batches,
    }
}
