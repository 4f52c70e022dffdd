//! A worker's row of worker metrics: that it lives, and how busy it is. Without I/O.
//!
//! The attributes are those of KCL 3.5.1's `WorkerMetricStats`: `lut` (N, when it was written, in
//! seconds), `sts` (M of L of N: the last values of each metric, oldest first, −1 where a sample
//! failed), `opr` (M of L of N: what each metric may rise to), `sup` and `slu` (what the worker
//! understands, 1 being rows in one table). A leader gives leases only to workers whose row is fresh. One
//! is of our own: `writer` (S), by which a row of ours is told from one of a KCL.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::{Item, number};

pub(super) const UPDATED_AT: &str = "lut";
pub(super) const VALUES: &str = "sts";
pub(super) const RANGES: &str = "opr";
pub(super) const SUPPORT: &str = "sup";
pub(super) const SUPPORT_UPDATED_AT: &str = "slu";
/// Who wrote the row; a KCL does not say.
pub(super) const WRITER: &str = "writer";
pub(super) const OURS: &str = "kinesis-consumer";
/// Source: KCL 3.5.1, `EntityType`.
pub(super) const ENTITY_STATS: &str = "WORKER_METRIC_STATS";
/// Understands worker metrics and states in the lease table.
/// Source: KCL 3.5.1, `WorkerMetricStats.Features`.
pub(super) const SUPPORTS_SINGLE_TABLE: u64 = 1;

/// Short name of CPU utilisation in percent. Source: KCL 3.5.1, `WorkerMetricType`.
pub(crate) const CPU: &str = "C";
/// Values kept of each metric. Source: KCL, `noOfPersistedMetricsPerWorkerMetrics`.
pub(crate) const VALUES_MAX: usize = 10;
/// What a failed sample is written as. Source: KCL 3.5.1.
const FAILED: f64 = -1.0;

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WorkerStats {
    pub(crate) worker: String,
    /// `lut`, in seconds since the Unix epoch.
    pub(crate) updated_at: u64,
    pub(crate) values: BTreeMap<String, Vec<f64>>,
    pub(crate) ranges: BTreeMap<String, u64>,
    /// Whether a worker of this crate wrote it, and not a KCL.
    pub(crate) is_ours: bool,
}

impl WorkerStats {
    /// A worker of this crate that says only that it lives.
    pub(crate) fn new(worker: &str, updated_at: u64) -> Self {
        Self {
            worker: worker.to_owned(),
            updated_at,
            values: BTreeMap::new(),
            ranges: BTreeMap::new(),
            is_ours: true,
        }
    }

    /// Notes one more value of `metric`.
    pub(crate) fn record(&mut self, metric: &str, value: Option<f64>, range: u64) {
        let values = self.values.entry(metric.to_owned()).or_default();
        values.push(value.unwrap_or(FAILED));
        let over = values.len().saturating_sub(VALUES_MAX);
        values.drain(..over);
        self.ranges.insert(metric.to_owned(), range);
    }

    /// Reads a row whose key attribute is `key`; `None` if it says nothing that can be used.
    pub(crate) fn read(item: &Item, key: &str) -> Option<Self> {
        let worker = item.get(key)?.as_s().ok()?.clone();
        let updated_at = item.get(UPDATED_AT)?.as_n().ok()?.parse().ok()?;
        let values = lists(item.get(VALUES))?;
        let ranges = lists(item.get(RANGES))?;
        let ranges: BTreeMap<_, _> = ranges
            .into_iter()
            .map(|(metric, range)| Some((metric, *range.first()? as u64)))
            .collect::<Option<_>>()?;
        let every_range_is_known = values.keys().all(|metric| ranges.contains_key(metric));
        let valid = every_range_is_known && ranges.values().all(|range| *range > 0);
        valid.then_some(Self {
            worker,
            updated_at,
            values,
            ranges,
            is_ours: item.contains_key(WRITER),
        })
    }

    /// `sts` and `opr` as DynamoDB has them.
    pub(super) fn maps(&self) -> (AttributeValue, AttributeValue) {
        let list = |values: Vec<AttributeValue>| AttributeValue::L(values);
        let values = self.values.iter().map(|(metric, values)| {
            let values = values.iter().map(|value| decimal(*value)).collect();
            (metric.clone(), list(values))
        });
        let ranges = self
            .ranges
            .iter()
            .map(|(metric, range)| (metric.clone(), list(vec![number(*range)])));
        (
            AttributeValue::M(values.collect()),
            AttributeValue::M(ranges.collect()),
        )
    }

