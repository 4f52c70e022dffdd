//! Reading one shard by enhanced fan-out: what [`FanOut`] asks for, done.
//!
//! Promise: the shard is read by one way at a time. Going over to polling and back hands the
//! position over, so that no record is missed or read twice by it.

use std::sync::Arc;

use tokio::time::{Instant, timeout};
use tracing::{debug, error, info, warn};

use super::{Step, THROTTLES_BEFORE_WARNING, Task, cause};
use crate::error::{Error, ErrorKind};
use crate::fetch::budget::Reservation;
use crate::fetch::buffer::Filler;
use crate::fetch::call::Failure;
use crate::fetch::fan_out::{Ask, FanOut, Heard, Reason, Trouble, UNREAD_PATIENCE, Verdict};
use crate::fetch::poll::{Poll, StartAt};
use crate::fetch::registration::Registration;
use crate::fetch::subscribe::{Event, Subscription, Taken};
use crate::fetch::unpack::opened_bytes;
use crate::metrics;

/// The fan-out of one shard.
pub(super) struct Listening {
    rules: FanOut,
    registration: Arc<Registration>,
    subscription: Option<Subscription>,
    /// The ARN of the running or last subscription.
    arn: Option<Arc<str>>,
    /// Set while the shard is polled instead; then fan-out is tried again.
    polled_until: Option<Instant>,
    /// Bytes for which there was no room in the budget when the subscription was let go.
    wanted: usize,
    opens: Opens,
}

/// What the last event opened to, in percent of its length: of small records, or aggregates, it is more. So
/// much is reserved for the next, which then need not be exchanged for a larger room once it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opens(usize);

impl Opens {
    /// Source: none, reasonable bounds: aggregates of the smallest members open to some forty times.
    const PERCENT: std::ops::RangeInclusive<usize> = 100..=5_000;

    /// An event of which nothing is known but its length.
    pub(crate) fn of(self, length: usize) -> usize {
        length.saturating_mul(self.0) / 100
    }

    /// An event of that length opened to so many bytes.
    fn on_opened(&mut self, length: usize, opened: usize) {
        let percent = opened.saturating_mul(100).div_ceil(length.max(1));
        self.0 = percent.clamp(*Self::PERCENT.start(), *Self::PERCENT.end());
    }
}

impl Listening {
    pub(super) fn new(rules: FanOut, registration: Arc<Registration>) -> Self {
        Self {
            rules,
            registration,
            subscription: None,
            arn: None,
            polled_until: None,
            wanted: 0,
            opens: Opens(*Opens::PERCENT.start()),
        }
    }

    pub(super) fn begin(&mut self, start: StartAt) {
        self.rules.begin(start);
    }

    pub(super) fn on_found(&mut self) {
        self.rules.on_found();
    }
}

