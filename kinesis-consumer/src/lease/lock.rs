//! Who leads: the row `Leader`, in the format of the `dynamodb-lock-client` that the KCL uses, and the
//! rules by which a worker holds or waits for it. Without I/O.
//!
//! ```text
//!  leader    beat ───────────── beat ────────────── beat ─ ✗
//!  follower   look ────── look ─ look ────── look ── look ───── look ─ look ─ silent ─ … ─ claim: the
//!             version 1   1      version 2   2       version 3  3      3                   same version for
//!                                                                                          the row's leaseDuration
//! ```
//!
//! A follower sees a beat soon after it is made, though it looks hardly more often than the leader beats:
//! first a little before the next one is due, then again and again until it is there. Until it knows when
//! that is, having seen one come, it looks again and again too. A KCL that leads beats more often than one of
//! ours with a lock of two minutes would; it is looked at as often as one of ours, and seen later.
//!
//! Invariants:
//! - A leader trusts itself for nine tenths of its own `leaseDuration` since it *sent* its last
//!   successful beat; a follower claims the lock only after the row's `recordVersionNumber` stood
//!   still for the row's `leaseDuration` on the follower's own monotonic clock, and if it still has it: a
//!   look may be late, and show what was there a moment ago.
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
/// while a lock lasts, by [`BEAT_PERCENT`] and [`TRIES_PER_DURATION`].
const UNSETTLED_MAX: usize = 16;

/// Key of the row. Source: KCL 3.5.1, `LeaderLock.LEADER_HASH_KEY`.
pub(super) const LEADER: &str = "Leader";

/// Source: dynamodb-lock-client 1.4, `AmazonDynamoDBLockClient`.
pub(super) const OWNER_NAME: &str = "ownerName";
pub(super) const LEASE_DURATION: &str = "leaseDuration";
pub(super) const VERSION: &str = "recordVersionNumber";
pub(super) const IS_RELEASED: &str = "isReleased";
/// Source: KCL 3.5.1, `EntityType.LEADER_LOCK`.
pub(super) const ENTITY_LEADER: &str = "LEADER";

/// From one beat to the next, in percent of the lock's duration. Source: none; as for leases, and as there
/// one that fails is made again soon. The KCL beats four times in two minutes.
const BEAT_PERCENT: u32 = 40;

/// From a beat that was seen to the look for the next. Source: none; so little less than [`BEAT_PERCENT`] that
/// few looks are too early, and that who sees the beats late comes nearer to them.
const LOOK_PERCENT: u32 = 39;

/// From a beat that was seen to when the leader counts as silent: by default 29 s after it died its shards
/// have new owners, wherever its last beat was seen. Source: none; time for a second look.
const SILENT_PERCENT: u32 = 45;

/// How late a look may show the version before the one that was seen. Source: as for leases, where a late
/// read is behind by less than a second as a rule.
const LATE_READ: Duration = Duration::from_secs(3);

/// Looks for a beat that is due, and beats that are made again, in the lock's duration. Source: none; about
/// one a second by default.
const TRIES_PER_DURATION: u32 = 20;

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
    owner: String,
    version: String,
    /// The version before it, which late looks may show for a moment.
    past: Option<String>,
    duration: Duration,
    since: Instant,
    /// How long it may have been there before.
    late: Duration,
    looked_at: Instant,
}

impl Sight {
    /// What `row` is to who saw `before` when it looked last.
    fn of(row: &LockRow, before: Option<&Self>, now: Instant) -> Self {
        let new = Self {
            owner: row.owner.clone(),
            version: row.version.clone(),
            past: None,
            duration: row.duration,
            since: now,
            late: Duration::MAX,
            looked_at: now,
        };
        let Some(before) = before else {
            return new;
        };
        // Later than that it was the look before it which was late.
        let is_past = before.past.as_ref() == Some(&row.version) && now < before.since + LATE_READ;
        if before.version == row.version || is_past {
            return Self {
                looked_at: now,
                ..before.clone()
            };
        }
        let mut late = now.duration_since(before.looked_at);
        if before.owner == row.owner {
            // The same leader does not beat again before its time.
            let age = before.late.saturating_add(now.duration_since(before.since));
            late = late.min(age.saturating_sub(percent(before.duration, BEAT_PERCENT)));
        }
        Self {
            past: Some(before.version.clone()),
            late,
            ..new
        }
    }

    /// When to look again, for a worker whose own lock would last for `own`.
    fn next_look(&self, own: Duration) -> Instant {
        let pause = self.duration.max(own) / TRIES_PER_DURATION;
        let again = self.looked_at + pause;
        let beat = self.since + percent(self.duration, LOOK_PERCENT);
        let lapse = self.since + self.duration;
        if self.looked_at >= lapse {
            again
        } else if self.looked_at >= beat || self.late > pause * 2 {
            again.min(lapse)
        } else {
            beat.min(self.looked_at + percent(own, LOOK_PERCENT))
        }
    }
}

fn percent(duration: Duration, part: u32) -> Duration {
    duration * part / 100
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

    /// What is to be done at `now`; again soon, unless an answer puts it off.
    pub(crate) fn step(&mut self, now: Instant) -> Step {
        self.next = now + self.duration / TRIES_PER_DURATION;
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
        self.next = renewed_at + percent(self.duration, BEAT_PERCENT);
        self.role = Role::Leader {
            version,
            renewed_at,
        };
    }

    /// It was refused, or the row was looked at: what the row says at `now`. What to claim, if
    /// anything.
    pub(crate) fn saw(&mut self, row: Option<&LockRow>, now: Instant) -> Option<Claim> {
        let Some(row) = row else {
            if matches!(self.role, Role::Follower(_)) && !self.unsettled.is_empty() {
                // It may have refused a claim, and cannot be read then: that takes somebody to mend.
                self.next = now + percent(self.duration, LOOK_PERCENT);
            }
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
        let sight = Sight::of(row, before, now);
        #[cfg(feature = "mutations")]
        let sight = match before {
            Some(before) if mutation::is(Mutation::BeatsUnnoticed) => Sight {
                since: before.since,
                ..sight
            },
            _ => sight,
        };
        self.next = sight.next_look(self.duration);
        let has_lapsed = now.duration_since(sight.since) >= sight.duration;
        let version = sight.version.clone();
        self.role = Role::Follower(Some(sight));
        if row.released {
            return Some(Claim::Released);
        }
        #[cfg(feature = "mutations")]
        if mutation::is(Mutation::NoLeaderReplacement) {
            return None;
        }
        has_lapsed.then_some(Claim::Expired(version))
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

    /// From when on the leader, another worker, counts as silent: the next beat is overdue, or there is
    /// none.
    pub(crate) fn silent_from(&self, now: Instant) -> Option<Instant> {
        match &self.role {
            Role::Leader { .. } => None,
            Role::Follower(None) => Some(now),
            Role::Follower(Some(seen)) => Some(seen.since + percent(seen.duration, SILENT_PERCENT)),
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
