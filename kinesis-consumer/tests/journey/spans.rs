//! Whose log line it is.

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::EventKind;

use crate::ledger::Behaviour;
use crate::world::{APPLICATION, World};
use crate::written::Written;

#[tokio::test(start_paused = true)]
async fn every_line_tells_the_worker_and_what_is_of_a_shard_tells_the_shard() {
    let (written, _installed) = Written::begin();
    let world = World::new(1).await;
    world.put_numbers(0..10, 3).await;
    let mut worker = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(10).await;
    // Its lease is deleted under its feet.
    let key = AttributeValue::S("shardId-000000000000".to_owned());
    let delete = world.dynamodb.delete_item().table_name(APPLICATION);
    let delete = delete.key("leaseKey", key).send().await;
    delete.expect("deleted");
    let lost = |kind: &EventKind| matches!(kind, EventKind::LeaseLost);
    worker.until_event("lost", lost).await;
    worker.stop().await.expect("a clean stop");

    let ours = written.lines(" kinesis_consumer::");
    let outside: Vec<_> = ours
        .iter()
        .filter(|line| !line.contains("consumer{"))
        .collect();
    assert!(outside.is_empty(), "{outside:#?}");
    // Of the leader's election, of what Kinesis is asked, of a lease and of a processor.
    for (says, shard) in [
        ("this worker leads", false),
        ("took the lease", false),
        ("lost the lease", true),
        ("kinesis_consumer::shard", true),
    ] {
        let line = ours.iter().find(|line| line.contains(says)).expect(says);
        let span = "shard{stream=\"flights\" shard=shardId-000000000000}";
        assert!(!shard || line.contains(span), "{line}");
    }
}
