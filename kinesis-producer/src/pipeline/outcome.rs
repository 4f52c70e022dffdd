//! Where the outcome of a record waits for whoever awaits it.
//!
//! ```text
//! Slots ─ take ─▶ Settler (in the record's Entry) ── settle ─▶ slot ◀─ poll ── DeliveryFuture
//!          page: 16 slots and the room, one allocation
//! ```
//!
//! Invariants: a slot is used once; the one who awaits is woken once it is settled; an outcome that
//! nobody awaits any more is dropped at once, so that a page, which lives as long as any of its
//! slots, keeps no record alive.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kinesis_core::{SequenceNumber, ShardId};

use super::intake::Room;
use crate::attempts::{History, Trip};
use crate::{Delivery, Error};

/// What becomes of a record.
type Outcome = Result<Delivery, Error>;

/// Where a Kinesis record was stored; its members share it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) shard_id: ShardId,
    pub(crate) sequence_number: SequenceNumber,
    /// The request that carried it.
    pub(crate) trip: Trip,
}

/// Where a user record was stored, small: a slot is written when its memory is cold.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) place: Arc<Place>,
    pub(crate) sub_sequence: u32,
    pub(crate) attempts: u32,
    pub(crate) sent_after_micros: u64,
    pub(crate) history: History,
}

impl Stored {
    fn into_delivery(self) -> Delivery {
        Delivery {
            shard_id: self.place.shard_id.clone(),
            sequence_number: self.place.sequence_number.clone(),
            sub_sequence: self.sub_sequence.into(),
            attempts: self.attempts,
            sent_after: Duration::from_micros(self.sent_after_micros),
            took: self.place.trip.took,
            history: self.history,
        }
    }
}

/// Slots in one allocation. Source: measured; more save next to nothing, and a page may outlive
/// all but one of its records.
const PAGE_SLOTS: usize = 16;

#[derive(Debug, Default)]
enum Slot {
    /// Not settled; whoever is to be woken.
    #[default]
    Empty,
    Awaited(Waker),
    Settled(Result<Stored, Error>),
    /// The outcome was seen, or will not be.
    Over,
}

#[derive(Debug)]
struct Page {
    room: Arc<Room>,
    slots: [Mutex<Slot>; PAGE_SLOTS],
}

impl Page {
    /// Leaves `next` in a slot and gives what was there.
    fn swap(&self, slot: usize, next: Slot) -> Slot {
        match self.slots.get(slot) {
            Some(slot) => mem::replace(
                &mut *slot.lock().unwrap_or_else(PoisonError::into_inner),
                next,
            ),
            None => Slot::Over,
        }
    }
}

/// Gives out slots, a page after another.
#[derive(Debug)]
pub(crate) struct Slots {
    room: Arc<Room>,
    page: Mutex<Option<(Arc<Page>, usize)>>,
}

impl Slots {
    pub(crate) fn new(room: Arc<Room>) -> Self {
        Self {
            room,
            page: Mutex::new(None),
        }
    }

    /// The room of those whose outcomes these are.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Both ends of a slot.
    pub(crate) fn take(&self) -> (Settler, Awaiter) {
        let mut current = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        let (page, slot) = match current.take() {
            Some(current) => current,
            None => {
                let slots = Default::default();
                let room = Arc::clone(&self.room);
                (Arc::new(Page { room, slots }), 0)
            }
        };
        let settler = Settler {
            page: Arc::clone(&page),
            slot,
        };
        if slot + 1 < PAGE_SLOTS {
            *current = Some((Arc::clone(&page), slot + 1));
        }
        let seen = false;
        (settler, Awaiter { page, slot, seen })
    }
}

/// The end that settles.
#[derive(Debug)]
pub(crate) struct Settler {
    page: Arc<Page>,
    slot: usize,
}

impl Settler {
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.page.room
    }

    pub(crate) fn settle(self, outcome: Result<Stored, Error>) {
        match self.page.swap(self.slot, Slot::Settled(outcome)) {
            Slot::Awaited(waker) => waker.wake(),
            Slot::Empty | Slot::Settled(_) => {}
            // Whoever awaited it has gone; the record is settled all the same.
            Slot::Over => drop(self.page.swap(self.slot, Slot::Over)),
        }
    }
}

/// The end that awaits.
#[derive(Debug)]
pub(crate) struct Awaiter {
    page: Arc<Page>,
    slot: usize,
    seen: bool,
}

impl Awaiter {
    /// The outcome; an error once it was seen.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(slot) = self.page.slots.get(self.slot) else {
            return Poll::Ready(Err(Error::stopped()));
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *slot {
            Slot::Empty => *slot = Slot::Awaited(cx.waker().clone()),
            Slot::Awaited(waker) => waker.clone_from(cx.waker()),
            Slot::Settled(_) | Slot::Over => {
                self.seen = true;
                return Poll::Ready(match mem::replace(&mut *slot, Slot::Over) {
                    Slot::Settled(outcome) => outcome.map(Stored::into_delivery),
                    _ => Err(Error::stopped()),
                });
            }
        }
        Poll::Pending
    }
}

impl Drop for Awaiter {
    fn drop(&mut self) {
        if !self.seen {
            drop(self.page.swap(self.slot, Slot::Over));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::DeliveryFuture;

    fn slots() -> Slots {
        Slots::new(Arc::new(Room::new("stream".into(), 100, 100)))
    }

    fn failed() -> Result<Stored, Error> {
        Err(Error::stopped().about(kinesis_core::UserRecord::new("k", "x"), 1))
    }

    #[tokio::test]
    async fn whoever_awaits_is_woken_whichever_comes_first() {
        let slots = slots();
        let (settler, awaiter) = slots.take();
        let waiting = tokio::spawn(DeliveryFuture::new(awaiter));
        tokio::task::yield_now().await;
        settler.settle(failed());
        assert!(waiting.await.expect("no panic").is_err());
        let (settler, awaiter) = slots.take();
        settler.settle(failed());
        assert!(DeliveryFuture::new(awaiter).await.is_err());
    }

    #[test]
    fn outcomes_of_one_page_do_not_mix() {
        let slots = slots();
        let (settlers, awaiters): (Vec<_>, Vec<_>) =
            (0..3 * PAGE_SLOTS).map(|_| slots.take()).unzip();
        for (number, settler) in (0..).zip(settlers).filter(|(number, _)| number % 3 != 1) {
            let record = kinesis_core::UserRecord::new("k", number.to_string());
            settler.settle(Err(Error::stopped().about(record, 1)));
        }
        for (number, awaiter) in (0..).zip(awaiters) {
            let outcome = DeliveryFuture::new(awaiter).now_or_never();
            let seen = outcome.map(|outcome| outcome.expect_err("failed").into_record());
            let expected = kinesis_core::UserRecord::new("k", number.to_string());
            assert_eq!(seen, (number % 3 != 1).then_some(Some(expected)));
        }
    }

    #[test]
    fn an_outcome_that_nobody_awaits_is_dropped_although_its_page_lives() {
        let data = bytes::Bytes::from(vec![1; 100]);
        let outcome = || {
            let record = kinesis_core::UserRecord::new("k", data.clone());
            Err(Error::stopped().about(record, 1))
        };
        let slots = slots();
        let (settler, awaiter) = slots.take();
        drop(awaiter);
        settler.settle(outcome());
        let (settler, awaiter) = slots.take();
        settler.settle(outcome());
        drop(awaiter);
        assert!(data.is_unique(), "no clone is left");
    }
}
