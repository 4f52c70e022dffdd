//! Where dead letters go: into the log, as long as the destination is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kinesis_consumer::{BoxError, DeadLetter, DeadLetters};
use kinesis_core::{Position, Rand};

use super::key;
use crate::simulation::log::{Event, Log};

/// The destination of a fleet's dead letters, shared by all workers.
#[derive(Clone, Debug)]
pub struct Graveyard {
    /// The log.
    pub log: Log,
    /// Whether they come from several streams.
    pub many: bool,
    /// Chance.
    pub rand: Rand,
    /// How it behaves.
    pub mood: Mood,
    /// Whether it does not fail any more.
    pub sound: Arc<AtomicBool>,
}

/// How a destination behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mood {
    /// One letter of so many is told not to be stored; 0: none. Every other of them is all the same.
    pub fails_every: u64,
    /// It is away for the first part of each such stretch of time.
    pub away: Option<(Duration, Duration)>,
}

impl Graveyard {
    fn is_away(&self) -> bool {
        let now = self.log.now().as_millis();
        self.mood
            .away
            .is_some_and(|(part, stretch)| now % stretch.as_millis() < part.as_millis())
    }
}

#[async_trait]
impl DeadLetters for Graveyard {
    async fn write(&self, letter: &DeadLetter) -> Result<(), BoxError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let shard = match self.many {
            true => key(&letter.stream, &letter.shard_id),
            false => letter.shard_id.clone(),
        };
        let record = &letter.record;
        let position = Position::at(record.sequence_number.clone(), record.sub_sequence);
        let sound = self.sound.load(Ordering::Relaxed);
        if !sound && self.is_away() {
            let what = format!("no dead letter of {shard} at {position}: nobody is there");
            self.log.step(what);
            return Err("the destination is away".into());
        }
        let fails = self.mood.fails_every;
        if sound || fails == 0 || self.rand.below(fails) > 0 {
            self.log.push(Event::Buried { shard, position });
            return Ok(());
        }
        if self.rand.below(2) == 0 {
            self.log.push(Event::Buried {
                shard: shard.clone(),
                position: position.clone(),
            });
        }
        let what = format!("a dead letter of {shard} at {position} is told not to be stored");
        self.log.step(what);
        Err("the destination fails".into())
    }
}
