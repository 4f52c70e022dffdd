//! The streams whose shards have leases here: which they are, and which of them may lack leases.
//!
//! Nothing here waits: what has to be asked is asked by the [`survey`](super::survey), and taken in when
//! it is answered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kinesis_core::ShardId;
use tokio::time::Instant;

use super::by_key::ByKey;
use super::lead::Board;
use super::survey::Found;
use super::{INDEX_INTERVAL, Service};
use crate::discover;
use crate::error::{Error, ErrorKind};
use crate::lease::Lease;
use crate::lease::table::Rows;
use crate::stream::{Source, Sources, StreamId, StreamSource};

/// Scans running that have to find the key space not covered before the shards are listed. A scan is
/// no snapshot. Source: KCL, `leasesRecoveryAuditorInconsistencyConfidenceThreshold`.
const HOLE_CONFIDENCE: u32 = 3;

/// A stream that is read, and how its leases stand.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) source: Arc<Source>,
    /// When to list its shards at the earliest, if that is due.
    next_sync: Instant,
    /// A sync is under way; and whether this worker has led ever since it began.
    syncing: Option<bool>,
    /// This worker, as the leader, made sure of its leases.
    synced: bool,
    /// The last pass saw no lease of it.
    is_new: bool,
    /// How many scans running found its key space not covered.
    holes_seen: u32,
    /// When to look at the earliest whether it still is the same stream, if that is in doubt.
    next_look: Instant,
    /// That is being looked at.
    looking: bool,
    /// Leases of shards that may be gone are being looked at.
    pub(super) cleaning: bool,
}

/// A stream of the application's list that is not known yet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unknown {
    Asked,
    /// It could not be looked up, and is again from then on.
    Rests(Instant),
}

impl Service {
    /// Brings the streams up to what the application asks for, as far as it is known which they are, and
    /// asks for the others.
    pub(super) fn find_streams(&mut self) {
        let Sources::Many(streams) = &self.keeper.sources else {
            return;
        };
        let wanted = streams.list();
        let names: BTreeSet<&str> = wanted.iter().map(StreamSource::stream).collect();
        let before = self.streams.len();
        for gone in self
            .streams
            .extract_if(.., |stream| !names.contains(stream.source.address.as_str()))
        {
            tracing::info!(stream = %gone.source.label(), "the stream is not read any more");
            gone.source.stop.cancel();
        }
        if self.streams.len() < before {
            self.know_by_key();
        }
        self.unknown
            .retain(|stream, _| names.contains(stream.as_str()));
        if self.shutdown.is_cancelled() {
            return;
        }
        let now = self.keeper.clock.now();
        for stream in &mut self.streams {
            let due = !stream.looking && now >= stream.next_look;
            // A doubt that comes while that is looked at may be about what came after the answer, and is
            // looked into at the next time.
            if due && stream.source.doubted.swap(false, Ordering::Relaxed) {
                stream.looking = true;
                stream.next_look = now + self.keeper.settings.shard_sync_interval;
                self.survey.look_again(Arc::clone(&stream.source));
            }
        }
        let known = self
            .streams
            .iter()
            .map(|stream| stream.source.address.as_str());
        let known: BTreeSet<&str> = known.collect();
        for stream in &wanted {
            let rests = match self.unknown.get(stream.stream()) {
                Some(Unknown::Asked) => true,
                Some(Unknown::Rests(until)) => now < *until,
                None => false,
            };
            if rests || known.contains(stream.stream()) {
                continue;
            }
            self.unknown
                .insert(stream.stream().to_owned(), Unknown::Asked);
            self.survey.name(stream.clone());
        }
    }

