//! What a worker tells the leader of how busy it is: measures of the application's choice, the CPU by
//! default, and the taking of a reading of each.
//!
//! ```text
//!  metrics ── capture ─▶ readings in percent ─▶ row of the worker: sts { C: [12.5, 14] }, opr { C: [100] }
//!             (all at once, in bounded time)     └ a failed one is −1, as in the KCL
//! ```
//! A metric that has never given a value is not in the row: a worker that cannot read it is weighed by
//! what its shards deliver, and gets leases. In the KCL it gets none.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::join_all;
use metrics::counter;
use tokio::time::timeout;

use super::cpu::CpuMetric;
use super::metrics as names;
use super::stats::WorkerStats;
use crate::error::{BoxError, Error, ErrorKind};

/// Names that a row may not hold: the KCL weighs workers without metrics by throughput under them.
/// Source: KCL 3.5.1, `WorkerMetricType`.
const RESERVED: [&str; 2] = ["T", "THROUGHPUT"];

/// Source: none, reasonable bound: it is written with every report.
const SHORT_NAME_CHARS_MAX: usize = 32;

/// Source: none, reasonable bound; the KCL has four.
const METRICS_MAX: usize = 8;

/// What a reading may be, and what a worker may rise to, in percent. Source: KCL 3.5.1, `WorkerMetric`.
const PERCENT_MAX: f64 = 100.0;

/// One measure of how busy this worker is, as the KCL's interface of this name: a percentage of what its
/// machine, or its share of one, can do.
///
/// Given to [`ConsumerBuilder::worker_metrics`](crate::ConsumerBuilder::worker_metrics), for a leader that
/// shares the leases out by [`LeaseAssignment::WorkerUtilization`](crate::LeaseAssignment): ours or a KCL's.
/// Each metric is held against the average of the workers, in which one that does not tell it stands for an
/// average machine, and of several the one by which most is to be moved counts. [`CpuMetric`] is the default; this one is of an application that
/// waits for a pool of connections before its CPU has much to do:
///
/// ```
/// use std::sync::Arc;
/// use kinesis_consumer::{BoxError, WorkerMetric};
/// use tokio::sync::Semaphore;
///
/// struct Connections {
///     free: Arc<Semaphore>,
///     all: usize,
/// }
///
/// #[async_trait::async_trait]
/// impl WorkerMetric for Connections {
///     fn short_name(&self) -> &str {
///         "DB"
///     }
///     fn max_utilization(&self) -> u8 {
///         80 // the rest is for other work of this process
///     }
///     async fn capture(&mut self) -> Result<f64, BoxError> {
///         let used = self.all - self.free.available_permits();
///         Ok(100.0 * used as f64 / self.all as f64)
///     }
/// }
/// ```
#[async_trait]
pub trait WorkerMetric: Send + Sync {
    /// By what name the metric stands in the worker's row, 1 to 32 characters; the same in all workers that
    /// measure the same. The KCL has `C` for the CPU, `M` for memory, `NI` and `NO` for the network in and
    /// out. `T` and `THROUGHPUT` are not to be used. Asked once.
    fn short_name(&self) -> &str;

    /// What the metric may rise to, in percent, 1 to 100: a worker that is above it gives leases away as
    /// long as others are below theirs, and gets none. The KCL's `OperatingRange`. Asked once.
    fn max_utilization(&self) -> u8 {
        100
    }

    /// A reading, from 0 to 100. It is taken once per
    /// [`worker_metrics_interval`](crate::LeaseSettings::worker_metrics_interval), so that it should be the
    /// average since the one before, where that is to be had. (The KCL takes one each second and averages
    /// them itself.)
    ///
    /// It must not block its thread: the task that asks also keeps the leader's lock. It has a fourteenth
    /// of `leader_lock_duration`, 1.3 s by default, and its future is dropped then.
    ///
    /// # Errors
    /// An error, a panic, being late, and a value that is no number from 0 to 100 are all a failed reading:
    /// told by a WARN and the counter `kinesis_consumer_worker_metric_failures_total`. Where the leader
    /// shares by utilisation, a worker whose last reading failed keeps its leases and gets no more, until one
    /// succeeds; if no worker has a reading that did not fail, they share by number. A metric that never gave
    /// a reading is left out, with one WARN, and is not counted.
    async fn capture(&mut self) -> Result<f64, BoxError>;
}

