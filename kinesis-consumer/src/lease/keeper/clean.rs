//! Deleting rows that are of no more use: leases of finished shards, and metrics of workers of long ago.

use std::sync::Arc;

use super::Service;
use super::lead::Board;
use crate::discover;
use crate::lease::Lease;
use crate::lease::lineage::Lineage;

impl Service {
    /// Has the leases of finished shards that are of no more use deleted, and rows of workers of long ago.
    ///
    /// No look at the leases waits for that: a stream that was rescaled leaves a row for each shard that it
    /// had, and whoever dies meanwhile is to be replaced as at any other time. What is of no more use by
    /// these rows stays so, and a row is deleted only as it was seen.
    pub(super) fn clean_up(&mut self, board: &Board) {
        let now = self.keeper.clock.now();
        if now < self.next_cleanup {
            return;
        }
        self.next_cleanup = now + self.keeper.settings.lease_cleanup_interval;
        let lineage = Lineage::new(&board.leases, &board.unreadable);
        let ended = board.leases.iter().filter(|lease| lease.is_ended());
        let finished = ended
            .filter(|lease| !self.held.contains_key(&lease.shard_id) && lineage.may_delete(lease));
        let finished: Vec<Lease> = finished.cloned().collect();
        self.clean_unlisted(board, &lineage);
        let now_millis = self.keeper.clock.epoch_millis();
        let workers = self.roster.stale(&board.stats, now, now_millis);
        let workers: Vec<_> = workers.cloned().collect();
        let is_clean = finished.is_empty() && workers.is_empty();
        if !self.deleting && !is_clean {
            self.deleting = true;
            self.survey.delete(finished, workers);
        }
    }

    /// Has those of these finished leases without children deleted whose shards their streams do not have
    /// any more: nobody will ever learn of their children, and while they are there the leases of these
    /// are kept, too. The shards are listed after the rows were read, so no row is younger than the
    /// listing; and only where there is such a row, which is seldom.
    ///
    /// None of a stream whose leases leave a part of the key space to nobody: what follows the shard
    /// has no lease yet, and such a row may be all that says that the stream was read before. Without
    /// it, the shards that come next would be begun as those of a new application, at the newest
    /// record.
    fn clean_unlisted(&mut self, board: &Board, lineage: &Lineage<'_>) {
        for stream in &mut self.streams {
            let leases = board.of(&stream.source);
            let childless = leases.iter().filter(|lease| {
                lineage.is_childless_end(lease) && !self.held.contains_key(&lease.shard_id)
            });
            let childless: Vec<Lease> = childless.cloned().collect();
            if childless.is_empty() || stream.cleaning || !discover::covers_key_space(leases) {
                continue;
            }
            stream.cleaning = true;
            self.survey.clean(Arc::clone(&stream.source), childless);
        }
    }
}
