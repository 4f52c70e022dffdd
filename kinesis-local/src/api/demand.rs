//! On-demand streams follow their traffic.
//!
//! Promises: shards are looked at after every write and, for streams that nobody writes to, with the
//! first request a minute later: no task and no timer. A scaling is one change of the stream: readers
//! see closed shards and their children, as after a split or merge by hand.
//!
//! The account's number of shards does not hold it back. Source: "Quotas and limits" in the developer guide,
//! number of shards: in on-demand mode "there's no upper limit". They do count for what others ask for. The
//! region's throughput does: 200 MB a second, and 10 GB in the largest.

use super::site::Site;
use crate::catalog::StreamCell;
use crate::commitment::Commitment;
use crate::stream::change::Change;
use crate::stream::demand::shards_max;
use crate::stream::warm::warm_shards;
use crate::stream::{Mode, Stream};

impl Site {
    /// Splits or merges the shards of an on-demand stream if its traffic asks for it. Nobody waits
    /// until that is stored, but no answer tells of it before.
    pub(super) fn scale_if_due(&self, cell: &StreamCell) {
        let now_ms = self.now_ms();
        let (mode, warm) = {
            let stream = cell.read();
            (stream.mode, stream.warm)
        };
        if mode == Mode::Provisioned {
            return;
        }
        let most = shards_max(&cell.place.region);
        // Not with the stream's lock, and only where it says something: every write comes by here.
        let commitment = warm.map_or_else(Commitment::default, |_| self.commitment_of(cell));
        let due = |stream: &Stream| {
            let warm = stream.warm_mibps(&commitment, now_ms);
            stream.steps_in_demand(warm.map_or(0, warm_shards), most, now_ms)
        };
        if due(&cell.read()).is_none() || self.check_writable().is_err() {
            return;
        }
        let mut stream = cell.write();
        // Another request may have been faster.
        let Some(steps) = due(&stream).filter(|_| stream.warm == warm) else {
            return;
        };
        let count = steps.len();
        match self.change(cell, &mut stream, Change::Demand { steps }) {
            Ok(_) => tracing::info!(stream = %cell.name, steps = count, "Scaled with its traffic."),
            Err(fault) => tracing::warn!(stream = %cell.name, ?fault, "It could not be scaled."),
        }
    }
}
