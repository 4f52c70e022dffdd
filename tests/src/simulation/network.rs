//! The network of one worker: an SDK `HttpClient` that loses, delays, refuses and repeats its calls
//! as a seed has it, is cut at times, wholly or for one service or operation, and lets the worker die at
//! one of them.
//!
//! ```text
//! SDK ─ request ─▶ wire (a task of its own) ── before ──▶ kinesis-local ── after ──▶ answer ─▶ SDK
//!                    │        │                  twice?        │  └ what it wrote into the lease table
//!                    │        └ lost, refused, cut             │    goes into the log
//!                    └ dies here                               └ dies here
//! ```
//! A call is carried by a task of its own, so a request that its sender has given up on may still
//! arrive, later than one that was sent after it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame};
use kinesis_core::Rand;
use kinesis_local::InProcessClient;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::log::{Event, Log};
use super::observe;
use cut::Cuts;
pub use cut::{Cut, Made};
use late::Late;

mod cut;
mod late;

type Answer = Result<HttpResponse, ConnectorError>;

/// The longest that a sound network takes one way, in milliseconds.
/// Source: none; a region's own services answer within about ten.
const SOUND_MILLIS_MAX: u64 = 12;

/// The longest that a bad network keeps a message, in milliseconds: longer than any time-out of the
/// lease table's writes (a tenth of a minute would be the lease itself).
const LATE_MILLIS_MAX: u64 = 8_000;

/// Where a worker dies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Doom {
    /// At one of its calls.
    AtCall {
        /// Calls that go well before.
        after_calls: u64,
        /// The last one is carried out, and the worker does not hear of it.
        carried_out: bool,
    },
    /// When its process is polled for the time of this number, from 0 on.
    AtPoll(u64),
}

/// The network of one worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Network {
    wire: Arc<Wire>,
}

#[derive(Debug)]
struct Wire {
    worker: Arc<str>,
    client: InProcessClient,
    log: Log,
    rand: Rand,
    /// One call of so many meets a fault; 0: none does.
    fault_every: AtomicU64,
    /// Which reads are late.
    late: OnceLock<Late>,
    /// What does not come through.
    cuts: Mutex<Cuts>,
    calls: AtomicU64,
    polls: AtomicU64,
    doom: Option<Doom>,
    /// The doom does not come any more.
    spared: AtomicBool,
    process: OnceLock<AbortHandle>,
    dead: AtomicBool,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Well,
    RequestLost { silently: bool },
    AnswerLost { silently: bool },
    Refused,
    RequestLate(Duration),
    AnswerLate(Duration),
    Twice(Duration),
}

impl Network {
    /// The network of `worker`.
    pub fn new(
        worker: Arc<str>,
        client: InProcessClient,
        log: Log,
        rand: Rand,
        doom: Option<Doom>,
    ) -> Self {
        Self {
            wire: Arc::new(Wire {
                worker,
                client,
                log,
                rand,
                fault_every: AtomicU64::new(0),
                late: OnceLock::new(),
                cuts: Mutex::default(),
                calls: AtomicU64::new(0),
                polls: AtomicU64::new(0),
                doom,
                spared: AtomicBool::new(false),
                process: OnceLock::new(),
                dead: AtomicBool::new(false),
            }),
        }
    }

    /// The process that dies by [`Doom`].
    pub fn belongs_to(&self, process: AbortHandle) {
        // The first one counts; there is one.
        drop(self.wire.process.set(process));
    }

    /// The process of the worker, to be spawned: it dies where its doom says.
    pub fn process<F: Future>(&self, process: F) -> impl Future<Output = F::Output> + use<F> {
        let wire = Arc::clone(&self.wire);
        let mut process = Box::pin(process);
        std::future::poll_fn(move |cx| {
            let poll = wire.polls.fetch_add(1, Ordering::Relaxed);
            if wire.doom() == Some(Doom::AtPoll(poll)) {
                wire.die();
                return Poll::Pending;
            }
            process.as_mut().poll(cx)
        })
    }

    /// How often the worker has called a service, and how often its process was polled.
    pub fn lived(&self) -> (u64, u64) {
        let (calls, polls) = (&self.wire.calls, &self.wire.polls);
        (calls.load(Ordering::Relaxed), polls.load(Ordering::Relaxed))
    }

