//! The service on the wire: raw requests in, codes and texts out.
//!
//! The texts are the service's own (kinesalite's suite, which ran against it, and recorded
//! answers), so these tests compare whole bodies.
//!
//! [`facts`](in_json::facts) are held in JSON and in CBOR: that tree is compiled twice, with the
//! encoding as its only difference, so a test fails under the name of the encoding that it fails in.
//! Beside it stands what is about bytes, headers or a restart.

use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::*;

#[cfg(feature = "s3")] // channels need buckets
mod alike;
mod cbor;
mod encoding;
mod front;
mod hostile;
mod recovery;

/// The facts in JSON.
#[path = "tests"]
mod in_json {
    const FORMAT: crate::wire::Format = crate::wire::Format::Json;
    pub(super) mod facts;
}

/// The facts in CBOR.
#[path = "tests"]
#[expect(clippy::duplicate_mod, reason = "what is held in JSON is held in CBOR")]
mod in_cbor {
    const FORMAT: crate::wire::Format = crate::wire::Format::Cbor;
    pub(super) mod facts;
}

use in_json::facts::{get, iterator, ok, put, refused, texts, with_stream};

/// 2026-11-23 02:00 UTC.
const NOW_MS: u64 = 1_795_399_200_000;

fn options() -> KinesisOptions {
    KinesisOptions {
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
    }
}

fn kinesis() -> Kinesis {
    Kinesis::open(options()).unwrap()
}

impl Kinesis {
    fn clock(&self) -> Clock {
        self.sites.home.clock.clone()
    }

    fn stream_cell(&self, name: &str) -> Arc<StreamCell> {
        self.sites.home.catalog.get(name).unwrap()
    }
}

/// A request as an SDK signs it.
fn request(operation: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post("/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
        .header("x-amz-date", "20261123T020000Z")
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=a/20261123/us-east-1/kinesis/aws4_request, SignedHeaders=host, \
             Signature=abc",
        )
        .body(body.into())
        .unwrap()
}

async fn answer(kinesis: &Kinesis, request: Request<Bytes>) -> (StatusCode, String) {
    let response = kinesis.call(request).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}
