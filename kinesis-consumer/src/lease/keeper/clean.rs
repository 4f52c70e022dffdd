//! Deleting rows that are of no more use: leases of finished shards, and metrics of workers of long ago.

use metrics::counter;

use super::lead::Board;
use super::{Service, names};
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
        let mut done: Vec<Lease> = leases
            .clone()
            .filter(|lease| lineage.may_delete(lease))
            .cloned()
            .collect();
        let childless: Vec<Lease> = leases
            .filter(|lease| lineage.is_childless_end(lease))
            .cloned()
            .collect();
        done.extend(self.no_longer_listed(childless, &board.leases).await);
        for lease in done {
            if self.held.contains_key(&lease.shard_id) {
                continue;
            }
            if self.keeper.table.delete_ended(&lease).await? {
                counter!(names::LEASES_DELETED).increment(1);
                tracing::info!(shard = %lease.shard_id, "deleted the lease of a finished shard");
            }
        }
        let now_millis = self.keeper.clock.epoch_millis();
        for row in self.roster.stale(&board.stats, now_millis) {
            let deleted = self
                .keeper
                .table
                .delete_stats(&row.worker, row.updated_at..=row.updated_at);
            deleted.await?;
        }
        Ok(())
    }

    /// Those of these finished leases without children whose shards their streams do not have any more:
    /// nobody will ever learn of their children, and while they are there the leases of these are kept,
    /// too. The shards are listed after the rows were read, so no row is younger than the listing; and
    /// only where there is such a row, which is seldom.
    ///
    /// None of a stream whose `leases` leave a part of the key space to nobody: what follows the shard
    /// has no lease yet, and such a row may be all that says that the stream was read before. Without
    /// it, the shards that come next would be begun as those of a new application, at the newest
    /// record.
    async fn no_longer_listed(&self, mut childless: Vec<Lease>, leases: &[Lease]) -> Vec<Lease> {
        let mut gone = Vec::new();
        for stream in &self.streams {
            let source = stream.source();
            let of_stream: Vec<Lease> = childless
                .extract_if(.., |lease| source.has(&lease.shard_id))
                .collect();
            let others = leases.iter().filter(|lease| source.has(&lease.shard_id));
            if of_stream.is_empty() || !discover::covers_key_space(others) {
                continue;
            }
            match discover::list_once(&self.keeper.kinesis, &source.address).await {
                Ok(listing) => {
                    let shards = source.keyed(&listing.shards);
                    let unlisted = |lease: &Lease| shards.get(&lease.shard_id).is_none();
                    gone.extend(of_stream.into_iter().filter(unlisted));
                }
                Err(error) => {
                    tracing::warn!(
                        stream = %source.label(),
                        "leases of shards that may be gone are looked at later: {error}"
                    );
                }
            }
        }
        gone
    }
}
