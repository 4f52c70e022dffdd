//! What the fuzz targets run, one function for each; here so that the ordinary tests run the same
//! code over the inputs in `fuzz/corpus`.
//!
//! | target | its input | holds |
//! |---|---|---|
//! | [`json`], [`cbor`] | an operation's name, a line feed, a body | every body is answered by 200 or 400, in its own encoding, and the service lives on |
//! | [`sigv4`] | a request as text | a signature is good for no secret but its user's; any time that is read is written the same |
//! | [`event_stream`] | four bytes that say what is damaged, a payload | frames are read as they were written; a damaged one is refused, and those before it are still good |
//!
//! Each panics if what it holds does not hold. Only built for tests and under `--cfg fuzzing`.

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use aws_smithy_types::event_stream::Message;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use kinesis_core::{Clock, Rand};

use crate::api::{Buckets, Kinesis, KinesisOptions};
use crate::auth::{Auth, User, Users};
use crate::body::ResponseBody;
use crate::date::{Utc, epoch_seconds};
use crate::limits::Limits;
use crate::stream::encryption::KmsKeys;
use crate::stream::lifecycle::Delays;
use crate::wire::fault::Fault;
use crate::wire::read::is_object;
use crate::wire::{Body, Format, event};

/// 2026-11-23 02:00 UTC.
const NOW_MS: u64 = 1_795_399_200_000;

/// The user of AWS's own examples.
const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// The time of AWS's own examples: 2015-08-30 12:36 UTC.
const SIGNED_MS: u64 = 1_440_938_160_000;

/// Frames of SubscribeToShard that are looked at.
const EVENTS: usize = 2;

/// Any operation with any body in JSON.
pub fn json(input: &[u8]) {
    answered(Format::Json, input);
}

/// Any operation with any body in CBOR.
pub fn cbor(input: &[u8]) {
    answered(Format::Cbor, input);
}

fn answered(format: Format, input: &[u8]) {
    let Some((operation, body)) = split_line(input) else {
        return;
    };
    let Ok(operation) = std::str::from_utf8(operation) else {
        return;
    };
    // A paused clock: who waits for records or for the end of an iterator does not wait long.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(async {
        let kinesis = furnished().await;
        let (status, answer) = call(&kinesis, format, operation, body.to_vec()).await;
        assert!(
            [StatusCode::OK, StatusCode::BAD_REQUEST].contains(&status),
            "{operation} is answered by {status}"
        );
        match answer {
            Answer::Whole(bytes) => assert!(
                bytes.is_empty() || is_object(Body::new(format, &bytes)),
                "the answer of {operation} is no structure"
            ),
            Answer::Events(bytes) => {
                let mut events = frames(&bytes);
                assert!(events.next().is_some(), "no frame of {operation} is whole");
                for message in events {
                    let payload = Body::new(format, message.payload());
                    assert!(is_object(payload), "an event is no structure");
                }
            }
        }
        let (status, _) = call(&kinesis, Format::Json, "ListStreams", "{}").await;
        assert_eq!(status, StatusCode::OK, "after {operation}");
        kinesis.close().await;
    });
}

/// A service that has one of each thing that requests name.
async fn furnished() -> Kinesis {
    let options = KinesisOptions {
        clock: Clock::starting_at(NOW_MS),
        rand: Rand::seeded(7),
        data_dir: None,
        region: "us-east-1".to_owned(),
        account: "000000000000".to_owned(),
        limits: Limits::Off,
        auth: None,
        delays: Delays::default(),
        kms: KmsKeys::default(),
        buckets: Buckets::default(),
    };
    let kinesis = Kinesis::open(options).expect("a service in memory");
    const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000";
    for (operation, body) in [
        (
            "CreateStream",
            r#"{"StreamName":"s","ShardCount":2}"#.to_owned(),
        ),
        (
            "CreateStream",
            r#"{"StreamName":"d","StreamModeDetails":{"StreamMode":"ON_DEMAND"}}"#.to_owned(),
        ),
        (
            "RegisterStreamConsumer",
            format!(r#"{{"StreamARN":"{ARN}:stream/s","ConsumerName":"c"}}"#),
        ),
        (
            "CreateQueue",
            format!(
                r#"{{"QueueName":"q","StreamConfigurationList":[{{"StreamARN":"{ARN}:stream/d",
                    "StartingPosition":{{"Type":"TRIM_HORIZON"}}}}]}}"#
            ),
        ),
        (
            "PutRecord",
            r#"{"StreamName":"d","PartitionKey":"k","Data":"YWJj"}"#.to_owned(),
        ),
        (
            "PutRecord",
            r#"{"StreamName":"s","PartitionKey":"k","Data":"YWJj"}"#.to_owned(),
        ),
    ] {
        let (status, _) = call(&kinesis, Format::Json, operation, body).await;
        assert_eq!(status, StatusCode::OK, "{operation}");
    }
    kinesis
}

enum Answer {
    Whole(Bytes),
    /// The first bytes of a stream of events.
    Events(Bytes),
}

