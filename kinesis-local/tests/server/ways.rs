//! Whoever comes over the port is answered: any SDK, either HTTP, with or without a signature.

use super::*;

#[tokio::test]
async fn one_port_serves_every_sdk_client() {
    let local = listening().await;
    let config = over_the_socket(&local);
    let tables = aws_sdk_dynamodb::Client::new(&config)
        .list_tables()
        .send()
        .await
        .unwrap();
    assert!(tables.table_names().is_empty());
    let s3 = aws_sdk_s3::Client::new(&config);
    s3.create_bucket().bucket("bucket").send().await.unwrap();
    let body = aws_sdk_s3::primitives::ByteStream::from_static(b"object");
    s3.put_object()
        .bucket("bucket")
        .key("key")
        .body(body)
        .send()
        .await
        .unwrap();
    let object = s3
        .get_object()
        .bucket("bucket")
        .key("key")
        .send()
        .await
        .unwrap();
    assert_eq!(object.body.collect().await.unwrap().into_bytes(), "object");
    local.shutdown().await;
}

#[tokio::test]
async fn one_port_speaks_http1_and_http2() {
    let local = listening().await;
    let list = || request(&local, "/", Some("DynamoDB_20120810.ListTables"), "{}");
    for answer in [http1(&local, list()).await, http2(&local, list()).await] {
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.body(), r#"{"TableNames":[]}"#);
        let sum = answer.headers()["x-amz-crc32"].to_str().unwrap().parse();
        assert_eq!(sum, Ok(crc32(answer.body())));
    }
}

/// CRC-32 as the SDKs check it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[tokio::test]
async fn every_answer_has_a_date_and_a_length() {
    let local = listening().await;
    let kinesis = |kind: &'static str, target: &'static str, body: &'static [u8]| {
        let mut request = request(&local, "/", Some(target), body);
        let kind = http::HeaderValue::from_static(kind);
        request.headers_mut().insert("content-type", kind);
        let signature = "AWS4-HMAC-SHA256 Credential=a/20261123/us-east-1/kinesis/aws4_request, \
                         SignedHeaders=host, Signature=abc";
        let signature = http::HeaderValue::from_static(signature);
        request.headers_mut().insert("authorization", signature);
        let date = http::HeaderValue::from_static("20261123T020000Z");
        request.headers_mut().insert("x-amz-date", date);
        request
    };
    let (list, create) = (
        "Kinesis_20131202.ListStreams",
        "Kinesis_20131202.CreateStream",
    );
    let (json, cbor) = ("application/x-amz-json-1.1", "application/x-amz-cbor-1.1");
    for (kind, empty, streams) in [
        (
            json,
            &b"{}"[..],
            [
                &br#"{"StreamName":"a","ShardCount":1}"#[..],
                br#"{"StreamName":"b","ShardCount":1}"#,
            ],
        ),
        (
            cbor,
            b"\xa0",
            [
                b"\xa2\x6aStreamName\x61c\x6aShardCount\x01",
                b"\xa2\x6aStreamName\x61d\x6aShardCount\x01",
            ],
        ),
    ] {
        let answers = [
            http1(&local, kinesis(kind, list, empty)).await,
            http2(&local, kinesis(kind, list, empty)).await,
            http1(&local, kinesis(kind, create, streams[0])).await,
            http2(&local, kinesis(kind, create, streams[1])).await,
            http1(&local, kinesis(kind, create, empty)).await,
            http2(&local, kinesis(kind, create, empty)).await,
        ];
        let statuses = answers.each_ref().map(|answer| answer.status().as_u16());
        assert_eq!(statuses, [200, 200, 200, 200, 400, 400], "{kind}");
        for answer in answers {
            let headers = answer.headers();
            assert!(headers.contains_key("date"), "{kind}");
            let length = answer.body().len().to_string();
            assert_eq!(headers["content-length"], length, "{kind}");
        }
    }
}

