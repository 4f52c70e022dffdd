//! The KCL and our consumer, by turns, as one application: each goes on where the other stopped.

use std::collections::BTreeMap;

use kinesis_consumer::admin::LeaseAdmin;
use kinesis_core::{ShardId, UserRecord};
use kinesis_local::testing::TestStream;
use tests::history::{Event, History, numbered};
use tests::world::{APPLICATION, STREAM, wait_until};
use tests::{Worker, World};

use crate::half::{FAILOVER_TIME, OURS, assert_went_on_behind_the_checkpoints, ours};
use crate::rows::{
    Rows, add_strange_attributes, assert_converted, assert_made_alike, assert_rows_kept, is_lease,
    leave_only_leases, rows, text,
};
use crate::streams::{ARRIVALS, Reads, identifiers, keyed, of_stream, parents, producer};
use crate::worker::{Checkpoints, How, KclWorker, PATIENCE, Version};
use crate::{ended, send, split};

/// The records of a stream in a turn.
const TURN: usize = 1_500;

/// Whose turn it is.
#[derive(Clone, Copy)]
enum By {
    Kcl(&'static str, Version),
    Ours,
}

#[derive(Clone, Copy)]
struct Turn {
    by: By,
    reads: Reads,
}

impl Turn {
    fn kcl(name: &'static str, version: Version) -> Self {
        let by = By::Kcl(name, version);
        Self {
            by,
            reads: Reads::One,
        }
    }

    fn newest(name: &'static str) -> Self {
        Self::kcl(name, Version::Newest)
    }

    fn ours() -> Self {
        Self {
            by: By::Ours,
            reads: Reads::One,
        }
    }

    fn of_two_streams(self) -> Self {
        Self {
            reads: Reads::Two,
            ..self
        }
    }

    fn name(&self) -> &'static str {
        match self.by {
            By::Kcl(name, _) => name,
            By::Ours => OURS,
        }
    }

    fn is_of(&self, version: Version) -> bool {
        matches!(self.by, By::Kcl(_, of) if of == version)
    }

    async fn begin(&self, world: &World, scenario: &str, history: &History) -> Peer {
        match self.by {
            By::Kcl(name, version) => {
                let how = How {
                    version,
                    reads: self.reads,
                    checkpoints: Checkpoints::Half,
                    ..How::default()
                };
                let kcl = KclWorker::start(world, scenario, name, how, history);
                Peer::Kcl(Box::new(kcl.await))
            }
            By::Ours => Peer::Ours(ours(world, APPLICATION, self.reads, history)),
        }
    }
}

/// A worker of either kind.
enum Peer {
    Kcl(Box<KclWorker>),
    Ours(Worker),
}

