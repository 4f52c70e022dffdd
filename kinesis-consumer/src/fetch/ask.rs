//! Reading one shard by polling: what [`Poll`](super::poll::Poll) asks for, done.
//!
//! Promise: an answer is read only when there is room for its length, and opened only when there is room
//! for what is in it; one that finds none for [`UNREAD_PATIENCE`] is dropped, and fewer records are asked
//! for next, from the same position.

use tokio::time::{Instant, timeout};
use tracing::{debug, error, warn};

use super::{FAILURES_BEFORE_WARNING, Step, THROTTLES_BEFORE_WARNING, Task, cause};
use crate::error::ErrorKind;
use crate::fetch::buffer::Filler;
use crate::fetch::call::{Failure, Unread};
use crate::fetch::fan_out::UNREAD_PATIENCE;
use crate::fetch::poll::{self, Answer, Ask, StartAt, Trouble, Verdict};
use crate::fetch::unpack::opened_bytes;
use crate::metrics;

impl Task {
    /// Settles which instant "the newest record" is: that of the row, but none that was ahead of the
    /// service's time when reading began, which would skip what comes until then. A row that names none
    /// means when reading began.
    pub(super) async fn settle_start(&mut self, begun: Instant) -> Step {
        match self.reader.service_millis().await {
            Ok(told) => {
                self.from_newest = None;
                let since = self.context.clock.now().duration_since(begun).as_millis();
                let since = u64::try_from(since).unwrap_or(u64::MAX);
                if let Some(began_at) = told.map(|told| told.saturating_sub(since)) {
                    self.begin_at(began_at);
                }
                Step::Continue
            }
            Err(failure) if failure.error.kind().is_retryable() => {
                let step = self.trouble(failure);
                if let Ask::Wait(until) = self.poll.next(self.context.clock.now()) {
                    tokio::time::sleep_until(until).await;
                }
                step
            }
            // Whether it matters will be seen where records are asked for.
            Err(_) => {
                self.from_newest = None;
                Step::Continue
            }
        }
    }

    /// Reading began at this instant of the service's clock, or up to a second later.
    fn begin_at(&mut self, began_at: u64) {
        let StartAt::Timestamp { epoch_millis } = self.poll.position() else {
            return;
        };
        if self.names_instant && !poll::was_ahead(epoch_millis, began_at) {
            return;
        }
        if self.names_instant {
            warn!(
                ahead_ms = epoch_millis - began_at,
                "The instant from which this shard is to be read is ahead of the service's time: the clock of the worker that wrote it was. Reading begins now."
            );
        }
        let start = StartAt::Timestamp {
            epoch_millis: began_at,
        };
        if let Some(listening) = &mut self.listening {
            listening.begin(start.clone());
        }
        self.poll.begin(start);
    }

    /// One step of reading by polling.
    pub(super) async fn ask(&mut self, filler: &Filler) -> Step {
        match self.poll.next(self.context.clock.now()) {
            Ask::Wait(until) => {
                tokio::time::sleep_until(until).await;
                Step::Continue
            }
            Ask::Iterator(start_at) => self.new_iterator(start_at).await,
            Ask::Records(iterator) => self.records(iterator, filler).await,
        }
    }

    async fn new_iterator(&mut self, start_at: StartAt) -> Step {
        match self.reader.iterator(&start_at).await {
            Ok(iterator) => {
                self.poll.on_iterator(iterator);
                Step::Continue
            }
            Err(failure) => self.trouble(failure),
        }
    }

    async fn records(&mut self, iterator: String, filler: &Filler) -> Step {
        let most = self.context.settings.max_records;
        let Some(mut slot) = filler.slot(self.poll.wanted(most)).await else {
            return Step::Abandoned;
        };
        let begun = self.context.clock.now();
        let limit = self.poll.limit(most, slot.bytes());
        let page = match self.reader.records(&iterator, limit, &mut slot).await {
            Ok(page) => page,
            Err(Unread::Failed(failure)) => return self.trouble(failure),
            Err(Unread::NoRoom { bytes }) => {
                debug!(
                    bytes,
                    limit, "There is no room for an answer that is larger than expected."
                );
                self.count_without_room("polling");
                let now = self.context.clock.now();
                self.poll.on_unread(limit, bytes, now);
                return Step::Continue;
            }
        };
        let now = self.context.clock.now();
        let took = now.duration_since(begun);
        ::metrics::histogram!(metrics::GET_RECORDS_SECONDS, "stream" => self.stream())
            .record(took.as_secs_f64());
        self.measure_lag(page.millis_behind_latest);
        let opened = opened_bytes(&page.records);
        let answer = Answer {
            next_iterator: page.next_iterator,
            last: page
                .records
                .last()
                .map(|record| record.sequence_number.clone()),
            records: page.records.len() as u64,
            bytes: page.bytes,
            opened_bytes: opened as u64,
            millis_behind_latest: page.millis_behind_latest,
        };
        if opened > slot.bytes() {
            // Nothing is opened for which there is no room.
            let single = answer.records == 1;
            let grown = timeout(UNREAD_PATIENCE, slot.grow(opened, single)).await;
            if grown != Ok(true) {
                debug!(
                    opened,
                    limit, "There is no room for what an answer opens to."
                );
                self.count_without_room("polling");
                let now = self.context.clock.now();
                self.poll.on_unopened(&answer, now);
                return Step::Continue;
            }
        }
        let ended = self.poll.on_answer(answer, now);
        self.deliver(slot, page.records, page.millis_behind_latest)
            .await;
        if !ended {
            return Step::Continue;
        }
        self.end(page.children).await
    }

    /// Notes a failure.
    pub(super) fn trouble(&mut self, failure: Failure) -> Step {
        let Failure { error, trouble } = failure;
        let kind = error.kind();
        ::metrics::counter!(metrics::FETCH_FAILURES, "stream" => self.stream(), "kind" => kind.as_str()).increment(1);
        if trouble == Trouble::Iterator && kind != ErrorKind::InvalidInput {
            ::metrics::counter!(metrics::EXPIRED_ITERATORS, "stream" => self.stream()).increment(1);
        }
        // A sequence number that the service refuses is another stream's.
        if trouble == Trouble::NotFound
            || trouble == Trouble::Other && kind == ErrorKind::InvalidInput
        {
            self.context.source.doubt();
            self.context.placement.forget();
        }
        let verdict = self.poll.on_trouble(trouble, self.context.clock.now());
        let Verdict::Again { pause, attempts } = verdict else {
            return Step::Unknown(error);
        };
        let pause_ms = pause.as_millis();
        let source = cause(&error);
        match kind {
            ErrorKind::Throttled if attempts < THROTTLES_BEFORE_WARNING => {
                debug!(attempts, pause_ms, %error, "Reading is throttled and goes on after a pause.");
            }
            // As the SDK's own retries would: a connection that was closed while idle is nobody's fault.
            ErrorKind::Unavailable if attempts < FAILURES_BEFORE_WARNING => {
                debug!(attempts, pause_ms, %error, source, "Reading failed and goes on after a pause.");
            }
            ErrorKind::Denied | ErrorKind::InvalidInput if trouble != Trouble::Iterator => {
                error!(attempts, pause_ms, %error, source, "Reading is refused; it is tried again, but someone has to mend it.");
            }
            _ => {
                warn!(attempts, pause_ms, %error, source, "Reading failed and goes on after a pause.")
            }
        }
        Step::Continue
    }
}
