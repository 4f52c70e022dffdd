//! Frames that nobody should send.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:method: GET`, `:path: /`, `:scheme: http`, out of HPACK's table.
const GET: [u8; 3] = [0x82, 0x84, 0x86];

/// `:method: POST`, `:path: /`, `:scheme: http`.
const POST: [u8; 3] = [0x83, 0x84, 0x86];

/// `:method: PUT`, `:path: /bkt/k`, `:scheme: http`.
const PUT_OBJECT: [u8; 14] = *b"\x02\x03PUT\x04\x06/bkt/k\x86";

/// The setting `INITIAL_WINDOW_SIZE` of 0: nothing is to be sent.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// What a flood sends at most, in bytes.
const FLOOD: usize = 1024 * 1024;

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Sends frames over a connection of its own until the server has had enough; what that sends is thrown
/// away. Gives how many bytes it took; `None`: all of [`FLOOD`].
async fn flood(world: &World, frames: impl Fn(u32) -> Vec<u8>) -> Option<usize> {
    let (stream, served) = world.connect();
    let (mut reads, mut writes) = tokio::io::split(stream.into_inner());
    tokio::spawn(async move {
        let mut read = vec![0; BETWEEN];
        while reads.read(&mut read).await.is_ok_and(|read| read > 0) {}
    });
    let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    writes.write_all(begin).await.unwrap();
    writes.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let (mut sent, mut at) = (0, 0);
    while sent < FLOOD {
        let frames = frames(at);
        at += 1;
        sent += frames.len();
        if writes.write_all(&frames).await.is_err() {
            served.await.unwrap();
            return Some(sent);
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn a_head_without_an_end_ends_its_http2_connection() {
    let world = ample().await;
    // A header that is not to be kept in the table: its name and 1,000 bytes.
    let mut header = vec![0, 1, b'a', 0x7f, 0xe9, 0x06];
    header.extend([b'x'; 1000]);
    let took = flood(&world, |at| match at {
        0 => frame(HEADERS, END_STREAM, 1, &GET),
        _ => frame(CONTINUATION, 0, 1, &header),
    });
    assert!(took.await.is_some());
    // Frames that make no head longer.
    let took = flood(&world, |at| match at {
        0 => frame(HEADERS, END_STREAM, 1, &GET),
        _ => frame(CONTINUATION, 0, 1, &[]),
    });
    assert!(took.await.is_some());
}

#[tokio::test(start_paused = true)]
async fn floods_of_frames_leave_the_server_to_others() {
    let world = ample().await;
    flood(&world, |at| {
        let stream = 2 * at + 1;
        let mut both = frame(HEADERS, END_STREAM | END_HEADERS, stream, &GET);
        both.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        both
    })
    .await;
    flood(&world, |_| frame(PING, 0, 0, &[7; 8])).await;
    flood(&world, |_| frame(SETTINGS, 0, 0, &[])).await;
    flood(&world, |at| match at {
        0 => frame(HEADERS, END_HEADERS, 1, &GET),
        _ => frame(DATA, 0, 1, &[]),
    })
    .await;
    let (mut sender, _served) = world.http2(65_535).await;
    let answer = sender.send_request(world.get_records()).await.unwrap();
    assert!(answer.into_body().collect().await.is_ok());
    // What was reset is carried out to its end, and then gone.
    let all = async {
        while world.shared.requests.free() < REQUESTS_MAX {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(3 * HEAD_TIMEOUT, all).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn endless_trailers_and_chunk_extensions_end_their_http1_connection() {
    let world = ample().await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\nx-amz-target: Kinesis_20131202.ListStreams\r\n\
                transfer-encoding: chunked\r\n\r\n";
    for (begin, more) in [("2\r\n{}\r\n0\r\n", "x-a: b\r\n"), ("2;", "a=b;")] {
        let (stream, served) = world.connect();
        let (mut reads, mut writes) = tokio::io::split(stream.into_inner());
        let answer = tokio::spawn(async move {
            let mut answer = Vec::new();
            drop(reads.read_to_end(&mut answer).await);
            answer
        });
        writes.write_all(head.as_bytes()).await.unwrap();
        writes.write_all(begin.as_bytes()).await.unwrap();
        let mut sent = 0;
        while sent < FLOOD && writes.write_all(more.as_bytes()).await.is_ok() {
            sent += more.len();
        }
        assert!(sent < FLOOD, "{begin:?}");
        served.await.unwrap();
        let answer = answer.await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{begin:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn heads_without_bodies_take_nobodys_place() {
    let world = ample().await;
    let bucket = Request::put("/bkt")
        .header("content-length", 0)
        .body(Body::default());
    let made = world.shared.service.call(bucket.unwrap()).await.unwrap();
    assert!(made.status().is_success(), "{made:?}");
    // For an object, which goes into a file as it arrives, and for Kinesis, which reads a body whole.
    for object in [true, false] {
        let mut half_open = Vec::new();
        while world.shared.requests.free() > 0 {
            let (stream, served) = world.connect();
            let (mut reads, mut writes) = tokio::io::split(stream.into_inner());
            // It reads nothing more, so that what it is told is not written either.
            let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
            writes.write_all(begin).await.unwrap();
            writes
                .write_all(&frame(SETTINGS, 0, 0, &NO_WINDOW))
                .await
                .unwrap();
            reads.read_exact(&mut [0; 9]).await.unwrap();
            let head: &[u8] = if object { &PUT_OBJECT } else { &POST };
            for at in 0..HTTP2_STREAMS_MAX {
                let stream = 2 * at + 1;
                writes
                    .write_all(&frame(HEADERS, END_HEADERS, stream, head))
                    .await
                    .unwrap();
            }
            half_open.push((reads, writes, served));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(half_open.len(), REQUESTS_MAX / HTTP2_STREAMS_MAX as usize);
        let (mut sender, _served) = world.http1().await;
        let began = now();
        let page = Request::get("http://localhost/_local/health").header("host", "localhost");
        let page = page.body(Body::default()).unwrap();
        let health = sender.send_request(page).await.unwrap();
        assert!(health.status().is_success());
        assert_eq!(now(), began, "it needs none of their places");
        drop(health.into_body().collect().await.unwrap());
        // They keep them while nobody else wants them.
        tokio::time::sleep(3 * LOOK_EVERY).await;
        assert_eq!(world.shared.requests.free(), 0);
        let began = now();
        let answer = sender.send_request(world.get_records()).await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        let waited = now() - began;
        assert!(waited <= LOOK_EVERY, "{waited:?}");
        drop(answer.into_body().collect().await.unwrap());
        drop(half_open);
        while world.shared.requests.free() < REQUESTS_MAX {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