    /// From now on one call of so many meets a fault; 0: none does.
    pub fn fault_every(&self, calls: u64) {
        self.wire.fault_every.store(calls, Ordering::Relaxed);
    }

    /// From now on one read of so many is late, as `late` has it; 0: none is.
    pub fn late_every(&self, reads: u64, rand: Rand) {
        // The first one counts; there is one.
        drop(self.wire.late.set(Late::new(reads, rand)));
    }

    /// Kills the worker's process where it stands.
    pub fn kill(&self) {
        self.wire.die();
    }

    /// Whether the worker was killed.
    pub fn is_dead(&self) -> bool {
        self.wire.dead.load(Ordering::Relaxed)
    }

    /// Nothing fails from now on.
    pub fn calm(&self) {
        self.fault_every(0);
        if let Some(late) = self.wire.late.get() {
            late.calm();
        }
        self.wire.cuts().lift_all();
        self.wire.spared.store(true, Ordering::Relaxed);
    }

    /// Cuts the worker off from this until that cut is lifted, whatever else it is cut off from.
    pub fn cut(&self, cut: Cut) -> Made {
        self.wire.cuts().make(cut)
    }

    /// Lifts one cut; whether there still was one.
    pub fn lift(&self, made: Made) -> bool {
        self.wire.cuts().lift(made)
    }
}

impl Wire {
    fn cuts(&self) -> MutexGuard<'_, Cuts> {
        // The list is whole whatever panicked meanwhile.
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cut(&self, operation: &str) -> bool {
        self.cuts().hold(operation)
    }

    /// Where it dies, if it is not spared.
    fn doom(&self) -> Option<Doom> {
        self.doom.filter(|_| !self.spared.load(Ordering::Relaxed))
    }

    fn fate(&self) -> Fate {
        let every = self.fault_every.load(Ordering::Relaxed);
        if every == 0 || self.rand.below(every) != 0 {
            return Fate::Well;
        }
        let silently = self.rand.below(2) == 0;
        let late = Duration::from_millis(self.rand.below(LATE_MILLIS_MAX));
        match self.rand.below(7) {
            0 => Fate::RequestLost { silently },
            1 => Fate::AnswerLost { silently },
            2 => Fate::Refused,
            3 | 4 => Fate::RequestLate(late),
            5 => Fate::AnswerLate(late),
            _ => Fate::Twice(late),
        }
    }

    fn called(&self, operation: &str, of_lock: bool, fate: String, fault: bool) {
        self.log.push(Event::Called {
            worker: Arc::clone(&self.worker),
            operation: operation.to_owned(),
            fate,
            fault,
            of_lock,
        });
    }

    /// Whether a call that has begun does not come through, which the log is told.
    fn is_cut_on_its_way(&self, operation: &str, of_lock: bool) -> bool {
        let cut = self.is_cut(operation);
        if cut {
            self.called(operation, of_lock, "cut on its way".to_owned(), true);
        }
        cut
    }

