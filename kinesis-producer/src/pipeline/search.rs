//! The search for the records that the service refuses, so that the others pass.
//!
//! ```text
//! request refused for its content ─▶ the records that are named, each by itself, and the others
//!                                 └▶ none named: halves, each by itself … until one is left
//! one Kinesis record refused      ─▶ its members in halves … until one is left
//! ```
//!
//! Each request that is refused, and each aggregate alone that is, begins a search of its own. What is
//! looked through goes by itself, so nothing that it does not concern is refused along with it. A
//! search ends for nothing but its own refusals: however many go on at a time, the healthy records of
//! each are found. One that meets refusals only holds all its records guilty: it is not the records. So
//! a service that refuses everything costs each request, and each aggregate in it, 64 more, and those under
//! way beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::aggregate::KinesisRecord;

/// Most records of a request that are sent each by itself because the service named them.
/// Source: none; half of what halving takes at most to find one in a request (2 · log2 500).
const NAMED_MAX: usize = 9;

/// Requests in a row of one search that are refused, before all that is left of it is held guilty.
/// Source: none, reasonable default; thirty-two guilty ones spread over a request are found.
const REFUSED_IN_A_ROW_MAX: u32 = 64;

/// One search; all that is looked through shares it. Only the pipeline touches it.
#[derive(Debug, Default)]
pub(crate) struct Search {
    refused_in_a_row: AtomicU32,
}

impl Search {
    pub(super) fn begin() -> Arc<Self> {
        Arc::default()
    }

    /// A part of it was refused.
    pub(super) fn refused(&self) {
        // Each refusal has cost a round trip: they are not so many as to overflow.
        self.refused_in_a_row.fetch_add(1, Ordering::Relaxed);
    }

    /// The service took something of it: it does not refuse whatever comes.
    pub(super) fn took(&self) {
        self.refused_in_a_row.store(0, Ordering::Relaxed);
    }

    pub(super) fn is_hopeless(&self) -> bool {
        self.refused_in_a_row.load(Ordering::Relaxed) >= REFUSED_IN_A_ROW_MAX
    }
}

/// Whether both belong to one search, or neither to any.
pub(super) fn is_same(a: Option<&Arc<Search>>, b: Option<&Arc<Search>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// A part of a request that the service refused whole, to be sent as it is.
pub(super) struct Part {
    pub(super) records: Vec<KinesisRecord>,
    /// Cut by what the service named, not by halves.
    pub(super) named: bool,
    /// What it is a part of; `None` only of what was not refused before.
    pub(super) search: Option<Arc<Search>>,
}

impl Part {
    /// Cuts it up: the records that the service named (`guilty`) go each by itself, behind the
    /// others; if it named none, or more than is worth it, in two halves.
    pub(super) fn cut(self, guilty: &[usize]) -> Vec<Self> {
        let Self {
            mut records,
            named,
            search,
        } = self;
        let count = records.len();
        // What was parted by name and is refused again was parted wrongly, or not enough.
        let usable = !named
            && (1..=NAMED_MAX).contains(&guilty.len())
            && guilty.iter().all(|at| *at < count);
        let parts = if usable {
            let mut suspects = Vec::new();
            let mut others = Vec::with_capacity(count);
            for (at, record) in records.into_iter().enumerate() {
                if guilty.contains(&at) {
                    suspects.push(vec![record]);
                } else {
                    others.push(record);
                }
            }
            suspects.insert(0, others);
            suspects
        } else {
            let second = records.split_off(count / 2);
            vec![records, second]
        };
        let parts = parts.into_iter().filter(|records| !records.is_empty());
        parts
            .map(|records| Self {
                records,
                named: usable,
                search: search.clone(),
            })
            .collect()
    }
}