    /// Whether the newest sample of a metric failed; such a worker gets no leases.
    pub(crate) fn is_failing(&self) -> bool {
        let newest = |values: &Vec<f64>| values.last() == Some(&FAILED);
        self.values.values().any(newest)
    }

    /// The values of `metric` smoothed: each newer one counts with weight `alpha`.
    pub(crate) fn smoothed(&self, metric: &str, alpha: f64) -> Option<f64> {
        let values = self.values.get(metric)?;
        let good = values.iter().filter(|value| **value != FAILED);
        let smoothed = good.fold(None, |average: Option<f64>, value| {
            Some(average.map_or(*value, |average| alpha * value + (1.0 - alpha) * average))
        });
        Some(smoothed.unwrap_or(0.0))
    }

    /// Whether the row was written at most `age` ago by the wall clock.
    pub(crate) fn is_fresh(&self, now_millis: u64, age: Duration) -> bool {
        let now = now_millis / 1_000;
        now.saturating_sub(self.updated_at) <= age.as_secs()
    }
}

/// Six decimals, as the KCL writes them, and no trailing zeros.
fn decimal(value: f64) -> AttributeValue {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    AttributeValue::N(text.to_owned())
}

fn lists(value: Option<&AttributeValue>) -> Option<BTreeMap<String, Vec<f64>>> {
    let empty = HashMap::new();
    let map = match value {
        None => &empty,
        Some(value) => value.as_m().ok()?,
    };
    let list = |value: &AttributeValue| -> Option<Vec<f64>> {
        let list = value.as_l().ok()?;
        let number = |value: &AttributeValue| {
            let number: f64 = value.as_n().ok()?.parse().ok()?;
            number.is_finite().then_some(number)
        };
        list.iter().map(number).collect()
    };
    map.iter()
        .map(|(metric, values)| Some((metric.clone(), list(values)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stats: &WorkerStats) -> Option<WorkerStats> {
        let (values, ranges) = stats.maps();
        let item = Item::from([
            (
                "leaseKey".to_owned(),
                AttributeValue::S(stats.worker.clone()),
            ),
            (UPDATED_AT.to_owned(), number(stats.updated_at)),
            (VALUES.to_owned(), values),
            (RANGES.to_owned(), ranges),
            (WRITER.to_owned(), AttributeValue::S(OURS.to_owned())),
        ]);
        WorkerStats::read(&item, "leaseKey")
    }

    #[test]
    fn a_row_is_read_as_it_was_written_and_only_if_it_can_be_used() {
        let mut stats = WorkerStats::new("a", 1_767_225_600);
        assert_eq!(read(&stats), Some(stats.clone()));
        stats.record(CPU, Some(12.25), 100);
        stats.record(CPU, None, 100);
        assert_eq!(read(&stats), Some(stats.clone()));
        stats.ranges.insert(CPU.to_owned(), 0);
        assert_eq!(read(&stats), None, "a range of nothing");
        stats.ranges.clear();
        assert_eq!(read(&stats), None, "a metric without a range");
        assert_eq!(WorkerStats::read(&Item::new(), "leaseKey"), None);
    }

    #[test]
    fn only_the_last_values_are_kept_and_a_failed_one_is_not_counted_in() {
        let mut stats = WorkerStats::new("a", 0);
        for value in 0..12 {
            stats.record(CPU, Some(f64::from(value)), 100);
        }
        assert_eq!(stats.values[CPU].len(), VALUES_MAX);
        assert!(!stats.is_failing());
        let mut stats = WorkerStats::new("a", 0);
        stats.record(CPU, Some(40.0), 100);
        stats.record(CPU, None, 100);
        assert!(stats.is_failing());
        assert_eq!(stats.smoothed(CPU, 0.5), Some(40.0));
        stats.record(CPU, Some(80.0), 100);
        assert!(!stats.is_failing());
        assert_eq!(stats.smoothed(CPU, 0.5), Some(60.0));
        assert_eq!(stats.smoothed("M", 0.5), None);
    }

    #[test]
    fn a_row_is_fresh_for_a_while_whatever_the_clocks_say_of_the_future() {
        let stats = WorkerStats::new("a", 1_000);
        let minute = Duration::from_secs(60);
        assert!(stats.is_fresh(1_060_999, minute));
        assert!(!stats.is_fresh(1_061_000, minute));
        assert!(stats.is_fresh(900_000, minute));
    }
}
