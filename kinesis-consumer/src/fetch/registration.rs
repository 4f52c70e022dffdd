//! The registered consumer that all shards of a worker subscribe with.
//!
//! Promise: one task of the worker at a time looks for it or registers it, for [`rules::PATIENCE`] at most,
//! and all who wait meanwhile get what comes of that, a failure too; whoever asks within
//! [`FAILURE_KEPT`] or [`REFUSAL_KEPT`] of one gets it as well. So a thousand shards neither ask nor wait
//! one behind the other. A consumer that is given by its ARN is one of this stream, or is refused: through
//! another stream's, records would come that are not this stream's. What is found is kept until a
//! subscription finds it gone ([`Registration::forget`]).
//!
//! Deliberately absent: deregistering. Other workers of the application use the consumer, and a
//! consumer that is registered anew for each start takes long to become active.

mod rules;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::types::ConsumerStatus;
use kinesis_core::{Clock, Rand};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::error::{Error, ErrorKind};
use crate::fetch::call::Failure;
use crate::fetch::fan_out::{Reason, Trouble};
use crate::settings::FanOutSettings;
use crate::stream::{Address, Source, foreign_consumer, stream_of_consumer};
use rules::{Next, Rules, Told};

/// How long a refusal is passed on to other shards without asking again. Source: none, reasonable
/// default.
const REFUSAL_KEPT: Duration = Duration::from_secs(60);

/// The same of what may have changed a moment later. Source: the least pause before a shard asks again.
const FAILURE_KEPT: Duration = Duration::from_secs(1);

/// The consumer of one stream, shared by the shards of a worker.
pub(crate) struct Registration {
    kinesis: aws_sdk_kinesis::Client,
    /// What errors call the stream.
    stream: Arc<str>,
    address: Address,
    name: String,
    /// Registered by somebody else; never registered here.
    given_arn: Option<String>,
    timeout: Duration,
    clock: Clock,
    rand: Rand,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Unknown,
    Ready(Arc<str>),
    Failed(Failed),
}

/// What an attempt failed with.
#[derive(Debug)]
struct Failed {
    at: Instant,
    trouble: Trouble,
    kind: ErrorKind,
    text: String,
}

/// An answer's meaning, with the failure behind it.
type Answer = (Told, Option<Error>);

impl Registration {
    pub(crate) fn new(
        kinesis: aws_sdk_kinesis::Client,
        source: &Source,
        application: &str,
        settings: &FanOutSettings,
        timeout: Duration,
        clock: Clock,
        rand: Rand,
    ) -> Self {
        let name = settings.consumer_name.as_deref().unwrap_or(application);
        Self {
            kinesis,
            stream: source.label(),
            address: source.address.clone(),
            name: name.to_owned(),
            given_arn: source
                .consumer_arn
                .clone()
                .or_else(|| settings.consumer_arn.clone()),
            timeout,
            clock,
            rand,
            state: Mutex::new(State::Unknown),
        }
    }

    /// The ARN to subscribe with, registered and waited for if need be.
    pub(crate) async fn arn(&self) -> Result<Arc<str>, Failure<Trouble>> {
        let asked = self.clock.now();
        let mut state = self.state.lock().await;
        match &*state {
            State::Ready(arn) => return Ok(Arc::clone(arn)),
            State::Failed(failed) if failed.is_for(asked, self.clock.now()) => {
                return Err(failed.again());
            }
            State::Failed(_) | State::Unknown => {}
        }
        // Whatever a call may take: all shards of the worker wait for this.
        let result = match timeout(rules::PATIENCE, self.obtain()).await {
            Ok(result) => result,
            Err(_elapsed) => Err(self.late(None)),
        };
        *state = match &result {
            Ok(arn) => State::Ready(Arc::clone(arn)),
            Err(failure) => State::Failed(Failed::new(failure, self.clock.now())),
        };
        result
    }

    /// A subscription found that `arn` may be gone: the next one looks for the consumer again.
    pub(crate) async fn forget(&self, arn: &str) {
        let mut state = self.state.lock().await;
        if matches!(&*state, State::Ready(ready) if **ready == *arn) {
            *state = State::Unknown;
        }
    }

