//! Stand-in: in memory only, until the log file lands.

use std::path::Path;
use std::sync::Arc;

use crate::catalog::Streams;
use crate::error::Error;
use crate::stream::shard::Shard;

pub(crate) mod entry;

use entry::Entry;

/// Where changes are kept.
#[derive(Clone, Debug)]
pub(crate) struct Log {}

/// A change on its way to the disk.
#[derive(Debug)]
pub(crate) struct Ticket {}

/// The store cannot be written any more.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the store is not writable")]
pub(crate) struct LogFailure;

impl Log {
    pub(crate) fn open(_dir: Option<&Path>) -> Result<(Self, Streams, u64), Error> {
        Ok((Self {}, Streams::new(), 0))
    }
    pub(crate) fn is_durable(&self) -> bool {
        false
    }
    pub(crate) fn submit(&self, _entry: Entry, _publish: Option<(Arc<Shard>, u64)>) -> Ticket {
        Ticket {}
    }
    pub(crate) async fn admit(&self, _bytes: usize) -> Result<Option<()>, LogFailure> {
        Ok(None)
    }
    pub(crate) fn check(&self) -> Result<(), LogFailure> {
        Ok(())
    }
    pub(crate) async fn settled(&self) -> Result<(), LogFailure> {
        Ok(())
    }
    pub(crate) async fn close(&self) {}
}

impl Ticket {
    pub(crate) async fn stored(self) -> Result<(), LogFailure> {
        Ok(())
    }
}
