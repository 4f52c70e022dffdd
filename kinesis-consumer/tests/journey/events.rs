//! What a subscriber hears, and what a processor is told of its deadline.

use kinesis_consumer::{EventKind, Gain, OnFailure, Settings};

use crate::ledger::{Behaviour, Note};
use crate::world::{Worker, World};

/// The kinds heard until the consumer ended.
async fn rest(worker: Worker) -> Vec<EventKind> {
    let Worker {
        shutdown,
        task,
        mut events,
    } = worker;
    shutdown.cancel();
    task.await.expect("no panic").expect("a clean stop");
    let mut kinds = Vec::new();
    let patience = std::time::Duration::from_secs(60);
    let mut next = async || {
        tokio::time::timeout(patience, events.next())
            .await
            .expect("it ends")
    };
    while let Some(event) = next().await {
        kinds.push(event.expect("kept").kind);
    }
    kinds
}

#[tokio::test(start_paused = true)]
async fn a_failover_is_told_as_one() {
    let world = World::new(1).await;
    let mut first = world.worker("one", |_| Behaviour::Process);
    let gained = first
        .until_event("gained", |kind| {
            matches!(kind, EventKind::LeaseGained { .. })
        })
        .await;
    assert_eq!(gained.kind, EventKind::LeaseGained { by: Gain::Unowned });
    assert_eq!(&*gained.stream, crate::world::STREAM);
    assert_eq!(gained.shard_id.as_str(), "shardId-000000000000");
    first.kill().await;
    let mut second = world.worker("two-", |_| Behaviour::Process);
    let gained = second
        .until_event("gained", |kind| {
            matches!(kind, EventKind::LeaseGained { .. })
        })
        .await;
    assert_eq!(gained.kind, EventKind::LeaseGained { by: Gain::Failover });
    let heard = rest(second).await;
    assert!(
        matches!(heard[0], EventKind::ShardStarted { .. }),
        "{heard:?}"
    );
    assert_eq!(heard.last(), Some(&EventKind::LeaseReleased));
}

#[tokio::test(start_paused = true)]
async fn a_handoff_is_told_on_both_sides() {
    let world = World::new(2).await;
    let mut first = world.worker("one", |_| Behaviour::Process);
    for _ in 0..2 {
        let started = |kind: &EventKind| matches!(kind, EventKind::ShardStarted { .. });
        first.until_event("both shards run", started).await;
    }
    let mut second = world.worker("two-", |_| Behaviour::Process);
    let asked = |kind: &EventKind| matches!(kind, EventKind::HandoffAsked { .. });
    // The first worker leads.
    let asked = first.until_event("asked", asked).await;
    let (from, to) = ("one".to_owned(), "two-".to_owned());
    assert_eq!(asked.kind, EventKind::HandoffAsked { from, to });
    let requested = |kind: &EventKind| matches!(kind, EventKind::HandoffRequested { .. });
    let requested = first.until_event("requested", requested).await;
    let to = "two-".to_owned();
    assert_eq!(requested.kind, EventKind::HandoffRequested { to });
    assert_eq!(requested.shard_id, asked.shard_id);
    let released = |kind: &EventKind| *kind == EventKind::LeaseReleased;
    assert_eq!(
        first.until_event("released", released).await.shard_id,
        asked.shard_id
    );
    let gained = |kind: &EventKind| *kind == EventKind::LeaseGained { by: Gain::Handoff };
    assert_eq!(
        second.until_event("gained", gained).await.shard_id,
        asked.shard_id
    );
    first.stop().await.expect("a clean stop");
    second.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_shard_and_a_dead_letter_are_told() {
    let world = World::new(1).await;
    world.put("a", "bad").await;
    world.stream.split("shardId-000000000000").await;
    let settings = Settings {
        on_failure: OnFailure::DeadLetter { attempts: 1 },
        ..Settings::default()
    };
    let mut worker = world.worker_with("one", settings, |_| Behaviour::Poison);
    let letter = |kind: &EventKind| matches!(kind, EventKind::DeadLettered { .. });
    let letter = worker.until_event("a dead letter", letter).await;
    let position = world.ledger.letters()[0].position();
    assert_eq!(letter.kind, EventKind::DeadLettered { position });
    let ended = |kind: &EventKind| *kind == EventKind::ShardEnded;
    let ended = worker.until_event("the end", ended).await;
    assert_eq!(ended.shard_id.as_str(), "shardId-000000000000");
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn a_processor_is_told_to_stop_before_its_call_is_dropped_and_what_it_left_comes_again() {
    let world = World::new(1).await;
    world.put_numbers(0..5, 1).await;
    // With the strictest policies: leaving in the middle is nobody's fault.
    for on_failure in [
        OnFailure::DeadLetter { attempts: 1 },
        OnFailure::Stop { attempts: 1 },
    ] {
        let settings = Settings {
            on_failure,
            ..Settings::default()
        };
        let worker = world.worker_with("one", settings, |seen| match seen.text().as_str() {
            "1" => Behaviour::ProcessAndCheckpoint,
            "3" => Behaviour::AwaitStop,
            _ => Behaviour::Process,
        });
        let waits = |note: &Note| matches!(note, Note::Tried(seen) if seen.text() == "3");
        world.ledger.until_note("it waits", waits).await;
        let begun = world.clock.now();
        let kinds = rest(worker).await;
        let told = world
            .ledger
            .notes()
            .into_iter()
            .rev()
            .find_map(|note| match note {
                Note::StopSeen { deadline } => Some(deadline - begun),
                _ => None,
            });
        assert_eq!(told, Some(Settings::default().shutdown_timeout * 2 / 3));
        assert!(!kinds.contains(&EventKind::ShardStopped), "{kinds:?}");
    }
    let notes = world.ledger.notes();
    assert!(!notes.iter().any(|note| matches!(note, Note::Dropped(_))));
    assert!(world.ledger.letters().is_empty(), "nothing is given up");
    let last = world.worker("last", |_| Behaviour::Process);
    let all = async || world.ledger.texts().contains(&"4".to_owned());
    crate::world::until("the rest is processed", all).await;
    last.stop().await.expect("a clean stop");
    let by_last = world
        .ledger
        .processed()
        .into_iter()
        .filter(|seen| seen.worker == "last");
    let texts: Vec<String> = by_last.map(|seen| seen.text()).collect();
    assert_eq!(texts, ["2", "3", "4"], "behind the checkpoint");
}
