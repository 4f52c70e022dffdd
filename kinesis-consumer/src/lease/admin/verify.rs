//! Whether the leases cover every hash key of every stream.
//!
//! Deliberately absent: looking for keys that are covered twice. A parent and its children are while the
//! parent is read to its end, also its grandchildren after a reset, and a shard that is not there any more
//! gives no record twice.

use std::collections::BTreeMap;

use kinesis_core::{HashKey, HashKeyRange};
use serde::Serialize;

use super::LeaseAdmin;
use crate::error::Error;
use crate::lease::Lease;
use crate::stream::{StreamId, StreamSource};

/// What [`LeaseAdmin::verify`] found.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cover {
    /// Whether nothing is wrong.
    pub sound: bool,
    /// Each stream of the table, and each that was asked for; one without a name for an application of one
    /// stream, and for a table without leases.
    pub streams: Vec<StreamCover>,
    /// Rows that cannot be read, and why.
    pub unreadable: Vec<String>,
}

/// How the leases of one stream cover its hash keys.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StreamCover {
    /// The stream in the leases' keys.
    pub stream: Option<String>,
    /// Leases of shards that are not finished.
    pub open: usize,
    /// Leases of finished shards.
    pub ended: usize,
    /// Parts of the key space, `first-last`, that no open lease covers: their records are not read.
    /// A worker lists the shards and mends this within `shard_sync_interval`.
    pub holes: Vec<String>,
    /// Leases without a range, as a KCL 2.x leaves them until a newer worker runs.
    pub without_range: Vec<String>,
    /// Leases in a handoff.
    pub in_handoff: Vec<String>,
}

impl LeaseAdmin {
    /// Looks at every row. Leases that overlap are no fault: as a parent and its children do while the
    /// parent is read to its end. A table without leases is one: nobody reads anything.
    ///
    /// The table does not say which streams an application of several reads. One whose leases are all gone
    /// is missed only if it is among `streams`. Leases that name no stream are those of the first of them.
    ///
    /// # Errors
    /// When the table cannot be read, or one of `streams` cannot be described.
    pub async fn verify(&self, streams: &[StreamSource]) -> Result<Cover, Error> {
        let mut wanted = Vec::new();
        for stream in streams {
            wanted.push(self.identify(stream).await?);
        }
        let scan = self.rows.scan().await?;
        let mut streams: BTreeMap<Option<StreamId>, Vec<&Lease>> = BTreeMap::new();
        for found in &scan.leases {
            let stream = StreamId::of_key(&found.lease.shard_id);
            streams.entry(stream).or_default().push(&found.lease);
        }
        let nameless = usize::from(streams.contains_key(&None));
        for id in wanted.into_iter().skip(nameless) {
            streams.entry(Some(id)).or_default();
        }
        if streams.is_empty() {
            streams.insert(None, Vec::new());
        }
        let streams: Vec<StreamCover> = streams
            .into_iter()
            .map(|(stream, leases)| cover(stream, &leases))
            .collect();
        let unreadable: Vec<String> = scan.corrupt.iter().map(ToString::to_string).collect();
        let sound = unreadable.is_empty() && streams.iter().all(|stream| stream.holes.is_empty());
        Ok(Cover {
            sound,
            streams,
            unreadable,
        })
    }
}

fn cover(stream: Option<StreamId>, leases: &[&Lease]) -> StreamCover {
    let keys = |which: &dyn Fn(&Lease) -> bool| {
        let matching = leases.iter().filter(|lease| which(lease));
        matching.map(|lease| lease.shard_id.to_string()).collect()
    };
    let open = leases.iter().filter(|lease| !lease.is_ended());
    let ranges = open.clone().filter_map(|lease| lease.range);
    let open = open.count();
    StreamCover {
        stream: stream.map(|id| id.to_string()),
        open,
        ended: leases.len() - open,
        holes: holes(ranges.collect()),
        without_range: keys(&|lease| lease.range.is_none()),
        in_handoff: keys(&Lease::is_in_handoff),
    }
}

/// The parts of the key space between and around `ranges`.
fn holes(mut ranges: Vec<HashKeyRange>) -> Vec<String> {
    ranges.sort_unstable_by_key(|range| range.start());
    let mut holes = Vec::new();
    let mut next = Some(HashKey::MIN);
    for range in ranges {
        let Some(first) = next else { break };
        if range.start() > first {
            holes.push(format!("{first}-{}", HashKey(range.start().0 - 1)));
        }
        next = range
            .end()
            .0
            .checked_add(1)
            .map(|after| first.max(HashKey(after)));
    }
    holes.extend(next.map(|first| format!("{first}-{}", HashKeyRange::FULL.end())));
    holes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_what_no_range_covers_whatever_overlaps() {
        let range = |start, end| HashKeyRange::new(HashKey(start), HashKey(end)).expect("in order");
        let last = HashKeyRange::FULL.end().0;
        assert!(holes(vec![HashKeyRange::FULL, range(3, 9)]).is_empty());
        let end = format!("21-{last}");
        assert_eq!(
            holes(vec![range(10, 20), range(5, 7), range(5, 6)]),
            ["0-4", "8-9", &end]
        );
        assert_eq!(holes(Vec::new()), [format!("0-{last}")]);
        assert_eq!(holes(vec![range(1, last)]), ["0-0"]);
    }
}
