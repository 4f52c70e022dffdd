//! The life of one shard on this worker: what the processor is asked to do, and when, without any
//! I/O.
//!
//! ```text
//!               ┌─────────── failed: pause, then again ───────────┐
//!               ▼                                                 │
//! Initialize ──▶ Idle ── batch ──▶ Process ── ok ──▶ Idle   Process/EndShard/Initialize/Bury
//!                 │                   │  ▲
//!                 │                   │  └─ part by part, guilty record ─▶ Bury (see `isolate`)
//!                 ├── end of shard ───┼──▶ EndShard ── SHARD_END stored ──▶ Release ──▶ Done(Ended)
//!                 ├── asked to stop ──┴──▶ Stop ──▶ Release ──▶ Done(Released)
//!                 ├── shard expired ─────▶ Stop ──▶ Retire ── SHARD_END stored ──▶ Release ──▶ Done(Ended)
//!                 ├── stream unknown, or a batch fails for good ─▶ Stop ──▶ Park (until lost or asked to stop)
//!                 ├── reading broke down ▶ Stop ──▶ Release ──▶ Done(Failed)
//!                 └── fatal ─────────────────────▶ Release ──▶ Done(Failed)
//! before Release: lease lost ──▶ Lose ──▶ Done(Lost)
//! ```
//!
//! Invariants:
//! - Each record of the batch in hand is processed successfully, or is a stored dead letter, before
//!   the next batch is taken, or the shard stops.
//! - `Done(Ended)` only after the end of the shard was stored under the lease.
//! - After the lease is lost the processor gets one call, `lease_lost`, and the lease is not written.
//! - Once asked to stop, every call has a deadline, so the shard ends.
//!
//! A shard whose parents are not finished does not get here: its lease is not taken before.

mod stop;
mod words;

use std::time::Duration;

use kinesis_core::{Backoff, Rand};
use tokio::time::Instant;

use stop::StopBy;
pub(crate) use stop::StopTimes;
pub(crate) use words::{Buried, Call, Doing, End, Event, Fetch, Returned};

/// How long releasing the lease is tried after the time given to stop is over; then the lease is
/// left to expire. Source: none, reasonable default.
const RELEASE_GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Initialize,
    Idle,
    Process,
    Bury,
    EndShard,
    Stop,
    Lose,
    Retire,
    Release,
    Park,
    Done(End),
}

/// The life of one shard.
#[derive(Debug)]
pub(crate) struct Life {
    state: State,
    pause: Option<Instant>,
    /// Failures in a row of what is being done.
    attempts: u32,
    stop: Option<StopBy>,
    /// Deadline of the last call when nobody asked to stop.
    last_call: Option<Instant>,
    /// How the life ends once the lease is released.
    end: End,
    /// What comes after `Stop` when nobody asked to stop.
    after_stop: State,
    times: StopTimes,
    backoff: Backoff,
    rand: Rand,
}

impl Life {
    pub(crate) fn new(times: StopTimes, backoff: Backoff, rand: Rand) -> Self {
        Self {
            state: State::Initialize,
            pause: None,
            attempts: 0,
            stop: None,
            last_call: None,
            end: End::Released,
            after_stop: State::Release,
            times,
            backoff,
            rand,
        }
    }

    /// What to do now. A call that is under way and is no longer what is to be done is dropped.
    pub(crate) fn doing(&self) -> Doing {
        if let Some(until) = self.pause {
            return Doing::Pause(until);
        }
        match self.state {
            State::Initialize => Doing::Call(Call::Initialize),
            State::Idle => Doing::Fetch,
            State::Process => Doing::Call(Call::Process),
            State::Bury => Doing::Bury,
            State::EndShard => Doing::Call(Call::ShardEnded),
            State::Stop => Doing::Call(Call::ShutdownRequested),
            State::Lose => Doing::Call(Call::LeaseLost),
            State::Retire => Doing::Retire,
            State::Release => Doing::Release,
            State::Park => Doing::Park,
            State::Done(end) => Doing::Done(end),
        }
    }

