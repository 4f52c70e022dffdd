//! What every lease table promises, held against each: `holds` makes a test of each promise for each
//! table.

use std::collections::BTreeSet;
use std::time::Duration;

use kinesis_core::{HashKeyRange, Position, Rand, ShardId};

use super::{Created, Index, LeaseTable, Locked, Outcome};
use crate::checkpoint::PendingCheckpoint;
use crate::error::Error;
use crate::lease::item::Row;
use crate::lease::layout::TableNames;
use crate::lease::lock::Claim;
use crate::lease::migration::ClientVersion;
use crate::lease::stats::{CPU, WorkerStats};
use crate::lease::tests::rig::Rig;
use crate::lease::write::Write;
use crate::lease::{Lease, LeaseStore, LeaseTableSettings};

macro_rules! holds {
    ($($promise:ident)*) => {
        mod dynamodb {
            use super::*;
            $(#[tokio::test(start_paused = true)]
            async fn $promise() {
                let rig = Rig::new(1).await;
                super::$promise(&*rig.table().await).await;
            })*
        }

        mod memory {
            use super::*;
            $(#[tokio::test(start_paused = true)]
            async fn $promise() {
                let store = LeaseStore::in_memory();
                let table = store.table(&TableNames::of("billing"), Duration::from_secs(10), Rand::seeded(3));
                let prepared = table.prepare(&LeaseTableSettings::default()).await;
                prepared.expect("the table is there");
                super::$promise(&*table).await;
            })*
        }
    };
}

holds! {
    a_lease_is_created_once
    a_write_is_taken_and_refused_exactly_by_the_rules
    a_write_to_a_lease_that_is_gone_creates_nothing
    of_all_that_take_one_lease_at_a_time_one_has_it
    the_children_are_noted_by_the_holder_only_and_without_raising_the_counter
    the_hash_keys_of_a_row_are_noted_once_and_without_raising_the_counter
    only_a_finished_lease_that_is_as_seen_is_deleted
    the_leases_of_an_owner_are_those_it_has_and_those_it_is_to_get
    a_scan_brings_every_lease_and_every_worker
    the_row_of_a_worker_goes_only_if_it_is_the_one_that_was_written
    of_all_that_claim_the_lock_one_has_it_until_it_gives_it_back
    a_lock_is_taken_from_a_silent_leader_and_from_no_other
    an_application_begins_with_the_protocol_of_kcl_3
}

fn shard(index: u64) -> ShardId {
    ShardId::from_index(index)
}

fn at(number: u64) -> Position {
    Position::parse(&number.to_string(), number % 3).expect("a sequence number")
}

fn done(outcome: Result<Outcome, Error>) -> Lease {
    match outcome.expect("answers") {
        Outcome::Done(row) => row,
        Outcome::Refused(row) => panic!("refused by {row:?}"),
    }
}

fn refused(outcome: Result<Outcome, Error>) -> Option<Lease> {
    match outcome.expect("answers") {
        Outcome::Done(row) => panic!("made: {row:?}"),
        Outcome::Refused(row) => row,
    }
}

async fn stored(table: &dyn LeaseTable, index: u64) -> Lease {
    match table.get(&shard(index)).await.expect("reads") {
        Some(Row::Lease(row)) => *row,
        other => panic!("not a lease: {other:?}"),
    }
}

/// A lease that nobody has owned yet.
async fn created(table: &dyn LeaseTable, index: u64) -> Lease {
    let lease = Lease::new(shard(index), Position::TrimHorizon);
    let created = table.create(&lease).await.expect("creates");
    assert_eq!(created, Created::New);
    lease
}

async fn a_lease_is_created_once(table: &dyn LeaseTable) {
    let lease = Lease {
        parents: [shard(1)].into(),
        range: Some(HashKeyRange::FULL),
        starts_at_millis: Some(1_767_225_600_000),
        ..Lease::new(shard(3), Position::Latest)
    };
    assert_eq!(table.create(&lease).await.expect("creates"), Created::New);
    assert_eq!(stored(table, 3).await, lease);
    let moved = done(table.write(&Write::take(&lease, "a", "t1")).await);
    let again = table.create(&lease).await.expect("finds it");
    assert_eq!(again, Created::Existed);
    assert_eq!(stored(table, 3).await, moved);
    assert_eq!(table.get(&shard(4)).await.expect("reads"), None);
}

