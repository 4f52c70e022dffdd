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
        while world.shared.requests.available_permits() < REQUESTS_MAX {
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
