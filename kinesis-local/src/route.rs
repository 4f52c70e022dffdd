//! Which service answers a request, and the one place where a request is carried out.
//!
//! One port, three protocols and one page of our own. The rule, first match wins:
//!
//! ```text
//! path /_local/…                             this server's own pages (no bucket can have this name)
//! X-Amz-Target: DynamoDB_20120810.*          DynamoDB
//! X-Amz-Target: DynamoDBStreams_20120810.*   refused: table streams are not offered
//! X-Amz-Target: anything else                Kinesis, which answers a bad target as the service does
//! signed for `s3` (header or presigned)      S3
//! signed for `dynamodb`                      DynamoDB, which answers a missing target
//! signed for any other service               Kinesis
//! unsigned, anything but `POST /`            S3
//! unsigned `POST /`                          Kinesis
//! ```
//!
//! A Kinesis request names itself in `X-Amz-Target`, or at least in its signature, or is the bare
//! `POST /` that all of the protocol consists of; none of the three ever matches a line of S3.
//! Here signatures are read for the name of the service only: any credentials are accepted, unless
//! there are users ([`crate::auth`]), by whom a request of the three has to be signed. The pages under
//! `/_local/` are open either way.
//!
//! Promises: a request that was admitted is carried out to its end even if the caller goes away
//! (its task belongs to the server, not to the connection; one that only waits is told and may stop); a panic in a handler is a 500 and an
//! ERROR in the log, not the end of the server; bodies are bounded, each and together (see
//! [`bodies`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
#[cfg(feature = "s3")]
use http_body_util::Full;
use kinesis_core::Clock;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin;
use crate::api::CallerLeft;
use crate::api::operation::Operation;
use crate::auth::Refusal;
use crate::body::{BoxError, ResponseBody};
use crate::date::Utc;
#[cfg(any(feature = "dynamodb", feature = "s3"))]
use crate::fault::Injected;
use crate::fault::{Effects, FaultService, Faults, Wanted};
use crate::metrics::{REQUEST_SECONDS, REQUESTS};
use crate::services::Services;
use crate::stream::encryption::KmsKeys;
use crate::wire::Format;
use crate::wire::fault::{BUSY, BUSY_TEXT, Fault, INTERNAL, INTERNAL_COMMON};

mod bodies;
mod target;

#[cfg(feature = "s3")]
use bodies::NotArrived;
use bodies::{BODY_MAX_BYTES, Bodies, UNSHARED_BODY_BYTES};
use target::Target;

/// An answer, which may be a refusal, or why there is none.
type Answer = Result<Response<ResponseBody>, Unanswered>;

/// Why a call has no answer.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("this kinesis-local was shut down")]
    Stopped,
    #[error("the connection broke, by a fault on purpose")]
    Broken,
}

/// A place among the requests at once, which a request has in its extensions: it is held until the
/// request was carried out, also if its sender has gone away, and until its answer is written.
#[derive(Clone, Debug)]
pub(crate) struct Place(
    #[expect(dead_code, reason = "held for its drop")]
    Arc<(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>)>,
);

impl Place {
    /// `lasting`: the one of a request that waits on purpose.
    pub(crate) fn new(place: OwnedSemaphorePermit, lasting: Option<OwnedSemaphorePermit>) -> Self {
        Self(Arc::new((place, lasting)))
    }
}

/// Everything that answers requests; cheap to clone.
#[derive(Clone)]
pub(crate) struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    services: Services,
    faults: Faults,
    clock: Clock,
    bodies: Bodies,
    /// Cancelled: no request is admitted any more.
    stopping: CancellationToken,
    /// Cancelled: requests that are still under way are dropped.
    stopped: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("stopping", &self.inner.stopping.is_cancelled())
            .field("under_way", &self.inner.tasks.len())
            .finish_non_exhaustive()
    }
}

