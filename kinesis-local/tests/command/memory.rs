//! What clients can make the server hold, measured in its process.

use std::io::Write as _;
use std::net::TcpStream;

use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::ShardIteratorType;

use super::*;

/// The most memory that the process ever had, in MiB.
fn peak_mib(process: &Child) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: usize = peak
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib / 1024
}

#[tokio::test]
async fn clients_that_do_not_read_can_neither_fill_the_memory_nor_stop_one_that_does() {
    // 1.1 GB of answers, of which a fifth may be made.
    const DEAF: usize = 100;
    let running = start_with(&["--limits", "off"]);
    // Who is told that there is too much to do comes again; the SDK's three tries, at random moments, may
    // all fall into the second in which the deaf ones are found out.
    let config = config(&running).await.into_builder();
    let config = config.retry_config(RetryConfig::standard().with_max_attempts(20));
    let kinesis = aws_sdk_kinesis::Client::new(&config.build());
    create_stream(&kinesis).await;
    for _ in 0..8 {
        let put = kinesis.put_record().stream_name("s").partition_key("k");
        put.data(Blob::new(vec![1; 1_000_000]))
            .send()
            .await
            .unwrap();
    }
    let iterator = kinesis
        .get_shard_iterator()
        .stream_name("s")
        .shard_id("shardId-000000000000")
        .shard_iterator_type(ShardIteratorType::TrimHorizon);
    let iterator = iterator.send().await.unwrap().shard_iterator.unwrap();
    let body = format!(r#"{{"ShardIterator":"{iterator}"}}"#);
    let ask = format!(
        "POST / HTTP/1.1\r\nhost: a\r\nx-amz-target: Kinesis_20131202.GetRecords\r\n\
         content-type: application/x-amz-json-1.1\r\nx-amz-date: 20260102T030405Z\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=a/20260102/us-east-1/kinesis/aws4_request, \
         SignedHeaders=host, Signature=00ff\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let address = running.endpoint.strip_prefix("http://").unwrap();
    let before = peak_mib(&running.process);
    let deaf: Vec<TcpStream> = (0..DEAF)
        .map(|_| {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.write_all(ask.as_bytes()).unwrap();
            socket
        })
        .collect();
    let reads = kinesis.get_records().shard_iterator(iterator);
    let read = reads.send().await.unwrap();
    assert_eq!(read.records.len(), 8);
    // 256 MiB of answers, and what is being made, which the allocator may keep twice.
    let grown = peak_mib(&running.process) - before;
    assert!(grown < 256 + 192, "{grown} MiB");
    drop(deaf);
}
