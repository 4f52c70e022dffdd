//! 1. A stream in this process.
//!
//! What one learns: kinesis-local is Kinesis (with DynamoDB and S3 beside it) in one process. A test
//! or a program starts it, takes a ready SDK configuration from it, and uses the AWS SDK as ever.
//! No port, no container, nothing to clean up.
//!
//! What one sees: which of two shards takes each key, and the records read back in order.
//!
//! `cargo run -p examples --bin 01_local`

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::ShardIteratorType;
use kinesis_consumer::BoxError;
use kinesis_local::KinesisLocal;

const STREAM: &str = "greetings";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let local = KinesisLocal::builder().start().await?;
    // The same client with `aws_config::load_defaults` in place of `sdk_config` talks to AWS.
    let kinesis = Client::new(&local.sdk_config());

    kinesis
        .create_stream()
        .stream_name(STREAM)
        .shard_count(2)
        .send()
        .await?;

    // The partition key says which shard: MD5 of the key, and each shard has a range of that.
    for (key, greeting) in [("Ada", "hello"), ("Grace", "hi"), ("Ada", "how are you?")] {
        let put = kinesis
            .put_record()
            .stream_name(STREAM)
            .partition_key(key)
            .data(Blob::new(greeting))
            .send()
            .await?;
        println!(
            "put   {key:<6} {greeting:<13} → {} at {}",
            put.shard_id, put.sequence_number
        );
    }

    // A shard is read from a place in it: here from its oldest record.
    let shards = kinesis.list_shards().stream_name(STREAM).send().await?;
    for shard in shards.shards() {
        let iterator = kinesis
            .get_shard_iterator()
            .stream_name(STREAM)
            .shard_id(shard.shard_id())
            .shard_iterator_type(ShardIteratorType::TrimHorizon)
            .send()
            .await?
            .shard_iterator;
        let read = kinesis
            .get_records()
            .set_shard_iterator(iterator)
            .send()
            .await?;
        for record in read.records() {
            let greeting = String::from_utf8_lossy(record.data().as_ref());
            let key = record.partition_key().unwrap_or_default();
            println!("read  {key:<6} {greeting:<13} ← {}", shard.shard_id());
        }
    }
    local.shutdown().await;
    Ok(())
}
