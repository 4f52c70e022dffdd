//! What is sent arrives: each record once, in order per key, whatever its size and whatever is
//! wrong with its neighbours.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kinesis::types::{RecordDistributionStrategy, StreamMode, StreamModeDetails};
use bytes::Bytes;
use kinesis_consumer::codec::{Compressed, Compression, Json};
use kinesis_consumer::{ForEach, Settings, ShardRecord, for_each};
use kinesis_core::UserRecord;
use tests::history::{History, numbered};
use tests::world::{STREAM, wait_until};
use tests::{Worker, World};

async fn send_all(world: &World, records: &[UserRecord]) {
    let producer = world.producer();
    let mut deliveries = Vec::new();
    for record in records {
        deliveries.push(producer.enqueue(record.clone()).await.expect("accepted"));
    }
    producer.flush().await;
    for delivery in deliveries {
        delivery.await.expect("delivered");
    }
}

async fn until_seen(history: &History, count: usize) {
    wait_until("the records", async || history.payloads().len() >= count).await;
}

async fn stop_all(workers: impl IntoIterator<Item = Worker>) {
    for worker in workers {
        worker.stop().await.expect("an orderly end");
    }
}

#[tokio::test(start_paused = true)]
async fn every_record_arrives_once_and_in_order_per_key() {
    let world = World::start(4).await;
    let history = History::default();
    let records = numbered(40, 8_000);
    let workers = [world.worker("a", &history), world.worker("b", &history)];
    send_all(&world, &records).await;
    until_seen(&history, records.len()).await;
    stop_all(workers).await;
    history.assert_nothing_lost(&records);
    history.assert_order_per_key();
    assert_eq!(
        history.duplicates(),
        0,
        "nothing failed, so nothing came twice"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_starts_later_reads_from_the_beginning_and_another_goes_on_from_there() {
    let world = World::start(2).await;
    let records = numbered(10, 1_000);
    send_all(&world, &records[..600]).await;
    let history = History::default();
    let first = world.worker("first", &history);
    until_seen(&history, 600).await;
    stop_all([first]).await;
    send_all(&world, &records[600..]).await;
    let second = world.worker("second", &history);
    until_seen(&history, 1_000).await;
    // Long enough for anything that would come twice.
    tokio::time::sleep(Duration::from_secs(60)).await;
    stop_all([second]).await;
    history.assert_nothing_lost(&records);
    history.assert_order_per_key();
    assert_eq!(history.duplicates(), 0, "the first worker left in order");
}

#[tokio::test(start_paused = true)]
async fn a_bad_record_is_refused_with_its_reason_and_its_neighbours_arrive() {
    let world = World::start(1).await;
    let producer = world.producer();
    let bad = [
        (UserRecord::new("", "x"), "partition key is empty"),
        (UserRecord::new("k".repeat(257), "x"), "257 characters"),
        (
            UserRecord::new("k", vec![0; 1024 * 1024]),
            "more than the stream's maximum",
        ),
    ];
    let good = numbered(3, 30);
    let mut deliveries = Vec::new();
    for chunk in good.chunks(10) {
        for record in chunk {
            deliveries.push(producer.enqueue(record.clone()).await.expect("accepted"));
        }
        for (record, reason) in &bad {
            let error = producer.send(record.clone()).await.expect_err("refused");
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let text = format!("{error}: {}", cause.unwrap_or_default());
            assert!(text.contains(reason), "{text}");
            assert_eq!(
                error.into_record().as_ref(),
                Some(record),
                "the record comes back"
            );
        }
    }
    producer.flush().await;
    for delivery in deliveries {
        delivery.await.expect("delivered");
    }
    let history = History::default();
    let worker = world.worker("a", &history);
    until_seen(&history, good.len()).await;
    stop_all([worker]).await;
    history.assert_nothing_lost(&good);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_stream_fails_the_record_and_the_consumer_with_its_name() {
    let world = World::start(1).await;
    let producer = kinesis_producer::Producer::builder(world.kinesis.clone(), "no-such-stream")
        .build()
        .expect("valid settings");
    let error = producer
        .send(UserRecord::new("k", "x"))
        .await
        .expect_err("no such stream");
    assert!(error.to_string().contains("no-such-stream"), "{error}");
    assert_eq!(error.kind(), kinesis_producer::ErrorKind::NotFound);

    let history = History::default();
    let consumer = kinesis_consumer::Consumer::builder(
        "nobody",
        "no-such-stream",
        world.kinesis.clone(),
        world.dynamodb.clone(),
        move |_: &kinesis_core::ShardId| history.processor("a"),
    )
    .build()
    .expect("valid settings");
    let error = consumer
        .run(Default::default())
        .await
        .expect_err("no such stream");
    assert!(error.to_string().contains("no-such-stream"), "{error}");
    assert_eq!(error.kind(), kinesis_consumer::ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn an_aggregate_with_a_broken_checksum_is_delivered_raw_and_the_rest_goes_on() {
    let world = World::start(1).await;
    let mut aggregate = kinesis_core::Aggregate::new();
    aggregate.push(UserRecord::new("key-0", "key-0:0"));
    aggregate.push(UserRecord::new("key-0", "key-0:1"));
    let mut broken = aggregate.encode().to_vec();
    *broken.last_mut().expect("not empty") ^= 1;
    let broken = Bytes::from(broken);
    for data in [broken.clone(), aggregate.encode()] {
        let put = world
            .kinesis
            .put_record()
            .stream_name(STREAM)
            .partition_key("key-0");
        put.data(data.to_vec().into()).send().await.expect("put");
    }
    let history = History::default();
    let worker = world.worker("a", &history);
    until_seen(&history, 3).await;
    stop_all([worker]).await;
    let raw = String::from_utf8_lossy(&broken).into_owned();
    let expected = [raw, "key-0:0".to_owned(), "key-0:1".to_owned()];
    assert_eq!(history.payloads(), expected.into_iter().collect());
}

/// Of a stream with AUTO distribution no shard has records of its own: the producer packs them as
/// they come, and the consumer drops none of them.
#[tokio::test(start_paused = true)]
async fn a_stream_that_places_records_itself_loses_none_of_an_aggregate() {
    let world = World::start(4).await;
    let kinesis = &world.kinesis;
    let on_demand = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand);
    let on_demand = on_demand.build().expect("a mode");
    let arn = kinesis
        .describe_stream_summary()
        .stream_name(STREAM)
        .send()
        .await
        .expect("a stream")
        .stream_description_summary
        .expect("a summary")
        .stream_arn;
    let to_on_demand = kinesis.update_stream_mode().stream_arn(&arn);
    let to_on_demand = to_on_demand.stream_mode_details(on_demand);
    to_on_demand.send().await.expect("on demand");
    wait_until("the stream", async || {
        let auto = kinesis.update_stream_record_distribution_strategy();
        let auto = auto.stream_arn(&arn);
        let auto = auto.record_distribution_strategy(RecordDistributionStrategy::Auto);
        auto.send().await.is_ok()
    })
    .await;
    let history = History::default();
    let worker = world.worker("a", &history);
    let records = numbered(40, 4_000);
    let producer = world.producer();
    for outcome in producer.send_batch(records.clone()).await {
        assert_eq!(outcome.expect("delivered").attempts, 1);
    }
    until_seen(&history, records.len()).await;
    stop_all([worker]).await;
    let text = |record: &UserRecord| String::from_utf8_lossy(&record.data).into_owned();
    let sent: BTreeSet<_> = records.iter().map(text).collect();
    assert_eq!(history.payloads(), sent);
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize)]
struct Flight {
    number: u32,
    remarks: String,
}

#[tokio::test(start_paused = true)]
async fn what_the_typed_producer_sends_is_what_the_consumer_decodes() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let world = World::start(2).await;
        let packed = Compressed::new(Json, compression);
        let (producer, flights) = (world.producer(), Arc::new(Mutex::new(Vec::new())));
        let sent: Vec<_> = (0..50)
            .map(|number| Flight {
                number,
                remarks: "late ".repeat(number as usize * 10),
            })
            .collect();
        let seen = Arc::clone(&flights);
        let handler = move |handled: ShardRecord| {
            let flight = handled.record.decode::<Flight>(&packed);
            let flight = flight.map(|flight| seen.lock().unwrap().push(flight));
            std::future::ready(flight)
        };
        let worker = world.worker_with(
            "a",
            Settings::default(),
            for_each(ForEach::default(), handler),
        );
        let typed = producer.typed_with::<Flight, _>(packed);
        for flight in &sent {
            drop(typed.enqueue("JFK", flight).await.expect("accepted"));
        }
        producer.flush().await;
        wait_until("the flights", async || flights.lock().unwrap().len() >= 50).await;
        stop_all([worker]).await;
        assert_eq!(*flights.lock().unwrap(), sent, "one key: in order");
    }
}
