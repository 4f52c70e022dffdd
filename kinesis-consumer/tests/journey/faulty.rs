//! An SDK HTTP client for what kinesis-local's faults on purpose cannot do: answers that lack what
//! they should have, and bytes counted as they are read.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use kinesis_local::InProcessClient;
use serde_json::Value;

#[derive(Clone)]
pub(crate) struct Faulty {
    inner: InProcessClient,
    kind: Kind,
    /// Bytes that were read, or entries left out.
    count: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Answers of GetRecords do not name the children of the shard.
    WithoutChildShards,
    /// Answers come in chunks, and the bytes that are read are counted.
    Counting,
    /// So many first requests of this operation lack their first entry, and the answer says that it failed.
    LeavingOut(&'static str, u64),
}

impl Faulty {
    fn new(inner: InProcessClient, kind: Kind) -> Self {
        Self {
            inner,
            kind,
            count: Arc::default(),
        }
    }

    pub(crate) fn without_child_shards(inner: InProcessClient) -> Self {
        Self::new(inner, Kind::WithoutChildShards)
    }

    /// What a counting network hands out at once. Source: HTTP/2's default frame size.
    pub(crate) const CHUNK_BYTES: usize = 16 * 1024;

    /// A perfect network that hands answers out in chunks and counts the bytes that are read.
    pub(crate) fn counting(inner: InProcessClient) -> Self {
        Self::new(inner, Kind::Counting)
    }

    /// Bytes read from answers.
    pub(crate) fn bytes(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// A network to a service that does not do all of what a request lists, so many times.
    pub(crate) fn leaving_out(inner: InProcessClient, operation: &'static str, times: u64) -> Self {
        Self::new(inner, Kind::LeavingOut(operation, times))
    }

    /// Entries left out.
    pub(crate) fn left_out(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    async fn send(self, mut request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let gets = target.ends_with(".GetRecords");
        let mut left_out = None;
        if let Kind::LeavingOut(operation, times) = self.kind
            && target.ends_with(operation)
            && self.left_out() < times
        {
            self.count.fetch_add(1, Ordering::Relaxed);
            let body = request.body().bytes().expect("a body in memory");
            let mut body: Value = serde_json::from_slice(body).expect("JSON");
            let entries = body["Entries"].as_array_mut().expect("entries");
            left_out = Some(entries.remove(0)["ReceiptHandle"].clone());
            if entries.is_empty() {
                let answer = serde_json::json!({"Successful": [], "Failed": [failed(left_out)]});
                let status = 200.try_into().expect("a status");
                return Ok(HttpResponse::new(status, SdkBody::from(answer.to_string())));
            }
            let body = body.to_string();
            let length = body.len().to_string();
            request.headers_mut().insert("content-length", length);
            *request.body_mut() = SdkBody::from(body);
        }
        let answer = self.inner.call(request).await?;
        match self.kind {
            Kind::Counting => Ok(answer.map(|body| {
                SdkBody::from_body_1_x(Counted(body, Bytes::new(), Arc::clone(&self.count)))
            })),
            Kind::WithoutChildShards if gets => {
                let without = |body: &mut Value| {
                    let body = body.as_object_mut().expect("an object");
                    body.remove("ChildShards");
                };
                Ok(changed(answer, without).await)
            }
            Kind::LeavingOut(..) if left_out.is_some() => {
                let with = |body: &mut Value| {
                    let all = body["Failed"].as_array_mut().expect("a list");
                    all.push(failed(left_out));
                };
                Ok(changed(answer, with).await)
            }
            Kind::WithoutChildShards | Kind::LeavingOut(..) => Ok(answer),
        }
    }
}

/// The entry of an answer with this handle.
fn failed(handle: Option<Value>) -> Value {
    serde_json::json!({"ReceiptHandle": handle, "ErrorCode": "InternalFailureException"})
}

async fn changed(answer: HttpResponse, change: impl FnOnce(&mut Value)) -> HttpResponse {
    let status = answer.status();
    let body = ByteStream::new(answer.into_body()).collect().await;
    let body = body.expect("a body").into_bytes();
    let mut body: Value = serde_json::from_slice(&body).expect("JSON");
    change(&mut body);
    HttpResponse::new(status, SdkBody::from(body.to_string()))
}

/// A body that comes in chunks, with what is left of the last piece; bytes count as they are read.
struct Counted(SdkBody, Bytes, Arc<AtomicU64>);

impl Body for Counted {
    type Data = Bytes;
    type Error = kinesis_consumer::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        while self.1.is_empty() {
            match ready!(Pin::new(&mut self.0).poll_frame(cx)) {
                Some(Ok(frame)) => self.1 = frame.into_data().expect("data"),
                other => return Poll::Ready(other),
            }
        }
        let length = self.1.len().min(Faulty::CHUNK_BYTES);
        let chunk = self.1.split_to(length);
        self.2.fetch_add(length as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        let inner = Body::size_hint(&self.0).exact();
        inner.map_or_else(SizeHint::default, |left| {
            SizeHint::with_exact(left + self.1.len() as u64)
        })
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faulty").finish_non_exhaustive()
    }
}

impl HttpConnector for Faulty {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().send(request))
    }
}

impl HttpClient for Faulty {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
