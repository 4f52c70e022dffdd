//! The KCL and our consumer, by turns, as one application: each goes on where the other stopped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::{
    Checkpointer, InitializeInput, LeaseSettings, ProcessRecordsInput, ProcessorError, Record,
    RecordProcessor, Settings,
};
use kinesis_core::{Position, ShardId};
use tests::history::{Event, History, numbered};
use tests::world::{APPLICATION, wait_until};
use tests::{Worker, World};

use crate::worker::{Checkpoints, How, KclWorker, PATIENCE, Version};
use crate::{ended, send, split};

/// How the KCL worker is set up; workers of one application agree on it.
const FAILOVER_TIME: Duration = Duration::from_secs(3);

/// The name of our worker.
const OURS: &str = "ours";

/// An attribute that neither the KCL nor we know.
const STRANGE: &str = "ofALaterVersion";

/// The record in the middle of a batch, or the one before it if an aggregate ends there.
fn middle(records: &[Record]) -> Position {
    let middle = (records.len() - 1) / 2;
    let ends = records
        .get(middle + 1)
        .is_none_or(|next| next.sub_sequence == 0);
    records[middle.saturating_sub(usize::from(ends))].position()
}

/// Checkpoints half of each batch and nothing more when it stops, as [`Checkpoints::Half`] does, so
/// that whoever comes next has to go on in the middle of an aggregate.
struct HalfRecorder {
    history: History,
    shard: ShardId,
}

#[async_trait]
impl RecordProcessor for HalfRecorder {
    async fn initialize(&mut self, input: InitializeInput) -> Result<(), ProcessorError> {
        self.history.push(Event::Started {
            worker: OURS.to_owned(),
            shard: input.shard_id,
        });
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        for record in input.records.iter() {
            self.history.push(Event::Delivered {
                worker: OURS.to_owned(),
                shard: self.shard.clone(),
                position: record.position(),
                payload: String::from_utf8_lossy(&record.data).into_owned(),
            });
        }
        let middle = middle(&input.records);
        input.checkpointer.checkpoint_at(&middle).await?;
        self.history.push(Event::Checkpointed {
            shard: self.shard.clone(),
            position: middle,
        });
        Ok(())
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        checkpointer.checkpoint().await?;
        self.history.push(Event::Ended {
            shard: self.shard.clone(),
        });
        Ok(())
    }

    async fn shutdown_requested(&mut self, _: Checkpointer) -> Result<(), ProcessorError> {
        Ok(())
    }
}

/// A worker of either kind.
enum Peer {
    Kcl(Box<KclWorker>),
    Ours(Worker),
}

impl Peer {
    async fn start(world: &World, scenario: &str, turn: &Turn, history: &History) -> Self {
        match turn {
            Turn::Kcl(name, version) => {
                let how = How {
                    version: *version,
                    checkpoints: Checkpoints::Half,
                    ..How::default()
                };
                let kcl = KclWorker::start(world, scenario, name, how, history);
                Self::Kcl(Box::new(kcl.await))
            }
            Turn::Ours => {
                let lease = LeaseSettings {
                    failover_time: FAILOVER_TIME,
                    kcl_failover_time: FAILOVER_TIME,
                    // Not during a test: every row is to be seen at its end.
                    lease_cleanup_interval: Duration::from_secs(3600),
                    ..LeaseSettings::default()
                };
                let settings = Settings {
                    lease,
                    ..Settings::default()
                };
                let history = history.clone();
                let factory = move |shard: &ShardId| HalfRecorder {
                    history: history.clone(),
                    shard: shard.clone(),
                };
                Self::Ours(world.worker_with(OURS, settings, factory))
            }
        }
    }

    async fn wait_until(&self, what: &str, done: impl Fn() -> bool) {
        match self {
            Self::Kcl(kcl) => kcl.wait_until(what, done).await,
            Self::Ours(_) => {
                let waited = wait_until(what, async || done());
                let waited = tokio::time::timeout(PATIENCE, waited);
                assert!(waited.await.is_ok(), "waited {PATIENCE:?} for: {what}");
            }
        }
    }

    async fn stop(self) {
        match self {
            Self::Kcl(kcl) => kcl.stop().await,
            Self::Ours(worker) => worker.stop().await.expect("an orderly end"),
        }
    }
}

