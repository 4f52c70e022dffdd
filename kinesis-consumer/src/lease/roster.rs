//! Which workers may get leases, as the leader sees it. Without I/O.
//!
//! A worker is a member while its row of worker metrics is *fresh*: written lately by the wall clock
//! when it is first seen, and from then on seen to change within twice the interval of the reports,
//! on the leader's own monotonic clock. Workers whose wall clocks are wrong are members all the same
//! as soon as the leader saw their row appear or change, or saw them renew a lease. A worker that leaves, and
//! has only just begun to look, gives its leases to owners of others rather than to nobody.
//!
//! A fresh row alone does not say that a worker lives: one that died leaves its row for a minute, and
//! so does a KCL worker that was stopped. So a worker is left out, as long as there is another,
//! - if a lease of its is expired and it is not seen to renew another, and from then on until its row
//!   changes or it renews one: what it is given meanwhile says nothing about it, or
//! - if it owns none and nothing says that it lives now: its row was there when this leader began, was
//!   not written in the last seconds, and has not changed since.
//!
//! A worker that leaves deletes its row. What it was given and had not taken then is free at once, if it was
//! one of this crate, which marks what it takes: see [`Roster::has_left`].
//!
//! A worker whose last reading of a metric failed is left out too (it keeps what it has), the leader
//! itself not excepted. If no worker has a reading that did not fail, they share as workers without any:
//! the KCL then gives leases to nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::assign::Candidate;
use super::observe::Standing;
use super::stats::WorkerStats;

/// For how many reports a row is fresh. Source: KCL 3.5.1.
const FRESH_REPORTS: u32 = 2;

/// A row that was written so lately proves that its worker lives. Source: none; it is a sixth of the
/// time between two reports, and lets workers that start together share from the start.
const JUST_NOW: Duration = Duration::from_secs(5);

/// How lately a worker that lives has renewed a lease, in percent of `failover_time`. It renews each in 40 %;
/// when the first of a dead one's expires, the last is at least 60 % old, less the time from one scan to the
/// next by which it was seen late: by default 42 %, and 52 % since an expiry is found by the sixth scan.
/// Source: none, between the two.
const HEARD_PERCENT: u32 = 45;

/// When a row is deleted. Source: KCL, `staleWorkerMetricsEntryCleanupDuration`.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// The memory of one leader.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    fresh_for: Duration,
    /// How lately a worker that lets a lease expire has to have renewed another.
    heard_within: Duration,
    /// When the last scan came.
    scanned: Option<Instant>,
    seen: BTreeMap<String, Sight>,
    /// Workers of this crate whose rows were seen and are gone, and since when.
    left: BTreeMap<String, Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Sight {
    updated_at: u64,
    /// When it was first seen as it is.
    since: Instant,
    fresh_until: Instant,
    /// Its worker lived when, or after, this leader began.
    proven: bool,
    /// It let a lease expire, and nothing was heard of it since.
    silent: bool,
    is_ours: bool,
}

impl Roster {
    /// A roster of workers that report every `interval`, and whose leases expire after `failover`.
    pub(crate) fn new(interval: Duration, failover: Duration) -> Self {
        Self {
            fresh_for: interval * FRESH_REPORTS,
            heard_within: failover * HEARD_PERCENT / 100,
            scanned: None,
            seen: BTreeMap::new(),
            left: BTreeMap::new(),
        }
    }

    /// Takes in the rows of a scan whose last answer came at `now`.
    pub(crate) fn scanned(&mut self, rows: &[WorkerStats], now: Instant, now_millis: u64) {
        let mut before = std::mem::take(&mut self.seen);
        let last_look = self.scanned.replace(now);
        // What changed while this worker did not lead may have changed long ago.
        let first_look = last_look.is_none_or(|last| now > last + self.fresh_for);
        if first_look {
            before.clear();
            self.left.clear();
        }
        for row in rows {
            let known = before.get(&row.worker);
            let proven = match known {
                Some(known) => known.proven || known.updated_at != row.updated_at,
                None => !first_look || row.is_fresh(now_millis, JUST_NOW),
            };
            let silent =
                known.is_some_and(|known| known.silent && known.updated_at == row.updated_at);
            let fresh_until = match known {
                Some(known) if known.updated_at == row.updated_at => known.fresh_until,
                Some(_) => now + self.fresh_for,
                // It was written since the last look.
                None if !first_look => now + self.fresh_for,
                None if row.is_fresh(now_millis, self.fresh_for) => now + self.fresh_for,
                None => now,
            };
            let since = match known {
                Some(known) if known.updated_at == row.updated_at => known.since,
                _ => now,
            };
            let sight = Sight {
                updated_at: row.updated_at,
                since,
                fresh_until,
                proven,
                silent,
                is_ours: row.is_ours,
            };
            self.seen.insert(row.worker.clone(), sight);
        }
        // Who is gone for longer than a row is fresh has lost by expiry what it was given.
        self.left.retain(|_, since| now < *since + self.fresh_for);
        let gone = before.into_iter().filter(|(_, sight)| sight.is_ours);
        self.left.extend(gone.map(|(worker, _)| (worker, now)));
        self.left
            .retain(|worker, _| !self.seen.contains_key(worker));
    }

