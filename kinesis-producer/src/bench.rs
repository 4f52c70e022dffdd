//! The way of a record through the producer without the SDK, for the benches of this crate.
//! No part of the API: it changes without notice.
//!
//! [`Journey::run`] does on one thread what a handle and the service task do between them: check,
//! room, entry, channel, lane, aggregate, request, and then, as if the service had stored
//! everything, outcome and room again.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::FutureExt;
use kinesis_core::{
    Clock, HashKeyRange, Rand, SequenceNumber, Shard, ShardId, ShardMap, UserRecord,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::pipeline::intake::{Entry, Message, Room};
use crate::pipeline::outcome::Slots;
use crate::pipeline::retry::Answer;
use crate::pipeline::send::Put;
use crate::pipeline::{Pipeline, Request};
use crate::{DeliveryFuture, Settings};

/// Records that a handle gives before the service task takes them; as in the service task.
const BATCH: usize = 1024;
/// Batches that arrive while a request is under way: 16,384 records, 8 ms at two million a second.
const BATCHES_PER_ROUND_TRIP: usize = 16;
/// Per cent of a shard's quota: high enough never to wait.
const RATE_LIMIT: u32 = 1_000_000;

/// A producer without a client.
pub struct Journey {
    clock: Clock,
    started: Instant,
    settings: Settings,
    pipeline: Pipeline,
    slots: Slots,
    to_service: mpsc::Sender<Message>,
    intake: mpsc::Receiver<Message>,
    messages: Vec<Message>,
    outcomes: VecDeque<DeliveryFuture>,
    under_way: Vec<Request>,
    number: SequenceNumber,
}

/// What a [`Journey::run`] did.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Travelled {
    /// User records acknowledged.
    pub records: usize,
    /// Kinesis records that held them.
    pub kinesis_records: usize,
}

impl std::fmt::Debug for Journey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journey").finish_non_exhaustive()
    }
}

impl Journey {
    /// A producer of a stream of `shards` shards, whose map is loaded.
    ///
    /// # Panics
    /// If `shards` is 0.
    #[must_use]
    pub fn new(shards: u32) -> Self {
        let settings = Settings {
            rate_limit: RATE_LIMIT,
            ordered: false,
            ..Settings::default()
        };
        let stream: Arc<str> = "stream".into();
        let (clock, rand) = (Clock::system(), Rand::seeded(1));
        let now = clock.now();
        let number: SequenceNumber = SequenceNumber::try_from("1").expect("a number");
        let ranges = HashKeyRange::FULL.split_even(shards).into_iter().zip(0..);
        let map = ShardMap::new(ranges.map(|(range, index)| Shard {
            id: ShardId::from_index(index),
            range,
            parent: None,
            adjacent_parent: None,
            starting_sequence_number: number.clone(),
            ending_sequence_number: None,
        }));
        let mut pipeline = Pipeline::new(Arc::clone(&stream), settings.clone(), rand, now);
        pipeline.map_loaded(Ok(map), now);
        let room = Room::new(
            stream,
            settings.max_buffered_records,
            settings.max_buffered_bytes,
        );
        let (to_service, intake) = mpsc::channel(BATCH);
        Self {
            started: clock.now(),
            clock,
            settings,
            pipeline,
            slots: Slots::new(Arc::new(room)),
            to_service,
            intake,
            messages: Vec::with_capacity(BATCH),
            outcomes: VecDeque::with_capacity(BATCH),
            under_way: Vec::new(),
            number,
        }
    }

    /// Takes clones of `records` from hand-over to acknowledgement.
    ///
    /// # Panics
    /// If a record is refused or not acknowledged.
    pub fn run(&mut self, records: &[UserRecord]) -> Travelled {
        let mut travelled = Travelled::default();
        let mut outcomes = std::mem::take(&mut self.outcomes);
        for round_trip in records.chunks(BATCH * BATCHES_PER_ROUND_TRIP) {
            for batch in round_trip.chunks(BATCH) {
                for record in batch {
                    outcomes.push_back(self.hand_over(record.clone()));
                }
                let now = self.clock.now();
                let taken = self
                    .intake
                    .recv_many(&mut self.messages, BATCH)
                    .now_or_never();
                assert_eq!(taken, Some(batch.len()), "what was handed over");
                for message in self.messages.drain(..) {
                    if let Message::Record(entry) = message {
                        self.pipeline.accept(entry, now);
                    }
                }
                self.send();
            }
            travelled.kinesis_records += self.answer();
            travelled.records += see(&mut outcomes);
        }
        let (done, mut flushed) = oneshot::channel();
        self.pipeline.flush(done);
        while flushed.try_recv().is_err() {
            self.send();
            travelled.kinesis_records += self.answer();
        }
        travelled.records += see(&mut outcomes);
        assert!(outcomes.is_empty(), "every record is resolved");
        self.outcomes = outcomes;
        travelled
    }

    fn hand_over(&self, record: UserRecord) -> DeliveryFuture {
        record
            .validate(self.settings.record_bytes_max())
            .expect("valid");
        self.slots.room().try_take(record.size()).expect("room");
        let (entry, outcome) = Entry::new(record, &self.slots, self.started);
        self.to_service
            .try_send(Message::Record(entry))
            .expect("a slot");
        outcome
    }

    fn send(&mut self) {
        while let Some(request) = self.pipeline.next_request(self.clock.now()) {
            self.under_way.push(request);
        }
    }

    fn answer(&mut self) -> usize {
        let mut kinesis_records = 0;
        for request in self.under_way.drain(..) {
            kinesis_records += request.records.len();
            let stored = |put: &Put| Answer::Stored {
                shard_id: put.predicted().unwrap_or_else(|| ShardId::from_index(0)),
                sequence_number: self.number.clone(),
            };
            let answers = request.records.iter().map(stored).collect();
            let now = self.clock.now();
            self.pipeline.completed(request.flight, Ok(answers), now);
        }
        kinesis_records
    }
}

/// Takes out the outcomes that are there, oldest first up to the first that is not.
fn see(outcomes: &mut VecDeque<DeliveryFuture>) -> usize {
    let before = outcomes.len();
    while let Some(outcome) = outcomes.front_mut() {
        match outcome.now_or_never() {
            Some(outcome) => drop(outcome.expect("delivered")),
            None => break,
        }
        outcomes.pop_front();
    }
    before - outcomes.len()
}
