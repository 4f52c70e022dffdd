//! How busy a simulated machine is: what a seed gives it to do anyhow, and what its worker is given.
//!
//! Readings fail now and then until the calm, by an error or with nonsense.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kinesis_consumer::{BoxError, WorkerMetric};
use kinesis_core::Rand;

use super::log::{Event, Log};

/// The CPU of one worker's machine.
#[derive(Debug)]
pub(super) struct Busy {
    worker: Arc<str>,
    log: Log,
    /// How far the log was read, and when.
    seen: (usize, Duration),
    calm: bool,
    rand: Rand,
    /// Percent.
    base: f64,
    /// Percent for a record a second.
    cost: f64,
    range: u8,
}

impl Busy {
    /// A machine as unlike the others as its chance has it.
    pub(super) fn of(worker: &Arc<str>, log: &Log, rand: Rand) -> Self {
        Self {
            worker: Arc::clone(worker),
            log: log.clone(),
            seen: (0, Duration::ZERO),
            calm: false,
            base: 20.0 * rand.unit(),
            cost: 2.0 + 10.0 * rand.unit(),
            range: if rand.below(4) == 0 { 30 } else { 100 },
            rand,
        }
    }
}

#[async_trait]
impl WorkerMetric for Busy {
    fn short_name(&self) -> &str {
        "C"
    }

    fn max_utilization(&self) -> u8 {
        self.range
    }

    async fn capture(&mut self) -> Result<f64, BoxError> {
        let now = self.log.now();
        let (from, since) = self.seen;
        let mut records = 0_u64;
        self.log.with(|entries| {
            for entry in &entries[from..] {
                match &entry.event {
                    Event::Delivered { instance, .. } if instance.worker == self.worker => {
                        records += 1
                    }
                    Event::Calm => self.calm = true,
                    _ => {}
                }
            }
            self.seen = (entries.len(), now);
        });
        let passed = now.saturating_sub(since).as_secs_f64();
        let percent = self.base + self.cost * records as f64 / passed.max(1.0);
        match self.rand.below(12) {
            0 if !self.calm => Err("the machine does not tell".into()),
            1 if !self.calm => Ok(f64::NAN),
            _ => Ok(percent.min(100.0)),
        }
    }
}