    /// Whether this worker, one of this crate, deleted its row, as one does that leaves before it gives its
    /// leases back: it takes none any more.
    pub(crate) fn has_left(&self, worker: &str) -> bool {
        self.left.contains_key(worker)
    }

    /// The workers that may get leases at `now`; `me`, the leader, among them if it does not leave.
    pub(crate) fn members(
        &mut self,
        rows: Vec<WorkerStats>,
        candidates: &[Candidate<'_>],
        me: Option<&str>,
        now: Instant,
    ) -> Vec<WorkerStats> {
        let owners = self.listen(candidates, now);
        let fresh = |row: &WorkerStats| {
            let heard = owners.get(row.worker.as_str()).is_some_and(|heard| *heard);
            self.seen.get(&row.worker).is_some_and(|sight| {
                now < sight.fresh_until || heard && now < sight.since + self.fresh_for
            })
        };
        let (mut members, others): (Vec<WorkerStats>, Vec<_>) = rows.into_iter().partition(fresh);
        if members.is_empty() && me.is_none() {
            members = others;
            members.retain(|row| owners.contains_key(row.worker.as_str()));
        }
        if let Some(me) = me
            && members.iter().all(|member| member.worker != me)
        {
            members.push(WorkerStats::new(me, 0));
        }
        let lives = |member: &WorkerStats| {
            let name = member.worker.as_str();
            let sight = self.seen.get(name);
            let proven = sight.is_some_and(|sight| sight.proven);
            let silent = sight.is_some_and(|sight| sight.silent);
            me == Some(name) || !silent && (owners.contains_key(name) || proven)
        };
        if members.iter().any(lives) {
            members.retain(lives);
        }
        let tells = |member: &WorkerStats| !member.values.is_empty() && !member.is_failing();
        if members.iter().any(tells) {
            members.retain(|member| !member.is_failing());
        } else {
            for member in &mut members {
                *member = WorkerStats::new(&member.worker, member.updated_at);
            }
        }
        members.sort_by(|a, b| a.worker.cmp(&b.worker));
        members
    }

    /// Notes who fell silent and who is heard of again, by the leases that they hold; the workers that
    /// hold any, and whether they renew them.
    ///
    /// Who lets one lease expire is heard of by another one only if that was renewed lately: those of a
    /// worker that died expire one after the other.
    fn listen<'a>(
        &mut self,
        candidates: &[Candidate<'a>],
        now: Instant,
    ) -> BTreeMap<&'a str, bool> {
        let lately = |since: Instant| now < since + self.heard_within;
        let mut owners: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
        for candidate in candidates {
            if let Some(holder) = candidate.lease.holder() {
                let expired = candidate.standing == Standing::Expired;
                let (any_expired, any_renewed) = owners.entry(holder).or_default();
                *any_expired |= expired;
                *any_renewed |=
                    !expired && candidate.at_work && candidate.since.is_some_and(lately);
            }
        }
        for (name, (any_expired, any_renewed)) in &owners {
            if let Some(sight) = self.seen.get_mut(*name) {
                sight.silent = !any_renewed && (sight.silent || *any_expired);
            }
        }
        let heard = owners
            .into_iter()
            .map(|(name, (_, renewed))| (name, renewed));
        heard.collect()
    }

