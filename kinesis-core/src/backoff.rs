//! How long to wait before trying again: exponential growth with full jitter.
//!
//! The delay before retry `n` is uniform in `0 ..= min(max, base · 2ⁿ)`. Of the usual forms this
//! one spreads many clients best for the fewest calls.
//! Source: AWS Architecture Blog, "Exponential Backoff And Jitter".

use std::time::Duration;

use crate::Rand;

/// An exponential back-off with full jitter. Holds no state: the caller counts its attempts.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
}

impl Backoff {
    /// A back-off whose longest delay is `base` before the first retry, doubles with each further
    /// one, and never exceeds `max`.
    #[must_use]
    pub const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max }
    }

    /// The longest delay there can be before retry `attempt` (0 for the first retry).
    #[must_use]
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }

    /// A delay before retry `attempt` (0 for the first retry): uniform up to [`Self::ceiling`].
    #[must_use]
    pub fn delay(&self, attempt: u32, rand: &Rand) -> Duration {
        self.ceiling(attempt).mul_f64(rand.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum_and_never_overflows() {
        let ceilings: Vec<_> = (0..6).map(|n| BACKOFF.ceiling(n).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1600, 2000]);
        assert_eq!(BACKOFF.ceiling(u32::MAX), Duration::from_secs(2));
        let hours = Backoff::new(Duration::from_secs(3600), Duration::MAX);
        assert!(hours.ceiling(63) >= hours.ceiling(31));
    }

    #[test]
    fn delays_spread_over_the_whole_interval() {
        let seed = 20_010_101;
        let rand = Rand::seeded(seed);
        let delays: Vec<_> = (0..1000).map(|_| BACKOFF.delay(3, &rand)).collect();
        let below = |millis| delays.iter().filter(|d| d.as_millis() < millis).count();
        assert_eq!(below(801), 1000, "seed {seed}");
        assert!(
            (150..350).contains(&below(200)),
            "seed {seed}: {}",
            below(200)
        );
        assert!(
            (400..600).contains(&below(400)),
            "seed {seed}: {}",
            below(400)
        );
    }
}
