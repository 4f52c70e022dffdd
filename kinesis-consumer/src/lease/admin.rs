//! Looking after a lease table from outside of its workers: what an operator needs when something is
//! stuck, has to be read again, or is to be moved.
//!
//! ```
//! use kinesis_consumer::admin::{LeaseAdmin, ResetTo, Which};
//!
//! async fn again(
//!     kinesis: aws_sdk_kinesis::Client,
//!     dynamodb: aws_sdk_dynamodb::Client,
//! ) -> Result<(), kinesis_consumer::Error> {
//!     let admin = LeaseAdmin::new("board", kinesis, dynamodb);
//!     for lease in admin.list(&["flights".into()]).await? {
//!         println!("{} {:?} {:?} ms behind", lease.lease, lease.owner, lease.millis_behind_latest);
//!     }
//!     // The workers are stopped: read everything again that is still there.
//!     for change in admin.reset(&Which::All, ResetTo::TrimHorizon).await? {
//!         println!("{} {}", change.lease, change.result);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Safe beside workers that run
//! Each write demands the row's counter and owners as they were seen, and raises the counter, as a
//! worker's does. A lease counts as *held* while its counter moves: what must not be done under a
//! holder's feet ([`reset`](LeaseAdmin::reset), [`unstick`](LeaseAdmin::unstick), the conversions)
//! watches the table for [`failover_time`](LeaseAdmin::failover_time) first, and for
//! [`kcl_failover_time`](LeaseAdmin::kcl_failover_time) where a worker of a KCL may have one of the leases,
//! and leaves held leases alone. [`release`](LeaseAdmin::release) asks a holder, by the handoff of the KCL, to drain,
//! checkpoint and let go. So nothing here makes two workers process one shard, provided that
//! `failover_time` here is no shorter than the longest of the workers': a worker with a longer one renews
//! more seldom, its lease counts as not held, and where it is taken away two process the shard until the
//! next renewal of the first, which is 40 % of its `failover_time` away at most.
//!
//! # Beside a KCL
//! The tables of a KCL are looked after too, with what it cannot do left out. No lease is
//! [`reset`](LeaseAdmin::reset) to an instant where a KCL may read it, since only a setting of its own tells
//! a KCL which instant that is, and no worker is asked to [`release`](LeaseAdmin::release) a lease that works
//! by the rules of KCL 2.x, which know no handoff.
//!
//! Rows that cannot be read are left alone and named by [`verify`](LeaseAdmin::verify).
//!
//! Deliberately absent: deleting leases and tables.

mod change;
mod convert;
mod list;
mod others;
mod rows;
mod verify;

use std::fmt;
use std::time::Duration;

use kinesis_core::Clock;

use super::LeaseTableSettings;
use super::layout::TableNames;
use super::settings::KCL_FAILOVER_TIME_DEFAULT;
use rows::Rows;

pub use change::{Change, ChangeResult, ResetTo, Which};
pub use list::LeaseState;
pub use verify::{Cover, StreamCover};

/// Source: KCL `failoverTimeMillis`.
const FAILOVER_TIME: Duration = Duration::from_secs(10);

/// Looks after the lease table of one application.
#[derive(Clone)]
pub struct LeaseAdmin {
    application: String,
    kinesis: aws_sdk_kinesis::Client,
    rows: Rows,
    failover_time: Duration,
    kcl_failover_time: Duration,
    without_kcl: bool,
    clock: Clock,
}

impl LeaseAdmin {
    /// For the lease table of `application`, which is called so; [`table`](Self::table) for another name.
    pub fn new(
        application: impl Into<String>,
        kinesis: aws_sdk_kinesis::Client,
        dynamodb: aws_sdk_dynamodb::Client,
    ) -> Self {
        let application = application.into();
        Self {
            kinesis,
            rows: Rows::new(dynamodb, TableNames::of(&application)),
            application,
            failover_time: FAILOVER_TIME,
            kcl_failover_time: KCL_FAILOVER_TIME_DEFAULT,
            without_kcl: false,
            clock: Clock::default(),
        }
    }

    /// The names of the tables, as the [settings](crate::LeaseSettings::table) of the workers have them; the
    /// rest of `settings` does not matter. Default: by the application's name.
    #[must_use]
    pub fn table(mut self, settings: &LeaseTableSettings) -> Self {
        self.rows = self.rows.of(settings.names(&self.application));
        self
    }

    /// For how long a lease's counter has to stand still until nobody holds the lease: at least the
    /// `failover_time` of the workers; with less, leases that are held are taken away. Default: 10 s, as
    /// theirs.
    #[must_use]
    pub fn failover_time(mut self, failover_time: Duration) -> Self {
        self.failover_time = failover_time;
        self
    }

    /// The same for a lease that a worker of a KCL may have: one that does not bear the mark of its holder,
    /// which ours leave. At least the longest `failoverTimeMillis` of the KCL workers, which renew once in a
    /// third of it. No less than `failover_time` counts. Default: 60 s, as
    /// [the workers'](crate::LeaseSettings::kcl_failover_time).
    #[must_use]
    pub fn kcl_failover_time(mut self, kcl_failover_time: Duration) -> Self {
        self.kcl_failover_time = kcl_failover_time;
        self
    }

    /// Says that no KCL reads the table any more, whatever it left there, so that leases can be
    /// [`reset`](Self::reset) to an instant, and none is watched for `kcl_failover_time`.
    #[must_use]
    pub fn without_kcl(mut self) -> Self {
        self.without_kcl = true;
        self
    }

    /// The clock. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

impl fmt::Debug for LeaseAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseAdmin")
            .field("table", &self.rows.table())
            .field("failover_time", &self.failover_time)
            .field("kcl_failover_time", &self.kcl_failover_time)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{StreamId, StreamSource};

    #[test]
    fn whatever_an_operator_asks_for_can_be_spawned() {
        fn may_be_spawned(_: impl Future + Send) {}
        fn all(admin: &LeaseAdmin, stream: &StreamId, source: &StreamSource) {
            // In a task of its own, which borrows what it asks for.
            may_be_spawned(async { admin.list(std::slice::from_ref(source)).await });
            may_be_spawned(admin.release(&Which::All));
            may_be_spawned(admin.reset(&Which::All, ResetTo::Latest));
            may_be_spawned(admin.unstick());
            may_be_spawned(async { admin.verify(std::slice::from_ref(source)).await });
            may_be_spawned(admin.identify(source));
            may_be_spawned(admin.convert_to_multi_stream(stream));
            may_be_spawned(admin.convert_to_single_stream(stream));
        }
        // That it compiles is the test.
        let _: fn(&LeaseAdmin, &StreamId, &StreamSource) = all;
    }
}