    /// Rows that nobody will write again: a day old by the wall clock, and not seen to change for as
    /// long as a row is fresh. A worker whose clock is a day behind, or this one's ahead, goes on writing.
    pub(crate) fn stale<'a>(
        &self,
        rows: &'a [WorkerStats],
        now: Instant,
        now_millis: u64,
    ) -> impl Iterator<Item = &'a WorkerStats> {
        rows.iter().filter(move |row| {
            let sight = self.seen.get(&row.worker);
            let silent = sight.is_some_and(|sight| now >= sight.since + self.fresh_for);
            silent && !row.is_fresh(now_millis, STALE)
        })
    }
}

#[cfg(test)]
mod tests {
    use kinesis_core::{Clock, Position, ShardId};

    use super::*;
    use crate::lease::Lease;

    const REPORTS: Duration = Duration::from_secs(30);
    const FAILOVER: Duration = Duration::from_secs(10);

    fn row(worker: &str, updated_at: u64) -> WorkerStats {
        WorkerStats::new(worker, updated_at)
    }

    fn names(members: &[WorkerStats]) -> Vec<&str> {
        members
            .iter()
            .map(|member| member.worker.as_str())
            .collect()
    }

    fn owned(index: u64, owner: &str) -> Lease {
        Lease {
            owner: Some(owner.to_owned()),
            ..Lease::new(ShardId::from_index(index), Position::TrimHorizon)
        }
    }