    /// When [`Event::Deadline`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Initialize | State::Process | State::Bury | State::EndShard => {
                self.stop.map(|stop| stop.batch)
            }
            State::Stop | State::Lose => self.stop.map(|stop| stop.all).or(self.last_call),
            State::Release => self.stop.map(|stop| stop.all + RELEASE_GRACE),
            State::Idle | State::Retire | State::Park | State::Done(_) => None,
        }
    }

    /// Whether [`Event::Lost`] is still news.
    pub(crate) fn minds_loss(&self) -> bool {
        // Releasing a lease fences it first: that is no loss.
        !matches!(self.state, State::Lose | State::Release | State::Done(_))
    }

    /// Whether [`Event::StopRequested`] is still news.
    pub(crate) fn minds_stop(&self) -> bool {
        self.stop.is_none() && !matches!(self.state, State::Lose | State::Done(_))
    }

    /// Whether [`Event::HandoffRequested`] is still news: also of a shard that stops, which may have
    /// to do so sooner.
    pub(crate) fn minds_handoff(&self) -> bool {
        self.stop.is_none_or(|stop| !stop.handoff)
            && !matches!(self.state, State::Lose | State::Done(_))
    }

    /// Whether a stop was requested.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// Failures in a row of what is being done.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn on(&mut self, event: Event, now: Instant) {
        match event {
            Event::Lost => self.on_lost(now),
            Event::StopRequested => self.on_stop(now),
            Event::HandoffRequested => self.on_handoff(now),
            Event::Deadline => self.on_deadline(now),
            Event::Rested => self.pause = None,
            Event::Fetched(fetched) => self.on_fetched(fetched, now),
            Event::Buried(buried) => self.on_buried(buried, now),
            Event::Retired(done) => self.on_retired(done, now),
            Event::Released(done) => self.on_released(done, now),
            Event::Returned(returned) => self.on_returned(returned, now),
        }
    }

    fn on_lost(&mut self, now: Instant) {
        match self.state {
            State::Lose | State::Release | State::Done(_) => {}
            // The processor had its last call.
            State::Retire | State::Park => self.done(End::Lost),
            State::Initialize
            | State::Idle
            | State::Process
            | State::Bury
            | State::EndShard
            | State::Stop => {
                self.last_call = Some(now + self.times.shutdown);
                self.go(State::Lose);
            }
        }
    }

    fn on_stop(&mut self, now: Instant) {
        if !self.minds_stop() {
            return;
        }
        self.stop = Some(StopBy::within(self.times.shutdown, now));
        self.begin_stop();
    }

    fn on_handoff(&mut self, now: Instant) {
        if !self.minds_handoff() {
            return;
        }
        let before = self.stop;
        let stop = StopBy::within(self.times.handoff, now);
        self.stop = Some(StopBy {
            batch: before.map_or(stop.batch, |before| before.batch.min(stop.batch)),
            all: before.map_or(stop.all, |before| before.all.min(stop.all)),
            handoff: true,
        });
        if before.is_none() {
            self.begin_stop();
        }
    }

    /// Goes where a shard goes that is asked to stop.
    fn begin_stop(&mut self) {
        match (self.state, self.pause) {
            (State::Idle, _) | (State::Process | State::Bury, Some(_)) => self.go(State::Stop),
            // Nothing was delivered, or everything was and the next owner ends the shard.
            (State::Initialize | State::EndShard, Some(_)) | (State::Retire | State::Park, _) => {
                self.go(State::Release)
            }
            // What is under way may finish within the deadline.
            (
                State::Initialize
                | State::Process
                | State::Bury
                | State::EndShard
                | State::Stop
                | State::Release,
                _,
            ) => {}
            (State::Lose | State::Done(_), _) => {}
        }
    }

    fn on_deadline(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Process | State::Bury => self.go(State::Stop),
            State::Initialize | State::EndShard => self.go(State::Release),
            State::Stop => self.leave_stop(),
            State::Lose => self.done(End::Lost),
            State::Release if self.end == End::Released => self.done(End::Abandoned),
            State::Release => self.done(self.end),
            State::Idle | State::Retire | State::Park | State::Done(_) => {}
        }
    }

    fn on_fetched(&mut self, fetched: Fetch, now: Instant) {
        debug_assert_eq!(
            self.state,
            State::Idle,
            "nothing is taken from the buffer in any other state"
        );
        match fetched {
            Fetch::Batch => self.go(State::Process),
            Fetch::End => self.go(State::EndShard),
            Fetch::Expired => self.stop_before(State::Retire, now),
            Fetch::NotFound => self.stop_before(State::Park, now),
            Fetch::Broken => {
                self.end = End::Failed;
                self.stop_before(State::Release, now);
            }
        }
    }

    fn on_returned(&mut self, returned: Returned, now: Instant) {
        match (self.state, returned) {
            (State::Initialize | State::Process | State::EndShard, Returned::Fatal) => self.fail(),
            (State::Initialize | State::Process, Returned::Ok) if self.stop.is_some() => {
                self.go(State::Stop)
            }
            (State::Initialize | State::Process, Returned::Ok) => self.go(State::Idle),
            (State::EndShard, Returned::Ok) => {
                self.end = End::Ended;
                self.go(State::Release);
            }
            (State::Process, Returned::Again | Returned::Part | Returned::Guilty)
                if self.stop.is_some() =>
            {
                self.go(State::Stop)
            }
            (State::Process, Returned::Part) => self.go(State::Process),
            (State::Process, Returned::Guilty) => self.go(State::Bury),
            (State::Process, Returned::Stuck) => self.stop_before(State::Park, now),
            (State::Initialize | State::EndShard, Returned::Again) if self.stop.is_some() => {
                self.go(State::Release)
            }
            (State::Initialize | State::Process | State::EndShard, Returned::Again) => {
                self.rest(now)
            }
            (State::Stop, Returned::Fatal) => self.fail(),
            (State::Stop, _) => self.leave_stop(),
            (State::Lose, _) => self.done(End::Lost),
            // No call is under way in these.
            (
                State::Idle
                | State::Bury
                | State::Retire
                | State::Release
                | State::Park
                | State::Done(_),
                _,
            ) => {}
            (State::Initialize | State::EndShard, _) => {
                debug_assert!(false, "only a batch has parts");
            }
        }
    }

    fn on_buried(&mut self, buried: Buried, now: Instant) {
        if self.state != State::Bury {
            return;
        }
        match buried {
            // What was not stored, or not delivered, comes to the next owner.
            _ if self.stop.is_some() => self.go(State::Stop),
            Buried::Last => self.go(State::Idle),
            Buried::Part => self.go(State::Process),
            Buried::Guilty => self.go(State::Bury),
            Buried::Failed => self.rest(now),
        }
    }

    fn on_released(&mut self, released: bool, now: Instant) {
        if self.state != State::Release {
            return;
        }
        if released {
            self.done(self.end);
        } else {
            self.rest(now);
        }
    }

    fn on_retired(&mut self, retired: bool, now: Instant) {
        if self.state != State::Retire {
            return;
        }
        if retired {
            self.end = End::Ended;
            self.go(State::Release);
        } else {
            self.rest(now);
        }
    }

    /// The processor's last call, of its own accord, before `after`.
    fn stop_before(&mut self, after: State, now: Instant) {
        self.after_stop = after;
        self.last_call = Some(now + self.times.shutdown);
        self.go(State::Stop);
    }

    fn leave_stop(&mut self) {
        self.go(match self.stop {
            Some(_) => State::Release,
            None => self.after_stop,
        });
    }

    fn fail(&mut self) {
        self.end = End::Failed;
        self.go(State::Release);
    }

    fn done(&mut self, end: End) {
        self.go(State::Done(end));
    }

    fn go(&mut self, state: State) {
        self.state = state;
        self.pause = None;
        self.attempts = 0;
    }

    /// The same again, after a pause.
    fn rest(&mut self, now: Instant) {
        self.pause = Some(now + self.backoff.delay(self.attempts, &self.rand));
        self.attempts = self.attempts.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
