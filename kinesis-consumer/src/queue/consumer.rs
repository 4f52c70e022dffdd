//! The consumer of one queue: receives while there is room, hands records to the handler, tells the
//! queue what [`Book`] says.

mod builder;
mod receives;
mod telling;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use kinesis_core::{Backoff, Clock, Rand, limits};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, warn};

use super::QueueRecord;
use super::book::{Book, Tell};
use super::client::{Entry, QueueClient};
use super::settings::QueueSettings;
use super::trouble::Trouble;
use crate::error::{Error, ErrorKind};
use crate::metrics;
use crate::processor::ProcessorError;

pub use builder::QueueConsumerBuilder;
use receives::{Received, Receives};
use telling::TELLS_AT_ONCE;

/// How long a record that failed is hidden, by how often it was received; whole seconds.
/// Source: none, reasonable default.
const RETRY: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));

/// Receives up to which a poison record is visible again at once, so that it soon is a dead letter;
/// beyond, the queue makes none of it. Source: API model, `MaxReceiveCount`, six by default.
const POISON_RECEIVES: u32 = 10;

/// Wait after a call that failed. Source: none, reasonable default.
const CALL_AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

/// How long receives that are denied are made again: as a credential is renewed, or a policy takes effect.
/// Source: none, reasonable default.
const DENIED_PATIENCE: Duration = Duration::from_secs(60);

/// How long telling what is left may take once a stop is over its time. Source: none, reasonable
/// default.
const STOP_GRACE: Duration = Duration::from_secs(5);

type Outcome = Result<Result<(), ProcessorError>, Box<dyn std::any::Any + Send>>;
type Handler =
    Arc<dyn Fn(QueueRecord) -> BoxFuture<'static, Result<(), ProcessorError>> + Send + Sync>;
type Told = (Tell, Result<Vec<Entry>, Error>);

/// Consumes one queue. Any number may share it, in one process or many.
pub struct QueueConsumer {
    queue_arn: Arc<str>,
    client: QueueClient,
    handler: Handler,
    settings: QueueSettings,
    clock: Clock,
    rand: Rand,
}

impl QueueConsumer {
    /// Begins to build the consumer of the queue with this ARN. `handler` is called with each record,
    /// for several at once; its futures run in tasks of their own.
    ///
    /// What it returns means: `Ok`: the record is acknowledged. `Retry`, or a panic: it comes again
    /// after a pause that grows with its receives. `Poison`: it comes again at once, until the queue
    /// makes a dead letter of it. `Fatal`: [`run`](QueueConsumer::run) ends, and the record comes again.
    pub fn builder<F, Fut>(
        queue_arn: impl Into<String>,
        kinesis: aws_sdk_kinesis::Client,
        handler: F,
    ) -> QueueConsumerBuilder
    where
        F: Fn(QueueRecord) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ProcessorError>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |record| Box::pin(handler(record)));
        QueueConsumerBuilder::new(queue_arn.into(), QueueClient::new(kinesis), handler)
    }

    /// Works until `shutdown` is cancelled and every record is acknowledged or given back.
    ///
    /// # Errors
    /// [`ErrorKind::Processor`] when the handler gave up; [`ErrorKind::NotFound`] or
    /// [`ErrorKind::InvalidInput`] when the queue cannot be received from; [`ErrorKind::Denied`] when
    /// receiving was denied for a minute, or acknowledging, or hiding, for a quarter of an hour. What can
    /// mend itself is tried again; while the queue cannot be told of records, for whatever reason, it is
    /// asked for no more of them. A receipt handle that it refuses again and again, and does the rest of
    /// the request, is given up with an ERROR: its record comes again.
    ///
    /// # Cancel safety
    /// Dropping the future drops the handlers; what was not acknowledged comes again after its
    /// visibility timeout.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let span = tracing::info_span!("queue", arn = &*self.queue_arn);
        let now = self.clock.now();
        let settings = &self.settings;
        let work = Work {
            book: Book::new(settings.visibility_timeout, settings.acknowledge_after),
            running: JoinSet::new(),
            telling: FuturesUnordered::new(),
            receives: Receives::new(),
            receive_at: now,
            failed_at: None,
            failures: 0,
            denied_since: None,
            trouble: Trouble::default(),
            stop_by: None,
            over: false,
            failure: None,
            consumer: self,
        };
        work.run(shutdown).instrument(span).await
    }
}

