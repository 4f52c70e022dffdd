//! On-demand streams follow their traffic.
//!
//! Promises: shards are looked at after every write and, for streams that nobody writes to, with the
//! first request a minute later: no task and no timer. A scaling is one change of the stream: readers
//! see closed shards and their children, as after a split or merge by hand.

use super::site::Site;
use crate::catalog::StreamCell;
use crate::stream::change::Change;

impl Site {
    /// Splits or merges the shards of an on-demand stream if its traffic asks for it. Nobody waits
    /// until that is stored, but no answer tells of it before.
    pub(super) fn scale_if_due(&self, cell: &StreamCell) {
        let now_ms = self.now_ms();
        if cell.read().steps_in_demand(0, now_ms).is_none() || self.check_writable().is_err() {
            return;
        }
        let mut stream = cell.write();
        // Another request may have been faster.
        let Some(steps) = stream.steps_in_demand(0, now_ms) else {
            return;
        };
        let count = steps.len();
        match self.change(cell, &mut stream, Change::Demand { steps }) {
            Ok(_) => tracing::info!(stream = %cell.name, steps = count, "Scaled with its traffic."),
            Err(fault) => tracing::warn!(stream = %cell.name, ?fault, "It could not be scaled."),
        }
    }
}
