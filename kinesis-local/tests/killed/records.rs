//! Records of a stream: in the order of their sequence numbers, and no number comes twice.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};
use kinesis_core::SequenceNumber;

use super::*;

const STREAM: &str = "flights";

pub(super) async fn create(config: &SdkConfig) {
    let create = Client::new(config).create_stream().stream_name(STREAM);
    create.shard_count(2).send().await.unwrap();
}

/// What was acknowledged: shard and sequence number to payload.
pub(super) type Acknowledged = Arc<Mutex<BTreeMap<(String, SequenceNumber), String>>>;

fn acknowledge(known: &Acknowledged, shard: &str, number: &str, payload: String) {
    let key = (shard.to_owned(), number.parse().unwrap());
    let twice = known.lock().unwrap().insert(key, payload);
    assert_eq!(
        twice, None,
        "the sequence number {number} of {shard} was given twice"
    );
}

/// Writes until the server is gone, single records and batches in turn.
pub(super) async fn write(
    config: SdkConfig,
    writer: usize,
    round: usize,
    known: Acknowledged,
    count: Arc<AtomicUsize>,
) {
    let client = Client::new(&config);
    for n in 0.. {
        let payload = |part: usize| format!("{round}/{writer}/{n}/{part}");
        let key = |part: usize| format!("key-{writer}-{n}-{part}");
        if n % 2 == 0 {
            let put = client
                .put_record()
                .stream_name(STREAM)
                .partition_key(key(0));
            let Ok(put) = put.data(Blob::new(payload(0))).send().await else {
                return;
            };
            acknowledge(&known, put.shard_id(), put.sequence_number(), payload(0));
        } else {
            let entry = |part| {
                let entry = PutRecordsRequestEntry::builder().partition_key(key(part));
                entry.data(Blob::new(payload(part))).build().unwrap()
            };
            let entries = (0..20).map(entry).collect();
            let put = client
                .put_records()
                .stream_name(STREAM)
                .set_records(Some(entries));
            let Ok(put) = put.send().await else { return };
            for (part, result) in put.records().iter().enumerate() {
                let (shard, number) = (
                    result.shard_id().unwrap(),
                    result.sequence_number().unwrap(),
                );
                acknowledge(&known, shard, number, payload(part));
            }
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Every record of the stream, each shard in the order it is read.
pub(super) async fn read(config: &SdkConfig) -> BTreeMap<(String, SequenceNumber), String> {
    let client = Client::new(config);
    let mut records = BTreeMap::new();
    let shards = client
        .list_shards()
        .stream_name(STREAM)
        .send()
        .await
        .unwrap();
    for shard in shards.shards() {
        let iterator = client
            .get_shard_iterator()
            .stream_name(STREAM)
            .shard_id(shard.shard_id());
        let iterator = iterator
            .shard_iterator_type(ShardIteratorType::TrimHorizon)
            .send()
            .await;
        let mut iterator = iterator.unwrap().shard_iterator;
        let mut last = None;
        while let Some(from) = iterator {
            let got = client
                .get_records()
                .shard_iterator(from)
                .limit(1000)
                .send()
                .await
                .unwrap();
            for record in got.records() {
                let number: SequenceNumber = record.sequence_number().parse().unwrap();
                assert!(last < Some(number.clone()), "{last:?} before {number}");
                last = Some(number.clone());
                let payload = String::from_utf8(record.data().as_ref().to_vec()).unwrap();
                records.insert((shard.shard_id().to_owned(), number), payload);
            }
            let at_tip = got.records().is_empty() && got.millis_behind_latest() == Some(0);
            iterator = got.next_shard_iterator.filter(|_| !at_tip);
        }
    }
    records
}

/// Everything that was acknowledged is there. More may be: requests that a kill cut off before their answer.
pub(super) fn check(
    known: &BTreeMap<(String, SequenceNumber), String>,
    stored: &BTreeMap<(String, SequenceNumber), String>,
) {
    for (place, payload) in known {
        assert_eq!(
            stored.get(place),
            Some(payload),
            "{place:?} was acknowledged"
        );
    }
    assert!(
        known.len() > KILLS * WRITERS,
        "only {} records were written",
        known.len()
    );
}