impl Service {
    pub(crate) fn new(
        services: Services,
        faults: Faults,
        clock: Clock,
        body_timeout: Duration,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                services,
                faults,
                clock,
                bodies: Bodies::new(body_timeout),
                stopping: CancellationToken::new(),
                stopped: CancellationToken::new(),
                tasks: TaskTracker::new(),
            }),
        }
    }

    /// Carries out one request. Cancel safe: dropping the future does not stop an admitted request,
    /// unless it is a receive that still waits for something to take.
    pub(crate) async fn call<B>(&self, mut request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if self.inner.stopping.is_cancelled() {
            return Err(Unanswered::Stopped);
        }
        let service = self.clone();
        let edge = Edge::of(&request);
        let internal = internal_code(&request);
        let left = CallerLeft::default();
        let _waits = left.0.clone().drop_guard();
        request.extensions_mut().insert(left);
        let place = request.extensions().get::<Place>().cloned();
        let work = self.inner.tasks.spawn(async move {
            let _place = place;
            let stopped = service.inner.stopped.clone();
            stopped
                .run_until_cancelled(service.serve(request))
                .await
                .unwrap_or(Err(Unanswered::Stopped))
        });
        match work.await {
            Ok(answer) => answer.map(|answer| self.dated(answer)),
            Err(error) if error.is_panic() => {
                tracing::error!("a request handler panicked; the request was answered with 500");
                Ok(self.dated(edge.refusal(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    internal,
                    "the request handler panicked; this is a fault of kinesis-local",
                )))
            }
            Err(_) => Err(Unanswered::Stopped),
        }
    }

    /// The faults on purpose.
    pub(crate) fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// The time of the instance.
    pub(crate) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    async fn serve<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let clock = Clock::system();
        let began = clock.now();
        let (head, body) = request.into_parts();
        let target = Target::of(&head);
        let answer = match target {
            Target::Admin | Target::Kinesis | Target::DynamoDb => {
                self.serve_whole(target, head, body).await
            }
            Target::DynamoDbStreams => Ok(refusal(
                StatusCode::BAD_REQUEST,
                "UnknownOperationException",
                "kinesis-local does not offer DynamoDB Streams",
            )),
            Target::S3 => self.serve_s3(head, body).await,
        };
        let status = match &answer {
            Ok(answer) => answer.status().as_u16().to_string(),
            Err(_) => "none".to_owned(),
        };
        let service = target.name();
        metrics::counter!(REQUESTS, "service" => service, "status" => status).increment(1);
        let took = clock.now().saturating_duration_since(began);
        metrics::histogram!(REQUEST_SECONDS, "service" => service).record(took);
        answer
    }

    /// Carries out a request whose body is read first.
    async fn serve_whole<B>(&self, target: Target, head: Parts, body: B) -> Answer
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let edge = Edge {
            kinesis: target == Target::Kinesis,
            ..Edge::of_headers(&head.headers)
        };
        let longest = match waits(&head.headers) {
            true => UNSHARED_BODY_BYTES,
            false => BODY_MAX_BYTES,
        };
        let body = match self.inner.bodies.arriving(body, longest).await {
            Ok(body) => body,
            Err(why) => return Ok(edge.not_arrived(why)),
        };
        match target {
            Target::Admin => {
                let (faults, clock) = (&self.inner.faults, &self.inner.clock);
                Ok(admin::answer(&head, &body, faults, clock))
            }
            Target::DynamoDb => self.serve_dynamodb(head, body).await,
            Target::Kinesis | Target::DynamoDbStreams | Target::S3 => {
                self.serve_kinesis(head, body).await
            }
        }
    }

    async fn serve_kinesis(&self, head: Parts, body: Bytes) -> Answer {
        let effects = self.effects(FaultService::Kinesis, &head, &body);
        let mut request = Request::from_parts(head, body);
        if let Some(effects) = &effects {
            // It refuses by itself, behind its checks and in the encoding of the request.
            request.extensions_mut().insert(Arc::clone(effects));
        }
        // On the heap, because the layers of futures are otherwise deeper than a compiler looks.
        let work = Box::pin(self.inner.services.kinesis.call(request));
        self.inner.faults.around(effects.as_deref(), work).await
    }

    /// With the time of this service's clock, which clients hold theirs against.
    pub(crate) fn dated(&self, mut answer: Response<ResponseBody>) -> Response<ResponseBody> {
        let now = Utc::at(self.inner.clock.epoch_millis()).http();
        if let Ok(now) = HeaderValue::from_str(&now) {
            answer.headers_mut().insert(DATE, now);
        }
        answer
    }

    #[cfg(feature = "dynamodb")]
    async fn serve_dynamodb(&self, head: Parts, body: Bytes) -> Answer {
        let effects = self.effects(FaultService::DynamoDb, &head, &body);
        let work = async {
            if let Err(refusal) = self.check_auth("dynamodb", &head, Some(&body)) {
                return unauthenticated(&head, &refusal);
            }
            match refusal_of(&effects) {
                Some(refusal) => refusal.response(FaultService::DynamoDb),
                None => {
                    let request = Request::from_parts(head, body);
                    self.inner.services.dynamodb.call(request).await
                }
            }
        };
        self.inner.faults.around(effects.as_deref(), work).await
    }

    #[cfg(not(feature = "dynamodb"))]
    async fn serve_dynamodb(&self, _head: Parts, _body: Bytes) -> Answer {
        Ok(not_built("dynamodb"))
    }

    #[cfg(feature = "s3")]
    async fn serve_s3<B>(&self, head: Parts, body: B) -> Answer
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let effects = self.effects(FaultService::S3, &head, &[]);
        let work = async {
            if let Err(refusal) = self.check_auth("s3", &head, None) {
                return crate::s3::unauthenticated(&refusal);
            }
            match refusal_of(&effects) {
                Some(refusal) => refusal.response(FaultService::S3),
                None if crate::s3::is_streamed(&head) => {
                    self.inner.services.s3.call(head, body).await
                }
                None => match self.inner.bodies.arriving(body, BODY_MAX_BYTES).await {
                    Ok(body) => self.inner.services.s3.call(head, Full::new(body)).await,
                    Err(why) => crate::s3::not_arrived(why == NotArrived::TooLarge),
                },
            }
        };
        self.inner.faults.around(effects.as_deref(), work).await
    }

    #[cfg(not(feature = "s3"))]
    async fn serve_s3<B>(&self, _head: Parts, _body: B) -> Answer {
        Ok(not_built("s3"))
    }

    /// Whether it takes any credentials.
    pub(crate) fn takes_any_credentials(&self) -> bool {
        self.inner.services.auth.is_none()
    }

    /// Whether a user has signed the request, if only users may call. Kinesis asks for itself.
    #[cfg_attr(
        not(any(feature = "dynamodb", feature = "s3")),
        expect(dead_code, reason = "this build leaves out both")
    )]
    fn check_auth(&self, service: &str, head: &Parts, body: Option<&[u8]>) -> Result<(), Refusal> {
        match &self.inner.services.auth {
            Some(auth) => auth.check(service, head, body, self.inner.clock.epoch_millis()),
            None => Ok(()),
        }
    }

    /// What happens to this call on purpose.
    fn effects(&self, service: FaultService, head: &Parts, body: &[u8]) -> Option<Arc<Effects>> {
        let kinesis = &self.inner.services.kinesis;
        let find = |wanted: Wanted<'_>| kinesis.find(head, wanted);
        self.inner.faults.decide(service, head, body, find)
    }

    /// Admits no further request.
    pub(crate) fn stop_admitting(&self) {
        self.inner.stopping.cancel();
    }

    /// Ends subscriptions and waits until every admitted request was carried out and its answer
    /// handed over. What is still under way after `deadline` is dropped.
    pub(crate) async fn finish(&self, deadline: Duration) {
        self.stop_admitting();
        self.inner.tasks.close();
        let orderly = async {
            self.inner.services.end_subscriptions().await;
            self.inner.tasks.wait().await;
        };
        if tokio::time::timeout(deadline, orderly).await.is_err() {
            tracing::warn!(
                under_way = self.inner.tasks.len(),
                "requests were still under way at the shutdown deadline and were dropped"
            );
        }
        self.inner.stopped.cancel();
        self.inner.tasks.wait().await;
    }

    /// Closes the stores. To be called after [`finish`](Self::finish).
    pub(crate) async fn close(&self) {
        self.inner.services.close().await;
    }

    /// The states of the KMS keys.
    pub(crate) fn kms(&self) -> &KmsKeys {
        self.inner.services.kinesis.kms()
    }

    /// The directory that holds the buckets.
    #[cfg(feature = "s3")]
    pub(crate) fn s3_dir(&self) -> &std::path::Path {
        self.inner.services.s3.directory()
    }
}