#[tokio::test]
async fn the_health_page_answers_and_table_streams_are_refused() {
    let local = listening().await;
    let mut health = request(&local, "/_local/health", None, "");
    *health.method_mut() = http::Method::GET;
    assert_eq!(http1(&local, health).await.body(), r#"{"status":"ok"}"#);
    let streams = request(
        &local,
        "/",
        Some("DynamoDBStreams_20120810.ListStreams"),
        "{}",
    );
    let refused = http1(&local, streams).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert!(
        refused
            .body()
            .starts_with(br#"{"__type":"UnknownOperationException""#)
    );
}

#[tokio::test]
async fn a_bare_post_is_answered_by_kinesis_and_not_by_s3() {
    let local = listening().await;
    let answer = http1(&local, request(&local, "/", None, "{}")).await;
    assert!(answer.status().is_client_error());
    assert!(!answer.body().starts_with(b"<?xml"), "{:?}", answer.body());
}

/// An upload as the Java SDK sends it over plain HTTP: signed chunks, the checksum behind them.
async fn put_in_signed_chunks(local: &KinesisLocal, key: &str, checksum: &str) -> StatusCode {
    let body = format!(
        "5;chunk-signature=00ff\r\nhello\r\n6;chunk-signature=00ff\r\n world\r\n\
         0;chunk-signature=00ff\r\nx-amz-checksum-crc32:{checksum}\r\n\
         x-amz-trailer-signature:00ff\r\n\r\n"
    );
    let mut put = request(local, &format!("/bucket/{key}"), None, body);
    *put.method_mut() = http::Method::PUT;
    let headers = [
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=a/20260102/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00ff",
        ),
        (
            "x-amz-content-sha256",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        ),
        ("x-amz-date", "20260102T030405Z"),
        ("x-amz-decoded-content-length", "11"),
        ("x-amz-sdk-checksum-algorithm", "CRC32"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
        ("content-encoding", "aws-chunked"),
    ];
    for (name, value) in headers {
        put.headers_mut().insert(name, value.parse().unwrap());
    }
    http1(local, put).await.status()
}

#[tokio::test]
async fn an_upload_in_signed_chunks_is_stored_only_if_its_checksum_holds() {
    let local = listening().await;
    let s3 = aws_sdk_s3::Client::new(&local.sdk_config());
    s3.create_bucket().bucket("bucket").send().await.unwrap();
    assert_eq!(
        put_in_signed_chunks(&local, "whole", "DUoRhQ==").await,
        StatusCode::OK
    );
    assert!(
        !put_in_signed_chunks(&local, "broken", "AAAAAA==")
            .await
            .is_success()
    );
    let listed = s3.list_objects_v2().bucket("bucket").send().await.unwrap();
    let keys: Vec<_> = listed
        .contents()
        .iter()
        .map(|object| object.key().unwrap())
        .collect();
    assert_eq!(keys, ["whole"]);
    let object = s3
        .get_object()
        .bucket("bucket")
        .key("whole")
        .send()
        .await
        .unwrap();
    assert_eq!(object.content_encoding(), None);
    assert_eq!(
        object.body.collect().await.unwrap().into_bytes(),
        "hello world"
    );
}

#[tokio::test]
async fn a_presigned_url_works_without_the_sdk() {
    let local = listening().await;
    let s3 = aws_sdk_s3::Client::new(&local.sdk_config());
    s3.create_bucket().bucket("bucket").send().await.unwrap();
    let for_a_minute = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let key = "a folder/key+more";
    let put = s3
        .put_object()
        .bucket("bucket")
        .key(key)
        .presigned(for_a_minute.clone())
        .await
        .unwrap();
    let get = s3
        .get_object()
        .bucket("bucket")
        .key(key)
        .presigned(for_a_minute)
        .await
        .unwrap();
    for (presigned, body, answer) in [(put, "object", ""), (get, "", "object")] {
        let mut request = request(&local, "/", None, body);
        *request.method_mut() = presigned.method().parse().unwrap();
        *request.uri_mut() = presigned.uri().parse().unwrap();
        let answered = http1(&local, request).await;
        assert_eq!(
            (answered.status(), answered.body().as_ref()),
            (StatusCode::OK, answer.as_bytes())
        );
    }
}

#[tokio::test]
async fn a_subscription_streams_over_the_socket_and_ends_with_the_server() {
    let local = listening().await;
    let kinesis = aws_sdk_kinesis::Client::new(&over_the_socket(&local));
    kinesis
        .create_stream()
        .stream_name("stream")
        .shard_count(1)
        .send()
        .await
        .unwrap();
    let summary = kinesis
        .describe_stream_summary()
        .stream_name("stream")
        .send()
        .await
        .unwrap();
    let arn = summary.stream_description_summary.unwrap().stream_arn;
    let consumer = kinesis
        .register_stream_consumer()
        .stream_arn(arn)
        .consumer_name("consumer");
    let consumer = consumer.send().await.unwrap().consumer.unwrap();
    let start = StartingPosition::builder()
        .r#type(ShardIteratorType::TrimHorizon)
        .build()
        .unwrap();
    let mut subscription = kinesis
        .subscribe_to_shard()
        .consumer_arn(consumer.consumer_arn)
        .shard_id("shardId-000000000000")
        .starting_position(start)
        .send()
        .await
        .unwrap();
    let record = kinesis
        .put_record()
        .stream_name("stream")
        .partition_key("p");
    record
        .data(aws_sdk_kinesis::primitives::Blob::new("hello"))
        .send()
        .await
        .unwrap();
    loop {
        let event = subscription.event_stream.recv().await.unwrap().unwrap();
        if let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event
            && let [record] = event.records()
        {
            assert_eq!(record.data().as_ref(), b"hello");
            break;
        }
    }
    let ended = async { while let Ok(Some(_)) = subscription.event_stream.recv().await {} };
    let both = async { tokio::join!(ended, local.shutdown()) };
    tokio::time::timeout(Duration::from_secs(50), both)
        .await
        .unwrap();
}
