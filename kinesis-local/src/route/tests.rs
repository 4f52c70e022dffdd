use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kinesis_core::Rand;
use serde_json::json;

use super::bodies::{BODIES_MAX_KIB, BODY_MAX_BYTES, Bodies, LOOK_EVERY, NotArrived};
use super::*;
use crate::fault::FaultPlan;
use crate::settings::Settings;

fn service() -> Service {
    let clock = Clock::system();
    let services = Services::open(
        &Settings::default(),
        None,
        clock.clone(),
        Rand::seeded(1),
        false,
    )
    .unwrap();
    let faults = Faults::new(FaultPlan::default(), clock.clone());
    Service::new(services, faults, clock, Duration::from_secs(60))
}

fn list_streams<B>(body: B) -> Request<B> {
    Request::post("/")
        .header("x-amz-target", "Kinesis_20131202.ListStreams")
        .header("content-type", "application/x-amz-json-1.1")
        .header("authorization", "AWS4-HMAC-SHA256 Credential=a/20260102/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=00ff")
        .header("x-amz-date", "20260102T030405Z")
        .body(body)
        .unwrap()
}

/// A body that may have 16 MiB, by what it says, or what is announced. Its first piece comes at once, the others at an
/// interval; `None`: never.
struct Slow {
    left: Vec<Bytes>,
    announced: usize,
    every: Option<Duration>,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl Slow {
    fn new(at_once: usize, pieces: usize, piece: usize, every: Option<Duration>) -> Self {
        let mut left = vec![Bytes::from(vec![b' '; piece]); pieces];
        left.push(Bytes::from(vec![b' '; at_once]));
        Self {
            left,
            announced: BODY_MAX_BYTES,
            every,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }
}

impl Body for Slow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        std::task::ready!(self.timer.as_mut().poll(context));
        let Some(piece) = self.left.pop() else {
            return Poll::Ready(None);
        };
        // One day is never.
        let pause = self.every.unwrap_or(Duration::from_secs(86_400));
        self.timer = Box::pin(tokio::time::sleep(pause));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let mut hint = http_body::SizeHint::new();
        hint.set_upper(self.announced as u64);
        hint
    }
}

async fn status<B>(service: Service, body: B) -> StatusCode
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    service.call(list_streams(body)).await.unwrap().status()
}

const KIB: usize = 1024;

