//! An SDK HTTP client on a bad network: some requests never arrive, some answers get lost, some
//! requests are refused, some answers are late.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use bytes::Bytes;
use http_body::{Body, Frame};
use kinesis_core::Rand;
use kinesis_local::InProcessClient;
use serde_json::Value;

/// What a request meets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    NeverArrives,
    LosesItsAnswer,
    /// Refused with this error code.
    Refused(&'static str),
    /// Carried out, and answered this much later.
    Late(Duration),
    /// Carried out; the answer does not name the children of the shard.
    WithoutChildShards,
    /// Carried out; the connection breaks after so many bytes of the answer.
    Cut(usize),
    /// Carried out; nothing comes after the first frame of the event stream.
    FallsSilent,
}

/// Which request, by its `X-Amz-Target`, meets which fault.
type Rule = Arc<dyn Fn(&str) -> Option<Fault> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Faulty {
    inner: InProcessClient,
    rule: Rule,
    hits: Arc<AtomicU64>,
    counts_bytes: bool,
    bytes: Arc<AtomicU64>,
}

impl Faulty {
    pub(crate) fn new(
        inner: InProcessClient,
        rule: impl Fn(&str) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            rule: Arc::new(rule),
            hits: Arc::default(),
            counts_bytes: false,
            bytes: Arc::default(),
        }
    }

    /// Every `one_in`th request, at random, meets a fault.
    pub(crate) fn random(inner: InProcessClient, rand: Rand, one_in: u64) -> Self {
        Self::new(inner, move |_| {
            if rand.below(one_in) != 0 {
                return None;
            }
            Some(match rand.below(4) {
                0 => Fault::NeverArrives,
                1 => Fault::LosesItsAnswer,
                2 => Fault::Refused("ProvisionedThroughputExceededException"),
                _ => Fault::Late(Duration::from_millis(rand.below(8000))),
            })
        })
    }

    /// How many requests met a fault.
    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// What a counting network hands out at once. Source: HTTP/2's default frame size.
    pub(crate) const CHUNK_BYTES: usize = 16 * 1024;

    /// A perfect network that hands answers out in chunks and counts the bytes that are read.
    pub(crate) fn counting(inner: InProcessClient) -> Self {
        Self {
            counts_bytes: true,
            ..Self::new(inner, |_| None)
        }
    }

    /// Bytes read from answers.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let broken = || ConnectorError::io("the connection broke".into());
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let fault = (self.rule)(target);
        self.hits
            .fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
        match fault {
            None if self.counts_bytes => {
                let answer = self.inner.call(request).await?;
                Ok(answer.map(|body| {
                    SdkBody::from_body_1_x(Counted(body, Bytes::new(), Arc::clone(&self.bytes)))
                }))
            }
            None => self.inner.call(request).await,
            Some(Fault::NeverArrives) => Err(broken()),
            Some(Fault::LosesItsAnswer) => {
                self.inner.call(request).await?;
                Err(broken())
            }
            Some(Fault::Refused(code)) => {
                let body = SdkBody::from(format!(r#"{{"__type":"{code}"}}"#));
                Ok(HttpResponse::new(400.try_into().expect("a status"), body))
            }
            Some(Fault::Late(by)) => {
                let answer = self.inner.call(request).await;
                tokio::time::sleep(by).await;
                answer
            }
            Some(Fault::Cut(after)) => {
                let answer = self.inner.call(request).await?;
                Ok(answer.map(|body| Limited::over(body, Some(after), false)))
            }
            Some(Fault::FallsSilent) => {
                let answer = self.inner.call(request).await?;
                Ok(answer.map(|body| Limited::over(body, None, true)))
            }
            Some(Fault::WithoutChildShards) => {
                let answer = self.inner.call(request).await?;
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
        }
    }
}

/// A body of which only a part comes.
struct Limited {
    inner: SdkBody,
    /// Bytes to come; unknown until the first frame told its length.
    left: Option<usize>,
    /// Whether nothing comes after that, in place of an error.
    silent: bool,
}

impl Limited {
    fn over(inner: SdkBody, left: Option<usize>, silent: bool) -> SdkBody {
        SdkBody::from_body_1_x(Self {
            inner,
            left,
            silent,
        })
    }
}

impl Body for Limited {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.left {
            Some(0) if self.silent => return Poll::Pending,
            Some(0) => return Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into()))),
            Some(_) | None => {}
        }
        let Some(chunk) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) else {
            return Poll::Ready(None);
        };
        let chunk = chunk.expect("kinesis-local's body").into_data();
        let mut chunk = chunk.expect("data");
        let left = self.left.unwrap_or_else(|| {
            u32::from_be_bytes(chunk[..4].try_into().expect("four bytes")) as usize
        });
        let chunk = chunk.split_to(left.min(chunk.len()));
        self.left = Some(left - chunk.len());
        Poll::Ready(Some(Ok(Frame::data(chunk))))
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
