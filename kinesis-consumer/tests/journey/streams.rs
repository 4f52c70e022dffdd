//! Several streams, one application, one lease table.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_sdk_kinesis::primitives::Blob;
use kinesis_consumer::{
    Checkpointer, Consumer, InitialPosition, ProcessRecordsInput, ProcessorError, RecordProcessor,
    Settings, ShardId, StreamId, StreamSource, Streams, per_stream,
};
use kinesis_core::Rand;

use crate::world::{APPLICATION, STREAM, Worker, World, until};

/// What processors of each stream saw, by the stream's name.
#[derive(Clone, Default)]
pub(crate) struct Board(Arc<Mutex<BTreeMap<String, Vec<String>>>>);

impl Board {
    fn note(&self, stream: &str, text: impl Into<String>) {
        let mut board = self.0.lock().expect("no panic under the lock");
        board
            .entry(stream.to_owned())
            .or_default()
            .push(text.into());
    }

    pub(crate) fn of(&self, stream: &str) -> Vec<String> {
        let board = self.0.lock().expect("no panic under the lock");
        board.get(stream).cloned().unwrap_or_default()
    }

    pub(crate) async fn until(&self, stream: &str, texts: &[&str]) {
        until(&format!("{texts:?} of {stream}"), async || {
            self.of(stream) == texts
        })
        .await;
    }
}

pub(crate) struct Noting {
    stream: String,
    board: Board,
}

impl Noting {
    pub(crate) fn new(stream: &str, board: &Board) -> Self {
        Self {
            stream: stream.to_owned(),
            board: board.clone(),
        }
    }
}

#[async_trait::async_trait]
impl RecordProcessor for Noting {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        for record in input.records.iter() {
            let text = String::from_utf8_lossy(&record.data);
            self.board.note(&self.stream, text);
        }
        Ok(input.checkpointer.checkpoint().await?)
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        self.board.note(&self.stream, "(ended)");
        Ok(checkpointer.checkpoint().await?)
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.board.note(&self.stream, "(stopped)");
        Ok(checkpointer.checkpoint().await?)
    }
}

pub(crate) fn start(world: &World, name: &str, streams: &Streams, board: &Board) -> Worker {
    let board = board.clone();
    let factory =
        per_stream(move |stream: &StreamId, _: &ShardId| Noting::new(stream.name(), &board));
    let (kinesis, dynamodb) = (world.kinesis.clone(), world.dynamodb.clone());
    let consumer = Consumer::multi_stream(APPLICATION, streams, kinesis, dynamodb, factory)
        .worker_id(name)
        .clock(world.clock.clone())
        .rand(Rand::seeded(name.len() as u64))
        .build()
        .expect("valid");
    Worker::of(consumer)
}

async fn put(world: &World, stream: &str, text: &str) {
    let request = world
        .kinesis
        .put_record()
        .stream_name(stream)
        .partition_key("a");
    request.data(Blob::new(text)).send().await.expect("put");
}

/// Creates a stream; its ARN and its id.
async fn create(world: &World, stream: &str) -> (String, StreamId) {
    let create = world.kinesis.create_stream().stream_name(stream);
    create.shard_count(1).send().await.expect("created");
    until("the stream is active", async || {
        summary(world, stream).await.stream_status.as_str() == "ACTIVE"
    })
    .await;
    identify(world, stream).await
}

async fn summary(world: &World, stream: &str) -> aws_sdk_kinesis::types::StreamDescriptionSummary {
    let describe = world.kinesis.describe_stream_summary().stream_name(stream);
    let answer = describe.send().await.expect("described");
    answer.stream_description_summary.expect("a summary")
}

pub(crate) async fn identify(world: &World, stream: &str) -> (String, StreamId) {
    let summary = summary(world, stream).await;
    let account = summary.stream_arn.split(':').nth(4).expect("an account");
    let created = summary.stream_creation_timestamp.secs().unsigned_abs();
    let id = StreamId::new(account, stream, created).expect("valid");
    (summary.stream_arn, id)
}

pub(crate) fn streams(sources: impl IntoIterator<Item = StreamSource>) -> Streams {
    Streams::new(sources).expect("valid")
}