#[tokio::test(start_paused = true)]
async fn half_open_bodies_stall_nobody() {
    let service = service();
    for every in [None, Some(Duration::from_millis(300))] {
        // Sixteen take all the room there is; stopped, or with a few bytes now and then.
        let half_open: Vec<_> = (0..16)
            .map(|_| tokio::spawn(status(service.clone(), Slow::new(20 * KIB, 999, 8, every))))
            .collect();
        tokio::time::sleep(10 * LOOK_EVERY).await;
        assert_eq!(service.inner.bodies.free_kib(), 0, "nobody else wants it");
        assert!(half_open.iter().all(|body| !body.is_finished()));
        let clock = Clock::system();
        let began = clock.now();
        let whole = Full::from(vec![b' '; 100 * KIB]);
        let answered = status(service.clone(), whole).await;
        assert_ne!(answered, StatusCode::REQUEST_TIMEOUT);
        let waited = clock.now() - began;
        assert!(waited <= LOOK_EVERY, "{waited:?}");
        for body in half_open {
            assert_eq!(body.await.unwrap(), StatusCode::REQUEST_TIMEOUT);
        }
        assert_eq!(service.inner.bodies.free_kib(), BODIES_MAX_KIB);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_in_time_keeps_its_place_while_others_wait_and_who_is_behind_does_not() {
    // Room for one of them, which are whole in time at 67 KiB a second.
    const LENGTH: usize = 4096 * KIB;
    let bodies = Arc::new(Bodies::with(LENGTH / KIB, Duration::from_secs(60)));
    let second = Some(Duration::from_secs(1));
    for (a_second, is_in_time) in [(80 * KIB, true), (56 * KIB, false)] {
        let begin = a_second;
        let pieces = (LENGTH - begin).div_ceil(a_second) - 1;
        let slow = Slow {
            announced: LENGTH,
            ..Slow::new(begin, pieces, a_second, second)
        };
        let first = tokio::spawn({
            let bodies = Arc::clone(&bodies);
            async move {
                bodies
                    .arriving(slow, BODY_MAX_BYTES)
                    .await
                    .map(|body| body.len())
            }
        });
        tokio::task::yield_now().await;
        let began = Clock::system().now();
        let next = bodies.arriving(Full::from(vec![b' '; 100 * KIB]), BODY_MAX_BYTES);
        assert_eq!(next.await.unwrap().len(), 100 * KIB);
        let waited = Clock::system().now() - began;
        let first = first.await.unwrap();
        if is_in_time {
            assert_eq!(first, Ok(begin + pieces * a_second));
            assert!(waited > Duration::from_secs(45), "{waited:?}");
        } else {
            assert_eq!(first, Err(NotArrived::TooSlow));
            // It is a little ahead at first: what it sent before it had its share.
            assert!(waited < Duration::from_secs(5), "{waited:?}");
        }
        assert_eq!(bodies.free_kib(), LENGTH / KIB);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_keeps_a_share_of_its_real_length_and_until_it_is_dropped() {
    let bodies = Bodies::new(Duration::from_secs(60));
    // It may have 16 MiB, by what it says.
    let body = Slow::new(20 * KIB, 80, KIB, Some(Duration::ZERO));
    let body = bodies.arriving(body, BODY_MAX_BYTES).await.unwrap();
    assert_eq!(body.len(), 100 * KIB);
    assert_eq!(bodies.free_kib(), BODIES_MAX_KIB - 100);
    let piece = body.slice(..10);
    drop(body);
    assert_eq!(bodies.free_kib(), BODIES_MAX_KIB - 100);
    drop(piece);
    assert_eq!(bodies.free_kib(), BODIES_MAX_KIB);
    let short = bodies.arriving(Full::from(vec![b' '; 16 * KIB]), BODY_MAX_BYTES);
    let short = short.await.unwrap();
    assert_eq!((short.len(), bodies.free_kib()), (16 * KIB, BODIES_MAX_KIB));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_held_back_on_purpose_keeps_no_body() {
    use crate::fault::{FaultEffect, FaultRule};
    let service = service();
    let late = FaultEffect::Latency {
        min_ms: 9000,
        max_ms: 9000,
        before: false,
    };
    service
        .faults()
        .set(FaultPlan::seeded(1).rule(FaultRule::new(late)))
        .unwrap();
    let body = Full::from(format!("{{}}{}", " ".repeat(100 * KIB)));
    let call = tokio::spawn({
        let service = service.clone();
        async move { service.call(list_streams(body)).await.unwrap().status() }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!call.is_finished());
    assert_eq!(service.inner.bodies.free_kib(), BODIES_MAX_KIB);
    assert_eq!(call.await.unwrap(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn what_may_wait_for_records_takes_no_share_and_no_long_request() {
    let service = service();
    for operation in ["ReceiveQueueRecords", "ReceiveDeadLetterQueueRecords"] {
        for (length, is_taken) in [(16 * KIB, true), (16 * KIB + 1, false)] {
            let mut request = list_streams(Full::from(vec![b' '; length]));
            let target = format!("Kinesis_20131202.{operation}").parse().unwrap();
            request.headers_mut().insert("x-amz-target", target);
            let status = service.call(request).await.unwrap().status();
            let refused = status == StatusCode::PAYLOAD_TOO_LARGE;
            assert_eq!(refused, !is_taken, "{operation} of {length}: {status}");
        }
    }
}

#[cfg(feature = "s3")]
#[tokio::test(start_paused = true)]
async fn what_s3_reads_whole_has_a_share_of_memory_and_an_object_has_none() {
    let service = service();
    let ask = |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path);
        let body = Slow::new(20 * KIB, 1, 8, None);
        request.body(body).unwrap()
    };
    for (method, path, shares) in [
        ("POST", "/bucket?delete", true),
        ("PUT", "/bucket/key?tagging", true),
        ("PUT", "/bucket", true),
        ("PUT", "/bucket/key", false),
        ("PUT", "/bucket/a/key?x-id=PutObject", false),
    ] {
        let call = tokio::spawn({
            let (service, request) = (service.clone(), ask(method, path));
            async move { service.call(request).await.unwrap() }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let has_share = service.inner.bodies.free_kib() < BODIES_MAX_KIB;
        assert_eq!(has_share, shares, "{method} {path}");
        if shares {
            let answer = call.await.unwrap();
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
            let text = answer.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8(text.to_vec()).unwrap();
            assert!(text.contains("<Code>RequestTimeout</Code>"), "{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_leaves_no_trace() {
    let service = service();
    let half_open: Vec<_> = (0..16)
        .map(|_| tokio::spawn(status(service.clone(), Slow::new(20 * KIB, 1, 8, None))))
        .collect();
    tokio::task::yield_now().await;
    let body = Full::from(vec![b' '; 100 * KIB]);
    let waits = service.inner.bodies.arriving(body, BODY_MAX_BYTES);
    let gave_up = tokio::time::timeout(LOOK_EVERY / 2, waits).await;
    assert!(gave_up.is_err());
    tokio::time::sleep(10 * LOOK_EVERY).await;
    assert!(half_open.iter().all(|body| !body.is_finished()));
}

/// What a body can do to a server.
#[derive(Clone, Copy)]
enum Bad {
    Panic,
    Break,
    Stall,
}

impl Body for Bad {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match *self {
            Self::Panic => panic!("a fault in a handler"),
            Self::Break => Poll::Ready(Some(Err("the connection broke".into()))),
            Self::Stall => Poll::Pending,
        }
    }
}

async fn code_of(answer: Response<ResponseBody>) -> serde_json::Value {
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let mut told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    told["__type"].take()
}

#[tokio::test(start_paused = true)]
async fn whatever_a_body_does_the_next_request_is_served() {
    let service = service();
    let cases = [
        (Bad::Panic, StatusCode::INTERNAL_SERVER_ERROR),
        (Bad::Break, StatusCode::BAD_REQUEST),
        (Bad::Stall, StatusCode::REQUEST_TIMEOUT),
    ];
    for (bad, status) in cases {
        // In CBOR to who speaks it.
        let mut cbor = list_streams(bad);
        let kind = http::HeaderValue::from_static("application/x-amz-cbor-1.1");
        cbor.headers_mut().insert("content-type", kind.clone());
        let answer = service.call(cbor).await.unwrap();
        assert_eq!(
            (answer.status(), &answer.headers()["content-type"]),
            (status, &kind)
        );
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"\xbf\x66__type"), "{body:?}");
        let answer = service.call(list_streams(bad)).await.unwrap();
        assert_eq!(answer.status(), status);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            assert_eq!(code_of(answer).await, "InternalFailure");
            let mut put = list_streams(bad);
            let target = http::HeaderValue::from_static("Kinesis_20131202.PutRecord");
            put.headers_mut().insert("x-amz-target", target);
            let answer = service.call(put).await.unwrap();
            assert_eq!(code_of(answer).await, "InternalFailureException");
        }
        let answer = service.call(list_streams(Full::from("{}"))).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
    assert_eq!(service.inner.bodies.free_kib(), BODIES_MAX_KIB);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_length_is_cut_off_at_the_limit() {
    let service = service();
    let body = |pieces: usize| {
        let piece = Bytes::from(vec![b' '; 1024 * 1024]);
        StreamBody::new(futures::stream::iter(
            (0..pieces).map(move |_| Ok::<_, BoxError>(Frame::data(piece.clone()))),
        ))
    };
    let answer = service.call(list_streams(body(17))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(!answer.headers().contains_key("x-amzn-requestid"));
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "", "as the service does");
    let mut other = list_streams(body(17));
    let table = http::HeaderValue::from_static("DynamoDB_20120810.ListTables");
    other.headers_mut().insert("x-amz-target", table);
    let answer = service.call(other).await.unwrap();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(text.starts_with(br#"{"__type":"RequestEntityTooLargeException""#));
    let answer = service.call(list_streams(body(16))).await.unwrap();
    assert_ne!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_end_is_dropped_at_the_shutdown_deadline() {
    let service = service();
    let stalled = tokio::spawn({
        let service = service.clone();
        async move { service.call(list_streams(Bad::Stall)).await }
    });
    tokio::task::yield_now().await;
    service.finish(Duration::from_secs(1)).await;
    assert!(stalled.await.unwrap().is_err());
    assert!(service.call(list_streams(Full::from("{}"))).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_error_on_purpose_comes_in_the_encoding_of_the_request() {
    use crate::fault::{FaultEffect, FaultRule};
    let service = service();
    let late = FaultRule::new(FaultEffect::ExpiredIterator).operation("GetRecords");
    let refused = FaultEffect::Error {
        code: "KMSThrottlingException".to_owned(),
        message: Some("on purpose".to_owned()),
        status: None,
    };
    let refused = FaultRule::new(refused).operation("ListStreams");
    let plan = FaultPlan::seeded(1).rule(late).rule(refused);
    service.faults().set(plan).unwrap();
    for (operation, code) in [
        ("ListStreams", "KMSThrottlingException"),
        ("GetRecords", "ExpiredIteratorException"),
    ] {
        for format in [Format::Json, Format::Cbor] {
            let body = match format {
                Format::Json => Full::from(r#"{"ShardIterator":"AAAA"}"#),
                Format::Cbor => Full::from(&b"\xbf\x6dShardIterator\x64AAAA\xff"[..]),
            };
            let mut request = list_streams(body);
            let headers = request.headers_mut();
            let target = format!("Kinesis_20131202.{operation}");
            headers.insert("x-amz-target", target.parse().unwrap());
            headers.insert("content-type", format.content_type().parse().unwrap());
            let answer = service.call(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
            assert_eq!(answer.headers()["content-type"], format.content_type());
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let told: serde_json::Value = match format {
                Format::Json => serde_json::from_slice(&body).unwrap(),
                Format::Cbor => ciborium::from_reader(&*body).unwrap(),
            };
            assert_eq!(told["__type"], code);
            if operation == "ListStreams" {
                assert_eq!(told["message"], "on purpose");
            }
        }
    }
}

/// The answer to a request with a body.
async fn told(service: &Service, operation: &str, body: serde_json::Value) -> serde_json::Value {
    let mut request = list_streams(Full::from(body.to_string()));
    let target = format!("Kinesis_20131202.{operation}");
    let headers = request.headers_mut();
    headers.insert("x-amz-target", target.parse().unwrap());
    let answer = service.call(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{operation}");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_receive_whose_caller_went_away_while_it_waited_takes_nothing() {
    let service = service();
    let create = json!({"StreamName": "s", "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    told(&service, "CreateStream", create).await;
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let create = json!({"QueueName": "q", "StreamConfigurationList": [
        {"StreamARN": arn, "StartingPosition": {"Type": "TRIM_HORIZON"}}]});
    let created = told(&service, "CreateQueue", create).await;
    let queue = created["QueueDescription"]["QueueARN"].as_str().unwrap();
    let wait = json!({"QueueARN": queue, "WaitTimeSeconds": 20});
    let waiting = told(&service, "ReceiveQueueRecords", wait);
    let second = Duration::from_secs(1);
    assert!(tokio::time::timeout(second, waiting).await.is_err());
    let put = json!({"StreamName": "s", "PartitionKey": "k", "Data": "AAAA"});
    told(&service, "PutRecord", put).await;
    let wait = json!({"QueueARN": queue, "WaitTimeSeconds": 1});
    let received = told(&service, "ReceiveQueueRecords", wait).await;
    let records = received["QueueRecords"].as_array();
    assert_eq!(records.map(Vec::len), Some(1), "{received}");
}