/// Every kind of write against the table and against the rules alone, from states and with knowledge
/// that is often stale.
async fn a_write_is_taken_and_refused_exactly_by_the_rules(table: &dyn LeaseTable) {
    let seed = 20_261_123;
    let rand = Rand::seeded(seed);
    let mut row = created(table, 0).await;
    let mut past = vec![row.clone()];
    let (mut made, mut refused) = (0, 0);
    for step in 0..800u64 {
        let back = rand.below(3).min(past.len() as u64 - 1) as usize;
        let seen = past[past.len() - 1 - back].clone();
        let me = ["a", "b"][rand.below(2) as usize];
        let mark = format!("{me}/1/1");
        let write = match rand.below(12) {
            0 => Write::renew(&seen, me, &mark),
            1 => Write::checkpoint(&seen, me, &mark, &at(step)),
            2 => Write::prepare(&seen, me, &mark, &PendingCheckpoint::new(at(step), "half")),
            3 => Write::take(&seen, me, &mark),
            4 => Write::assign(&seen, me),
            5 | 6 => match Write::start_handoff(&seen, me) {
                Some(write) => write,
                None => continue,
            },
            7 | 8 => match Write::withdraw(&seen) {
                Some(write) => write,
                None => continue,
            },
            9 => Write::keep(&seen),
            _ => Write::give_up(&seen),
        };
        let expected = write.apply(&row);
        match (table.write(&write).await.expect("answers"), expected) {
            (Outcome::Done(found), Some(expected)) => {
                assert_eq!(found, expected, "seed {seed} step {step}: {write:?}");
                row = found;
                past.push(row.clone());
                made += 1;
            }
            (Outcome::Refused(Some(found)), None) => {
                assert_eq!(found, row, "seed {seed} step {step}: {write:?}");
                refused += 1;
            }
            (outcome, expected) => {
                panic!("seed {seed} step {step}: {write:?} gave {outcome:?}, not {expected:?}")
            }
        }
    }
    assert_eq!(stored(table, 0).await, row);
    let both = made > 100 && refused > 100;
    assert!(both, "seed {seed}: {made} made, {refused} refused");
}

async fn a_write_to_a_lease_that_is_gone_creates_nothing(table: &dyn LeaseTable) {
    let lease = Lease {
        owner: Some("a".into()),
        ..Lease::new(shard(0), Position::TrimHorizon)
    };
    let writes = [
        Write::renew(&lease, "a", "t1"),
        Write::take(&lease, "b", "t2"),
        Write::assign(&lease, "b"),
        Write::give_up(&lease),
        Write::start_handoff(&lease, "b").expect("has an owner"),
    ];
    for write in writes {
        assert_eq!(refused(table.write(&write).await), None, "{write:?}");
    }
    let children = [shard(1)].into();
    let children = table.put_children(&shard(0), &children, "a").await;
    assert_eq!(refused(children), None);
    let range = table.put_range(&shard(0), HashKeyRange::FULL).await;
    assert_eq!(refused(range), None);
    assert!(!table.delete_ended(&lease).await.expect("answers"));
    assert!(table.scan(true).await.expect("scans").leases.is_empty());
}

async fn of_all_that_take_one_lease_at_a_time_one_has_it(table: &dyn LeaseTable) {
    let lease = created(table, 0).await;
    let workers = ["a", "b", "c", "d", "e"];
    let takes = workers.map(|me| Write::take(&lease, me, me));
    let takes = takes.iter().map(|take| table.write(take));
    let outcomes = futures::future::join_all(takes).await;
    let row = stored(table, 0).await;
    let mut winners = 0;
    for (outcome, me) in outcomes.into_iter().zip(workers) {
        match outcome.expect("answers") {
            Outcome::Done(_) => {
                assert_eq!(row.owner.as_deref(), Some(me));
                winners += 1;
            }
            Outcome::Refused(seen) => assert_eq!(seen.as_ref(), Some(&row)),
        }
    }
    assert_eq!((winners, row.counter), (1, 1));
}

