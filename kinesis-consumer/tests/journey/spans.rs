//! Whose log line it is.

use std::io::Write;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::EventKind;
use tracing_subscriber::fmt::MakeWriter;

use crate::ledger::Behaviour;
use crate::world::{APPLICATION, World};

/// The log, as written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn every_line_tells_the_worker_and_what_is_of_a_shard_tells_the_shard() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(lines.clone());
    // Where there is one subscriber in a process, tracing asks that of the thread which comes to a place first,
    // and other tests' have none; where there are two it asks these.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().finish());
    let _installed = tracing::subscriber::set_default(subscriber.finish());
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

    let log = String::from_utf8(lines.0.lock().expect("not poisoned").clone()).expect("text");
    let ours = log
        .lines()
        .filter(|line| line.contains(" kinesis_consumer::"));
    let ours: Vec<_> = ours.collect();
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
