use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kinesis_core::Rand;

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
        let answer = service.call(list_streams(Full::from("{}"))).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
    assert_eq!(service.inner.bodies.available_permits(), BODIES_MAX_KIB);
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