async fn the_children_are_noted_by_the_holder_only_and_without_raising_the_counter(
    table: &dyn LeaseTable,
) {
    let lease = created(table, 0).await;
    let held = done(table.write(&Write::take(&lease, "me", "t1")).await);
    let children = [shard(1), shard(2)].into();
    let other = table.put_children(&shard(0), &children, "you").await;
    assert_eq!(refused(other), Some(held.clone()));
    let row = done(table.put_children(&shard(0), &children, "me").await);
    assert_eq!((row.counter, &row.children), (held.counter, &children));
    assert_eq!(stored(table, 0).await, row);
    // During a handoff the next owner is not the holder yet.
    let asked = Write::start_handoff(&row, "you").expect("has an owner");
    done(table.write(&asked).await);
    refused(table.put_children(&shard(0), &children, "you").await);
    done(table.put_children(&shard(0), &children, "me").await);
}

async fn the_hash_keys_of_a_row_are_noted_once_and_without_raising_the_counter(
    table: &dyn LeaseTable,
) {
    let lease = created(table, 0).await;
    let row = done(table.put_range(&shard(0), HashKeyRange::FULL).await);
    let range = Some(HashKeyRange::FULL);
    assert_eq!(row, Lease { range, ..lease });
    let zero = kinesis_core::HashKey::MIN;
    let other = HashKeyRange::new(zero, zero).expect("a range");
    assert_eq!(refused(table.put_range(&shard(0), other).await), Some(row));
}

async fn only_a_finished_lease_that_is_as_seen_is_deleted(table: &dyn LeaseTable) {
    let lease = created(table, 0).await;
    assert!(!table.delete_ended(&lease).await.expect("answers"));
    let held = done(table.write(&Write::take(&lease, "me", "t1")).await);
    let end = Write::checkpoint(&held, "me", "t1", &Position::ShardEnd);
    let ended = done(table.write(&end).await);
    assert!(!table.delete_ended(&held).await.expect("answers"));
    assert!(table.delete_ended(&ended).await.expect("answers"));
    assert!(!table.delete_ended(&ended).await.expect("it is gone"));
    assert_eq!(table.get(&shard(0)).await.expect("reads"), None);
}

async fn the_leases_of_an_owner_are_those_it_has_and_those_it_is_to_get(table: &dyn LeaseTable) {
    let mut held = Vec::new();
    for index in 0..4 {
        let lease = created(table, index).await;
        if index < 3 {
            held.push(done(table.write(&Write::take(&lease, "a", "t1")).await));
        }
    }
    let asked = Write::start_handoff(&held[1], "b").expect("has an owner");
    done(table.write(&asked).await);
    done(table.write(&Write::give_up(&held[2])).await);
    assert_eq!(table.index().await.expect("answers"), Index::Active);
    assert_eq!(table.owned_by("a").await.expect("asks"), [shard(0)]);
    assert_eq!(table.owned_by("b").await.expect("asks"), [shard(1)]);
    assert_eq!(table.owned_by("c").await.expect("asks"), []);
}

async fn a_scan_brings_every_lease_and_every_worker(table: &dyn LeaseTable) {
    for index in [2, 0, 1] {
        created(table, index).await;
    }
    let mut stats = WorkerStats::new("a", 1_000);
    stats.record(CPU, Some(12.5), 100);
    stats.record("DB", Some(3.0), 80);
    table.put_stats(&stats).await.expect("writes");
    let idle = WorkerStats::new("b", 1_001);
    table.put_stats(&idle).await.expect("writes");
    let later = table.claim_lock(&Claim::Absent, "a", "v", Duration::from_secs(9));
    assert_eq!(later.await.expect("answers"), Locked::Done);
    for consistent in [true, false] {
        let rows = table.scan(consistent).await.expect("scans");
        let found: BTreeSet<_> = rows.leases.into_iter().map(|row| row.shard_id).collect();
        assert_eq!(found, [shard(0), shard(1), shard(2)].into());
        assert_eq!(rows.corrupt, []);
        let mut workers = table.all_stats(rows.stats).await.expect("reads");
        workers.sort_by(|a, b| a.worker.cmp(&b.worker));
        assert_eq!(workers, [stats.clone(), idle.clone()]);
    }
}

