//! The one place that reads the time.
//!
//! ```text
//! now()           tokio's clock ─────────────────────────────┐
//! epoch_millis()  the system's, or counted from a given ─────┴─▶ + what it was advanced by
//!                 instant along tokio's clock
//! ```
//! Monotonic time is tokio's, so a test that pauses the runtime rules every deadline. A clock that
//! [can be advanced](Clock::advanceable) runs ahead of both by what it was advanced: time passes on
//! purpose where the runtime cannot be paused, in a server for example.
//!
//! Who sleeps by [`Clock::sleep_until`] or [`Clock::sleep`] is woken by an advance. For clocks that
//! cannot be advanced `tokio::time::{sleep, sleep_until, timeout}` do the same.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the seam that the lint points to"
)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

/// How far a clock can be advanced in all: a hundred years. Source: none; far beyond the longest
/// retention (a year), and far below what an `Instant` holds.
pub const CLOCK_ADVANCE_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Tells monotonic and wall time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    wall: Wall,
    /// How far it was advanced; `None`: it cannot be.
    ahead: Option<Arc<watch::Sender<Duration>>>,
}

/// Why a clock was not advanced.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ClockError {
    /// It is not [`Clock::advanceable`].
    #[error("this clock cannot be advanced")]
    Fixed,
    /// The time asked for has passed.
    #[error("time does not go backward")]
    Backward,
    /// The time asked for lies more than [`CLOCK_ADVANCE_MAX`] ahead.
    #[error("the clock cannot be advanced by more than a hundred years")]
    TooFar,
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
        Self {
            wall: Wall::System,
            ahead: None,
        }
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
            ahead: None,
        }
    }

    /// This clock as one that can be advanced, apart from the clones made of it before.
    #[must_use]
    pub fn advanceable(mut self) -> Self {
        let ahead = watch::Sender::new(self.ahead());
        self.ahead = Some(Arc::new(ahead));
        self
    }

    /// Whether it can be advanced.
    #[must_use]
    pub fn is_advanceable(&self) -> bool {
        self.ahead.is_some()
    }

    /// How far it was advanced.
    #[must_use]
    pub fn ahead(&self) -> Duration {
        self.ahead
            .as_ref()
            .map_or(Duration::ZERO, |ahead| *ahead.borrow())
    }

    /// Lets this much time pass for everybody who has a clone of it, and wakes those whose sleep
    /// is over.
    ///
    /// # Errors
    /// It cannot be advanced, or not so far; then nothing changed.
    pub fn advance(&self, by: Duration) -> Result<(), ClockError> {
        let Some(ahead) = &self.ahead else {
            return Err(ClockError::Fixed);
        };
        let advanced = ahead.send_if_modified(|ahead| {
            let reached = ahead.checked_add(by);
            let reached = reached.filter(|reached| *reached <= CLOCK_ADVANCE_MAX);
            *ahead = reached.unwrap_or(*ahead);
            reached.is_some()
        });
        if advanced {
            Ok(())
        } else {
            Err(ClockError::TooFar)
        }
    }

    /// Advances it to a wall time, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// As [`advance`](Self::advance), and if that time has passed.
    pub fn advance_to(&self, epoch_millis: u64) -> Result<(), ClockError> {
        if self.ahead.is_none() {
            return Err(ClockError::Fixed);
        }
        let by = epoch_millis.checked_sub(self.epoch_millis());
        self.advance(Duration::from_millis(by.ok_or(ClockError::Backward)?))
    }

    /// Sleeps for this long on this clock. Cancel safe.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    /// Sleeps until this clock's [`now`](Self::now) has come to `deadline`. Cancel safe.
    pub async fn sleep_until(&self, deadline: Instant) {
        let Some(ahead) = &self.ahead else {
            return tokio::time::sleep_until(deadline).await;
        };
        let mut advances = ahead.subscribe();
        loop {
            let now = Instant::now() + *advances.borrow_and_update();
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() {
                return;
            }
            // Either the time has come, or there is less left; the sender lives as long as `self`.
            drop(tokio::time::timeout(left, advances.changed()).await);
        }
    }

    /// Monotonic time, for deadlines and durations.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::now() + self.ahead()
    }

    /// Wall time in milliseconds since the Unix epoch, for what other machines read.
    /// A system clock set before 1970 reads as 0.
    #[must_use]
    pub fn epoch_millis(&self) -> u64 {
        let wall = match &self.wall {
            Wall::System => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                millis(since.unwrap_or(Duration::ZERO))
            }
            Wall::Virtual {
                origin,
                epoch_millis,
            } => epoch_millis.saturating_add(millis(Instant::now().duration_since(*origin))),
        };
        wall.saturating_add(millis(self.ahead()))
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

    #[tokio::test(start_paused = true)]
    async fn an_advance_is_seen_by_every_clone_and_wakes_whose_time_has_come() {
        let clock = Clock::starting_at(1000).advanceable();
        let (began, real) = (clock.now(), Instant::now());
        let sleep = |seconds| {
            let clock = clock.clone();
            tokio::spawn(async move {
                clock.sleep(Duration::from_secs(seconds)).await;
                clock.epoch_millis()
            })
        };
        let (hour, day) = (sleep(3600), sleep(24 * 3600));
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(3600)).unwrap();
        assert_eq!(hour.await.unwrap(), 3_601_000);
        assert!(!day.is_finished());
        assert_eq!(Instant::now(), real, "nobody really waited");
        clock.advance_to(1000 + 24 * 3_600_000).unwrap();
        assert_eq!(day.await.unwrap(), 86_401_000);
        assert_eq!(clock.now() - began, Duration::from_secs(24 * 3600));
        // Time also passes by itself.
        clock.sleep(Duration::from_secs(5)).await;
        assert_eq!(Instant::now() - real, Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn time_does_not_go_backward_nor_beyond_its_end() {
        let clock = Clock::starting_at(1000).advanceable();
        assert_eq!(clock.advance_to(999), Err(ClockError::Backward));
        assert_eq!(clock.advance_to(u64::MAX), Err(ClockError::TooFar));
        assert_eq!(clock.advance(Duration::MAX), Err(ClockError::TooFar));
        clock.advance(CLOCK_ADVANCE_MAX).unwrap();
        let over = clock.advance(Duration::from_nanos(1));
        assert_eq!(over, Err(ClockError::TooFar));
        let fixed = Clock::starting_at(1000);
        assert_eq!(fixed.advance(Duration::ZERO), Err(ClockError::Fixed));
        assert_eq!(fixed.advance_to(2000), Err(ClockError::Fixed));
    }
}
