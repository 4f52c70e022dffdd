//! Who leads: the row `Leader`, in the format of the `dynamodb-lock-client` that the KCL uses, and the
//! rules by which a worker holds or waits for it. Without I/O.
//!
//! ```text
//!  leader    beat ──────── beat ──────── beat ─ ✗
//!  follower    look ───────── look ───────── look ─── silent ── look ─ claim: the same version for
//!              version 1      version 2      version 3                 the row's leaseDuration
//! ```
//!
//! Invariants:
//! - A leader trusts itself for nine tenths of its own `leaseDuration` since it *sent* its last
//!   successful beat; a follower claims the lock only after the row's `recordVersionNumber` stood
//!   still for the row's `leaseDuration` on the follower's own monotonic clock.
//! - Two leaders at once do no harm: every write of a leader is on a condition. The lock only keeps
//!   them from working against each other.
//! - A beat or claim whose answer was lost is recognised by its version when the row is seen next,
//!   whatever was sent, and failed too, in between.
//!
//! The duration is in the row, so that a leader with a short one and Java workers with two minutes
//! respect each other.

use std::collections::VecDeque;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use tokio::time::Instant;

use super::item::Item;
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};

/// Versions that were sent and not answered that are remembered. Source: none; more than are sent
/// while a lock lasts.
const UNSETTLED_MAX: usize = 8;

/// Key of the row. Source: KCL 3.5.1, `LeaderLock.LEADER_HASH_KEY`.
pub(super) const LEADER: &str = "Leader";

/// Source: dynamodb-lock-client 1.4, `AmazonDynamoDBLockClient`.
pub(super) const OWNER_NAME: &str = "ownerName";
pub(super) const LEASE_DURATION: &str = "leaseDuration";
pub(super) const VERSION: &str = "recordVersionNumber";
pub(super) const IS_RELEASED: &str = "isReleased";
/// Source: KCL 3.5.1, `EntityType.LEADER_LOCK`.
pub(super) const ENTITY_LEADER: &str = "LEADER";

/// Beats per duration of the lock, and looks of a follower. Source: none; the KCL beats four times
/// in two minutes, and three leave room for one that is lost.
const BEATS_PER_DURATION: u32 = 3;

/// The part of the duration that a leader does not count on. Source: none, as for leases.
const MARGINS_PER_DURATION: u32 = 10;

/// The row, as far as it is understood here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LockRow {
    pub(crate) owner: String,
    pub(crate) version: String,
    pub(crate) duration: Duration,
    pub(crate) released: bool,
}

impl LockRow {
    /// Reads the row; `None` if an attribute is missing or of another type.
    pub(crate) fn read(item: &Item) -> Option<Self> {
        let text = |name: &str| item.get(name)?.as_s().ok();
        let millis = text(LEASE_DURATION)?.parse().ok()?;
        Some(Self {
            owner: text(OWNER_NAME)?.clone(),
            version: text(VERSION)?.clone(),
            duration: Duration::from_millis(millis),
            released: item.contains_key(IS_RELEASED),
        })
    }
}

/// What a claim demands of the row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Claim {
    /// There is none.
    Absent,
    /// It says that it was released.
    Released,
    /// It still has this version.
    Expired(String),
}

impl Claim {
    /// Whether the row is as the claim demands.
    pub(crate) fn holds(&self, row: Option<&LockRow>) -> bool {
        match (self, row) {
            (Self::Absent, row) => row.is_none(),
            (Self::Released, row) => row.is_some_and(|row| row.released),
            (Self::Expired(seen), row) => row.is_some_and(|row| row.version == *seen),
        }
    }
}

/// What to do with the row next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Read it.
    Look,
    /// Write a new version on the condition that it has this one.
    Beat(String),
}

/// One worker's part in the election.
#[derive(Clone, Debug)]
pub(crate) struct Leadership {
    me: String,
    duration: Duration,
    role: Role,
    /// Versions that were sent and not answered, and when, in order. All beats among them demand the
    /// same version, so at most one of them is made.
    unsettled: VecDeque<(String, Instant)>,
    next: Instant,
}

#[derive(Clone, Debug)]
enum Role {
    Follower(Option<Sight>),
    Leader {
        version: String,
        renewed_at: Instant,
    },
}