    /// Takes in an answer. Whether there is news for a look at the leases.
    ///
    /// # Errors
    /// Only for an application of one stream, which is not there: there is nothing to wait for.
    pub(super) fn take_in(&mut self, found: Found) -> Result<bool, Error> {
        match found {
            Found::Named(stream, id) => Ok(self.named(&stream, id)),
            Found::Seen(source, id) => Ok(self.seen(&source, id)),
            Found::Synced(source, synced) => self.synced(&source, synced),
            Found::Cleaned(source) => {
                if let Some(stream) = self.stream_of(&source) {
                    stream.cleaning = false;
                }
                Ok(false)
            }
            Found::Deleted => {
                self.deleting = false;
                Ok(false)
            }
            Found::Indexed(index) => {
                self.next_index = Some(self.keeper.clock.now() + INDEX_INTERVAL);
                match index {
                    Ok(index) => self.index = index,
                    Err(error) => self.judge(Err(error))?,
                }
                Ok(false)
            }
        }
    }

    fn named(&mut self, asked: &StreamSource, id: Result<StreamId, Error>) -> bool {
        let name = asked.stream();
        if !matches!(self.unknown.get(name), Some(Unknown::Asked)) {
            return false;
        }
        let Sources::Many(streams) = &self.keeper.sources else {
            return false;
        };
        // As the list has it now.
        let listed = streams.list().into_iter().find(|one| one.stream() == name);
        match (listed, id) {
            (None, _) => {
                self.unknown.remove(name);
                false
            }
            (Some(stream), Ok(id)) => {
                self.unknown.remove(name);
                self.read(Source {
                    id: Some(id),
                    address: stream.address,
                    initial: stream.initial_position.unwrap_or(self.keeper.initial),
                    consumer_arn: stream.consumer_arn,
                    stop: self.shutdown.child_token(),
                    events: self.keeper.events.clone(),
                    doubted: AtomicBool::new(false),
                });
                true
            }
            (Some(_), Err(error)) => {
                tracing::error!("one of the streams cannot be read and is tried again: {error}");
                let again = self.keeper.clock.now() + self.keeper.settings.shard_sync_interval;
                self.unknown.insert(name.to_owned(), Unknown::Rests(again));
                false
            }
        }
    }

    /// Lets go of a stream that was deleted and created anew under its name: that is another one, and
    /// its shards, which have the same ids, get leases of their own. Whether it was.
    fn seen(&mut self, source: &Arc<Source>, id: Result<StreamId, Error>) -> bool {
        let Some(stream) = self.stream_of(source) else {
            return false;
        };
        stream.looking = false;
        match id {
            Ok(id) if source.id.as_ref() == Some(&id) => false,
            Ok(id) => {
                tracing::error!(
                    stream = %source.label(), now = %id,
                    "the stream was deleted and created anew; the new one is read from its \
                     initial position, and what was left of the old one is lost with it"
                );
                source.stop.cancel();
                self.streams
                    .retain(|stream| !Arc::ptr_eq(&stream.source, source));
                self.know_by_key();
                true
            }
            // It may come back as another.
            Err(error) => {
                source.doubted.store(true, Ordering::Relaxed);
                tracing::warn!(stream = %source.label(), "the stream is looked for again: {error}");
                false
            }
        }
    }

    /// Of several streams, one that cannot be listed does not stop the others.
    fn synced(
        &mut self,
        source: &Arc<Source>,
        synced: Result<usize, Error>,
    ) -> Result<bool, Error> {
        let now = self.keeper.clock.now();
        let next_sync = now + self.keeper.settings.shard_sync_interval;
        let Some(stream) = self.stream_of(source) else {
            return Ok(false);
        };
        let has_led = stream.syncing.take() == Some(true);
        let is_new = stream.is_new;
        stream.next_sync = next_sync;
        let error = match synced {
            Ok(written) => {
                stream.synced = has_led;
                self.rows_written |= written > 0;
                return Ok(written > 0);
            }
            Err(error) => error,
        };
        if error.kind().is_retryable() && is_new {
            // Nothing is read of it before: in the next pass.
            stream.next_sync = now;
        }
        match &self.keeper.sources {
            Sources::Many(_) => tracing::error!(
                "the shards of one of the streams cannot be listed and are tried again: {error}"
            ),
            // The stream is gone; what its shards hold has been read or is lost with it.
            Sources::One(_) if error.kind() == ErrorKind::NotFound && !is_new => {
                tracing::error!("the shards cannot be listed: {error}");
            }
            Sources::One(_) => self.judge(Err(error))?,
        }
        Ok(false)
    }

