//! Which metrics of its shards a stream is monitored by.

/// The metrics, in the model's order.
pub(crate) const METRICS: [&str; 7] = [
    "IncomingBytes",
    "IncomingRecords",
    "OutgoingBytes",
    "OutgoingRecords",
    "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded",
    "IteratorAgeMilliseconds",
];

/// The name that stands for all metrics.
pub(crate) const ALL: &str = "ALL";

/// A set of metrics: bit `n` is the metric `METRICS[n]`.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Metrics(pub(crate) u8);

impl Metrics {
    /// The metrics that `names` has; `ALL` has each.
    pub(crate) fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let bits = names.into_iter().map(|name| {
            let bit = |(at, metric)| u8::from(name == ALL || name == metric) << at;
            METRICS.into_iter().enumerate().map(bit).sum::<u8>()
        });
        Self(bits.fold(0, |all, bits| all | bits))
    }

    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        let at = (0..METRICS.len()).filter(move |at| self.0 & (1 << at) != 0);
        at.map(|at| METRICS[at])
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_stands_for_each_metric() {
        assert!(Metrics::named([ALL]).names().eq(METRICS));
        let bytes = Metrics::named(["OutgoingBytes", "IncomingBytes"]);
        assert!(bytes.names().eq(["IncomingBytes", "OutgoingBytes"]));
        assert_eq!(Metrics::named([ALL]).without(bytes).names().count(), 5);
        assert_eq!(Metrics::default().with(bytes), bytes);
    }
}
