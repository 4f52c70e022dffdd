//! The rules of where a checkpoint may go, without any I/O.
//!
//! Invariant: `last ≤ settled ≤ delivered`, except that a checkpoint inside the batch in hand moves
//! `last` past `settled`.

use kinesis_core::Position;

use crate::lease::ChildShard;
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};

/// What one shard has delivered, settled and checkpointed.
#[derive(Debug)]
pub(super) struct Window {
    last: Position,
    /// End of the newest batch that was processed.
    settled: Position,
    /// End of the batch in hand, or `settled`.
    delivered: Position,
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
            children: None,
        }
    }

    pub(super) fn last(&self) -> &Position {
        &self.last
    }

    pub(super) fn delivered(&self) -> &Position {
        &self.delivered
    }

    pub(super) fn deliver(&mut self, position: Position) {
        self.delivered = position;
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
    }

    pub(super) fn everything(&self) -> Move {
        match &self.children {
            Some(_) if self.last == Position::ShardEnd => Move::Nothing,
            Some(children) => Move::End(children.clone()),
            #[cfg(feature = "mutations")]
            None if self.is_in_last_aggregate(&self.delivered) => Move::Nothing,
            None if self.delivered > self.last => Move::To(self.delivered.clone()),
            None => Move::Nothing,
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
