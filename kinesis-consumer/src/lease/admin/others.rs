//! Workers of a KCL on the table, and what must not be done beside them.

use std::collections::BTreeSet;

use kinesis_core::ShardId;

use super::LeaseAdmin;
use super::rows::Scan;
use crate::error::{Error, ErrorKind};
use crate::lease::migration::{CLIENT_VERSION_KEY, ClientVersion};
use crate::lease::table::Fleet;
use crate::lease::{FORMER_OWNER, Lease, RELEASED_BY_OPERATOR};

impl LeaseAdmin {
    /// The rows, and the keys of those that a worker holds, among those that are `asked_for` also one of a
    /// KCL that renews seldom.
    pub(super) async fn watch(
        &self,
        asked_for: impl Fn(&Lease) -> bool,
    ) -> Result<(Scan, BTreeSet<ShardId>), Error> {
        let of_kcl = |lease: &Lease| {
            // In the place of a row that was deleted, whose holder does not know yet.
            let may_be = had_by_kcl(lease).is_some() || lease.holder() == Some(FORMER_OWNER);
            may_be && !self.without_kcl && asked_for(lease)
        };
        let (time, of_theirs) = (self.failover_time, self.kcl_failover_time);
        self.rows.watch(time, of_theirs, of_kcl).await
    }

    /// # Errors
    /// `InvalidInput` if a KCL may take leases of the table: it could not read one at an instant.
    pub(super) async fn permit_instant(&self) -> Result<(), Error> {
        let scan = self.rows.scan().await?;
        let fleet = self.rows.fleet();
        fleet.find_layout().await?;
        let stats = fleet.all_stats(scan.stats).await?;
        let table = self.rows.table();
        let of_kcl = scan.leases.iter().find_map(|found| {
            let worker = had_by_kcl(&found.lease)?;
            let key = found.key();
            Some(format!(
                "lease {key} was had by worker {worker}, or was given to it and is not taken yet"
            ))
        });
        let of_kcl = of_kcl.or_else(|| {
            let row = stats.iter().find(|row| !row.is_ours)?;
            Some(format!(
                "worker {} wrote metrics, and does not say that it is one of this crate",
                row.worker
            ))
        });
        let Some(what) = of_kcl else {
            return Ok(());
        };
        Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "a KCL works on lease table {table}, or did: {what}. One that is not itself set to \
                 AT_TIMESTAMP never reads a lease that is reset to an instant, and does not give it up. \
                 Nothing was changed: reset to trim_horizon or latest, or say that no KCL reads this table \
                 any more (LeaseAdmin::without_kcl, --without-kcl)"
            ),
        ))
    }
}

impl LeaseAdmin {
    /// # Errors
    /// `InvalidInput` if the workers of the table, one of which holds `lease`, know no handoff. As a worker
    /// that starts tells them.
    pub(super) async fn permit_asking(&self, lease: &Lease) -> Result<(), Error> {
        let fleet = self.rows.fleet();
        fleet.find_layout().await?;
        let says = match fleet.client_version().await? {
            Some(ClientVersion::Three) => return Ok(()),
            Some(ClientVersion::Other(version)) => format!("{CLIENT_VERSION_KEY} says {version}"),
            None => format!("there is no row {CLIENT_VERSION_KEY}"),
        };
        let holder = lease.holder().unwrap_or("nobody");
        let (key, table) = (&lease.shard_id, self.rows.table());
        Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "worker {holder} holds lease {key} of table {table} by the rules of KCL 2.x ({says}), which \
                 know no handoff: asked to let go, it would go on, and no other worker could take the \
                 lease. Nothing was changed: stop the worker, and release what it leaves then"
            ),
        ))
    }
}

/// The worker of a KCL that has the lease, or had it last. Ours mark what they take with their name.
///
/// One of ours that was given a lease and has not taken it looks the same.
fn had_by_kcl(lease: &Lease) -> Option<&str> {
    let holder = lease.holder()?;
    let nobody = [FORMER_OWNER, RELEASED_BY_OPERATOR].contains(&holder);
    (lease.marked_by() != Some(holder) && !nobody).then_some(holder)
}
