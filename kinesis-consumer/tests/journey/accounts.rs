//! Streams of another account, reached by their ARN as its policies allow.

use aws_sdk_kinesis::primitives::Blob;
use kinesis_consumer::{
    Consumer, FanOutSettings, Retrieval, Settings, ShardId, StreamId, StreamSource, per_stream,
};
use kinesis_core::Rand;

use crate::streams::{Board, Noting, streams};
use crate::world::{APPLICATION, Worker, World, until};

/// Whose stream it is. The workers are of another account.
const OWNER: &str = "111122223333";
const SHARED: &str = "shared";

/// What polling asks of a stream of one's own or of others.
const POLLING: [&str; 4] = [
    "DescribeStreamSummary",
    "ListShards",
    "GetShardIterator",
    "GetRecords",
];

/// The stream of the owner, with a record in each of its two shards; its ARN.
async fn shared_stream(world: &World) -> String {
    let owner = world.kinesis_of(OWNER);
    let create = owner.create_stream().stream_name(SHARED).shard_count(2);
    create.send().await.expect("created");
    until("the stream is active", async || {
        summary(&owner).await.1 == "ACTIVE"
    })
    .await;
    for (text, hash_key) in [
        ("low", "0"),
        ("high", "340282366920938463463374607431768211455"),
    ] {
        let put = owner.put_record().stream_name(SHARED).partition_key("a");
        let put = put.explicit_hash_key(hash_key).data(Blob::new(text));
        put.send().await.expect("put");
    }
    let (arn, _) = summary(&owner).await;
    assert!(arn.contains(OWNER), "{arn}");
    arn
}

async fn summary(owner: &aws_sdk_kinesis::Client) -> (String, String) {
    let describe = owner.describe_stream_summary().stream_name(SHARED);
    let answer = describe.send().await.expect("described");
    let summary = answer.stream_description_summary.expect("a summary");
    (
        summary.stream_arn,
        summary.stream_status.as_str().to_owned(),
    )
}

/// The owner lets the workers' account do `actions` with what `arn` names.
async fn allow(world: &World, arn: &str, actions: &[&str]) {
    let describe = world.kinesis.describe_stream_summary();
    let own = describe.stream_name(crate::world::STREAM).send().await;
    let own = own.expect("described").stream_description_summary;
    let own = own.expect("a summary").stream_arn;
    let account = own.split(':').nth(4).expect("an account");
    assert_ne!(account, OWNER);
    let actions: Vec<_> = actions
        .iter()
        .map(|it| format!("\"kinesis:{it}\""))
        .collect();
    let policy = format!(
        r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow",
            "Principal": {{"AWS": "{account}"}}, "Action": [{}], "Resource": "{arn}"}}]}}"#,
        actions.join(", ")
    );
    let owner = world.kinesis_of(OWNER);
    let put = owner.put_resource_policy().resource_arn(arn).policy(policy);
    put.send().await.expect("a policy");
}

fn consumer(world: &World, arn: &str, settings: Settings, board: &Board) -> Consumer {
    let board = board.clone();
    let factory = move |_: &ShardId| Noting::new(SHARED, &board);
    let (kinesis, dynamodb) = (world.kinesis.clone(), world.dynamodb.clone());
    Consumer::builder(APPLICATION, arn, kinesis, dynamodb, factory)
        .settings(settings)
        .clock(world.clock.clone())
        .rand(Rand::seeded(3))
        .build()
        .expect("valid")
}

async fn until_both(board: &Board) {
    until("both records", async || {
        let mut seen = board.of(SHARED);
        seen.sort();
        seen == ["high", "low"]
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_another_account_is_polled_as_soon_as_its_policy_allows_it() {
    let world = World::new(1).await;
    let arn = shared_stream(&world).await;
    let board = Board::default();
    let worker = Worker::of(consumer(&world, &arn, Settings::default(), &board));
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert!(board.of(SHARED).is_empty());
    assert!(
        !worker.task.is_finished(),
        "what may be mended is tried again"
    );

    allow(&world, &arn, &POLLING).await;
    until_both(&board).await;
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_another_account_is_read_by_the_consumer_that_its_owner_registered() {
    let world = World::new(1).await;
    let arn = shared_stream(&world).await;
    // Nothing that polling takes.
    allow(&world, &arn, &["DescribeStreamSummary", "ListShards"]).await;
    let owner = world.kinesis_of(OWNER);
    let register = owner.register_stream_consumer().stream_arn(&arn);
    let registered = register.consumer_name("theirs").send().await;
    let consumer_arn = registered.expect("registered").consumer;
    let consumer_arn = consumer_arn.expect("a consumer").consumer_arn;
    let actions = ["DescribeStreamConsumer", "SubscribeToShard"];
    allow(&world, &consumer_arn, &actions).await;

    let board = Board::default();
    let settings = Settings {
        retrieval: Retrieval::FanOut(FanOutSettings {
            consumer_arn: Some(consumer_arn),
            fall_back_to_polling: false,
            ..FanOutSettings::default()
        }),
        ..Settings::default()
    };
    let worker = Worker::of(consumer(&world, &arn, settings, &board));
    until_both(&board).await;
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn of_several_streams_one_may_be_of_another_account_and_its_rows_say_so() {
    let world = World::new(1).await;
    let arn = shared_stream(&world).await;
    allow(&world, &arn, &POLLING).await;
    let board = Board::default();
    let noting = board.clone();
    let factory =
        per_stream(move |stream: &StreamId, _: &ShardId| Noting::new(stream.name(), &noting));
    let both = streams([
        StreamSource::new(crate::world::STREAM),
        StreamSource::new(arn),
    ]);
    let (kinesis, dynamodb) = (world.kinesis.clone(), world.dynamodb.clone());
    let consumer = Consumer::multi_stream(APPLICATION, &both, kinesis, dynamodb, factory)
        .clock(world.clock.clone())
        .rand(Rand::seeded(3))
        .build()
        .expect("valid");
    let worker = Worker::of(consumer);
    world.put("a", "ours").await;
    until_both(&board).await;
    board.until(crate::world::STREAM, &["ours"]).await;
    worker.stop().await.expect("a clean stop");
    let rows = world.dynamodb.scan().table_name(APPLICATION).send().await;
    let rows = rows.expect("scanned").items.unwrap_or_default();
    let theirs = rows.iter().filter(|row| {
        let key = row.get("leaseKey").and_then(|key| key.as_s().ok());
        key.is_some_and(|key| key.starts_with(&format!("{OWNER}:{SHARED}:")))
    });
    assert_eq!(theirs.count(), 2);
}