/// The error that a call of another service than Kinesis is to be told once it is known to be signed.
#[cfg(any(feature = "dynamodb", feature = "s3"))]
fn refusal_of(effects: &Option<Arc<Effects>>) -> Option<&Injected> {
    effects.as_deref()?.refusal.as_ref()
}

/// DynamoDB's answer to a request that no user has signed.
#[cfg(feature = "dynamodb")]
fn unauthenticated(head: &Parts, refusal: &Refusal) -> Response<ResponseBody> {
    let (code, text) = match refusal {
        Refusal::Incomplete if !head.headers.contains_key("authorization") => (
            "MissingAuthenticationTokenException",
            "Request is missing Authentication Token".to_owned(),
        ),
        refusal => refusal.json(),
    };
    let kind = format!("com.amazon.coral.service#{code}");
    self::refusal(StatusCode::BAD_REQUEST, &kind, &text)
}

/// The code of a failure of ours, as the operation's model has it.
fn internal_code<B>(request: &Request<B>) -> &'static str {
    let target = request.headers().get("x-amz-target");
    let operation = target.and_then(|target| Operation::from_target(target.to_str().ok()?));
    match operation {
        Some(operation) if operation.lists_internal_failure() => INTERNAL,
        Some(_) | None => INTERNAL_COMMON,
    }
}

