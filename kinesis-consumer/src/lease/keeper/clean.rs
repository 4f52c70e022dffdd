//! Deleting rows that are of no more use: leases of finished shards, and metrics of workers of long ago.

use std::sync::Arc;

use super::Service;
use super::lead::Board;
use super::survey::delete_finished;
use crate::discover;
use crate::error::Error;
use crate::lease::Lease;
use crate::lease::lineage::Lineage;

impl Service {
    /// Deletes the leases of finished shards that are of no more use, and rows of workers of long ago.
    pub(super) async fn clean_up(&mut self, board: &Board) -> Result<(), Error> {
        let now = self.keeper.clock.now();
        if now < self.next_cleanup {
            return Ok(());
        }
        self.next_cleanup = now + self.keeper.settings.lease_cleanup_interval;
        let lineage = Lineage::new(&board.leases, &board.unreadable);
        let leases = board.leases.iter();
        let unheld = leases.filter(|lease| !self.held.contains_key(&lease.shard_id));
        let childless: Vec<Lease> = unheld
            .clone()
            .filter(|lease| lineage.is_childless_end(lease))
            .cloned()
            .collect();
        for lease in unheld.filter(|lease| lineage.may_delete(lease)) {
            delete_finished(&*self.keeper.table, lease).await?;
        }
        self.clean_unlisted(childless, &board.leases);
        let now_millis = self.keeper.clock.epoch_millis();
        for row in self.roster.stale(&board.stats, now, now_millis) {
            let deleted = self
                .keeper
                .table
                .delete_stats(&row.worker, row.updated_at..=row.updated_at);
            deleted.await?;
        }
        Ok(())
    }

    /// Has those of these finished leases without children deleted whose shards their streams do not have
    /// any more: nobody will ever learn of their children, and while they are there the leases of these
    /// are kept, too. The shards are listed after the rows were read, so no row is younger than the
    /// listing; and only where there is such a row, which is seldom.
    ///
    /// None of a stream whose `leases` leave a part of the key space to nobody: what follows the shard
    /// has no lease yet, and such a row may be all that says that the stream was read before. Without
    /// it, the shards that come next would be begun as those of a new application, at the newest
    /// record.
    fn clean_unlisted(&mut self, mut childless: Vec<Lease>, leases: &[Lease]) {
        for stream in &mut self.streams {
            let source = &stream.source;
            let of_stream: Vec<Lease> = childless
                .extract_if(.., |lease| source.has(&lease.shard_id))
                .collect();
            let others = leases.iter().filter(|lease| source.has(&lease.shard_id));
            if of_stream.is_empty() || stream.cleaning || !discover::covers_key_space(others) {
                continue;
            }
            stream.cleaning = true;
            self.survey.clean(Arc::clone(source), of_stream);
        }
    }
}