    async fn obtain(&self) -> Result<Arc<str>, Failure<Trouble>> {
        let rand = self.rand.fork();
        let mut rules = Rules::new(self.given_arn.is_none(), rand, self.clock.now());
        let stream_arn = loop {
            match self.stream_arn().await {
                Err(failure) if failure.trouble == Trouble::Other => {
                    let Next::DescribeIn(pause) = rules.on(Told::Failed, self.clock.now()) else {
                        return Err(self.late(Some(failure.error)));
                    };
                    tokio::time::sleep(pause).await;
                }
                answer => break answer,
            }
        };
        let stream_arn = match (stream_arn, &self.given_arn) {
            // Only subscribing has to be allowed for a consumer that is given. Its stream's name is
            // the right one; that was looked at when it was given.
            (Err(failure), Some(given)) if failure.trouble == Trouble::Refused(Reason::Denied) => {
                warn!(
                    error = %failure.error,
                    "May not look whether the fan-out consumer is of this account's stream; it is taken as given."
                );
                stream_of_consumer(given).unwrap_or_default().to_owned()
            }
            (stream_arn, _) => stream_arn?,
        };
        if let Some(given) = &self.given_arn
            && stream_of_consumer(given) != Some(&stream_arn)
        {
            let cause = foreign_consumer(&stream_arn, "consumer_arn", given);
            return Err(self.refused(Reason::OtherStream, Some(cause)));
        }
        let mut arn = None;
        let (mut told, mut failure) = self.describe(&stream_arn, &mut arn).await;
        loop {
            match rules.on(told, self.clock.now()) {
                Next::Ready => {
                    let arn: Arc<str> = arn.unwrap_or_default().into();
                    info!(consumer_arn = &*arn, "Shards are read by enhanced fan-out.");
                    return Ok(arn);
                }
                Next::Register => (told, failure) = self.register(&stream_arn).await,
                Next::DescribeIn(pause) => {
                    let pause_ms = pause.as_millis();
                    debug!(?told, pause_ms, consumer = self.name, error = ?failure, "The fan-out consumer is not ready yet.");
                    tokio::time::sleep(pause).await;
                    (told, failure) = self.describe(&stream_arn, &mut arn).await;
                }
                Next::Refused(reason) => return Err(self.refused(reason, failure)),
                Next::Late => return Err(self.late(failure)),
            }
        }
    }

    async fn stream_arn(&self) -> Result<String, Failure<Trouble>> {
        if let Some(arn) = self.address.arn() {
            return Ok(arn);
        }
        let request = self.kinesis.describe_stream_summary();
        let call = request.set_stream_name(self.address.name()).send();
        let answer = self
            .within("looking up the stream for fan-out consumer", call)
            .await;
        let summary = answer
            .map_err(|failure| Failure {
                trouble: match failure.trouble {
                    Told::Absent => Trouble::NotFound,
                    Told::Denied => Trouble::Refused(Reason::Denied),
                    _ => Trouble::Other,
                },
                error: failure.error,
            })?
            .stream_description_summary;
        summary
            .map(|summary| summary.stream_arn)
            .ok_or_else(|| Failure {
                error: Error::new(
                    ErrorKind::Unavailable,
                    format!("the summary of stream {} is empty", self.stream),
                ),
                trouble: Trouble::Other,
            })
    }

    async fn describe(&self, stream_arn: &str, arn: &mut Option<String>) -> Answer {
        let request = self.kinesis.describe_stream_consumer();
        let request = match &self.given_arn {
            Some(given) => request.consumer_arn(given),
            None => request.stream_arn(stream_arn).consumer_name(&self.name),
        };
        let call = self.within("describing the fan-out consumer", request.send());
        let description = match call.await {
            Ok(answer) => answer.consumer_description,
            // Here the code tells of too many calls, not of too many consumers.
            Err(failure) if failure.trouble == Told::LimitExceeded => {
                return (Told::Failed, Some(failure.error));
            }
            Err(failure) => return (failure.trouble, Some(failure.error)),
        };
        let Some(description) = description else {
            return (Told::Failed, None);
        };
        if description.consumer_status != ConsumerStatus::Active {
            return (Told::NotReady, None);
        }
        *arn = Some(description.consumer_arn);
        (Told::Active, None)
    }

    async fn register(&self, stream_arn: &str) -> Answer {
        let request = self.kinesis.register_stream_consumer();
        let request = request.stream_arn(stream_arn).consumer_name(&self.name);
        match self
            .within("registering the fan-out consumer", request.send())
            .await
        {
            Ok(_) => {
                info!(
                    consumer = self.name,
                    "A fan-out consumer was registered; it stays, and costs, until it is deregistered."
                );
                (Told::Registered, None)
            }
            // The stream is gone; describing it again says so.
            Err(failure) if failure.trouble == Told::Absent => (Told::Failed, Some(failure.error)),
            Err(failure) => (failure.trouble, Some(failure.error)),
        }
    }