impl Task {
    /// The fan-out of this shard, if that is how it is read now.
    pub(super) fn listens(&mut self) -> bool {
        let now = self.context.clock.now();
        let Some(listening) = &mut self.listening else {
            return false;
        };
        match listening.polled_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                info!("Enhanced fan-out is tried again.");
                listening.polled_until = None;
                listening.rules = self.context.fan_out_rules(self.poll.position(), now);
                true
            }
        }
    }

    /// One step of reading by fan-out.
    pub(super) async fn listen(&mut self, filler: &Filler) -> Step {
        let now = self.context.clock.now();
        let Some(listening) = &self.listening else {
            return Step::Continue;
        };
        match listening.rules.next(now) {
            Ask::Wait(until) => {
                tokio::time::sleep_until(until).await;
                Step::Continue
            }
            Ask::Subscribe(start_at) => {
                // What nobody has room for is not asked for: it would be sent, and charged, again.
                let wanted = listening.wanted;
                if filler.room().await.is_none() {
                    return Step::Abandoned;
                }
                match timeout(UNREAD_PATIENCE, filler.reserve_event(wanted)).await {
                    Ok(room) => drop(room),
                    Err(_elapsed) if filler.holds_nothing() => return self.no_room(wanted),
                    // Its own processor has to come first.
                    Err(_elapsed) => return Step::Continue,
                }
                self.subscribe(start_at).await
            }
            Ask::Listen => self.take(filler).await,
        }
    }

    async fn subscribe(&mut self, start_at: StartAt) -> Step {
        let Some(listening) = &mut self.listening else {
            return Step::Continue;
        };
        let arn = match listening.registration.arn().await {
            Ok(arn) => arn,
            Err(failure) => return self.fan_out_trouble(failure).await,
        };
        listening.arn = Some(Arc::clone(&arn));
        let subscribed = self.reader.subscribe(&arn, &start_at).await;
        match subscribed {
            Ok(subscription) => {
                ::metrics::counter!(metrics::SUBSCRIPTIONS, "stream" => self.stream()).increment(1);
                debug!(?start_at, "Subscribed to the shard.");
                if let Some(listening) = &mut self.listening {
                    listening.subscription = Some(subscription);
                    let now = self.context.clock.now();
                    listening.rules.on_subscribed(now);
                }
                Step::Continue
            }
            Err(failure) => self.fan_out_trouble(failure).await,
        }
    }

    /// Takes the next event of the running subscription, when there is room for it.
    async fn take(&mut self, filler: &Filler) -> Step {
        let room = match timeout(UNREAD_PATIENCE, filler.room()).await {
            Ok(Some(room)) => room,
            Ok(None) => return Step::Abandoned,
            Err(_elapsed) => return self.let_go(0),
        };
        let now = self.context.clock.now();
        let Some(listening) = &mut self.listening else {
            return Step::Continue;
        };
        let Some(subscription) = &mut listening.subscription else {
            listening.rules.on_let_go();
            return Step::Continue;
        };
        let opens = listening.opens;
        let taken = subscription.next(&self.reader, filler, opens, now).await;
        let failure = match taken {
            Taken::Event(event, reserved) => {
                let opened = opened_bytes(&event.records);
                let reserved = reserved.map(|(length, reservation)| {
                    listening.opens.on_opened(length, opened);
                    reservation
                });
                match room_for(opened, reserved, filler).await {
                    Ok(reservation) => return self.took(event, room, reservation).await,
                    // It is sent again.
                    Err(wanted) => return self.without_room(wanted, filler),
                }
            }
            Taken::NoRoom { wanted } => return self.without_room(wanted, filler),
            Taken::Over => return self.over().await,
            Taken::Stalled => Failure {
                trouble: Trouble::Stalled,
                error: self.reader.stalled(),
            },
            Taken::Failed(failure) => failure,
        };
        self.fan_out_trouble(failure).await
    }

    async fn took(
        &mut self,
        event: Event,
        room: super::Room<'_>,
        reservation: Reservation,
    ) -> Step {
        let Some(listening) = &mut self.listening else {
            return Step::Continue;
        };
        let last = event.records.last();
        let ended = listening.rules.on_event(Heard {
            continuation: event.continuation,
            last: last.map(|record| record.sequence_number.clone()),
        });
        self.measure_lag(event.millis_behind_latest);
        self.deliver(
            room.with(reservation),
            event.records,
            event.millis_behind_latest,
        )
        .await;
        if !ended {
            return Step::Continue;
        }
        self.unsubscribe();
        self.end(event.children).await
    }

    /// The stream of the subscription is over.
    async fn over(&mut self) -> Step {
        self.unsubscribe();
        let now = self.context.clock.now();
        let Some(listening) = &mut self.listening else {
            return Step::Continue;
        };
        let Some(verdict) = listening.rules.on_end(now) else {
            debug!("The subscription is over and is made anew.");
            return Step::Continue;
        };
        let failure = Failure {
            trouble: Trouble::Other,
            error: self.reader.empty_subscription(),
        };
        self.judge(failure, verdict)
    }

    /// There has been no room for the next event.
    fn without_room(&mut self, wanted: usize, filler: &Filler) -> Step {
        self.count_without_room("fan_out");
        if filler.holds_nothing() {
            self.no_room(wanted)
        } else {
            self.let_go(wanted)
        }
    }

    /// Gives the subscription up until there is room again.
    fn let_go(&mut self, wanted: usize) -> Step {
        debug!(
            "Processing does not keep up: the subscription is let go until there is room for more."
        );
        self.unsubscribe();
        if let Some(listening) = &mut self.listening {
            listening.wanted = wanted;
            listening.rules.on_let_go();
        }
        Step::Continue
    }

    /// Gives the subscription up because other shards hold all the room there is for its next event.
    fn no_room(&mut self, wanted: usize) -> Step {
        let now = self.context.clock.now();
        let listening = self.listening.as_mut();
        let Some(verdict) = listening.and_then(|listening| listening.rules.on_no_room(now)) else {
            return self.let_go(wanted);
        };
        self.unsubscribe();
        let text = format!(
            "the budget has had no room for an event of {wanted} bytes for {UNREAD_PATIENCE:?}, while \
             the shard holds nothing itself"
        );
        let failure = Failure {
            trouble: Trouble::Other,
            error: Error::new(ErrorKind::Unavailable, text),
        };
        self.judge(failure, verdict)
    }

    fn unsubscribe(&mut self) {
        if let Some(listening) = &mut self.listening {
            listening.subscription = None;
        }
    }

    /// Notes a failure of registering, of subscribing or of a subscription.
    async fn fan_out_trouble(&mut self, failure: Failure<Trouble>) -> Step {
        self.unsubscribe();
        // A position that the service refuses is another stream's.
        if matches!(failure.trouble, Trouble::NotFound | Trouble::Position) {
            self.context.source.doubt();
            self.context.placement.forget();
        }
        let now = self.context.clock.now();
        let Some(listening) = &mut self.listening else {
            return Step::Continue;
        };
        // The consumer itself may be what is unknown, or not usable any more.
        if matches!(failure.trouble, Trouble::NotFound | Trouble::Refused(_))
            && let Some(arn) = listening.arn.take()
        {
            listening.registration.forget(&arn).await;
        }
        let verdict = listening.rules.on_trouble(failure.trouble, now);
        self.judge(failure, verdict)
    }

    fn judge(&mut self, failure: Failure<Trouble>, verdict: Verdict) -> Step {
        let Failure { error, trouble } = failure;
        self.count_fan_out(trouble, error.kind());
        let source = cause(&error);
        match verdict {
            Verdict::GiveUp => return Step::Unknown(error),
            Verdict::FallBack { reason, until } => self.fall_back(reason, until, &error),
            Verdict::Again { pause, attempts } => {
                let pause_ms = pause.as_millis();
                match trouble {
                    // A worker that took the shard over a moment ago meets this once.
                    Trouble::InUse if attempts < THROTTLES_BEFORE_WARNING => {
                        debug!(attempts, pause_ms, %error, "The shard's subscription is still in use and is taken over after a pause.");
                    }
                    Trouble::InUse => {
                        warn!(attempts, pause_ms, %error, "The shard's subscription stays in use: is another application subscribed with the same consumer name?");
                    }
                    Trouble::Refused(reason) if reason != Reason::Late => {
                        error!(attempts, pause_ms, %error, source, "Enhanced fan-out is refused; it is tried again, but someone has to mend it.");
                    }
                    _ if error.kind() == ErrorKind::Throttled
                        && attempts < THROTTLES_BEFORE_WARNING =>
                    {
                        debug!(attempts, pause_ms, %error, "Subscribing is throttled and goes on after a pause.");
                    }
                    _ => {
                        warn!(attempts, pause_ms, %error, source, "The subscription to the shard failed and is made anew after a pause.");
                    }
                }
            }
        }
        Step::Continue
    }

    fn fall_back(&mut self, reason: Reason, until: Instant, error: &Error) {
        let now = self.context.clock.now();
        let retry_in_s = until.saturating_duration_since(now).as_secs();
        ::metrics::counter!(metrics::FAN_OUT_FALL_BACKS, "stream" => self.stream(), "reason" => reason.as_str()).increment(1);
        warn!(
            reason = reason.as_str(),
            retry_in_s,
            %error,
            source = cause(error),
            "Enhanced fan-out cannot be used for this shard: it is polled instead, and fan-out is tried again later."
        );
        let Some(listening) = &mut self.listening else {
            return;
        };
        listening.polled_until = Some(until);
        // By polling, what did not fit is passed in small steps.
        listening.wanted = 0;
        let idle = self.context.settings.idle_time_between_reads;
        let start = listening.rules.position();
        self.poll = Poll::new(start, idle, self.context.rand.fork(), now);
    }

    fn count_fan_out(&self, trouble: Trouble, kind: ErrorKind) {
        ::metrics::counter!(metrics::FETCH_FAILURES, "stream" => self.stream(), "kind" => kind.as_str()).increment(1);
        match trouble {
            Trouble::Stalled => {
                ::metrics::counter!(metrics::SUBSCRIPTIONS_STALLED, "stream" => self.stream())
                    .increment(1);
            }
            Trouble::InUse => {
                ::metrics::counter!(metrics::SUBSCRIPTIONS_IN_USE, "stream" => self.stream())
                    .increment(1);
            }
            Trouble::NotFound | Trouble::Position | Trouble::Refused(_) | Trouble::Other => {}
        }
    }
}