/// The metrics of one worker.
#[derive(Default)]
pub(crate) struct Meters {
    all: Vec<Meter>,
}

struct Meter {
    name: String,
    range: u64,
    metric: Box<dyn WorkerMetric>,
    /// Whether it was said that it never gave a reading.
    mute: bool,
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.all.iter().map(|meter| (&meter.name, meter.range));
        f.debug_map().entries(named).finish()
    }
}

impl Meters {
    /// What is measured where nothing else is asked for.
    pub(crate) fn of_cpu() -> Self {
        let metric = CpuMetric::new();
        let meter = Meter {
            name: metric.short_name().to_owned(),
            range: metric.max_utilization().into(),
            metric: Box::new(metric),
            mute: false,
        };
        Self { all: vec![meter] }
    }

    /// # Errors
    /// `InvalidInput` for names or ranges that a row cannot hold.
    pub(crate) fn new(metrics: Vec<Box<dyn WorkerMetric>>) -> Result<Self, Error> {
        let refuse = |what: String| Err(Error::new(ErrorKind::InvalidInput, what));
        if metrics.len() > METRICS_MAX {
            let given = metrics.len();
            return refuse(format!(
                "worker_metrics must be at most {METRICS_MAX}, not {given}"
            ));
        }
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for metric in metrics {
            let (name, range) = (metric.short_name().to_owned(), metric.max_utilization());
            let long = name.chars().count();
            if !(1..=SHORT_NAME_CHARS_MAX).contains(&long) || RESERVED.contains(&name.as_str()) {
                return refuse(format!(
                    "the short name of a worker metric must be 1 to {SHORT_NAME_CHARS_MAX} characters and \
                     neither of {RESERVED:?}, not {name:?}"
                ));
            }
            if !(1..=100).contains(&range) {
                return refuse(format!(
                    "the max_utilization of worker metric {name:?} must be 1 to 100, not {range}"
                ));
            }
            if !seen.insert(name.clone()) {
                return refuse(format!("worker metric {name:?} must be given once"));
            }
            all.push(Meter {
                name,
                range: range.into(),
                metric,
                mute: false,
            });
        }
        Ok(Self { all })
    }

    /// Takes a reading of each, all at once and within `limit`, and notes them in `stats`.
    pub(crate) async fn capture(&mut self, limit: Duration, stats: &mut WorkerStats) {
        let readings = self.all.iter_mut().map(|meter| async move {
            let reading = async { meter.metric.capture().await };
            let reading = AssertUnwindSafe(reading).catch_unwind();
            let value = match timeout(limit, reading).await {
                Ok(Ok(Ok(value))) if (0.0..=PERCENT_MAX).contains(&value) => Ok(value),
                Ok(Ok(Ok(value))) => Err(format!("{value} is no number from 0 to 100")),
                Ok(Ok(Err(error))) => Err(error.to_string()),
                Ok(Err(_)) => Err("it panicked".to_owned()),
                Err(_) => Err(format!("it did not answer within {limit:?}")),
            };
            (meter, value)
        });
        for (meter, value) in join_all(readings).await {
            let name = meter.name.as_str();
            let known = value.is_ok() || stats.values.contains_key(name);
            if let Err(why) = &value {
                if known {
                    counter!(names::METRIC_FAILURES).increment(1);
                    tracing::warn!(metric = name, "a reading of a worker metric failed: {why}");
                } else if !std::mem::replace(&mut meter.mute, true) {
                    tracing::warn!(
                        metric = name,
                        "a worker metric gave no reading, and the worker is weighed without it until it \
                         does: {why}"
                    );
                }
            }
            if known {
                stats.record(name, value.ok(), meter.range);
            }
        }
    }
}

#[cfg(test)]
mod tests;