    /// Awaits a call, at most as long as the settings allow.
    async fn within<T, E, R>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, SdkError<E, R>>>,
    ) -> Result<T, Failure<Told>>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let of = format!("{what} {} of stream {}", self.name, self.stream);
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let code = error.code().map(str::to_owned);
                let error = Error::aws(of, error);
                Err(Failure {
                    trouble: told(code.as_deref(), error.kind()),
                    error,
                })
            }
            Err(elapsed) => Err(Failure {
                trouble: Told::Failed,
                error: Error::new(
                    ErrorKind::Unavailable,
                    format!("{of} took longer than {:?}", self.timeout),
                )
                .with_source(elapsed),
            }),
        }
    }

    fn refused(&self, reason: Reason, cause: Option<Error>) -> Failure<Trouble> {
        let (stream, name) = (&self.stream, &self.name);
        let (kind, text) = match reason {
            Reason::Denied => (
                ErrorKind::Denied,
                format!(
                    "enhanced fan-out of stream {stream} is not allowed: allow \
                     kinesis:DescribeStreamSummary, DescribeStreamConsumer, RegisterStreamConsumer and SubscribeToShard"
                ),
            ),
            Reason::NoConsumer => (
                ErrorKind::InvalidInput,
                format!(
                    "stream {stream} has no fan-out consumer with the ARN that consumer_arn names: \
                     register it, or leave consumer_arn out and the worker registers one"
                ),
            ),
            Reason::OtherStream => (
                ErrorKind::InvalidInput,
                format!(
                    "consumer_arn names a fan-out consumer of another stream, whose records would be taken \
                     for those of stream {stream}: give the ARN of a consumer of this stream, or leave \
                     consumer_arn out and the worker registers one"
                ),
            ),
            _ => (
                ErrorKind::Throttled,
                format!(
                    "fan-out consumer {name} cannot be registered: stream {stream} has as many \
                     consumers as it may; deregister one, or read by polling"
                ),
            ),
        };
        let mut error = Error::new(kind, text);
        if let Some(cause) = cause {
            error = error.with_source(cause);
        }
        Failure {
            error,
            trouble: Trouble::Refused(reason),
        }
    }

    fn late(&self, cause: Option<Error>) -> Failure<Trouble> {
        let mut error = Error::new(
            ErrorKind::Unavailable,
            format!(
                "fan-out consumer {} of stream {} was not active within {:?}",
                self.name,
                self.stream,
                rules::PATIENCE
            ),
        );
        if let Some(cause) = cause {
            error = error.with_source(cause);
        }
        Failure {
            error,
            trouble: Trouble::Refused(Reason::Late),
        }
    }
}

impl Failed {
    fn new(failure: &Failure<Trouble>, at: Instant) -> Self {
        Self {
            at,
            trouble: failure.trouble,
            kind: failure.error.kind(),
            text: failure.error.to_string(),
        }
    }

    /// Whether it is what somebody gets who asked at `asked` and has waited until `now`.
    fn is_for(&self, asked: Instant, now: Instant) -> bool {
        let kept = match self.trouble {
            Trouble::Refused(Reason::Late) => FAILURE_KEPT,
            Trouble::Refused(_) => REFUSAL_KEPT,
            _ => FAILURE_KEPT,
        };
        asked <= self.at || now < self.at + kept
    }

    /// The same for one more shard, without its cause, which was told once.
    fn again(&self) -> Failure<Trouble> {
        Failure {
            error: Error::new(self.kind, self.text.clone()),
            trouble: self.trouble,
        }
    }
}

/// Source: error lists of DescribeStreamSummary, DescribeStreamConsumer and RegisterStreamConsumer,
/// Kinesis API 2013-12-02.
fn told(code: Option<&str>, kind: ErrorKind) -> Told {
    match code {
        Some("ResourceNotFoundException") => Told::Absent,
        Some("ResourceInUseException") => Told::InUse,
        Some("LimitExceededException") => Told::LimitExceeded,
        _ if kind == ErrorKind::Denied => Told::Denied,
        _ => Told::Failed,
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("stream", &self.stream)
            .field("name", &self.name)
            .field("given_arn", &self.given_arn)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
