//! Looking after the lease table from outside.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::admin::{Change, ChangeResult, LeaseAdmin, ResetTo, StreamCover, Which};
use kinesis_consumer::{ErrorKind, EventKind, Gain, Settings, StreamSource};
use kinesis_local::{FaultEffect, FaultPlan, FaultRule};

use crate::ledger::{Behaviour, Note};
use crate::streams::{Board, identify, start, streams};
use crate::world::{APPLICATION, STREAM, World, until};

const FIRST: &str = "shardId-000000000000";

fn admin(world: &World) -> LeaseAdmin {
    let (kinesis, dynamodb) = (world.kinesis.clone(), world.dynamodb.clone());
    LeaseAdmin::new(APPLICATION, kinesis, dynamodb).clock(world.clock.clone())
}

fn results(changes: &[Change]) -> Vec<ChangeResult> {
    changes.iter().map(|change| change.result).collect()
}

/// A worker that processed numbers `0..count`, and was stopped.
async fn processed(world: &World, count: usize) {
    world.put_numbers(0..count, 3).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(count).await;
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn the_list_tells_owner_checkpoint_age_and_lag() {
    let world = World::new(1).await;
    world.put_numbers(0..3, 1).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(3).await;
    worker.kill().await;
    tokio::time::sleep(Duration::from_secs(90)).await;
    world.put_numbers(3..5, 1).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let list = admin(&world).list(&[STREAM.into()]).await.expect("listed");
    let [lease] = &list[..] else {
        panic!("one lease: {list:?}");
    };
    assert_eq!((lease.lease.as_str(), lease.shard.as_str()), (FIRST, FIRST));
    assert_eq!(lease.owner.as_deref(), Some("one"));
    assert_eq!(
        lease.checkpoint,
        world.ledger.processed()[2].record.sequence_number.as_str()
    );
    let age = lease.checkpoint_age_seconds.expect("a record's position");
    assert!((120..=125).contains(&age), "{age} s");
    let lag = lease.millis_behind_latest.expect("asked");
    assert!(
        (29_000..=31_000).contains(&lag),
        "the second of the two is {lag} ms old"
    );
    assert_eq!(
        admin(&world).list(&[]).await.expect("listed")[0].millis_behind_latest,
        None
    );
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_does_not_answer_has_no_lag_and_costs_the_others_nothing() {
    const SHARDS: usize = 70;
    let world = World::new(SHARDS as i32).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    until("there are leases", async || {
        let list = admin(&world).list(&[]).await;
        list.is_ok_and(|list| list.len() == SHARDS)
    })
    .await;
    worker.kill().await;
    let listed = async |plan: FaultPlan| {
        world.faults(plan);
        let begun = world.clock.now();
        let list = admin(&world).list(&[STREAM.into()]).await.expect("listed");
        assert!(list.is_sorted_by_key(|lease| &lease.lease));
        let without = list
            .iter()
            .filter(|lease| lease.millis_behind_latest.is_none());
        let took = (world.clock.now() - begun).as_secs();
        (list.len(), without.count(), took)
    };
    let rule = |millis| {
        let late = FaultEffect::latency_before_ms(millis);
        FaultRule::new(late).operation("GetShardIterator")
    };
    let (all, without, took) = listed(FaultPlan::default().rule(rule(1_000))).await;
    assert_eq!((all, without), (SHARDS, 0));
    assert!(took < SHARDS as u64 / 2, "one after the other: {took} s");

    let never = kinesis_local::FAULT_LATENCY_MAX_MS;
    let one = FaultPlan::default().rule(rule(never).shard(FIRST));
    let (all, without, took) = listed(one).await;
    assert_eq!((all, without), (SHARDS, 1));
    assert!(took <= 11, "{took} s");

    let (all, without, took) = listed(FaultPlan::default().rule(rule(never))).await;
    assert_eq!((all, without), (SHARDS, SHARDS));
    assert!(took <= 61, "{took} s");
}

#[tokio::test(start_paused = true)]
async fn a_conversion_that_the_table_is_too_busy_for_says_so() {
    let world = World::new(1).await;
    processed(&world, 3).await;
    let (_, id) = identify(&world, STREAM).await;
    let cancelled = FaultEffect::error("TransactionCanceledException");
    let rule = FaultRule::new(cancelled).operation("TransactWriteItems");
    world.faults(FaultPlan::default().rule(rule));
    let converted = admin(&world).convert_to_multi_stream(&id).await;
    let error = converted.expect_err("nothing says that a row was changed");
    assert_eq!(error.kind(), ErrorKind::Throttled);
    world.faults(FaultPlan::default());
    let converted = admin(&world).convert_to_multi_stream(&id).await;
    assert_eq!(
        results(&converted.expect("converted")),
        [ChangeResult::Done]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_held_is_drained_first_and_then_free() {
    let world = World::new(1).await;
    world.put_numbers(0..10, 3).await;
    let mut worker = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(10).await;
    let changes = admin(&world).release(&Which::All).await.expect("released");
    assert_eq!(results(&changes), [ChangeResult::Asked]);
    let released = |kind: &EventKind| *kind == EventKind::LeaseReleased;
    worker.until_event("it lets go", released).await;
    world.put_numbers(10..20, 3).await;
    let gained = |kind: &EventKind| *kind == EventKind::LeaseGained { by: Gain::Failover };
    worker.until_event("it is taken again", gained).await;
    world.ledger.until_processed(20).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..20);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_being_handed_over_is_released_only_if_an_operator_asked_for_it() {
    let long = Duration::from_secs(600);
    let mut settings = Settings {
        shutdown_timeout: long,
        ..Settings::default()
    };
    settings.lease.handoff_timeout = long;
    // By a leader, to a worker, and by an operator, to nobody.
    for (by_operator, expected) in [
        (false, ChangeResult::InHandoff),
        (true, ChangeResult::Asked),
    ] {
        let world = World::new(1).await;
        world.put_numbers(0..1, 1).await;
        let worker = world.worker_with("one", settings.clone(), |_| Behaviour::Hang);
        let begun = |note: &Note| matches!(note, Note::Tried(_));
        world.ledger.until_note("it works", begun).await;
        if by_operator {
            let changes = admin(&world).release(&Which::All).await.expect("asked");
            assert_eq!(results(&changes), [ChangeResult::Asked]);
        } else {
            let names = [(":new", "two-"), (":old", "one")];
            let values =
                names.map(|(name, value)| (name.to_owned(), AttributeValue::S(value.to_owned())));
            let update = world.dynamodb.update_item().table_name(APPLICATION);
            update
                .key("leaseKey", AttributeValue::S(FIRST.to_owned()))
                .update_expression("SET leaseOwner = :new, checkpointOwner = :old")
                .set_expression_attribute_values(Some(values.into()))
                .send()
                .await
                .expect("updated");
        }
        let changes = admin(&world).release(&Which::All).await.expect("listed");
        assert_eq!(results(&changes), [expected]);
        assert_eq!(world.lease_row(FIRST).await["checkpointOwner"], "one");
        worker.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_a_dead_worker_is_free_at_once_and_an_unknown_one_is_named() {
    let world = World::new(2).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.put_numbers(0..10, 3).await;
    world.ledger.until_processed(10).await;
    worker.kill().await;
    let one = Which::Of(BTreeSet::from([FIRST.to_owned()]));
    let changes = admin(&world).release(&one).await.expect("released");
    assert_eq!(results(&changes), [ChangeResult::Done]);
    assert!(!world.lease_row(FIRST).await.contains_key("leaseOwner"));
    let other = world.lease_row("shardId-000000000001").await;
    assert_eq!(other["leaseOwner"], "one", "not asked for");
    let again = admin(&world).release(&one).await.expect("released");
    assert_eq!(results(&again), [ChangeResult::Unchanged]);

    let unknown = Which::Of(BTreeSet::from(["shardId-7".to_owned()]));
    let error = admin(&world)
        .release(&unknown)
        .await
        .expect_err("no such lease");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("shardId-7"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_reset_leaves_held_leases_alone_and_reads_the_others_again_from_where_it_says() {
    let world = World::new(1).await;
    world.put_numbers(0..3, 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let instant = world.clock.epoch_millis();
    world.put_numbers(3..5, 1).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(5).await;
    let reset = async |to| admin(&world).reset(&Which::All, to).await.expect("reset");
    assert_eq!(
        results(&reset(ResetTo::TrimHorizon).await),
        [ChangeResult::Held]
    );
    worker.stop().await.expect("a clean stop");

    for (to, from) in [
        (ResetTo::AtTimestamp(instant), 3),
        (ResetTo::TrimHorizon, 0),
    ] {
        let before = world.ledger.processed().len();
        assert_eq!(results(&reset(to).await), [ChangeResult::Done]);
        let worker = world.worker("two-", |_| Behaviour::Process);
        world.ledger.until_processed(before + 5 - from).await;
        worker.stop().await.expect("a clean stop");
        let expected: Vec<String> = (from..5).map(|number| number.to_string()).collect();
        assert_eq!(world.ledger.texts()[before..], expected);
    }

    // The instant of the reset counts from a minute earlier, for the difference of clocks.
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(results(&reset(ResetTo::Latest).await), [ChangeResult::Done]);
    let before = world.ledger.processed().len();
    let worker = world.worker("three", |_| Behaviour::Process);
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.put_numbers(5..6, 1).await;
    world.ledger.until_processed(before + 1).await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(world.ledger.texts()[before..], ["5"]);
}

/// Changes the row of the first lease by hand.
async fn change(world: &World, expression: &str, values: &[(&str, AttributeValue)]) {
    let values = values.iter().cloned();
    let values = values.map(|(name, value)| (name.to_owned(), value));
    let update = world.dynamodb.update_item().table_name(APPLICATION);
    update
        .key("leaseKey", AttributeValue::S(FIRST.to_owned()))
        .update_expression(expression)
        .set_expression_attribute_values(Some(values.collect()))
        .send()
        .await
        .expect("updated");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_reset_to_an_instant_where_a_kcl_has_been_unless_it_is_said_to_be_gone() {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    for by_metrics in [false, true] {
        let world = World::new(2).await;
        processed(&world, 6).await;
        if by_metrics {
            // The row of a worker that has no lease.
            let put = world.dynamodb.put_item().table_name(APPLICATION);
            let put = put
                .item("leaseKey", text("kcl"))
                .item("entityType", text("WORKER_METRIC_STATS"))
                .item("lut", AttributeValue::N("0".to_owned()));
            put.send().await.expect("put");
        } else {
            // As a KCL leaves it that stops: it takes a lease without a mark, and lets it expire.
            change(&world, "SET leaseOwner = :kcl", &[(":kcl", text("kcl"))]).await;
        }
        let admin = admin(&world);
        let all = Which::All;
        let refused = admin.reset(&all, ResetTo::AtTimestamp(1)).await;
        let error = refused.expect_err("a KCL could not read it");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let told = error.to_string();
        for part in ["worker kcl", APPLICATION, "AT_TIMESTAMP", "--without-kcl"] {
            assert!(told.contains(part), "no {part} in: {told}");
        }
        let row = world.lease_row(FIRST).await;
        assert_ne!(row["checkpoint"], "AT_TIMESTAMP");
        // What a KCL can read is set.
        let done = admin
            .reset(&all, ResetTo::TrimHorizon)
            .await
            .expect("reset");
        assert_eq!(results(&done), [ChangeResult::Done; 2]);
        let admin = admin.without_kcl();
        let done = admin.reset(&all, ResetTo::AtTimestamp(1)).await;
        assert_eq!(results(&done.expect("reset")), [ChangeResult::Done; 2]);
        assert_eq!(world.lease_row(FIRST).await["checkpoint"], "AT_TIMESTAMP");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kcl_that_renews_once_in_twenty_seconds_holds_its_leases_until_it_stops() {
    let world = World::new(1).await;
    processed(&world, 3).await;
    let (_, id) = identify(&world, STREAM).await;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    change(&world, "SET leaseOwner = :kcl", &[(":kcl", text("kcl"))]).await;
    let admin = admin(&world);
    let one = [(":one", AttributeValue::N("1".to_owned()))];
    let renewals = async {
        loop {
            tokio::time::sleep(Duration::from_secs(20)).await;
            change(&world, "ADD leaseCounter :one", &one).await;
        }
    };
    let beside_it = async {
        let reset = admin.reset(&Which::All, ResetTo::TrimHorizon).await;
        assert_eq!(results(&reset.expect("looked")), [ChangeResult::Held]);
        let refused = admin.convert_to_multi_stream(&id).await;
        assert_eq!(
            refused.expect_err("it runs").kind(),
            ErrorKind::InvalidInput
        );
        let handoff = [(":next", text("next")), (":kcl", text("kcl"))];
        let asks = "SET leaseOwner = :next, checkpointOwner = :kcl";
        change(&world, asks, &handoff).await;
        let unstuck = admin.unstick().await.expect("looked");
        assert_eq!(results(&unstuck), [ChangeResult::Held]);
    };
    tokio::select! {
        () = renewals => unreachable!("it renews for ever"),
        () = beside_it => {}
    }
    let took = async |admin: LeaseAdmin| {
        let begun = world.clock.now();
        let unstuck = admin.unstick().await.expect("looked");
        (results(&unstuck), (world.clock.now() - begun).as_secs())
    };
    assert_eq!(took(admin.clone()).await, (vec![ChangeResult::Done], 60));
    // Who knows better, or that there is none, need not wait for so long.
    for (admin, seconds) in [
        (admin.clone().kcl_failover_time(Duration::from_secs(30)), 30),
        (admin.clone().kcl_failover_time(Duration::from_secs(1)), 10),
        (admin.without_kcl(), 10),
    ] {
        let handoff = [(":next", text("next")), (":kcl", text("kcl"))];
        let asks = "SET leaseOwner = :next, checkpointOwner = :kcl";
        change(&world, asks, &handoff).await;
        assert_eq!(took(admin).await, (vec![ChangeResult::Done], seconds));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_a_worker_of_ours_that_died_is_free_after_its_own_failover_time() {
    let world = World::new(1).await;
    world.put_numbers(0..3, 3).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(3).await;
    worker.kill().await;
    let begun = world.clock.now();
    let reset = admin(&world).reset(&Which::All, ResetTo::TrimHorizon).await;
    assert_eq!(results(&reset.expect("reset")), [ChangeResult::Done]);
    assert_eq!((world.clock.now() - begun).as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_worker_by_the_rules_of_kcl_2_is_not_asked_to_let_go_and_what_it_left_is_released() {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let state = || text("Migration3.0");
    for version in [None, Some("CLIENT_VERSION_UPGRADE_FROM_2X")] {
        let world = World::new(2).await;
        processed(&world, 6).await;
        // The second lease is nobody's.
        change(&world, "SET leaseOwner = :w1", &[(":w1", text("w1"))]).await;
        let delete = world.dynamodb.delete_item().table_name(APPLICATION);
        let deleted = delete.key("leaseKey", state()).send().await;
        deleted.expect("a fleet of KCL 2.x has no state");
        if let Some(version) = version {
            let put = world.dynamodb.put_item().table_name(APPLICATION);
            let put = put
                .item("leaseKey", state())
                .item("entityType", text("CLIENT_VERSION_MIGRATION"))
                .item("cv", text(version));
            put.send().await.expect("put");
        }
        let one = [(":one", AttributeValue::N("1".to_owned()))];
        let renewing = async {
            loop {
                tokio::time::sleep(Duration::from_secs(3)).await;
                change(&world, "ADD leaseCounter :one", &one).await;
            }
        };
        let admin = admin(&world);
        let refused = tokio::select! {
            released = admin.release(&Which::All) => released,
            () = renewing => unreachable!("it renews for ever"),
        };
        let error = refused.expect_err("it knows no handoff");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let told = error.to_string();
        let says = version.unwrap_or("no row Migration3.0");
        for part in ["worker w1", FIRST, "KCL 2.x", says] {
            assert!(told.contains(part), "no {part} in: {told}");
        }
        let row = world.lease_row(FIRST).await;
        assert_eq!(row["leaseOwner"], "w1");
        assert!(!row.contains_key("checkpointOwner"), "{row:?}");

        // It stopped.
        let released = admin.release(&Which::All).await.expect("released");
        let expected = [ChangeResult::Done, ChangeResult::Unchanged];
        assert_eq!(results(&released), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handoff_that_nobody_carries_on_is_ended() {
    let world = World::new(2).await;
    processed(&world, 6).await;
    let stuck = |name: &str, value: &str| {
        let value = AttributeValue::S(value.to_owned());
        (name.to_owned(), value)
    };
    world
        .dynamodb
        .update_item()
        .table_name(APPLICATION)
        .key("leaseKey", AttributeValue::S(FIRST.to_owned()))
        .update_expression("SET leaseOwner = :new, checkpointOwner = :old")
        .set_expression_attribute_values(Some(
            [stuck(":new", "gone"), stuck(":old", "dead")].into(),
        ))
        .send()
        .await
        .expect("updated");
    let before = admin(&world).verify(&[]).await.expect("verified");
    assert_eq!(before.streams[0].in_handoff, [FIRST]);
    let changes = admin(&world).unstick().await.expect("unstuck");
    assert_eq!(changes.len(), 1, "only what is stuck: {changes:?}");
    assert_eq!(
        (changes[0].lease.as_str(), changes[0].result),
        (FIRST, ChangeResult::Done)
    );
    let row = world.lease_row(FIRST).await;
    assert!(
        !row.contains_key("leaseOwner") && !row.contains_key("checkpointOwner"),
        "{row:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hole_in_the_key_space_is_found() {
    let world = World::new(2).await;
    processed(&world, 6).await;
    let cover = admin(&world).verify(&[]).await.expect("verified");
    assert!(cover.sound, "{cover:?}");
    assert_eq!((cover.streams[0].open, cover.streams[0].ended), (2, 0));
    let delete = world.dynamodb.delete_item().table_name(APPLICATION);
    let key = AttributeValue::S(FIRST.to_owned());
    delete.key("leaseKey", key).send().await.expect("deleted");
    let cover = admin(&world).verify(&[]).await.expect("verified");
    assert!(!cover.sound);
    assert_eq!(
        cover.streams[0].holes,
        [format!("0-{}", (1_u128 << 127) - 1)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_table_without_leases_and_a_stream_without_any_are_holes() {
    let world = World::new(2).await;
    processed(&world, 6).await;
    let other = "other";
    let create = world.kinesis.create_stream().stream_name(other);
    create.shard_count(1).send().await.expect("created");
    let (_, id) = identify(&world, STREAM).await;
    let (_, other_id) = identify(&world, other).await;
    let verify = async |streams: &[&str]| {
        let streams: Vec<StreamSource> = streams.iter().map(|name| (*name).into()).collect();
        admin(&world).verify(&streams).await.expect("verified")
    };
    let everything = [format!("0-{}", u128::MAX)];

    // Leases that name no stream are those of the one that is asked for, or of the first.
    assert!(verify(&[STREAM]).await.sound);
    let cover = verify(&[STREAM, other]).await;
    assert!(!cover.sound, "{cover:?}");

    // Of several streams.
    let converted = admin(&world).convert_to_multi_stream(&id).await;
    converted.expect("converted");
    assert!(verify(&[]).await.sound && verify(&[STREAM]).await.sound);
    let cover = verify(&[STREAM, other]).await;
    assert!(!cover.sound);
    let of_other = |stream: &&StreamCover| stream.stream.as_deref() == Some(other_id.as_str());
    let of_other = cover.streams.iter().find(of_other).expect("asked for");
    assert_eq!((of_other.open, &*of_other.holes), (0, &everything[..]));

    for shard in [FIRST, "shardId-000000000001"] {
        let delete = world.dynamodb.delete_item().table_name(APPLICATION);
        let key = AttributeValue::S(format!("{id}:{shard}"));
        delete.key("leaseKey", key).send().await.expect("deleted");
    }
    let cover = verify(&[]).await;
    assert!(!cover.sound);
    let [none] = &cover.streams[..] else {
        panic!("what lacks all: {cover:?}");
    };
    assert_eq!((&none.stream, &*none.holes), (&None, &everything[..]));
    let error = admin(&world).verify(&["gone".into()]).await;
    assert_eq!(error.expect_err("no stream").kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_converted_table_goes_on_from_its_checkpoints_and_back() {
    let world = World::new(2).await;
    let note = AttributeValue::S("kept".to_owned());
    world.put_numbers(0..10, 3).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(10).await;
    let (_, id) = identify(&world, STREAM).await;
    let refused = admin(&world).convert_to_multi_stream(&id).await;
    assert_eq!(
        refused.expect_err("a worker runs").kind(),
        ErrorKind::InvalidInput
    );
    worker.stop().await.expect("a clean stop");
    world
        .dynamodb
        .update_item()
        .table_name(APPLICATION)
        .key("leaseKey", AttributeValue::S(FIRST.to_owned()))
        .update_expression("SET ours = :ours")
        .expression_attribute_values(":ours", note)
        .send()
        .await
        .expect("updated");
    let checkpoint = world.lease_row(FIRST).await["checkpoint"].clone();

    let identified = admin(&world).identify(&StreamSource::new(STREAM)).await;
    assert_eq!(identified.expect("described"), id);
    let changes = admin(&world)
        .convert_to_multi_stream(&id)
        .await
        .expect("converted");
    assert_eq!(results(&changes), [ChangeResult::Done; 2]);
    assert!(world.lease_row(FIRST).await.is_empty(), "moved");
    let row = world.lease_row(&format!("{id}:{FIRST}")).await;
    assert_eq!((&row["checkpoint"], &*row["ours"]), (&checkpoint, "kept"));
    let board = Board::default();
    let worker = start(&world, "many", &streams([STREAM.into()]), &board);
    world.put("a", "10").await;
    board.until(STREAM, &["10"]).await;
    worker.stop().await.expect("a clean stop");

    let changes = admin(&world)
        .convert_to_single_stream(&id)
        .await
        .expect("converted");
    assert_eq!(results(&changes), [ChangeResult::Done; 2]);
    let row = world.lease_row(FIRST).await;
    assert!(
        !row.contains_key("streamName") && row["ours"] == "kept",
        "{row:?}"
    );
    let worker = world.worker("two-", |_| Behaviour::Process);
    world.put("a", "11").await;
    world.ledger.until_processed(11).await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(world.ledger.texts()[10..], ["11"], "nothing comes again");
    assert_eq!(board.of(STREAM), ["10", "(stopped)", "(stopped)"]);
}
