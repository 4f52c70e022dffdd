//! The gauges of one worker, and of what it sees as the leader. They tell of nothing once the worker leads no
//! more, or is gone, however it went: the consumers of a process each have their own, and the sum over them holds.

use std::sync::Arc;

use super::metrics as names;

/// Whose they are.
#[derive(Clone, Debug)]
pub(crate) struct Labels {
    pub(crate) application: Arc<str>,
    pub(crate) worker: Arc<str>,
}

impl Labels {
    pub(crate) fn new(application: &str, worker: &str) -> Self {
        Self {
            application: application.into(),
            worker: worker.into(),
        }
    }
}

/// One of them.
#[derive(Debug)]
pub(super) struct OwnGauge {
    name: &'static str,
    labels: Labels,
    is_told: bool,
}

impl OwnGauge {
    pub(super) fn new(name: &'static str, labels: &Labels) -> Self {
        Self {
            name,
            labels: labels.clone(),
            is_told: false,
        }
    }

    pub(super) fn set(&mut self, value: usize) {
        self.is_told = true;
        self.tell(value);
    }

    /// It is 0 until it is set again.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.is_told) {
            self.tell(0);
        }
    }

    fn tell(&self, value: usize) {
        let Labels {
            application,
            worker,
        } = self.labels.clone();
        metrics::gauge!(self.name, "application" => application, "worker" => worker)
            .set(value as f64);
    }
}

impl Drop for OwnGauge {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What a leader sees of its fleet.
#[derive(Debug)]
pub(super) struct FleetGauges {
    pub(super) leases_open: OwnGauge,
    pub(super) workers: OwnGauge,
    pub(super) workers_failing: OwnGauge,
    pub(super) corrupt_rows: OwnGauge,
    pub(super) spillover: OwnGauge,
    pub(super) streams: OwnGauge,
    pub(super) streams_with_holes: OwnGauge,
}

impl FleetGauges {
    pub(super) fn new(labels: &Labels) -> Self {
        let gauge = |name| OwnGauge::new(name, labels);
        Self {
            leases_open: gauge(names::LEASES_OPEN),
            workers: gauge(names::WORKERS),
            workers_failing: gauge(names::WORKERS_FAILING),
            corrupt_rows: gauge(names::CORRUPT_ROWS),
            spillover: gauge(names::LEASE_SPILLOVER),
            streams: gauge(names::STREAMS),
            streams_with_holes: gauge(names::STREAMS_WITH_HOLES),
        }
    }

    /// This worker does not lead.
    pub(super) fn clear(&mut self) {
        self.leases_open.clear();
        self.workers.clear();
        self.workers_failing.clear();
        self.corrupt_rows.clear();
        self.spillover.clear();
        self.streams.clear();
        self.streams_with_holes.clear();
    }
}
