//! What a client may send, and how much at once.

use super::*;

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_the_server_lives_on() {
    let local = listening().await;
    for target in [
        "DynamoDB_20120810.ListTables",
        "Kinesis_20131202.PutRecords",
    ] {
        let large = request(&local, "/", Some(target), vec![b' '; 16 * 1024 * 1024 + 1]);
        assert_eq!(
            http1(&local, large.clone()).await.status(),
            StatusCode::PAYLOAD_TOO_LARGE
        );
        assert_eq!(
            http2(&local, large).await.status(),
            StatusCode::PAYLOAD_TOO_LARGE
        );
    }
    // The service's own has no body and no request id, in either encoding.
    for kind in ["application/x-amz-json-1.1", "application/x-amz-cbor-1.1"] {
        let target = Some("Kinesis_20131202.PutRecords");
        let mut large = request(&local, "/", target, vec![b' '; 16 * 1024 * 1024 + 1]);
        let kind = http::HeaderValue::from_static(kind);
        large.headers_mut().insert("content-type", kind);
        for answer in [
            http1(&local, large.clone()).await,
            http2(&local, large).await,
        ] {
            assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(answer.body(), "");
            assert!(!answer.headers().contains_key("x-amzn-requestid"));
            assert!(answer.headers().contains_key("date"));
        }
    }
    let largest = request(&local, "/", Some("DynamoDB_20120810.ListTables"), {
        let mut body = vec![b' '; 16 * 1024 * 1024];
        body[..2].copy_from_slice(b"{}");
        body
    });
    assert_eq!(http1(&local, largest).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let local = listening().await;
    let mut large = request(&local, "/", Some("DynamoDB_20120810.ListTables"), "{}");
    large
        .headers_mut()
        .insert("x-large", "x".repeat(80_000).parse().unwrap());
    let status = http1(&local, large).await.status();
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn the_headers_of_a_request_are_bounded_in_number_and_size_on_both_protocols() {
    let local = listening().await;
    let with = |headers: usize, bytes: usize| {
        let mut request = request(&local, "/", Some("DynamoDB_20120810.ListTables"), "{}");
        for at in 0..headers {
            let name: http::HeaderName = format!("x-many-{at}").parse().unwrap();
            let value = "x".repeat(bytes).parse().unwrap();
            request.headers_mut().insert(name, value);
        }
        request
    };
    let too_large = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    assert_eq!(http1(&local, with(90, 9)).await.status(), StatusCode::OK);
    assert_eq!(http1(&local, with(110, 9)).await.status(), too_large);
    assert_eq!(http1(&local, with(1, 80_000)).await.status(), too_large);
    assert_eq!(http2(&local, with(90, 9)).await.status(), StatusCode::OK);
    // HTTP/2 counts 32 bytes more for each: either bound is one on the sum.
    for large in [with(600, 9), with(1, 20_000)] {
        let (mut sender, ended) = http2_connection(&local).await;
        match sender.send_request(large).await {
            Ok(answer) => assert_eq!(answer.status(), too_large),
            Err(refused) => assert!(!refused.is_canceled(), "{refused}"),
        }
        drop((sender, ended));
    }
    let after = http2(&local, with(0, 0)).await;
    assert_eq!(after.status(), StatusCode::OK, "nobody else is hurt");
}

#[tokio::test]
async fn the_connections_are_bounded_and_wait_for_a_place() {
    let mut settings = kinesis_local::Settings::default();
    settings.max_connections = 1;
    settings.listen = Some(LOOPBACK);
    let local = KinesisLocal::builder()
        .settings(settings)
        .start()
        .await
        .unwrap();
    let first = TcpStream::connect(local.local_addr().unwrap())
        .await
        .unwrap();
    let list = request(&local, "/", Some("DynamoDB_20120810.ListTables"), "{}");
    let mut second = std::pin::pin!(http1(&local, list));
    let waited = tokio::time::timeout(Duration::from_millis(200), second.as_mut()).await;
    assert!(
        waited.is_err(),
        "the second connection was served beside the first"
    );
    drop(first);
    assert_eq!(second.await.status(), StatusCode::OK);
}

#[tokio::test]
async fn who_announces_much_and_sends_nothing_takes_nobodys_place() {
    let local = listening().await;
    let mut half_open = Vec::new();
    for _ in 0..40 {
        // More together than all bodies may have.
        let mut socket = TcpStream::connect(local.local_addr().unwrap())
            .await
            .unwrap();
        let head = "POST / HTTP/1.1\r\nhost: a\r\nx-amz-target: Kinesis_20131202.PutRecords\r\n\
                    content-length: 16000000\r\n\r\n{";
        socket.write_all(head.as_bytes()).await.unwrap();
        half_open.push(socket);
    }
    let body = request(&local, "/", Some("DynamoDB_20120810.ListTables"), {
        let mut body = vec![b' '; 8 * 1024 * 1024];
        body[..2].copy_from_slice(b"{}");
        body
    });
    let answered = tokio::time::timeout(Duration::from_secs(50), http1(&local, body)).await;
    assert_eq!(answered.unwrap().status(), StatusCode::OK);
    drop(half_open);
}

/// A body that is sent piece by piece.
type Piped = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

fn piped() -> (tokio::sync::mpsc::Sender<Bytes>, Piped) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let pieces = futures::stream::poll_fn(move |context| {
        let piece = receiver.poll_recv(context);
        piece.map(|piece| piece.map(|piece| Ok(http_body::Frame::data(piece))))
    });
    (sender, http_body_util::StreamBody::new(pieces).boxed())
}

#[tokio::test]
async fn bodies_that_wait_for_memory_do_not_block_one_that_has_it_on_their_connection() {
    const LENGTH: usize = 16_000_000;
    let local = listening().await;
    let stream = TcpStream::connect(local.local_addr().unwrap());
    let stream = TokioIo::new(stream.await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let announced = |length: usize, body: Piped| {
        let (mut head, _) =
            request(&local, "/", Some("DynamoDB_20120810.ListTables"), "").into_parts();
        head.headers.insert("content-length", length.into());
        Request::from_parts(head, body)
    };
    // One that has its share of the memory, …
    let (pieces, body) = piped();
    let first = tokio::spawn(sender.send_request(announced(LENGTH, body)));
    let mut begin = vec![b' '; 64 * 1024];
    begin[..2].copy_from_slice(b"{}");
    pieces.send(begin.into()).await.unwrap();
    let small = Full::new(Bytes::from_static(b"{}")).boxed();
    let answer = sender.send_request(announced(2, small)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    // … and more than there is room for behind it, which stop.
    let mut others = Vec::new();
    for _ in 0..40 {
        let (pieces, body) = piped();
        others.push((
            tokio::spawn(sender.send_request(announced(LENGTH, body))),
            pieces,
        ));
    }
    for (_, pieces) in &others {
        pieces.send(vec![b' '; 100 * 1024].into()).await.unwrap();
    }
    let mut left = LENGTH - 64 * 1024;
    while left > 0 {
        let piece = left.min(64 * 1024);
        pieces.send(vec![b' '; piece].into()).await.unwrap();
        left -= piece;
    }
    drop(pieces);
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
    drop(others);
}
