//! What was measured, as a table and as one object of JSON.

use std::time::Duration;

use hdrhistogram::Histogram;
use kinesis_consumer::BoxError;
use serde_json::{Map, Value};

/// The longest latency that is told apart: an hour. Source: none, reasonable bound.
const LATENCY_MAX: Duration = Duration::from_secs(3600);
/// Digits kept of a latency. Source: none, more than the noise has.
const DIGITS: u8 = 3;

/// Latencies in microseconds.
#[derive(Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Result<Self, BoxError> {
        let longest = LATENCY_MAX.as_micros() as u64;
        Ok(Self(Histogram::new_with_bounds(1, longest, DIGITS)?))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(latency.as_micros() as u64);
    }

    pub(crate) fn add(&mut self, other: &Self) -> Result<(), BoxError> {
        Ok(self.0.add(&other.0)?)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// In milliseconds; `None` if there are none.
    fn quantile(&self, quantile: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile) as f64 / 1000.0)
    }
}

/// Figures in the order they are shown.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<(String, Option<f64>)>);

impl Report {
    /// Adds a figure; its name has its unit.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: impl Into<Option<f64>>) {
        self.0.push((name.into(), value.into()));
    }

    /// Adds `{name}_ms_p50` and further quantiles.
    pub(crate) fn add_latencies(&mut self, name: &str, latencies: &Latencies) {
        for (suffix, quantile) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
            self.add(format!("{name}_ms_{suffix}"), latencies.quantile(quantile));
        }
    }

    /// The figures as text, one a line.
    pub(crate) fn table(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line = |(name, value): &(String, Option<f64>)| {
            let value = value.map_or_else(|| "-".to_owned(), grouped);
            format!("{name:<width$} {value:>16}\n")
        };
        self.0.iter().map(line).collect()
    }

    /// The figures as one object.
    pub(crate) fn json(&self) -> String {
        let entry = |(name, value): &(String, Option<f64>)| (name.clone(), Value::from(*value));
        Value::Object(self.0.iter().map(entry).collect::<Map<_, _>>()).to_string()
    }

    /// Writes the table, or the object alone.
    pub(crate) fn print(&self, json: bool) {
        if json {
            println!("{}", self.json());
        } else {
            print!("{}", self.table());
        }
    }
}

/// With four digits that count, and commas between thousands.
fn grouped(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        small if small < 1.0 => 4,
        small if small < 100.0 => 2,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && digit.is_ascii_digit() {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_what_the_table_has() {
        let mut latencies = Latencies::new().unwrap();
        (1..=1000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        let mut report = Report::default();
        report.add("records", 1_234_567.0);
        report.add("rss_mb", None);
        report.add_latencies("ack", &latencies);
        let table = report.table();
        assert!(table.contains("1,234,567"), "{table}");
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["records"], 1_234_567.0);
        assert!(json["rss_mb"].is_null());
        let p99 = json["ack_ms_p99"].as_f64().unwrap();
        assert!((989.0..=992.0).contains(&p99), "{p99}");
    }

    #[test]
    fn numbers_are_readable() {
        let shown = [0.0, 0.5, 12.345, 999.6, 1e6].map(grouped);
        assert_eq!(shown, ["0", "0.5000", "12.35", "1,000", "1,000,000"]);
    }
}
