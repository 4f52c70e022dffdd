//! All streams of one account in one region, by name.
//!
//! Promises: a name leads to one stream at a time; a stream that was deleted and created again is
//! another stream (its id differs), so nothing that points into the old one is taken for the new.
//! The locks are held for plain calls only, in this order: catalog, stream, shard.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio_util::sync::CancellationToken;

use crate::api::operation::Operation;
use crate::limits::Calls;
use crate::place::Place;
use crate::stream::{NewStream, Stream};

/// A stream and what never changes about it.
#[derive(Debug)]
pub(crate) struct StreamCell {
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) place: Arc<Place>,
    /// Cancelled when its deletion is asked for: who still waits at its shards is to stop once it is
    /// gone.
    pub(crate) gone: CancellationToken,
    /// The calls of operations that are limited per stream.
    pub(crate) calls: Calls<Operation>,
    stream: RwLock<Stream>,
}

impl StreamCell {
    /// A stream that was created in `home`, unless it says another place.
    pub(crate) fn new(new: &NewStream, home: &Arc<Place>) -> Self {
        Self {
            id: new.id,
            name: Arc::clone(&new.name),
            place: Arc::clone(new.place.as_ref().unwrap_or(home)),
            gone: CancellationToken::new(),
            calls: Calls::default(),
            stream: RwLock::new(Stream::create(new)),
        }
    }

    pub(crate) fn arn(&self) -> String {
        self.place.stream_arn(&self.name)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Stream> {
        self.stream.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Stream> {
        self.stream.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The streams, in the order of their names.
pub(crate) type Streams = BTreeMap<Arc<str>, Arc<StreamCell>>;

/// All streams.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    streams: RwLock<Streams>,
}

impl Catalog {
    pub(crate) fn new(streams: Streams) -> Self {
        Self {
            streams: RwLock::new(streams),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<StreamCell>> {
        self.read().get(name).cloned()
    }

    /// The stream with this id. Looks through all of them.
    pub(crate) fn by_id(&self, id: u64) -> Option<Arc<StreamCell>> {
        let streams = self.read();
        streams.values().find(|cell| cell.id == id).cloned()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Streams> {
        self.streams.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Streams> {
        self.streams.write().unwrap_or_else(PoisonError::into_inner)
    }
}
