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
    bytes: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Answers of GetRecords do not name the children of the shard.
    WithoutChildShards,
    /// Answers come in chunks, and the bytes that are read are counted.
    Counting,
}

impl Faulty {
    fn new(inner: InProcessClient, kind: Kind) -> Self {
        Self {
            inner,
            kind,
            bytes: Arc::default(),
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
        self.bytes.load(Ordering::Relaxed)
    }

    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let gets = target.ends_with(".GetRecords");
        let answer = self.inner.call(request).await?;
        match self.kind {
            Kind::Counting => Ok(answer.map(|body| {
                SdkBody::from_body_1_x(Counted(body, Bytes::new(), Arc::clone(&self.bytes)))
            })),
            Kind::WithoutChildShards if gets => {
                let status = answer.status();
                let body = ByteStream::new(answer.into_body())
                    .collect()
                    .await
                    .expect("a body");
                let mut body: Value = serde_json::from_slice(&body.into_bytes()).expect("JSON");
                body.as_object_mut()
                    .expect("an object")
                    .remove("ChildShards");
                Ok(HttpResponse::new(status, SdkBody::from(body.to_string())))
            }
            Kind::WithoutChildShards => Ok(answer),
        }
    }
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