    /// A sound way in one direction.
    async fn travel(&self) {
        let millis = 1 + self.rand.below(SOUND_MILLIS_MAX);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// Carries one call; `None`: its sender never hears of it.
    async fn carry(&self, request: HttpRequest) -> Option<Answer> {
        if self.dead.load(Ordering::Relaxed) {
            return None;
        }
        let operation = observe::operation(&request);
        let of_lock = observe::is_of_lock(&request);
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        // Whether it dies here, and then whether the call is carried out.
        let dies = match self.doom() {
            Some(Doom::AtCall {
                after_calls,
                carried_out,
            }) => (after_calls == call).then_some(carried_out),
            Some(Doom::AtPoll(_)) | None => None,
        };
        let fate = self.fate();
        let told = match (dies, self.is_cut(&operation)) {
            (Some(true), _) => "the worker dies behind it".to_owned(),
            (Some(false), _) => "the worker dies before it".to_owned(),
            (None, true) => "cut".to_owned(),
            (None, false) => format!("{fate:?}"),
        };
        let is_well = matches!((&dies, fate), (None, Fate::Well)) && !self.is_cut(&operation);
        self.called(&operation, of_lock, told, !is_well);
        if let Some(carried_out) = dies {
            if carried_out {
                drop(self.deliver(request, &operation).await);
            }
            self.die();
            return None;
        }
        self.travel().await;
        if self.is_cut_on_its_way(&operation, of_lock) {
            return None;
        }
        match fate {
            Fate::RequestLost { silently: true } => return None,
            Fate::RequestLost { silently: false } => return Some(Err(broken())),
            Fate::Refused => return Some(Ok(throttled())),
            Fate::RequestLate(late) => tokio::time::sleep(late).await,
            Fate::Twice(late) => {
                if let Some(again) = request.try_clone() {
                    drop(self.deliver(again, &operation).await);
                    tokio::time::sleep(late).await;
                }
            }
            Fate::Well | Fate::AnswerLost { .. } | Fate::AnswerLate(_) => {}
        }
        let answer = self.deliver(request, &operation).await;
        self.travel().await;
        if self.is_cut_on_its_way(&operation, of_lock) {
            return None;
        }
        match fate {
            Fate::AnswerLost { silently: true } => return None,
            Fate::AnswerLost { silently: false } => return Some(Err(broken())),
            Fate::AnswerLate(late) => tokio::time::sleep(late).await,
            Fate::Well
            | Fate::RequestLost { .. }
            | Fate::Refused
            | Fate::RequestLate(_)
            | Fate::Twice(_) => {}
        }
        Some(answer)
    }

    /// The service carries the request out, and the log is told what that made of the lease table.
    async fn deliver(&self, request: HttpRequest, operation: &str) -> Answer {
        let late = self
            .late
            .get()
            .and_then(|late| late.next(operation, &request));
        let request = observe::asking_for_the_row(operation, request);
        let written = observe::Written::of(operation, &request);
        let answer = self.client.call(request).await?;
        if let Some(late) = late {
            self.called(operation, false, "answered late".to_owned(), false);
            return Ok(late.than(answer).await);
        }
        match written {
            Some(written) => Ok(written.observe(answer, &self.worker, &self.log).await),
            None => Ok(answer),
        }
    }

    fn die(&self) {
        if self.dead.swap(true, Ordering::Relaxed) {
            return;
        }
        self.log.push(Event::Down {
            worker: Arc::clone(&self.worker),
            crashed: true,
        });
        if let Some(process) = self.process.get() {
            process.abort();
        }
    }
}

fn broken() -> ConnectorError {
    ConnectorError::io("the connection broke".into())
}

/// How both services refuse who calls too often.
fn throttled() -> HttpResponse {
    let body = r#"{"__type":"ProvisionedThroughputExceededException","message":"slow down"}"#;
    let status = 400.try_into().expect("a status");
    let mut answer = HttpResponse::new(status, SdkBody::from(body));
    answer
        .headers_mut()
        .insert("content-type", "application/x-amz-json-1.1");
    answer
}

impl HttpConnector for Network {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (reply, answer) = oneshot::channel();
        let operation = observe::operation(&request);
        let wire = Arc::clone(&self.wire);
        tokio::spawn(async move {
            match wire.carry(request).await {
                // Whoever asked may have gone.
                Some(answer) => drop(reply.send(answer)),
                // Silence, for as long as it is listened to.
                None => {
                    let mut reply = reply;
                    reply.closed().await;
                }
            }
        });
        let wire = Arc::clone(&self.wire);
        HttpConnectorFuture::new(async move {
            let answer = answer.await.unwrap_or_else(|_| Err(broken()))?;
            Ok(answer.map(|body| {
                let wire = Arc::clone(&wire);
                let operation = operation.clone();
                SdkBody::from_body_1_x(Stream {
                    body,
                    operation,
                    wire,
                })
            }))
        })
    }
}

impl HttpClient for Network {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// A body that breaks where the network is cut.
struct Stream {
    body: SdkBody,
    operation: String,
    wire: Arc<Wire>,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = aws_smithy_types::body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.wire.is_cut(&self.operation) {
            return Poll::Ready(Some(Err("the connection broke".into())));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}