#[tokio::test(start_paused = true)]
async fn streams_named_by_name_and_by_arn_share_a_table_under_the_keys_of_a_multi_stream_kcl() {
    let world = World::new(1).await;
    let (arn, orders) = create(&world, "orders").await;
    let (_, flights) = identify(&world, STREAM).await;
    put(&world, STREAM, "f1").await;
    put(&world, "orders", "o1").await;
    let board = Board::default();
    let both = streams([StreamSource::new(STREAM), StreamSource::new(arn)]);
    let worker = start(&world, "one", &both, &board);
    board.until(STREAM, &["f1"]).await;
    board.until("orders", &["o1"]).await;
    worker.stop().await.expect("a clean stop");
    for id in [orders, flights] {
        let row = world.lease_row(&format!("{id}:shardId-000000000000")).await;
        assert_eq!(row["streamName"], id.to_string());
        assert_eq!(row["shardId"], "shardId-000000000000");
        assert!(row["checkpoint"].starts_with("49"), "{row:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_removed_while_running_is_let_go_and_added_again_goes_on_from_its_checkpoint() {
    let world = World::new(1).await;
    create(&world, "orders").await;
    let board = Board::default();
    let list = streams([StreamSource::new(STREAM)]);
    let worker = start(&world, "one", &list, &board);
    put(&world, STREAM, "f1").await;
    board.until(STREAM, &["f1"]).await;

    put(&world, "orders", "o1").await;
    list.add(StreamSource::new("orders")).expect("new");
    board.until("orders", &["o1"]).await;

    assert!(list.remove("orders"));
    board.until("orders", &["o1", "(stopped)"]).await;
    put(&world, "orders", "o2").await;
    put(&world, STREAM, "f2").await;
    board.until(STREAM, &["f1", "f2"]).await;
    let (_, orders) = identify(&world, "orders").await;
    let row = world
        .lease_row(&format!("{orders}:shardId-000000000000"))
        .await;
    assert!(!row.contains_key("leaseOwner"), "released: {row:?}");
    assert_eq!(board.of("orders"), ["o1", "(stopped)"]);

    list.add(StreamSource::new("orders"))
        .expect("removed before");
    board.until("orders", &["o1", "(stopped)", "o2"]).await;
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn each_stream_has_its_own_initial_position() {
    let world = World::new(1).await;
    create(&world, "orders").await;
    put(&world, STREAM, "old").await;
    put(&world, "orders", "old").await;
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    let board = Board::default();
    let latest = StreamSource::new("orders").initial_position(InitialPosition::Latest);
    let list = streams([StreamSource::new(STREAM), latest]);
    let worker = start(&world, "one", &list, &board);
    board.until(STREAM, &["old"]).await;
    tokio::time::sleep(Settings::default().idle_time_between_reads * 5).await;
    put(&world, "orders", "new").await;
    board.until("orders", &["new"]).await;
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn a_split_in_one_stream_leads_to_its_children_and_touches_no_other() {
    let world = World::new(1).await;
    create(&world, "orders").await;
    let (_, flights) = identify(&world, STREAM).await;
    let board = Board::default();
    let both = streams([STREAM, "orders"].map(StreamSource::new));
    let worker = start(&world, "one", &both, &board);
    put(&world, STREAM, "before").await;
    put(&world, "orders", "o1").await;
    world.stream.split("shardId-000000000000").await;
    put(&world, STREAM, "after").await;
    board.until(STREAM, &["before", "(ended)", "after"]).await;
    board.until("orders", &["o1"]).await;
    worker.stop().await.expect("a clean stop");
    let parent = world
        .lease_row(&format!("{flights}:shardId-000000000000"))
        .await;
    assert_eq!(parent["checkpoint"], "SHARD_END");
    assert_eq!(
        parent["childShardIds"],
        r#"Ss(["shardId-000000000001", "shardId-000000000002"])"#
    );
    let child = world
        .lease_row(&format!("{flights}:shardId-000000000001"))
        .await;
    assert_eq!(child["streamName"], flights.to_string());
    assert_eq!(child["parentShardId"], r#"Ss(["shardId-000000000000"])"#);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_there_is_tried_again_and_does_not_stop_the_others() {
    let world = World::new(1).await;
    put(&world, STREAM, "f1").await;
    let board = Board::default();
    let both = streams(["orders", STREAM].map(StreamSource::new));
    let worker = start(&world, "one", &both, &board);
    board.until(STREAM, &["f1"]).await;
    create(&world, "orders").await;
    put(&world, "orders", "o1").await;
    board.until("orders", &["o1"]).await;
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn workers_share_the_shards_of_all_streams() {
    let world = World::new(2).await;
    for stream in ["orders", "refunds"] {
        create(&world, stream).await;
    }
    let board = Board::default();
    let all = streams([STREAM, "orders", "refunds"].map(StreamSource::new));
    let one = start(&world, "one", &all, &board);
    let two = start(&world, "two-", &all, &board);
    let owners = async || {
        let scan = world.dynamodb.scan().table_name(APPLICATION).send().await;
        let rows = scan
            .map(|rows| rows.items.unwrap_or_default())
            .unwrap_or_default();
        let owner =
            |row: &std::collections::HashMap<_, aws_sdk_dynamodb::types::AttributeValue>| {
                let owner = row.get("leaseOwner")?.as_s().ok()?;
                (!row.contains_key("checkpointOwner")).then(|| owner.clone())
            };
        let mut owners: Vec<String> = rows.iter().filter_map(owner).collect();
        owners.sort();
        owners
    };
    until("each has two of the four", async || {
        owners().await == ["one", "one", "two-", "two-"]
    })
    .await;
    one.stop().await.expect("a clean stop");
    two.stop().await.expect("a clean stop");
}
