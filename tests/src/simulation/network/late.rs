//! Reads that are behind the stream: the service answers with nothing, though there is something, from the
//! same place again, and says how far behind it is. It may do so at any time, mostly where a reader is far
//! behind.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use kinesis_core::Rand;
use serde_json::{Value, json};

/// The furthest that an answer says it is behind, in milliseconds. Source: none.
const BEHIND_MILLIS_MAX: u64 = 120_000;

/// Which reads are late.
#[derive(Debug)]
pub(super) struct Late {
    /// One of so many; 0: none.
    every: AtomicU64,
    rand: Rand,
}

impl Late {
    pub(super) fn new(every: u64, rand: Rand) -> Self {
        let every = AtomicU64::new(every);
        Self { every, rand }
    }

    /// None is from now on.
    pub(super) fn calm(&self) {
        self.every.store(0, Ordering::Relaxed);
    }

    /// Whether a call is a read that is late.
    pub(super) fn next(&self, operation: &str, request: &HttpRequest) -> Option<Read> {
        let every = self.every.load(Ordering::Relaxed);
        if operation != "Kinesis.GetRecords" || every == 0 || self.rand.below(every) > 0 {
            return None;
        }
        let asked: Value = serde_json::from_slice(request.body().bytes()?).ok()?;
        Some(Read {
            iterator: asked["ShardIterator"].as_str()?.to_owned(),
            behind_millis: 1 + self.rand.below(BEHIND_MILLIS_MAX),
        })
    }
}

/// A read that is late.
#[derive(Debug)]
pub(super) struct Read {
    iterator: String,
    behind_millis: u64,
}

impl Read {
    /// The answer, of what comes before there is anything in it; the end of a shard comes as it is.
    pub(super) async fn than(self, answer: HttpResponse) -> HttpResponse {
        if !answer.status().is_success() {
            return answer;
        }
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        let body = ByteStream::new(answer.into_body()).collect().await;
        let mut body = body.expect("kinesis-local answers whole").into_bytes();
        let mut read: Value = serde_json::from_slice(&body).expect("an answer of GetRecords");
        if read["NextShardIterator"].is_string() {
            read["Records"] = json!([]);
            read["NextShardIterator"] = self.iterator.into();
            read["MillisBehindLatest"] = self.behind_millis.into();
            body = read.to_string().into();
            headers.insert("content-length", body.len().to_string());
        }
        let mut answer = HttpResponse::new(status, SdkBody::from(body));
        *answer.headers_mut() = headers;
        answer
    }
}