/// Whose turn it is, and the worker's name.
enum Turn {
    Kcl(&'static str, Version),
    Ours,
}

impl Turn {
    fn name(&self) -> &str {
        match self {
            Self::Kcl(name, _) => name,
            Self::Ours => OURS,
        }
    }
}

type Item = HashMap<String, AttributeValue>;

/// The rows of the lease table by key.
async fn rows(world: &World) -> BTreeMap<String, Item> {
    let scan = world.dynamodb.scan().table_name(APPLICATION).send().await;
    let items = scan.expect("the table is read").items.unwrap_or_default();
    let key = |item: &Item| item["leaseKey"].as_s().expect("the key is text").clone();
    items.into_iter().map(|item| (key(&item), item)).collect()
}

/// Leases of the KCL 2 and of the first KCL 3 do not say what they are.
fn is_lease(row: &Item) -> bool {
    let text = |name: &str| row.get(name).and_then(|text| text.as_s().ok());
    match text("entityType") {
        Some(kind) => kind == "LEASE",
        None => text("leaseKey").is_some_and(|key| key.starts_with("shardId-")),
    }
}

/// Gives every lease an attribute that nobody knows.
async fn add_strange_attributes(world: &World) {
    for (key, _) in rows(world)
        .await
        .into_iter()
        .filter(|(_, row)| is_lease(row))
    {
        let update = world.dynamodb.update_item().table_name(APPLICATION);
        let updated = update
            .key("leaseKey", AttributeValue::S(key.clone()))
            .update_expression("SET #strange = :key")
            .expression_attribute_names("#strange", STRANGE)
            .expression_attribute_values(":key", AttributeValue::S(key))
            .send();
        updated.await.expect("the row is updated");
    }
}

/// The KCL 2 takes every row for a lease, and does not start where one has no counter. What is deleted
/// here, lock, worker metrics and states, is made anew by whoever needs it.
pub(super) async fn leave_only_leases(world: &World) {
    let others = rows(world).await.into_iter();
    for (key, _) in others.filter(|(_, row)| !is_lease(row)) {
        let delete = world.dynamodb.delete_item().table_name(APPLICATION);
        let delete = delete.key("leaseKey", AttributeValue::S(key));
        delete.send().await.expect("the row is deleted");
    }
}

/// What a holder of a lease changes. Only the owner, and our mark of who that is, may be missing
/// afterwards.
const MOVING: [&str; 8] = [
    "acquisitionId",
    "checkpoint",
    "checkpointSubSequenceNumber",
    "childShardIds",
    "leaseCounter",
    "leaseOwner",
    "ownerSwitchesSinceCheckpoint",
    "throughputKBps",
];

/// Fails if a turn of ours changed a row that is not a lease, or if any turn lost an attribute of a
/// lease or changed one that is not the holder's to change.
fn assert_rows_kept(
    turn: &Turn,
    expects_others: bool,
    before: &BTreeMap<String, Item>,
    after: &BTreeMap<String, Item>,
) {
    let by_kcl = matches!(turn, Turn::Kcl(..));
    let others = before.iter().filter(|(_, row)| !is_lease(row));
    // The KCL goes on writing its own; for us they are somebody else's.
    for (key, row) in others.clone().filter(|_| !by_kcl) {
        assert_eq!(after.get(key), Some(row), "the row of {key}");
    }
    assert!(
        by_kcl || before.is_empty() || others.count() > 0 || !expects_others,
        "the KCL left no rows of its own"
    );
    for (key, row) in before.iter().filter(|(_, row)| is_lease(row)) {
        let now = after.get(key).expect("nobody deletes leases here");
        for (name, value) in row {
            let kept = match name.as_str() {
                "leaseOwner" | "acquisitionId" => true,
                moving if MOVING.contains(&moving) => now.contains_key(name),
                _ => now.get(name) == Some(value),
            };
            let now = now.get(name);
            assert!(kept, "{name} of {key} was {value:?}, is {now:?}");
        }
    }
}

/// Fails unless `next`, which began after the first `before` events, went on right behind the
/// checkpoints: everything delivered behind them comes again, and at least once that is the rest of
/// an aggregate. (That nothing else comes again holds for all turns together.)
fn assert_went_on_behind_the_checkpoints(history: &History, before: usize, next: &str) {
    let events = history.events();
    let mut open: BTreeMap<ShardId, (Position, BTreeSet<Position>)> = BTreeMap::new();
    for event in &events[..before] {
        match event {
            Event::Delivered {
                shard, position, ..
            } => {
                let entry = open.entry(shard.clone());
                let (_, behind) = entry.or_insert((Position::TrimHorizon, BTreeSet::new()));
                behind.insert(position.clone());
            }
            Event::Checkpointed { shard, position } => {
                let (at, behind) = open.get_mut(shard).expect("something was delivered");
                *at = position.clone();
                behind.retain(|delivered| delivered > position);
            }
            Event::Ended { shard } => {
                open.remove(shard);
            }
            Event::Started { .. } | Event::LeaseLost { .. } => {}
        }
    }
    let inside = |(at, behind): &(Position, BTreeSet<Position>)| {
        behind
            .first()
            .is_some_and(|next| next.checkpoint() == at.checkpoint())
    };
    assert!(
        open.values().any(inside),
        "no checkpoint lies inside of an aggregate when {next} begins"
    );
    for (shard, (at, behind)) in open {
        let mut again = events[before..].iter().filter_map(|event| match event {
            Event::Delivered {
                worker,
                shard: of,
                position,
                ..
            } if worker == next && *of == shard => Some(position.clone()),
            _ => None,
        });
        let again: BTreeSet<_> = again.by_ref().take(behind.len()).collect();
        assert_eq!(
            again, behind,
            "{next} went on in {shard}, checkpointed at {at}"
        );
    }
}

/// Each turn works on the same lease table, is stopped in order, and the next goes on. In the second
/// turn a shard is split, so that the third starts on leases which the second made.
async fn take_turns<const N: usize>(scenario: &str, turns: [Turn; N]) {
    let world = World::listening(2).await;
    let history = History::default();
    let records = numbered(30, 1_500 * N);
    let producer = world.producer();
    let mut events_before = Vec::new();
    for (number, turn) in turns.iter().enumerate() {
        if matches!(turn, Turn::Kcl(_, Version::Two)) && number > 0 {
            leave_only_leases(&world).await;
        }
        let before = if number == 0 {
            BTreeMap::new()
        } else {
            add_strange_attributes(&world).await;
            rows(&world).await
        };
        events_before.push(history.events().len());
        let peer = Peer::start(&world, scenario, turn, &history).await;
        let batch = &records[number * 1_500..(number + 1) * 1_500];
        send(&producer, &batch[..500]).await;
        if number == 1 {
            split(&world, "shardId-000000000000", 1 << 125).await;
        }
        send(&producer, &batch[500..]).await;
        let seen = (number + 1) * 1_500;
        peer.wait_until("the records of the turn", || {
            history.payloads().len() >= seen && ended(&history) >= usize::from(number > 0)
        })
        .await;
        match (peer, turn) {
            // It takes the lease of the shard that has ended too, and then waits in vain for that
            // shard's processor to hear of the shutdown.
            (Peer::Kcl(kcl), Turn::Kcl(_, Version::Two)) if number > 0 => kcl.kill().await,
            (peer, _) => peer.stop().await,
        }
        // Others than the newest have tables of their own for what is not a lease, or have no such.
        let newest = |turn: &Turn| matches!(turn, Turn::Kcl(_, Version::Newest));
        let expects_others = turns[..number].iter().any(newest);
        assert_rows_kept(turn, expects_others, &before, &rows(&world).await);
    }
    history.assert_nothing_lost(&records);
    history.assert_order_per_key();
    history.assert_duplicates_were_not_checkpointed();
    history.assert_parents_first(&world.parents().await);
    for (turn, before) in turns.iter().zip(events_before).skip(1) {
        assert_went_on_behind_the_checkpoints(&history, before, turn.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_go_on_where_a_kcl_3_stopped_and_a_kcl_3_where_we_did() {
    let newest = |name| Turn::Kcl(name, Version::Newest);
    let three_four = |name| Turn::Kcl(name, Version::ThreeFour);
    tokio::join!(
        Box::pin(take_turns(
            "kcl-first",
            [newest("kcl"), Turn::Ours, newest("kcl-again")]
        )),
        Box::pin(take_turns(
            "ours-first",
            [Turn::Ours, newest("kcl"), Turn::Ours]
        )),
        Box::pin(take_turns(
            "kcl-3-4",
            [three_four("kcl"), Turn::Ours, three_four("kcl-again")]
        )),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_go_on_where_a_kcl_2_stopped_and_a_kcl_3_where_we_did_or_a_2_once_only_leases_are_left()
{
    let two = |name| Turn::Kcl(name, Version::Two);
    let newest = Turn::Kcl("kcl-3", Version::Newest);
    tokio::join!(
        Box::pin(take_turns(
            "kcl-2",
            [two("kcl"), Turn::Ours, two("kcl-again")]
        )),
        Box::pin(take_turns("kcl-2-to-3", [two("kcl-2"), Turn::Ours, newest])),
    );
}