async fn call(
    kinesis: &Kinesis,
    format: Format,
    operation: &str,
    body: impl Into<Bytes>,
) -> (StatusCode, Answer) {
    let request = Request::post("/")
        .header(CONTENT_TYPE, format.content_type())
        .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
        .header("x-amz-date", "20261123T020000Z")
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=a/20261123/us-east-1/kinesis/aws4_request, \
             SignedHeaders=host, Signature=abc",
        )
        .body(body.into());
    let Ok(request) = request else {
        // An operation's name that is no header's value does not come this far.
        return (StatusCode::BAD_REQUEST, Answer::Whole(Bytes::new()));
    };
    let response = kinesis.call(request).await;
    let (head, mut body) = response.into_parts();
    let answer = match body {
        ResponseBody::Frames(_) => {
            let mut bytes = BytesMut::new();
            for _ in 0..EVENTS {
                let frame = body.frame().await.and_then(Result::ok);
                let Some(data) = frame.and_then(|frame| frame.into_data().ok()) else {
                    break;
                };
                bytes.extend_from_slice(&data);
            }
            Answer::Events(bytes.freeze())
        }
        body => Answer::Whole(body.collect().await.expect("a body in memory").to_bytes()),
    };
    (head.status, answer)
}

/// Any request against the signature that it brings.
///
/// ```text
/// METHOD TARGET \n  NAME: VALUE \n …  \n  BODY
/// ```
pub fn sigv4(input: &[u8]) {
    let Some(request) = read_request(input) else {
        return;
    };
    let (head, body) = request.into_parts();
    let with_secret = |secret: &str| {
        let user = User::new("ann", KEY_ID, secret);
        Auth::new(Users::new([user])).expect("a user")
    };
    for (service, body) in [("service", Some(&body[..])), ("s3", None)] {
        // What is good is up to the input; that nothing is good for both is not.
        let right = with_secret(SECRET).check(service, &head, body, SIGNED_MS);
        let wrong = with_secret("another").check(service, &head, body, SIGNED_MS);
        let refusal = wrong.expect_err("a signature is good for a secret that it is not made with");
        let (_, text) = refusal.json();
        assert!(!text.contains(SECRET), "a refusal tells the secret");
        if let Err(refusal) = right {
            assert!(
                !refusal.json().1.contains(SECRET),
                "a refusal tells the secret"
            );
        }
    }
    let dated = head
        .headers
        .get("x-amz-date")
        .and_then(|date| date.to_str().ok());
    if let Some((date, seconds)) = dated.and_then(|date| Some((date, epoch_seconds(date)?))) {
        assert_eq!(Utc::at(seconds * 1000).basic(), date);
    }
}

fn read_request(input: &[u8]) -> Option<Request<Vec<u8>>> {
    let (first, mut rest) = split_line(input)?;
    let (method, target) = std::str::from_utf8(first).ok()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(target);
    loop {
        let (header, after) = split_line(rest)?;
        rest = after;
        if header.is_empty() {
            return request.body(rest.to_vec()).ok();
        }
        let (name, value) = split_at_byte(header, b':')?;
        request = request.header(name, value.trim_ascii());
    }
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    split_at_byte(bytes, b'\n')
}

/// What is before the first such byte, and what is behind it.
fn split_at_byte(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|found| *found == byte)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// Any payload in frames, and any damage to them.
///
/// ```text
/// u8 which frame · u16 which byte of it · u8 what is done to it (0: nothing; 1: cut there) │ payload
/// ```
pub fn event_stream(input: &[u8]) {
    // First as a peer would send it: no panic, whatever it is.
    for message in frames(input) {
        let _: &Bytes = message.payload();
    }
    let Some((&[which, high, low, damage], payload)) = input.split_first_chunk() else {
        return;
    };
    let text = String::from_utf8_lossy(payload);
    let mut written = Vec::new();
    for format in [Format::Json, Format::Cbor] {
        written.push(event::initial_response(format));
        written.push(event::subscribe_to_shard_event(format, payload.to_vec()));
        written.push(event::exception(format, &Fault::in_use(text.clone())));
    }
    let whole: Vec<Message> = frames(&written.concat()).collect();
    assert_eq!(whole.len(), written.len());
    assert_eq!(whole[1].payload(), payload);
    assert_eq!(whole[4].payload(), payload);

    let which = usize::from(which) % written.len();
    let at = usize::from(u16::from_be_bytes([high, low])) % written[which].len();
    let before: usize = written[..which].iter().map(Bytes::len).sum();
    let mut bytes = written.concat();
    match damage {
        0 => return,
        1 => bytes.truncate(before + at),
        bits => bytes[before + at] ^= bits,
    }
    let read: Vec<Message> = frames(&bytes).collect();
    assert!(
        read == whole[..which],
        "{} frames are read where {which} are whole",
        read.len()
    );
}

/// The frames at the front of `bytes`, up to the first that is not whole.
fn frames(bytes: &[u8]) -> impl Iterator<Item = Message> {
    let (mut decoder, mut rest) = (MessageFrameDecoder::new(), BytesMut::from(bytes).freeze());
    std::iter::from_fn(move || match decoder.decode_frame(&mut rest) {
        Ok(DecodedFrame::Complete(message)) => Some(message),
        Ok(DecodedFrame::Incomplete) | Err(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Runs every input that is kept for a target.
    fn replay(target: &str, run: fn(&[u8])) {
        let inputs = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz/corpus")
            .join(target);
        let mut count = 0;
        for input in std::fs::read_dir(inputs).unwrap() {
            let path = input.unwrap().path();
            println!("{}", path.display()); // told if it fails
            run(&std::fs::read(path).unwrap());
            count += 1;
        }
        assert!(count >= 6, "{count} inputs");
    }

    #[test]
    fn every_kept_request_in_json_is_answered() {
        replay("json", super::json);
    }

    #[test]
    fn every_kept_request_in_cbor_is_answered() {
        replay("cbor", super::cbor);
    }

    #[test]
    fn no_kept_signature_is_good_for_another_secret() {
        replay("sigv4", super::sigv4);
    }

    #[test]
    fn every_kept_damage_to_an_event_stream_is_noticed() {
        replay("event_stream", super::event_stream);
    }
}
