//! Changes of single leases: letting go, starting anew, ending a handoff that hangs.

use std::collections::BTreeSet;
use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_core::{Position, ShardId};
use serde::Serialize;

use super::LeaseAdmin;
use super::rows::Found;
use crate::error::{Error, ErrorKind};
use crate::lease::{Lease, RELEASED_BY_OPERATOR, item};
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};
use crate::stream::StreamId;

/// Which leases.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Which {
    /// All there are.
    All,
    /// Those with these keys, or of the shards with these ids.
    Of(BTreeSet<String>),
}

impl Which {
    fn has(&self, lease: &Lease) -> bool {
        match self {
            Self::All => true,
            Self::Of(names) => {
                names.contains(lease.shard_id.as_str())
                    || names.contains(StreamId::shard_of_key(&lease.shard_id).as_str())
            }
        }
    }

    /// # Errors
    /// `NotFound` that names what no lease has.
    fn check(&self, leases: &[Found]) -> Result<(), Error> {
        let Self::Of(names) = self else {
            return Ok(());
        };
        let known = |name: &&String| {
            let one = Self::Of(BTreeSet::from([(*name).clone()]));
            leases.iter().any(|found| one.has(&found.lease))
        };
        match names.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no lease {name} in the table"),
            )),
        }
    }
}

/// Where reading is to start again.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ResetTo {
    /// At the oldest record kept. Finished shards are read again too.
    TrimHorizon,
    /// At the instant of the reset, by the clock of whoever resets. Finished shards stay finished. A KCL,
    /// which knows no such instant, begins at the newest record when it takes the lease.
    Latest,
    /// At the first record at or after this instant, in milliseconds since the Unix epoch. Finished
    /// shards are read again too. Refused where a KCL may read the leases: see
    /// [`reset`](LeaseAdmin::reset).
    AtTimestamp(u64),
}

/// What became of one lease.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// The lease's key.
    pub lease: String,
    /// What became of it.
    pub result: ChangeResult,
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChangeResult {
    /// It is as was asked for.
    Done,
    /// Its holder was asked to let go: it drains, checkpoints, and the lease is free after the
    /// workers' `failover_time`.
    Asked,
    /// Left alone: a worker holds it. Stop the worker, or release the lease first.
    Held,
    /// Left alone: its holder was asked already to hand it to another worker, which gets it. Try again
    /// then, if that is not to have it either.
    InHandoff,
    /// Left alone: it changed at the same moment. Try again.
    ChangedMeanwhile,
    /// There was nothing to do.
    Unchanged,
}

impl fmt::Display for ChangeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Done => "done",
            Self::Asked => "asked its holder to let go",
            Self::Held => "left alone: a worker holds it",
            Self::InHandoff => "left alone: it is being handed to another worker",
            Self::ChangedMeanwhile => "left alone: it changed meanwhile",
            Self::Unchanged => "nothing to do",
        })
    }
}

impl LeaseAdmin {
    /// Takes leases away from whoever owns them: at once where nobody is there any more, by asking
    /// for a handoff where somebody is. One that is being handed to another worker goes there. Watches the
    /// table for `failover_time` first, or for `kcl_failover_time` where a KCL may have one of them.
    ///
    /// Workers of a KCL 2.x, or of a KCL 3 that works as one (`CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X`),
    /// know no handoff: asked for one they go on, and the lease is stuck. They are not asked.
    ///
    /// # Errors
    /// When the table cannot be read or written; [`ErrorKind::NotFound`] for a lease that is not
    /// there. Leases that were changed before the error stay so. [`ErrorKind::InvalidInput`], before
    /// anything is changed, for a lease that a worker by the rules of KCL 2.x holds.
    pub async fn release(&self, which: &Which) -> Result<Vec<Change>, Error> {
        let leases = self.watched(which).await?;
        let would_be_asked = |(found, held): &&(Found, bool)| *held && found.lease.owner.is_some();
        if let Some((found, _)) = leases.iter().find(would_be_asked) {
            self.permit_asking(&found.lease).await?;
        }
        let mut changes = Vec::new();
        for (found, held) in leases {
            let result = self.release_one(&found, held).await?;
            changes.push(change_of(found.key(), result));
        }
        Ok(changes)
    }

    async fn release_one(&self, found: &Found, held: bool) -> Result<ChangeResult, Error> {
        let lease = &found.lease;
        let done = match (&lease.owner, lease.is_in_handoff(), held) {
            (None, _, _) => return Ok(ChangeResult::Unchanged),
            (Some(_), _, false) => {
                let owners = [item::OWNER, item::CHECKPOINT_OWNER];
                self.rows.update(lease, &[], &owners).await?
            }
            // An operator asked already, or a leader.
            (Some(next), true, true) if next == RELEASED_BY_OPERATOR => {
                return Ok(ChangeResult::Asked);
            }
            (Some(_), true, true) => return Ok(ChangeResult::InHandoff),
            (Some(holder), false, true) => {
                let nobody = AttributeValue::S(RELEASED_BY_OPERATOR.to_owned());
                let key = &lease.shard_id;
                if self.rows.ask_for_handoff(key, holder, nobody).await? {
                    return Ok(ChangeResult::Asked);
                }
                false
            }
        };
        Ok(of(done))
    }

