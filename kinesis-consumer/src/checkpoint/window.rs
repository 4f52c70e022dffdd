//! The rules of where a checkpoint may go, without any I/O.
//!
//! Invariant: `last ≤ settled ≤ delivered`, except that a checkpoint inside the batch in hand moves
//! `last` past `settled`.

use kinesis_core::Position;

use crate::lease::ChildShard;
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};

/// The delivery of whoever has seen none.
pub(super) const NO_DELIVERY: u64 = u64::MAX;

/// What one shard has delivered, settled and checkpointed.
#[derive(Debug)]
pub(super) struct Window {
    last: Position,
    /// End of the newest batch that was processed, or further, where records of the one in hand are.
    settled: Position,
    /// End of the batch in hand, or `settled`.
    delivered: Position,
    /// Counts what is handed to the processor: batches, parts of them, and the end of the shard.
    deliveries: u64,
    /// Set once every record was processed and the shard has no more.
    children: Option<Vec<ChildShard>>,
}

/// What has to be written.
#[derive(Debug, PartialEq)]
pub(super) enum Move {
    Nothing,
    To(Position),
    End(Vec<ChildShard>),
}

/// Why a position was refused.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum OutOfBounds {
    #[error(
        "nothing beyond {delivered} was delivered, or what was delivered failed and will come again"
    )]
    Beyond { delivered: Position },
    #[error("only the position of a record can be checkpointed")]
    Sentinel,
    #[error("the shard has not ended")]
    NotEnded,
}

impl Window {
    pub(super) fn new(start: Position) -> Self {
        Self {
            last: start.clone(),
            settled: start.clone(),
            delivered: start,
            deliveries: 0,
            children: None,
        }
    }

    pub(super) fn last(&self) -> &Position {
        &self.last
    }

    /// The newest delivery.
    pub(super) fn delivery(&self) -> u64 {
        self.deliveries
    }

    /// The furthest that a checkpoint of "everything" goes which is asked for by one of a delivery. What
    /// is in hand belongs to the newest one: an older one has not seen it, so it may not be done.
    pub(super) fn furthest(&self, delivery: u64) -> &Position {
        let end = match delivery == self.deliveries {
            true => &self.delivered,
            false => &self.settled,
        };
        end.max(&self.last)
    }

    pub(super) fn deliver(&mut self, position: Position) {
        self.delivered = position;
        self.deliveries += 1;
    }

    /// Everything up to there was processed, of what is in hand.
    pub(super) fn settle_to(&mut self, position: &Position) {
        debug_assert!(
            *position <= self.delivered,
            "settled before it was delivered"
        );
        if *position > self.settled {
            self.settled = position.clone();
        }
    }

    pub(super) fn settle(&mut self) {
        self.settled = self.delivered.clone();
    }

    /// Back to the last batch that succeeded; a checkpoint the processor made inside of the failed
    /// batch was its own word and stays.
    pub(super) fn withdraw(&mut self) {
        self.delivered = self.settled.clone().max(self.last.clone());
    }

    pub(super) fn end(&mut self, children: Vec<ChildShard>) {
        self.children = Some(children);
        self.deliveries += 1;
    }

    /// Of what is told to a delivery.
    pub(super) fn everything(&self, delivery: u64) -> Move {
        let furthest = self.furthest(delivery);
        match &self.children {
            _ if self.last == Position::ShardEnd => Move::Nothing,
            Some(children) if delivery == self.deliveries => Move::End(children.clone()),
            #[cfg(feature = "mutations")]
            _ if self.is_in_last_aggregate(furthest) => Move::Nothing,
            _ if *furthest > self.last => Move::To(furthest.clone()),
            _ => Move::Nothing,
        }
    }

    /// What is at or before the last checkpoint is stored already: a batch that failed comes again
    /// from its first record, also where a checkpoint lies in the middle of it.
    pub(super) fn up_to(&self, position: &Position) -> Result<Move, OutOfBounds> {
        if *position == self.last {
            return Ok(Move::Nothing);
        }
        if *position == Position::ShardEnd {
            return match &self.children {
                Some(children) => Ok(Move::End(children.clone())),
                None => Err(OutOfBounds::NotEnded),
            };
        }
        if position.is_sentinel() {
            return Err(OutOfBounds::Sentinel);
        }
        if *position < self.last {
            return Ok(Move::Nothing);
        }
        if *position > self.delivered {
            let delivered = self.delivered.clone();
            return Err(OutOfBounds::Beyond { delivered });
        }
        #[cfg(feature = "mutations")]
        if self.is_in_last_aggregate(position) {
            return Ok(Move::Nothing);
        }
        Ok(Move::To(position.clone()))
    }

    /// Whether that makes no difference, where only sequence numbers are looked at.
    #[cfg(feature = "mutations")]
    fn is_in_last_aggregate(&self, position: &Position) -> bool {
        let number = |position: &Position| match position {
            Position::At {
                sequence_number, ..
            } => Some(sequence_number.clone()),
            _ => None,
        };
        mutation::is(Mutation::AggregateCountsAsOne)
            && number(position).is_some_and(|here| number(&self.last) == Some(here))
    }

    pub(super) fn stored(&mut self, position: Position) {
        self.last = position;
    }
}

#[cfg(test)]
mod tests;