/// A consumer at work.
struct Work {
    consumer: QueueConsumer,
    book: Book,
    running: JoinSet<(u64, u32, Outcome)>,
    telling: FuturesUnordered<BoxFuture<'static, Told>>,
    receives: Receives,
    /// Not before this.
    receive_at: Instant,
    /// When the last receive failed.
    failed_at: Option<Instant>,
    /// Receives that failed, in a row.
    failures: u32,
    /// Since when receives are denied, in a row.
    denied_since: Option<Instant>,
    /// What fails of what is told.
    trouble: Trouble,
    stop_by: Option<Instant>,
    /// The time to stop is over.
    over: bool,
    failure: Option<Error>,
}

impl Work {
    async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        loop {
            let now = self.consumer.clock.now();
            if shutdown.is_cancelled() {
                self.stop();
            }
            self.tell(now);
            self.ask(now);
            if self.is_finished() {
                break;
            }
            let wake = self.wake(now);
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if self.stop_by.is_none() => {}
                Some(ended) = self.running.join_next(), if !self.running.is_empty() => {
                    if let Ok((id, receives, outcome)) = ended {
                        self.handled(id, receives, outcome);
                    }
                }
                Some(told) = self.telling.next(), if !self.telling.is_empty() => self.told(told),
                Some(received) = self.receives.answer() => self.received(received),
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => self.on_time(),
            }
        }
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn is_finished(&self) -> bool {
        let idle = self.running.is_empty() && self.receives.is_empty();
        let told = self.book.is_empty() && self.telling.is_empty();
        let late = self.over
            && self
                .stop_by
                .is_some_and(|by| self.consumer.clock.now() >= by);
        self.stop_by.is_some() && (late || (idle && told))
    }

    fn stop(&mut self) {
        if self.stop_by.is_none() {
            info!(
                records = self.book.held(),
                "The consumer of the queue stops."
            );
            let now = self.consumer.clock.now();
            self.stop_by = Some(now + self.consumer.settings.shutdown_timeout);
        }
    }

    /// How many records may be received beyond those that were asked for. A queue that cannot be told of the last ones is asked for no more:
    /// they would come again, be handled again, and in the end be dead letters.
    fn room(&self) -> usize {
        if self.book.is_failing() {
            return 0;
        }
        let settings = &self.consumer.settings;
        let asked = self.receives.asked();
        let taken = self.running.len() + self.book.backlog() + asked;
        let free = settings
            .max_buffered_bytes
            .saturating_sub(self.book.held_bytes());
        // Each that comes may be as large as the service lets it be.
        let fitting = (free / limits::RECORD_MAX_BYTES_LARGEST).saturating_sub(asked);
        settings.concurrency.saturating_sub(taken).min(fitting)
    }

    /// How many records to ask for now, or once [`Self::receive_at`] is past.
    fn next_receive(&self) -> Option<usize> {
        match self.stop_by {
            None => self.receives.next(self.room()),
            Some(_) => None,
        }
    }

    /// Starts to receive where there is room.
    fn ask(&mut self, now: Instant) {
        while now >= self.receive_at
            && let Some(limit) = self.next_receive()
        {
            let (client, arn) = (
                self.consumer.client.clone(),
                Arc::clone(&self.consumer.queue_arn),
            );
            let settings = &self.consumer.settings;
            let lane = settings.lane;
            let (wait, hidden) = (
                settings.wait_time.as_secs(),
                settings.visibility_timeout.as_secs(),
            );
            // The service hides the records at some time since now, no earlier.
            self.receives.begin(now, limit, async move {
                client.receive(&arn, lane, limit, wait, hidden).await
            });
        }
    }

    fn wake(&self, now: Instant) -> Option<Instant> {
        let receive = self.next_receive().is_some();
        let tell = (self.telling.len() < TELLS_AT_ONCE).then(|| self.book.next(now));
        let times = [
            tell.flatten(),
            receive.then_some(self.receive_at),
            self.stop_by,
        ];
        times.into_iter().flatten().min()
    }

    /// The time to stop is over: what is left is given back.
    fn on_time(&mut self) {
        let now = self.consumer.clock.now();
        if self.over || self.stop_by.is_none_or(|by| now < by) {
            return;
        }
        self.over = true;
        warn!(
            records = self.running.len(),
            "Handlers took too long to stop; their records are given back."
        );
        self.running.abort_all();
        self.running.detach_all();
        self.receives.drop_all();
        self.book.give_back_all(now);
        self.stop_by = Some(now + STOP_GRACE);
    }

    fn received(&mut self, received: Received) {
        let now = self.consumer.clock.now();
        let asked = received.asked;
        let records = match received.answer {
            Ok(records) => records,
            Err(error) if self.may_be_received(error.kind()) => {
                // Those under way when one fails are of the same trouble.
                if self.failed_at.is_some_and(|at| asked < at) {
                    debug!(%error, "A receive that was under way failed, too.");
                    return;
                }
                self.failed_at = Some(now);
                let pause = CALL_AGAIN.delay(self.failures, &self.consumer.rand);
                self.failures = self.failures.saturating_add(1);
                self.receive_at = now + pause;
                warn!(%error, "Receiving failed and is tried again.");
                return;
            }
            Err(error) => {
                error!(%error, "The queue cannot be received from: its consumer stops.");
                self.failure.get_or_insert(error);
                return self.stop();
            }
        };
        self.failures = 0;
        self.denied_since = None;
        let queue = Arc::clone(&self.consumer.queue_arn);
        ::metrics::counter!(metrics::QUEUE_RECORDS_RECEIVED, "queue" => Arc::clone(&queue))
            .increment(records.len() as u64);
        let took = ::metrics::histogram!(metrics::QUEUE_HANDLER_SECONDS, "queue" => queue);
        for record in records {
            let (handle, bytes) = (record.receipt_handle.clone(), record.data.len());
            let id = self.book.received(handle, bytes, asked);
            if self.stop_by.is_some() {
                self.book.give_back(id, Duration::ZERO, now);
                continue;
            }
            let receives = record.receive_count;
            let handler = Arc::clone(&self.consumer.handler);
            // Called in there too: it may panic before it returns a future.
            let handled = AssertUnwindSafe(async move { handler(record).await }).catch_unwind();
            let (took, clock) = (took.clone(), self.consumer.clock.clone());
            let handled = async move {
                let began = clock.now();
                let outcome = handled.await;
                took.record(clock.now().duration_since(began).as_secs_f64());
                (id, receives, outcome)
            };
            self.running.spawn(handled.in_current_span());
        }
    }

    /// Whether a receive that failed so is made again.
    fn may_be_received(&mut self, kind: ErrorKind) -> bool {
        if kind != ErrorKind::Denied {
            self.denied_since = None;
            return kind.is_retryable() || kind == ErrorKind::Corrupt;
        }
        let now = self.consumer.clock.now();
        now - *self.denied_since.get_or_insert(now) < DENIED_PATIENCE
    }

    fn handled(&mut self, id: u64, receives: u32, outcome: Outcome) {
        let now = self.consumer.clock.now();
        let retry = RETRY
            .delay(receives, &self.consumer.rand)
            .max(Duration::from_secs(1));
        let (pause, cause) = match outcome {
            Ok(Ok(())) => return self.book.done(id, now),
            Ok(Err(ProcessorError::Poison(cause) | ProcessorError::PoisonAt { cause, .. })) => {
                warn!(receives, error = %cause, "A record of the queue cannot be processed.");
                let hurry = receives < POISON_RECEIVES;
                (if hurry { Duration::ZERO } else { retry }, "poison")
            }
            Ok(Err(ProcessorError::Retry(cause))) => {
                warn!(receives, error = %cause, "The handler of a queue's record failed.");
                (retry, "retry")
            }
            Ok(Err(ProcessorError::Fatal(cause))) => {
                error!(error = %cause, "The handler gave up: the consumer of the queue stops.");
                let text = format!("the handler of queue {} gave up", self.consumer.queue_arn);
                let failure = Error::new(ErrorKind::Processor, text).with_source(cause);
                self.failure.get_or_insert(failure);
                self.stop();
                (Duration::ZERO, "fatal")
            }
            Err(_) => {
                error!(receives, "The handler of a queue's record panicked.");
                (retry, "panic")
            }
        };
        let queue = Arc::clone(&self.consumer.queue_arn);
        ::metrics::counter!(metrics::QUEUE_RECORDS_RETURNED, "queue" => queue, "cause" => cause)
            .increment(1);
        self.book.give_back(id, pause, now);
    }
}