    fn candidate(lease: &Lease, standing: Standing) -> Candidate<'_> {
        Candidate {
            lease,
            standing,
            since: Some(Clock::system().now()),
            at_work: true,
        }
    }

    #[test]
    fn a_row_is_fresh_for_two_reports_and_one_that_changes_is_whatever_its_clock_says() {
        let start = Clock::system().now();
        let at = |second| start + Duration::from_secs(second);
        let mut roster = Roster::new(REPORTS, FAILOVER);
        // The second one's clock is a day behind.
        let rows = |second: u64| vec![row("a", 90_000 + second), row("late", 100 + second)];
        roster.scanned(&rows(0), at(0), 90_000_000);
        assert_eq!(names(&roster.members(rows(0), &[], None, at(0))), ["a"]);
        roster.scanned(&rows(30), at(30), 90_030_000);
        let both = roster.members(rows(30), &[], None, at(30));
        assert_eq!(names(&both), ["a", "late"]);
        roster.scanned(&rows(30), at(90), 90_090_000);
        assert!(roster.members(rows(30), &[], None, at(90)).is_empty());
    }

    #[test]
    fn a_worker_whose_clock_is_wrong_is_a_member_once_its_row_appears_or_it_renews_a_lease() {
        let start = Clock::system().now();
        let at = |second| start + Duration::from_secs(second);
        let mut roster = Roster::new(REPORTS, FAILOVER);
        // Hours behind, both; one was there before.
        let rows = vec![row("before", 100), row("new", 100)];
        roster.scanned(&rows[..1], at(0), 90_000_000);
        roster.scanned(&rows, at(2), 90_002_000);
        let lease = owned(0, "before");
        let mut members = |renewed, second| {
            let candidate = Candidate {
                at_work: renewed,
                since: Some(at(second)),
                ..candidate(&lease, Standing::Active)
            };
            let members = roster.members(rows.clone(), &[candidate], Some("me"), at(second));
            names(&members).join(" ")
        };
        assert_eq!(members(false, 2), "me new");
        assert_eq!(members(true, 4), "before me new");
        // A row that nobody writes any more is none of a member, whatever its worker renews.
        assert_eq!(members(true, 70), "me");
    }

    #[test]
    fn what_changed_while_another_led_may_have_changed_long_ago() {
        let start = Clock::system().now();
        let hour = start + Duration::from_secs(3_600);
        let mut roster = Roster::new(REPORTS, FAILOVER);
        roster.scanned(&[row("lives", 1_000)], start, 1_000_000);
        let rows = vec![row("died", 2_000), row("lives", 4_590)];
        roster.scanned(&rows, hour, 4_600_000);
        let members = roster.members(
            rows,
            &[candidate(&owned(0, "lives"), Standing::Active)],
            None,
            hour,
        );
        assert_eq!(names(&members), ["lives"]);
    }

    #[test]
    fn who_leaves_and_knows_of_no_fresh_row_counts_on_whoever_owns_a_lease() {
        let now = Clock::system().now();
        let mut roster = Roster::new(REPORTS, FAILOVER);
        // Hours behind; and nothing says that the other two are still there.
        let rows = vec![row("dead", 100), row("gone", 100), row("late", 100)];
        roster.scanned(&rows, now, 90_000_000);
        let leases = [owned(0, "dead"), owned(1, "late")];
        let candidates = [
            candidate(&leases[0], Standing::Expired),
            candidate(&leases[1], Standing::Active),
        ];
        let candidates = candidates.map(|candidate| Candidate {
            at_work: false,
            ..candidate
        });
        let members = roster.members(rows.clone(), &candidates, None, now);
        assert_eq!(names(&members), ["late"]);
        // One that stays waits until it knows more.
        let members = roster.members(rows, &candidates, Some("me"), now);
        assert_eq!(names(&members), ["me"]);
    }

    #[test]
    fn a_worker_that_renews_none_of_its_leases_is_left_out_unless_there_is_nobody_else() {
        let now = Clock::system().now();
        let mut roster = Roster::new(REPORTS, FAILOVER);
        let rows = vec![row("dead", 0), row("new", 0), row("slow", 0)];
        roster.scanned(&rows, now, 0);
        let leases = [owned(0, "dead"), owned(1, "slow"), owned(2, "slow")];
        let candidates = [
            candidate(&leases[0], Standing::Expired),
            candidate(&leases[1], Standing::Expired),
            candidate(&leases[2], Standing::Active),
        ];
        let members = roster.members(rows.clone(), &candidates, None, now);
        assert_eq!(names(&members), ["new", "slow"]);
        let members = roster.members(vec![row("dead", 0)], &candidates, None, now);
        assert_eq!(names(&members), ["dead"]);
    }

    #[test]
    fn a_worker_whose_leases_begin_to_expire_is_left_out_though_others_are_not_expired_yet() {
        let seen = Clock::system().now();
        let mut roster = Roster::new(REPORTS, FAILOVER);
        let rows = vec![row("dies", 0), row("lives", 0)];
        roster.scanned(&rows, seen, 0);
        let leases = [owned(0, "dies"), owned(1, "dies")];
        let mut members = |renewed: Duration| {
            let candidates = [
                candidate(&leases[0], Standing::Expired),
                Candidate {
                    since: Some(seen),
                    ..candidate(&leases[1], Standing::Active)
                },
            ];
            roster.members(rows.clone(), &candidates, None, seen + renewed)
        };
        // A renewal is due; and a dead one's last was seen three looks after its first, of which six pass.
        let looks = Duration::from_millis(1_750);
        assert_eq!(names(&members(FAILOVER * 4 / 10)), ["dies", "lives"]);
        assert_eq!(names(&members(looks * 3)), ["lives"]);
    }

    #[test]
    fn a_worker_that_fell_silent_is_left_out_until_it_is_heard_of_again() {
        let now = Clock::system().now();
        let mut roster = Roster::new(REPORTS, FAILOVER);
        let rows = |died| vec![row("died", died), row("lives", 0)];
        let mut members = |died, lease: &Lease, standing, at_work| {
            roster.scanned(&rows(died), now, 0);
            let candidate = Candidate {
                at_work,
                ..candidate(lease, standing)
            };
            let members = roster.members(rows(died), &[candidate], None, now);
            names(&members).contains(&"died")
        };
        let (its, others) = (owned(0, "died"), owned(0, "lives"));
        assert!(members(0, &its, Standing::Active, true));
        assert!(!members(0, &its, Standing::Expired, false));
        // Its lease was given to another, and one that it does not know of to it.
        assert!(!members(0, &others, Standing::Active, true));
        assert!(!members(0, &its, Standing::Active, false));
        // It renews the lease after all.
        assert!(members(0, &its, Standing::Active, true));
        // It is silent again, and writes its row.
        assert!(!members(0, &its, Standing::Expired, false));
        assert!(!members(0, &others, Standing::Active, true));
        assert!(members(30, &others, Standing::Active, true));
    }

    #[test]
    fn a_worker_without_leases_is_left_out_until_something_says_that_it_lives() {
        let start = Clock::system().now();
        let mut roster = Roster::new(REPORTS, FAILOVER);
        let rows = |stopped| vec![row("lives", 1_000), row("stopped", stopped)];
        roster.scanned(&rows(990), start, 1_001_000);
        let now = roster.members(rows(990), &[], None, start);
        assert_eq!(names(&now), ["lives"]);
        // Unless there is nobody else.
        let alone = roster.members(vec![row("stopped", 990)], &[], None, start);
        assert_eq!(names(&alone), ["stopped"]);
        // It had not stopped.
        roster.scanned(&rows(1_020), start, 1_021_000);
        let now = roster.members(rows(1_020), &[], None, start);
        assert_eq!(names(&now), ["lives", "stopped"]);
        // One that comes later has just begun.
        let three = [rows(1_020), vec![row("new", 1_000)]].concat();
        roster.scanned(&three, start, 1_021_000);
        assert_eq!(roster.members(three, &[], None, start).len(), 3);
    }

    #[test]
    fn who_deletes_its_row_has_left_until_it_comes_back_and_of_a_kcl_nothing_is_known() {
        let start = Clock::system().now();
        let at = |second| start + Duration::from_secs(second);
        let mut roster = Roster::new(REPORTS, FAILOVER);
        let kcl = WorkerStats {
            is_ours: false,
            ..row("kcl", 0)
        };
        let mut left = |rows: &[WorkerStats], second| {
            roster.scanned(rows, at(second), second * 1_000);
            ["a", "b", "kcl"].map(|worker| roster.has_left(worker))
        };
        assert_eq!(left(&[row("a", 0), row("b", 0), kcl], 0), [false; 3]);
        assert_eq!(left(&[row("b", 0)], 2), [true, false, false]);
        assert_eq!(left(&[row("b", 0)], 61), [true, false, false]);
        assert_eq!(left(&[row("b", 30)], 62), [false; 3]);
        assert_eq!(left(&[], 64), [false, true, false]);
        assert_eq!(left(&[row("b", 66)], 66), [false; 3]);
        // Who leads again knows nothing of what was between.
        assert_eq!(left(&[], 1_000), [false; 3]);
    }

    #[test]
    fn the_leader_is_a_member_before_its_row_is_seen() {
        let now = Clock::system().now();
        let mut roster = Roster::new(REPORTS, FAILOVER);
        let members = roster.members(Vec::new(), &[], Some("me"), now);
        assert_eq!(names(&members), ["me"]);
    }

    #[test]
    fn workers_whose_metrics_fail_get_nothing_as_long_as_others_tell_how_busy_they_are() {
        let now = Clock::system().now();
        let mut roster = Roster::new(REPORTS, FAILOVER);
        let failing = |worker: &str| {
            let mut row = row(worker, 0);
            row.record("C", Some(40.0), 100);
            row.record("C", None, 100);
            row
        };
        let mut well = row("well", 0);
        well.record("C", Some(70.0), 100);
        let rows = vec![failing("a"), failing("me"), well];
        roster.scanned(&rows, now, 0);
        let members = roster.members(rows.clone(), &[], Some("me"), now);
        assert_eq!(names(&members), ["well"], "nor does the leader");
        let members = roster.members(rows[..2].to_vec(), &[], Some("me"), now);
        assert_eq!(members, [row("a", 0), row("me", 0)]);
        let beside_mute = vec![failing("a"), row("mute", 0)];
        roster.scanned(&beside_mute, now, 0);
        let members = roster.members(beside_mute, &[], None, now);
        assert_eq!(members, [row("a", 0), row("mute", 0)]);
    }

    #[test]
    fn a_row_is_stale_after_a_day_unless_it_is_seen_to_change() {
        let start = Clock::system().now();
        let at = |second| start + Duration::from_secs(second);
        let mut roster = Roster::new(REPORTS, FAILOVER);
        let day = 86_400;
        // The clock of the second is a day behind.
        let rows = |second| {
            let (old, behind) = (row("old", 0), row("behind", second));
            vec![old, behind, row("new", day + second)]
        };
        let mut stale = |second| {
            let (rows, now_millis) = (rows(second), (day + second + 5) * 1_000);
            roster.scanned(&rows, at(second), now_millis);
            let stale = roster.stale(&rows, at(second), now_millis);
            stale.map(|row| row.worker.clone()).collect::<Vec<_>>()
        };
        for second in [0, 30, 59] {
            assert!(stale(second).is_empty(), "not looked at for long enough");
        }
        for second in [60, 90, 120] {
            assert_eq!(stale(second), ["old"]);
        }
    }
}
