//! The one place that reads the time.
//!
//! Monotonic time is tokio's, so a test that pauses the runtime rules every deadline. Wall time
//! is either the system's or, for tests and simulations, counted from a given instant along
//! tokio's clock. Sleeping needs no seam of its own: `tokio::time::{sleep, sleep_until, timeout}`
//! follow the same clock.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the seam that the lint points to"
)]

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Tells monotonic and wall time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    wall: Wall,
}

#[derive(Clone, Debug)]
enum Wall {
    System,
    /// Wall time at `origin`, in milliseconds since the Unix epoch.
    Virtual {
        origin: Instant,
        epoch_millis: u64,
    },
}

impl Clock {
    /// The machine's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self { wall: Wall::System }
    }

    /// A clock whose wall time is `epoch_millis` (milliseconds since the Unix epoch) now and goes
    /// on with tokio's clock: under `tokio::time::pause` it moves only when the test moves it.
    #[must_use]
    pub fn starting_at(epoch_millis: u64) -> Self {
        Self {
            wall: Wall::Virtual {
                origin: Instant::now(),
                epoch_millis,
            },
        }
    }

    /// Monotonic time, for deadlines and durations.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Wall time in milliseconds since the Unix epoch, for what other machines read.
    /// A system clock set before 1970 reads as 0.
    #[must_use]
    pub fn epoch_millis(&self) -> u64 {
        match &self.wall {
            Wall::System => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                millis(since.unwrap_or(Duration::ZERO))
            }
            Wall::Virtual {
                origin,
                epoch_millis,
            } => epoch_millis.saturating_add(millis(Instant::now().duration_since(*origin))),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_virtual_wall_clock_moves_with_the_paused_runtime() {
        let clock = Clock::starting_at(1_700_000_000_000);
        let before = clock.now();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.epoch_millis(), 1_700_003_600_000);
        assert_eq!(clock.now() - before, Duration::from_secs(3600));
    }
}
