//! The rows of one table for many streams, and what a look at them works out besides who is to get what.

use std::sync::Arc;

use kinesis_core::{HashKeyRange, Position, Rand, ShardId};

use crate::discover;
use crate::lease::Lease;
use crate::lease::keeper::by_key::{ByKey, of_stream};
use crate::lease::table::Rows;
use crate::stream::{Source, StreamId};

/// Streams, and the leases of their shards as a scan brings them.
#[derive(Debug)]
pub struct ManyStreams {
    sources: Vec<Arc<Source>>,
    by_key: ByKey,
    rows: Rows,
}

impl ManyStreams {
    /// `streams` streams with `leases` leases together; of the first one a lease is missing.
    ///
    /// # Panics
    /// If there are fewer leases than streams.
    #[must_use]
    pub fn new(streams: usize, leases: usize) -> Self {
        let id =
            |index: usize| StreamId::new("123456789012", &format!("orders-{index}"), 1_767_225_600);
        let sources: Vec<_> = (0..streams)
            .map(|index| Arc::new(Source::named(Some(id(index).expect("an id")))))
            .collect();
        let shards = leases / streams;
        let ranges = HashKeyRange::FULL.split_even(u32::try_from(shards).expect("few shards"));
        let rows = sources.iter().flat_map(|source| {
            ranges.iter().zip(0..).map(|(range, index)| Lease {
                range: Some(*range),
                ..Lease::new(
                    source.key(&ShardId::from_index(index)),
                    Position::TrimHorizon,
                )
            })
        });
        let mut rows: Vec<_> = rows.skip(1).collect();
        Rand::seeded(1).shuffle(&mut rows);
        Self {
            by_key: ByKey::new(&sources),
            sources,
            rows: Rows {
                leases: rows,
                ..Rows::default()
            },
        }
    }

    /// One look: which rows are those of the streams, and of which streams a part of the key space has no
    /// lease; how many. `timed` is given what a leader has to work out, as a function to be called once.
    pub fn look(&self, timed: impl FnOnce(&mut dyn FnMut())) -> usize {
        let mut rows = self.rows.clone();
        let mut holes = 0;
        timed(&mut || {
            self.by_key.own(&mut rows);
            rows.leases
                .sort_unstable_by(|a, b| a.shard_id.cmp(&b.shard_id));
            let whole =
                |source: &&Arc<Source>| discover::covers_key_space(of_stream(&rows.leases, source));
            holes = self.sources.len() - self.sources.iter().filter(whole).count();
        });
        holes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_many_streams_finds_the_one_that_lacks_a_lease() {
        let streams = ManyStreams::new(50, 1_000);
        assert_eq!(streams.look(|work| work()), 1);
    }
}
