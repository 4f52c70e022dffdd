//! What a shard delivers over time, as `throughputKBps` has it.

use std::time::Duration;

use tokio::time::Instant;

use crate::lease::Throughput;

/// The weight of a newer value against those before it. Source: KCL 3.5.1, `LeaseStatsRecorder`.
const ALPHA: f64 = 0.5;

/// Less time than this says nothing. Source: none, reasonable default.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Smooths what it is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    since: Instant,
    bytes: u64,
    average: Option<Throughput>,
}

impl Meter {
    /// A meter that goes on from what the row says.
    pub(super) fn new(average: Option<Throughput>, now: Instant) -> Self {
        Self {
            since: now,
            bytes: 0,
            average,
        }
    }

    /// `bytes` more were delivered until `now`. What the row is to say.
    pub(super) fn add(&mut self, bytes: u64, now: Instant) -> Option<Throughput> {
        self.bytes = self.bytes.saturating_add(bytes);
        let passed = now.saturating_duration_since(self.since);
        if passed >= INTERVAL_MIN {
            let kbps = self.bytes as f64 / 1024.0 / passed.as_secs_f64();
            let before = self.average.map_or(kbps, Throughput::kbps);
            self.average = Throughput::of_kbps(ALPHA * kbps + (1.0 - ALPHA) * before);
            (self.since, self.bytes) = (now, 0);
        }
        self.average
    }
}

#[cfg(test)]
mod tests {
    use kinesis_core::Clock;

    use super::*;

    #[test]
    fn the_throughput_follows_what_is_delivered_and_goes_on_from_the_row() {
        let start = Clock::system().now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let kbps = |value: f64| Throughput::of_kbps(value);
        let mut meter = Meter::new(None, start);
        assert_eq!(meter.add(1024, start), None, "too early to tell");
        assert_eq!(meter.add(9 * 1024, at(10)), kbps(1.0));
        assert_eq!(meter.add(30 * 1024, at(20)), kbps(2.0));
        assert_eq!(meter.add(0, at(30)), kbps(1.0));
        let mut meter = Meter::new(kbps(8.0), start);
        assert_eq!(meter.add(0, start), kbps(8.0));
        assert_eq!(meter.add(0, at(2)), kbps(4.0));
    }
}
