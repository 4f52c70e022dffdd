//! The time by which an SDK client signs.

use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use kinesis_core::Clock;

/// Signs by a worker's clock and not by the machine's.
#[derive(Debug)]
pub(super) struct Signing(Clock);

impl Signing {
    pub(super) fn by(clock: Clock) -> Self {
        Self(clock)
    }
}

impl TimeSource for Signing {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.epoch_millis())
    }
}