    /// Moves checkpoints to where reading is to start again, of leases that nobody holds; prepared
    /// checkpoints are removed. Stop the application first. Watches the table as [`release`](Self::release) does.
    ///
    /// Shards whose leases are gone from the table, as those of finished shards are in time, are not
    /// read again.
    ///
    /// An instant ([`ResetTo::AtTimestamp`]) is for workers of this crate. A KCL knows one only from its own
    /// settings: one that is to begin at `LATEST` or `TRIM_HORIZON` takes a lease that is to be read from an
    /// instant, fails whenever it begins to read, and keeps it, so that nobody reads the shard; one that is
    /// to begin at an instant begins at its own. So nothing is reset to an instant where a KCL had a lease
    /// last, or has been in the fleet within a day, unless
    /// [`without_kcl`](LeaseAdmin::without_kcl) says that none reads the table any more. A shard without
    /// records keeps the instant: do not start a KCL afterwards either.
    ///
    /// # Errors
    /// As [`release`](Self::release); [`ErrorKind::InvalidInput`] for an instant beside a KCL, before
    /// anything is changed.
    pub async fn reset(&self, which: &Which, to: ResetTo) -> Result<Vec<Change>, Error> {
        let now = self.clock.epoch_millis();
        let (position, starts_at) = match to {
            ResetTo::TrimHorizon => (Position::TrimHorizon, None),
            ResetTo::Latest => (Position::Latest, Some(now)),
            ResetTo::AtTimestamp(millis) => (Position::AtTimestamp, Some(millis)),
        };
        let leases = self.watched(which).await?;
        if position == Position::AtTimestamp && !self.without_kcl {
            self.permit_instant().await?;
        }
        #[cfg(feature = "mutations")]
        let starts_at = match mutation::is(Mutation::ResetStartsNow) {
            true => starts_at.map(|_| now),
            false => starts_at,
        };
        let mut changes = Vec::new();
        for (found, held) in leases {
            let result = if held {
                ChangeResult::Held
            } else {
                self.reset_one(&found, &position, starts_at).await?
            };
            changes.push(change_of(found.key(), result));
        }
        Ok(changes)
    }

    async fn reset_one(
        &self,
        found: &Found,
        position: &Position,
        starts_at: Option<u64>,
    ) -> Result<ChangeResult, Error> {
        let lease = &found.lease;
        if lease.is_ended() && *position == Position::Latest {
            return Ok(ChangeResult::Unchanged);
        }
        let checkpoint = AttributeValue::S(position.checkpoint().to_owned());
        let mut set = vec![
            (item::CHECKPOINT, checkpoint),
            (item::SUB_SEQUENCE, item::number(0)),
        ];
        let mut remove = vec![
            item::OWNER,
            item::CHECKPOINT_OWNER,
            item::PENDING,
            item::PENDING_SUB_SEQUENCE,
            item::PENDING_STATE,
        ];
        match starts_at {
            Some(millis) => set.push((item::STARTS_AT, item::number(millis))),
            None => remove.push(item::STARTS_AT),
        }
        Ok(of(self.rows.update(lease, &set, &remove).await?))
    }

    /// Ends handoffs that nobody carries on: where `checkpointOwner` is set and the counter has stood
    /// still for `failover_time` (a KCL's: `kcl_failover_time`), the lease goes to nobody, and the next worker
    /// takes it.
    ///
    /// This crate's workers do so by themselves; a KCL may leave such a lease for ever (its issue 1743).
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub async fn unstick(&self) -> Result<Vec<Change>, Error> {
        let mut changes = Vec::new();
        for (found, held) in self.watched(&Which::All).await? {
            let result = match (found.lease.is_in_handoff(), held) {
                (false, _) => continue,
                (true, true) => ChangeResult::Held,
                (true, false) => {
                    let owners = [item::OWNER, item::CHECKPOINT_OWNER];
                    of(self.rows.update(&found.lease, &[], &owners).await?)
                }
            };
            changes.push(change_of(found.key(), result));
        }
        Ok(changes)
    }

    /// The leases that are asked for, and whether a worker holds each.
    async fn watched(&self, which: &Which) -> Result<Vec<(Found, bool)>, Error> {
        let (scan, held) = self.watch(|lease| which.has(lease)).await?;
        which.check(&scan.leases)?;
        let leases = scan.leases.into_iter();
        let asked_for = leases.filter(|found| which.has(&found.lease));
        let with_holding = |found: Found| {
            let is_held = held.contains(found.key());
            (found, is_held)
        };
        Ok(asked_for.map(with_holding).collect())
    }
}

pub(super) fn change_of(key: &ShardId, result: ChangeResult) -> Change {
    Change {
        lease: key.to_string(),
        result,
    }
}

pub(super) fn of(done: bool) -> ChangeResult {
    if done {
        ChangeResult::Done
    } else {
        ChangeResult::ChangedMeanwhile
    }
}