async fn the_row_of_a_worker_goes_only_if_it_is_the_one_that_was_written(table: &dyn LeaseTable) {
    let workers = async || {
        let rows = table.scan(true).await.expect("scans");
        let all = table.all_stats(rows.stats).await.expect("reads");
        all.into_iter()
            .map(|row| row.updated_at)
            .collect::<Vec<_>>()
    };
    for at in [1_000, 1_030] {
        let put = table.put_stats(&WorkerStats::new("a", at)).await;
        put.expect("writes");
    }
    assert_eq!(workers().await, [1_030]);
    table.delete_stats("a", 990..=1_029).await.expect("answers");
    table
        .delete_stats("b", 1_030..=1_030)
        .await
        .expect("answers");
    assert_eq!(workers().await, [1_030]);
    table
        .delete_stats("a", 1_000..=1_030)
        .await
        .expect("deletes");
    assert!(workers().await.is_empty());
}

async fn of_all_that_claim_the_lock_one_has_it_until_it_gives_it_back(table: &dyn LeaseTable) {
    let time = Duration::from_secs(10);
    assert_eq!(table.lock().await.expect("reads"), None);
    let claims = ["a", "b", "c"].map(|me| table.claim_lock(&Claim::Absent, me, me, time));
    let outcomes = futures::future::join_all(claims).await;
    let row = table.lock().await.expect("reads").expect("a leader");
    assert_eq!((row.duration, row.released), (time, false));
    let outcomes: Vec<_> = outcomes
        .into_iter()
        .map(|it| it.expect("answers"))
        .collect();
    let of = |outcome: Locked| outcomes.iter().filter(|it| **it == outcome).count();
    assert_eq!(
        (of(Locked::Done), of(Locked::Refused(Some(row.clone())))),
        (1, 2)
    );
    // Only the leader gives it back, and only as it was written last.
    let (me, version) = (row.owner.as_str(), row.version.as_str());
    table.release_lock("other", version).await.expect("answers");
    table.release_lock(me, "older").await.expect("answers");
    assert_eq!(table.lock().await.expect("reads"), Some(row.clone()));
    table.release_lock(me, version).await.expect("gives back");
    assert_eq!(table.lock().await.expect("reads"), None);
}

async fn a_lock_is_taken_from_a_silent_leader_and_from_no_other(table: &dyn LeaseTable) {
    let (time, longer) = (Duration::from_secs(10), Duration::from_secs(20));
    let first = table.claim_lock(&Claim::Absent, "a", "1", time).await;
    assert_eq!(first.expect("answers"), Locked::Done);
    let beat = table.beat_lock("a", "1", "2", longer).await;
    assert_eq!(beat.expect("answers"), Locked::Done);
    let row = table.lock().await.expect("reads").expect("a leader");
    assert_eq!((row.version.as_str(), row.duration), ("2", longer));
    let no = Locked::Refused(Some(row.clone()));
    for claim in [Claim::Absent, Claim::Released, Claim::Expired("1".into())] {
        let claimed = table.claim_lock(&claim, "b", "3", time).await;
        assert_eq!(claimed.expect("answers"), no, "{claim:?}");
    }
    for (me, seen) in [("a", "1"), ("b", "2")] {
        let beat = table.beat_lock(me, seen, "3", time).await;
        assert_eq!(beat.expect("answers"), no, "{me} {seen}");
    }
    let claim = Claim::Expired("2".into());
    let claimed = table.claim_lock(&claim, "b", "3", time).await;
    assert_eq!(claimed.expect("answers"), Locked::Done);
    let row = table.lock().await.expect("reads").expect("a leader");
    assert_eq!((row.owner.as_str(), row.version.as_str()), ("b", "3"));
    // Who was replaced does not come back by a beat.
    let beat = table.beat_lock("a", "2", "4", time).await;
    assert_eq!(beat.expect("answers"), Locked::Refused(Some(row)));
}

async fn an_application_begins_with_the_protocol_of_kcl_3(table: &dyn LeaseTable) {
    table.put_client_version("a", 1_000).await.expect("writes");
    let version = table.client_version().await.expect("reads");
    assert_eq!(version, Some(ClientVersion::Three));
    assert!(!table.find_layout().await.expect("looks"));
}