    fn stream_of(&mut self, source: &Arc<Source>) -> Option<&mut Stream> {
        let mut streams = self.streams.iter_mut();
        streams.find(|stream| Arc::ptr_eq(&stream.source, source))
    }

    pub(super) fn read(&mut self, source: Source) {
        let now = self.keeper.clock.now();
        let source = Arc::new(source);
        self.by_key.add(&source);
        self.streams.push(Stream {
            source,
            next_sync: now,
            syncing: None,
            synced: false,
            is_new: true,
            holes_seen: 0,
            next_look: now,
            looking: false,
            cleaning: false,
        });
    }

    /// After streams went.
    fn know_by_key(&mut self) {
        self.by_key = ByKey::new(self.streams.iter().map(|stream| &stream.source));
    }

    /// The stream that a lease belongs to.
    pub(super) fn source_of(&self, key: &ShardId) -> Option<Arc<Source>> {
        self.by_key.get(key).cloned()
    }

    /// The rows of the streams that are read; the others are left alone.
    pub(super) fn own(&mut self, mut rows: Rows) -> Rows {
        let others = self.by_key.own(&mut rows);
        if others > 0 && !self.others_reported && matches!(self.keeper.sources, Sources::One(_)) {
            self.others_reported = true;
            tracing::error!(
                table = self.keeper.table.name(),
                rows = others,
                "the lease table holds leases of a multi-stream application, which are left alone; \
                 give this application a table of its own, or convert the leases"
            );
        }
        rows
    }

    /// Another worker may have led meanwhile: what this one made sure of does not count any more.
    pub(super) fn forget_syncs(&mut self) {
        for stream in &mut self.streams {
            stream.synced = false;
            stream.syncing = stream.syncing.map(|_| false);
        }
    }

    /// Whether the row, one of a KCL 2.x, is about to be told its hash keys. Whoever reads the shard needs
    /// them from the start, to tell members of other shards.
    pub(super) fn waits_for_range(&self, row: &Lease) -> bool {
        if row.range.is_some() {
            return false;
        }
        let source = self.by_key.get(&row.shard_id);
        let of_row = |stream: &&Stream| source.is_some_and(|of| Arc::ptr_eq(of, &stream.source));
        let stream = self.streams.iter().find(of_row);
        stream.is_some_and(|stream| !stream.synced && stream.syncing.is_some())
    }

    /// Has the leases created that streams lack which were not looked through yet, or whose leases leave
    /// a part of the key space to nobody in several scans running.
    pub(super) fn sync_streams(&mut self, board: &Board) {
        let now = self.keeper.clock.now();
        let mut with_holes = 0;
        for stream in &mut self.streams {
            let source = &stream.source;
            let leases = board.of(source);
            stream.is_new = leases.is_empty();
            let hole = !discover::covers_key_space(leases);
            with_holes += usize::from(hole);
            stream.holes_seen = if hole { stream.holes_seen + 1 } else { 0 };
            let due = !stream.synced || stream.holes_seen >= HOLE_CONFIDENCE;
            if due && stream.syncing.is_none() && now >= stream.next_sync {
                stream.syncing = Some(true);
                let leases = leases.to_vec();
                let unreadable = board.unreadable.clone();
                self.survey
                    .sync(Arc::clone(source), leases, unreadable, board.has_kcl());
            }
        }
        self.fleet.streams.set(self.streams.len());
        self.fleet.streams_with_holes.set(with_holes);
    }
}
