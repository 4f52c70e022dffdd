//! How often something was done in the last 24 hours.
//!
//! Promises: a time counts until 24 hours have passed since it; older times are forgotten when
//! another is noted, so no more than the day's are kept.

/// The rolling day of the service's quotas, in milliseconds.
pub(crate) const DAY_MS: u64 = 24 * 3_600_000;

/// The times of the last day.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Daily(Vec<u64>);

impl Daily {
    /// How many lie in the 24 hours before `now_ms`.
    pub(crate) fn count(&self, now_ms: u64) -> usize {
        self.0
            .iter()
            .filter(|&&at_ms| recent(at_ms, now_ms))
            .count()
    }

    pub(crate) fn note(&mut self, now_ms: u64) {
        self.0.retain(|&at_ms| recent(at_ms, now_ms));
        self.0.push(now_ms);
    }
}

fn recent(at_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(at_ms) < DAY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_for_a_day() {
        let mut daily = Daily::default();
        daily.note(5);
        daily.note(10);
        assert_eq!(daily.count(DAY_MS + 4), 2);
        assert_eq!(daily.count(DAY_MS + 5), 1);
        daily.note(DAY_MS + 5);
        assert_eq!(daily.0, [10, DAY_MS + 5]);
    }
}