/// The part of the budget for an event that was read and takes so many bytes once it is opened: more than was
/// reserved for it where [`Opens`] did not know better, and for a small one, which passed the gate, none as yet. So many bytes
/// are wanted if there is no room for them for [`UNREAD_PATIENCE`].
async fn room_for(
    opened: usize,
    reserved: Option<Reservation>,
    filler: &Filler,
) -> Result<Reservation, usize> {
    let mut reservation = reserved.unwrap_or_else(|| filler.reserve_nothing());
    if opened <= reservation.bytes() {
        return Ok(reservation);
    }
    let has_room = if reservation.bytes() > 0 {
        timeout(UNREAD_PATIENCE, filler.exchange(&mut reservation, opened)).await
    } else {
        let room = timeout(UNREAD_PATIENCE, filler.reserve(opened)).await;
        room.map(|room| {
            reservation = room;
            reservation.bytes() >= opened
        })
    };
    match has_room {
        Ok(true) => Ok(reservation),
        Ok(false) | Err(_) => Err(opened),
    }
}

#[cfg(test)]
mod tests {
    use super::Opens;

    #[test]
    fn what_the_last_event_opened_to_is_reserved_for_the_next() {
        let mut opens = Opens(*Opens::PERCENT.start());
        assert_eq!(opens.of(1_000), 1_000);
        opens.on_opened(1_000, 2_500);
        assert_eq!(opens.of(4_000), 10_000);
        opens.on_opened(1_000, 10);
        assert_eq!(opens.of(1_000), 1_000, "its length at least");
        opens.on_opened(0, usize::MAX);
        assert_eq!(opens.of(1_000), 50_000);
    }
}