impl Peer {
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

/// Fails unless one of ours makes the same leases as the KCL has made.
async fn assert_ours_makes_the_same(world: &World, reads: Reads) {
    const APART: &str = "ours-apart";
    let history = History::default();
    let worker = ours(world, APART, reads, &history);
    let shards = rows(world)
        .await
        .values()
        .filter(|row| is_lease(row))
        .count();
    let started = || {
        let started = |event: &&Event| matches!(event, Event::Started { .. });
        history.events().iter().filter(started).count()
    };
    let all = wait_until("a lease for each shard", async || started() == shards);
    let waited = tokio::time::timeout(PATIENCE, all).await;
    assert!(waited.is_ok(), "we read {} of {shards} shards", started());
    worker.stop().await.expect("an orderly end");
    assert_made_alike(world, APART).await;
}

/// The trap that the leases of other streams are to a KCL of one stream, once they are left in its table: it
/// takes each for that of a shard with this name, and cannot read it.
async fn until_it_took_what_is_not_its_own(world: &World, kcl: &str) {
    let taken = async || {
        let rows = rows(world).await;
        let foreign: Vec<_> = rows
            .iter()
            .filter(|(key, _)| key.contains(ARRIVALS))
            .collect();
        assert_eq!(foreign.len(), 2, "{:?}", rows.keys());
        foreign
            .iter()
            .all(|(_, row)| text(row, "leaseOwner") == Some(kcl))
    };
    let waited = wait_until("it to take the leases of another stream", taken);
    let waited = tokio::time::timeout(PATIENCE, waited).await;
    assert!(
        waited.is_ok(),
        "{kcl} left the leases of another stream alone"
    );
}

/// Lets our converter make the lease table one of an application that reads so many streams.
async fn convert(world: &World, to: Reads) {
    let (kinesis, dynamodb) = (world.kinesis.clone(), world.dynamodb.clone());
    let admin = LeaseAdmin::new(APPLICATION, kinesis, dynamodb)
        .failover_time(FAILOVER_TIME)
        .kcl_failover_time(FAILOVER_TIME);
    let stream = admin.identify(&STREAM.into()).await.expect("identified");
    let before = rows(world).await;
    let done = match to {
        Reads::One => admin.convert_to_single_stream(&stream).await,
        Reads::Two => admin.convert_to_multi_stream(&stream).await,
    };
    done.expect("converted");
    assert_converted(&stream, to, &before, &rows(world).await);
}

/// Sends what the turn reads: so many records a stream, and behind the first third of them a shard may be split.
async fn send_turn(world: &World, batches: &[(&str, &[UserRecord])], splits: bool) {
    for (stream, batch) in batches {
        send(&producer(world, stream), &batch[..TURN / 3]).await;
    }
    if splits {
        split(world, "shardId-000000000000", 1 << 125).await;
    }
    for (stream, batch) in batches {
        send(&producer(world, stream), &batch[TURN / 3..]).await;
    }
}

/// Each turn works on the same lease table, is stopped in order, and the next goes on. In the second
/// turn a shard is split, so that the third starts on leases which the second made. Where the next turn reads
/// another number of streams, the table is converted before it.
async fn take_turns<const N: usize>(scenario: &str, turns: [Turn; N]) {
    let world = World::listening(2).await;
    let named = turns.iter().any(|turn| turn.reads == Reads::Two);
    if named {
        TestStream::create(&world.local, ARRIVALS, 2).await;
    }
    let identifiers = identifiers(&world, if named { Reads::Two } else { Reads::One }).await;
    let history = History::default();
    let all: BTreeMap<_, _> = Reads::Two
        .streams()
        .iter()
        .map(|stream| {
            let records = numbered(30, TURN * N).into_iter();
            let records: Vec<_> = records.map(|record| of_stream(stream, record)).collect();
            (*stream, records)
        })
        .collect();
    let mut sent: BTreeMap<&str, usize> = BTreeMap::new();
    let mut events_before = Vec::new();
    for (number, turn) in turns.iter().enumerate() {
        if turn.is_of(Version::Two) && number > 0 {
            leave_only_leases(&world).await;
        }
        let mut before = Rows::new();
        if number > 0 {
            add_strange_attributes(&world).await;
            if turns[number - 1].reads != turn.reads {
                convert(&world, turn.reads).await;
            }
            before = rows(&world).await;
        }
        events_before.push(history.events().len());
        let seen = History::default();
        let peer = turn.begin(&world, scenario, &seen).await;
        let mut batches = Vec::new();
        for stream in turn.reads.streams() {
            let from = sent.entry(stream).or_default();
            batches.push((*stream, &all[stream][*from..*from + TURN]));
            *from += TURN;
        }
        send_turn(&world, &batches, number == 1).await;
        let (earlier, expected) = (history.payloads(), sent.values().sum::<usize>());
        peer.wait_until("the records of the turn", || {
            let new = seen.payloads().difference(&earlier).count();
            earlier.len() + new >= expected && (ended(&seen) > 0 || number != 1)
        })
        .await;
        // A KCL does not stop in order that has the lease of a shard it cannot read, or, if it is a 2, of one
        // that has ended: it waits in vain for that shard's processor to hear of the shutdown.
        let hangs = match turn.by {
            By::Kcl(_, Version::Two) => number > 0,
            By::Kcl(name, _) if named && turn.reads == Reads::One && number > 0 => {
                until_it_took_what_is_not_its_own(&world, name).await;
                true
            }
            By::Kcl(..) | By::Ours => false,
        };
        match peer {
            Peer::Kcl(kcl) if hangs => kcl.kill().await,
            peer => peer.stop().await,
        }
        for event in seen.events() {
            history.push(if named {
                keyed(event, &identifiers[STREAM])
            } else {
                event
            });
        }
        // Others than the newest have tables of their own for what is not a lease, or have no such.
        let expects_others = turns[..number]
            .iter()
            .any(|turn| turn.is_of(Version::Newest));
        let by_kcl = matches!(turn.by, By::Kcl(..));
        assert_rows_kept(by_kcl, expects_others, &before, &rows(&world).await);
        if number == 0 && turn.is_of(Version::Newest) {
            assert_ours_makes_the_same(&world, turn.reads).await;
        }
    }
    let sent: Vec<_> = sent
        .iter()
        .flat_map(|(stream, count)| all[stream][..*count].to_vec())
        .collect();
    history.assert_nothing_lost(&sent);
    history.assert_order_per_key();
    history.assert_duplicates_were_not_checkpointed();
    history.assert_parents_first(&parents(&world, named.then_some(&identifiers)).await);
    for (turn, before) in turns.iter().zip(events_before).skip(1) {
        let reads = |shard: &ShardId| {
            let of = |stream: &&str| shard.as_str().starts_with(&identifiers[*stream]);
            !named || turn.reads.streams().iter().any(of)
        };
        assert_went_on_behind_the_checkpoints(&history, before, turn.name(), reads);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_go_on_where_a_kcl_3_stopped_and_a_kcl_3_where_we_did() {
    let three_four = |name| Turn::kcl(name, Version::ThreeFour);
    tokio::join!(
        Box::pin(take_turns(
            "kcl-first",
            [Turn::newest("kcl"), Turn::ours(), Turn::newest("kcl-again")]
        )),
        Box::pin(take_turns(
            "ours-first",
            [Turn::ours(), Turn::newest("kcl"), Turn::ours()]
        )),
        Box::pin(take_turns(
            "kcl-3-4",
            [three_four("kcl"), Turn::ours(), three_four("kcl-again")]
        )),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_go_on_where_a_kcl_2_stopped_and_a_kcl_3_where_we_did_or_a_2_once_only_leases_are_left()
{
    let two = |name| Turn::kcl(name, Version::Two);
    tokio::join!(
        Box::pin(take_turns(
            "kcl-2",
            [two("kcl"), Turn::ours(), two("kcl-again")]
        )),
        Box::pin(take_turns(
            "kcl-2-to-3",
            [two("kcl-2"), Turn::ours(), Turn::newest("kcl-3")]
        )),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_streams_too_and_of_one_whose_table_is_converted_for_two_and_back() {
    let kcl = |name| Turn::newest(name).of_two_streams();
    let ours = Turn::ours().of_two_streams();
    tokio::join!(
        Box::pin(take_turns("streams", [kcl("kcl"), ours, kcl("kcl-again")])),
        Box::pin(take_turns(
            "streams-converted",
            [
                Turn::newest("kcl"),
                ours,
                kcl("kcl-two"),
                Turn::newest("kcl-one")
            ]
        )),
    );
}