/// The answer for a service that this build leaves out.
#[cfg(not(all(feature = "dynamodb", feature = "s3")))]
fn not_built(feature: &str) -> Response<ResponseBody> {
    refusal(
        StatusCode::NOT_IMPLEMENTED,
        "NotImplemented",
        &format!("this kinesis-local was built without its feature `{feature}`"),
    )
}

/// Whether what is asked for may wait for something to happen, for as long as 20 seconds.
fn waits(headers: &HeaderMap) -> bool {
    let target = headers.get("x-amz-target");
    let operation = target
        .and_then(|target| target.to_str().ok())
        .and_then(Operation::from_target);
    matches!(
        operation,
        Some(Operation::ReceiveQueueRecords | Operation::ReceiveDeadLetterQueueRecords)
    )
}

/// How the edge itself has to answer a request.
#[derive(Copy, Clone, Debug)]
struct Edge {
    /// It is for Kinesis, whose edge answers an oversize body without a text.
    kinesis: bool,
    format: Format,
}

impl Edge {
    fn of<B>(request: &Request<B>) -> Self {
        Self::of_headers(request.headers())
    }

    fn of_headers(headers: &HeaderMap) -> Self {
        let content_type = headers.get(CONTENT_TYPE);
        let cbor = content_type.is_some_and(|kind| {
            kind.as_bytes()
                .starts_with(Format::Cbor.content_type().as_bytes())
        });
        Self {
            kinesis: false,
            format: if cbor { Format::Cbor } else { Format::Json },
        }
    }

    /// A refusal in the encoding of the request.
    fn refusal(
        self,
        status: StatusCode,
        kind: &'static str,
        message: &str,
    ) -> Response<ResponseBody> {
        let fault = Fault::new(kind, message);
        let mut response = Response::new(ResponseBody::full(fault.body(self.format)));
        *response.status_mut() = status;
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static(self.format.content_type()),
        );
        response
    }

    fn too_large(self) -> Response<ResponseBody> {
        if self.kinesis {
            // Source: kinesalite's connection tests, which ran against the service.
            let mut response = Response::new(ResponseBody::full(""));
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            return response;
        }
        self.refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLargeException",
            "the body of the request is larger than 16 MiB",
        )
    }
}

/// How a request is refused while there is too much to do.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Busy {
    target: Target,
    edge: Edge,
}

impl Busy {
    pub(crate) fn to(head: &Parts) -> Self {
        Self {
            target: Target::of(head),
            edge: Edge::of_headers(&head.headers),
        }
    }

    /// Whether it is for one of the server's own pages.
    pub(crate) fn is_local(self) -> bool {
        self.target == Target::Admin
    }

    /// Source: the service's common errors, and S3's; the SDKs try again after either.
    pub(crate) fn answer(self) -> Response<ResponseBody> {
        match self.target {
            #[cfg(feature = "s3")]
            Target::S3 => crate::s3::busy(),
            #[cfg(not(feature = "s3"))]
            Target::S3 => not_built("s3"),
            Target::Admin | Target::Kinesis | Target::DynamoDb | Target::DynamoDbStreams => self
                .edge
                .refusal(StatusCode::SERVICE_UNAVAILABLE, BUSY, BUSY_TEXT),
        }
    }
}

/// An answer of the edge itself, in the JSON shape that the SDKs read errors from.
pub(crate) fn refusal(status: StatusCode, kind: &str, message: &str) -> Response<ResponseBody> {
    let body = serde_json::json!({ "__type": kind, "message": message }).to_string();
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/x-amz-json-1.1"),
    );
    response
}

#[cfg(test)]
mod tests;