/// Another's lock, and since when it has not changed.
#[derive(Clone, Debug)]
struct Sight {
    version: String,
    duration: Duration,
    since: Instant,
}

impl Leadership {
    pub(crate) fn new(me: &str, duration: Duration, now: Instant) -> Self {
        Self {
            me: me.to_owned(),
            duration,
            role: Role::Follower(None),
            unsettled: VecDeque::new(),
            next: now,
        }
    }

    /// When [`Self::step`] is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// What is to be done at `now`.
    pub(crate) fn step(&mut self, now: Instant) -> Step {
        self.next = now + self.duration / BEATS_PER_DURATION;
        match &self.role {
            Role::Leader { version, .. } => Step::Beat(version.clone()),
            Role::Follower(_) => Step::Look,
        }
    }

    /// A claim or beat with this version is being sent.
    pub(crate) fn sending(&mut self, version: &str, now: Instant) {
        if self.unsettled.len() == UNSETTLED_MAX {
            self.unsettled.pop_front();
        }
        self.unsettled.push_back((version.to_owned(), now));
    }

    /// What was sent last was made.
    pub(crate) fn made(&mut self) {
        if let Some((version, renewed_at)) = self.unsettled.pop_back() {
            self.lead(version, renewed_at);
        }
    }

    fn lead(&mut self, version: String, renewed_at: Instant) {
        self.unsettled.clear();
        // The next beat counts from this one, also if it is found late.
        let due = renewed_at + self.duration / BEATS_PER_DURATION;
        self.next = self.next.min(due);
        self.role = Role::Leader {
            version,
            renewed_at,
        };
    }

    /// It was refused, or the row was looked at: what the row says at `now`. What to claim, if
    /// anything.
    pub(crate) fn saw(&mut self, row: Option<&LockRow>, now: Instant) -> Option<Claim> {
        let Some(row) = row else {
            self.role = Role::Follower(None);
            return Some(Claim::Absent);
        };
        let mut unsettled = self.unsettled.iter();
        let sent = unsettled.find(|(version, _)| *version == row.version);
        if let Some((version, renewed_at)) = sent.cloned()
            && row.owner == self.me
            && !row.released
        {
            self.lead(version, renewed_at);
            return None;
        }
        if let Role::Leader { version, .. } = &self.role
            && *version == row.version
        {
            return None;
        }
        let before = match &self.role {
            Role::Follower(seen) => seen.as_ref(),
            Role::Leader { .. } => None,
        };
        let since = before
            .filter(|seen| seen.version == row.version)
            .map_or(now, |seen| seen.since);
        self.role = Role::Follower(Some(Sight {
            version: row.version.clone(),
            duration: row.duration,
            since,
        }));
        if row.released {
            return Some(Claim::Released);
        }
        #[cfg(feature = "mutations")]
        if mutation::is(Mutation::NoLeaderReplacement) {
            return None;
        }
        (now.duration_since(since) >= row.duration).then(|| Claim::Expired(row.version.clone()))
    }

    /// Until when this worker may lead, if nothing more is heard of the row.
    pub(crate) fn leads_until(&self) -> Option<Instant> {
        match self.role {
            Role::Leader { renewed_at, .. } => {
                Some(renewed_at + self.duration - self.duration / MARGINS_PER_DURATION)
            }
            Role::Follower(_) => None,
        }
    }

    /// From when on the leader, another worker, counts as silent: half of its time is over without a
    /// beat, or there is none.
    pub(crate) fn silent_from(&self, now: Instant) -> Option<Instant> {
        match &self.role {
            Role::Leader { .. } => None,
            Role::Follower(None) => Some(now),
            Role::Follower(Some(seen)) => Some(seen.since + seen.duration / 2),
        }
    }

    /// The version to give the lock back by.
    pub(crate) fn version(&self) -> Option<&str> {
        match &self.role {
            Role::Leader { version, .. } => Some(version),
            Role::Follower(_) => None,
        }
    }

    /// The lock was given back, to be left alone for as long as it lasts.
    pub(crate) fn gave_back(&mut self, now: Instant) {
        self.role = Role::Follower(None);
        self.next = now + self.duration;
    }
}

/// Attributes of a lock that this worker has.
pub(super) fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

#[cfg(test)]
mod tests;
