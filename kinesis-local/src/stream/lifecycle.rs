//! The states that a stream, consumer, queue or channel goes through, told from the clock.
//!
//! ```text
//! CREATING ──create delay──▶ ACTIVE ──delete──▶ DELETING ──delete delay──▶ gone
//!                             │  ▲
//!                      change ▼  │ update delay
//!                            UPDATING
//! ```
//! Promises: no timer and no task: a state is a function of when things were asked for and of the
//! time now. With the default delays of zero a stream is ACTIVE at once and gone at once.
//!
//! A change is made when it is answered; UPDATING only tells that it was made a short while ago.
//!
//! A restart ends a stream's DELETING: its records are not read from the log any more.

use std::time::Duration;

/// How long each stays in a state that is passing. Default: no time.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Delays {
    pub(crate) create: Duration,
    pub(crate) delete: Duration,
    pub(crate) update: Duration,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Status {
    Creating,
    Active,
    /// Not of consumers: read and written as if active, but not to be changed.
    Updating,
    Deleting,
    Gone,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Deleting | Self::Gone => "DELETING",
        }
    }
}

/// When it was created, and when its deletion was asked for.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Life {
    pub(crate) created_ms: u64,
    pub(crate) deleted_ms: Option<u64>,
}

impl Life {
    pub(crate) fn created(created_ms: u64) -> Self {
        Self {
            created_ms,
            deleted_ms: None,
        }
    }

    pub(crate) fn status(&self, now_ms: u64, delays: Delays) -> Status {
        let past = |since: u64, delay: Duration| {
            u128::from(now_ms.saturating_sub(since)) >= delay.as_millis()
        };
        match self.deleted_ms {
            Some(deleted) if past(deleted, delays.delete) => Status::Gone,
            Some(_) => Status::Deleting,
            None if past(self.created_ms, delays.create) => Status::Active,
            None => Status::Creating,
        }
    }

    /// The same for what also goes through UPDATING, last changed at `updated_ms`.
    pub(crate) fn status_with_update(
        &self,
        updated_ms: Option<u64>,
        now_ms: u64,
        delays: Delays,
    ) -> Status {
        let updating = updated_ms.is_some_and(|since_ms| {
            u128::from(now_ms.saturating_sub(since_ms)) < delays.update.as_millis()
        });
        match self.status(now_ms, delays) {
            Status::Active if updating => Status::Updating,
            status => status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_delays_a_stream_is_active_at_once_and_gone_at_once() {
        let mut life = Life::created(5);
        assert_eq!(life.status(5, Delays::default()), Status::Active);
        life.deleted_ms = Some(5);
        assert_eq!(life.status(5, Delays::default()), Status::Gone);
    }

    #[test]
    fn with_delays_it_passes_through_creating_and_deleting() {
        let delays = Delays {
            create: Duration::from_millis(500),
            delete: Duration::from_millis(300),
            update: Duration::ZERO,
        };
        let mut life = Life::created(1000);
        assert_eq!(life.status(1499, delays), Status::Creating);
        assert_eq!(life.status(1500, delays), Status::Active);
        life.deleted_ms = Some(2000);
        assert_eq!(life.status(2299, delays), Status::Deleting);
        assert_eq!(life.status(2300, delays), Status::Gone);
    }
}
