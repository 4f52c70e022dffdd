//! The streams whose shards have leases here: which they are, and the leases they lack.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use kinesis_core::{Shard, ShardId, ShardMap};
use tokio::time::Instant;

use super::{Service, names};
use crate::discover::{self, Known};
use crate::error::{Error, ErrorKind};
use crate::lease::Lease;
use crate::lease::table::{Created, LeaseTable, Rows};
use crate::stream::{Address, Source, Sources};

/// Leases being created at once during a shard sync. Source: none, reasonable default.
const CREATES_AT_ONCE: usize = 8;

/// Streams being looked up at once: one that is not answered takes ten seconds, and others are not to
/// wait for it. Source: none, reasonable default; DescribeStreamSummary may be called 20 times a second.
const LOOKS_AT_ONCE: usize = 10;

/// Scans running that have to find the key space not covered before the shards are listed. A scan is
/// no snapshot. Source: KCL, `leasesRecoveryAuditorInconsistencyConfidenceThreshold`.
const HOLE_CONFIDENCE: u32 = 3;

/// Owns a lease that was missing among others, for `failover_time`: whoever had it may not know yet that its
/// row was deleted. No worker has this name, and to a KCL, too, such a lease is one whose owner died.
const FORMER_OWNER: &str = "unknown-former-owner";

/// A stream that is read, and how its leases stand.
#[derive(Debug)]
pub(super) struct Stream {
    source: Arc<Source>,
    next_sync: Instant,
    /// When to look at the earliest whether it still is the same stream, if that is in doubt.
    next_look: Instant,
    /// This worker, as the leader, made sure of its leases.
    synced: bool,
    /// How many scans running found its key space not covered.
    holes_seen: u32,
}

impl Stream {
    pub(super) fn source(&self) -> &Arc<Source> {
        &self.source
    }
}

impl Service {
    /// Brings the streams up to what the application asks for.
    ///
    /// # Errors
    /// Only for an application of one stream: one of several that cannot be looked up is reported,
    /// and tried again later.
    pub(super) async fn find_streams(&mut self) -> Result<(), Error> {
        let wanted = match &self.keeper.sources {
            Sources::One(address) => {
                if self.streams.is_empty() {
                    let source = Source {
                        id: None,
                        address: address.clone(),
                        initial: self.keeper.initial,
                        consumer_arn: None,
                        stop: self.shutdown.child_token(),
                        events: self.keeper.events.clone(),
                        doubted: AtomicBool::new(false),
                    };
                    self.read(source);
                }
                return Ok(());
            }
            Sources::Many(streams) => streams.list(),
        };
        let is_wanted = |address: &Address| wanted.iter().any(|stream| stream.address == *address);
        for gone in self
            .streams
            .extract_if(.., |stream| !is_wanted(&stream.source.address))
        {
            tracing::info!(stream = %gone.source.label(), "the stream is not read any more");
            gone.source.stop.cancel();
        }
        self.unknown
            .retain(|stream, _| is_wanted(&stream.as_str().into()));
        self.look_again().await;
        for stream in wanted {
            let known = |known: &Stream| known.source.address == stream.address;
            let now = self.keeper.clock.now();
            let rests = self
                .unknown
                .get(stream.stream())
                .is_some_and(|at| now < *at);
            if rests || self.streams.iter().any(known) {
                continue;
            }
            match discover::identify(&self.keeper.kinesis, &stream.address).await {
                Ok(id) => {
                    self.unknown.remove(stream.stream());
                    self.read(Source {
                        id: Some(id),
                        address: stream.address,
                        initial: stream.initial_position.unwrap_or(self.keeper.initial),
                        consumer_arn: stream.consumer_arn,
                        stop: self.shutdown.child_token(),
                        events: self.keeper.events.clone(),
                        doubted: AtomicBool::new(false),
                    });
                }
                Err(error) => {
                    tracing::error!(
                        "one of the streams cannot be read and is tried again: {error}"
                    );
                    let again = now + self.keeper.settings.shard_sync_interval;
                    self.unknown.insert(stream.stream().to_owned(), again);
                }
            }
        }
        Ok(())
    }

    /// Lets go of streams that were deleted and created anew under their names: those are others, and
    /// their shards, which have the same ids, get leases of their own.
    ///
    /// Called by the keeper's one task alone, so no two looks run at a time; but shards of the stream doubt
    /// it from tasks of their own. A doubt that comes while a look is under way may be about what came
    /// after the answer, so it is not taken back by it, and looked into at the next one.
    async fn look_again(&mut self) {
        let now = self.keeper.clock.now();
        let mut doubted = Vec::new();
        for stream in &mut self.streams {
            if now >= stream.next_look && stream.source.doubted.swap(false, Ordering::Relaxed) {
                stream.next_look = now + self.keeper.settings.shard_sync_interval;
                doubted.push(Arc::clone(&stream.source));
            }
        }
        let kinesis = &self.keeper.kinesis;
        let looks = stream::iter(doubted).map(async |source| {
            let found = discover::identify(kinesis, &source.address).await;
            (source, found)
        });
        let looks: Vec<_> = looks.buffered(LOOKS_AT_ONCE).collect().await;
        for (source, found) in looks {
            match found {
                Ok(id) if source.id.as_ref() == Some(&id) => {}
                Ok(id) => {
                    tracing::error!(
                        stream = %source.label(), now = %id,
                        "the stream was deleted and created anew; the new one is read from its \
                         initial position, and what was left of the old one is lost with it"
                    );
                    source.stop.cancel();
                    self.streams
                        .retain(|stream| !Arc::ptr_eq(&stream.source, &source));
                }
                // It may come back as another.
                Err(error) => {
                    source.doubted.store(true, Ordering::Relaxed);
                    tracing::warn!(stream = %source.label(), "the stream is looked for again: {error}");
                }
            }
        }
    }

    fn read(&mut self, source: Source) {
        self.streams.push(Stream {
            source: Arc::new(source),
            next_sync: self.keeper.clock.now(),
            next_look: self.keeper.clock.now(),
            synced: false,
            holes_seen: 0,
        });
    }

    /// The stream that a lease belongs to.
    pub(super) fn source_of(&self, key: &ShardId) -> Option<Arc<Source>> {
        let stream = self.streams.iter().find(|stream| stream.source.has(key))?;
        Some(Arc::clone(&stream.source))
    }

    /// The rows of the streams that are read; the others are left alone.
    pub(super) fn own(&mut self, mut rows: Rows) -> Rows {
        let all = rows.leases.len();
        rows.leases
            .retain(|lease| self.source_of(&lease.shard_id).is_some());
        rows.corrupt
            .retain(|row| self.source_of(&row.shard_id).is_some());
        let others = all - rows.leases.len();
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
        }
    }

    /// Creates the leases of streams that were not looked through yet. Whether there were any.
    pub(super) async fn sync_new(
        &mut self,
        leases: &[Lease],
        unreadable: &[ShardId],
        patience: Duration,
    ) -> Result<bool, Error> {
        let mut any = false;
        for at in 0..self.streams.len() {
            let now = self.keeper.clock.now();
            let stream = &self.streams[at];
            if stream.synced || now < stream.next_sync {
                continue;
            }
            let synced = self.sync(at, leases, unreadable, patience).await;
            any |= synced.is_ok();
            match synced {
                // The stream is gone; what its shards hold has been read or is lost with it.
                Err(error) if error.kind() == ErrorKind::NotFound && !leases.is_empty() => {
                    tracing::error!("the shards cannot be listed: {error}");
                }
                synced => self.outcome_of_sync(at, synced)?,
            }
        }
        Ok(any)
    }

    /// Of several streams, one that cannot be listed does not stop the others.
    fn outcome_of_sync(&mut self, at: usize, synced: Result<(), Error>) -> Result<(), Error> {
        match (&self.keeper.sources, synced) {
            (_, Ok(())) => {
                self.streams[at].synced = true;
                Ok(())
            }
            (Sources::Many(_), Err(error)) => {
                tracing::error!(
                    "the shards of one of the streams cannot be listed and are tried again: {error}"
                );
                Ok(())
            }
            (Sources::One(_), Err(error)) => Err(error),
        }
    }

    /// Creates the leases that one stream lacks, and completes rows of a KCL 2.x.
    async fn sync(
        &mut self,
        at: usize,
        leases: &[Lease],
        unreadable: &[ShardId],
        patience: Duration,
    ) -> Result<(), Error> {
        let keeper = &self.keeper;
        let stream = &mut self.streams[at];
        stream.next_sync = keeper.clock.now() + keeper.settings.shard_sync_interval;
        let source = Arc::clone(&stream.source);
        let leases: Vec<Lease> = leases
            .iter()
            .filter(|lease| source.has(&lease.shard_id))
            .cloned()
            .collect();
        let (client, address) = (&keeper.kinesis, &source.address);
        let listed = tokio::select! {
            biased;
            // Who leaves has no time for patience, and leaves what is missing to the next leader.
            () = self.shutdown.cancelled() => return Ok(()),
            listed = discover::list_shards(client, address, patience, &keeper.rand) => listed,
        };
        let listing = listed?;
        let shards = source.keyed(&listing.shards);
        let known = Known {
            leases: &leases,
            unreadable,
        };
        // By the clock that stamps the records, whatever this worker's says.
        let now_millis = listing.service_millis;
        let now_millis = now_millis.unwrap_or_else(|| keeper.clock.epoch_millis());
        let mut missing = discover::missing_leases(&shards, known, source.initial, now_millis);
        if !leases.is_empty() {
            // Its row may have been deleted while a worker held it, which finds that out when it renews, or
            // fences itself: until then the lease is somebody's, and free once it stood still for as long.
            let owner = |lease: &mut Lease| lease.owner = Some(FORMER_OWNER.to_owned());
            missing.iter_mut().for_each(owner);
        }
        report_lives_of_others(&shards, &leases, &source, keeper.table.name());
        let created = create_in_order(&*keeper.table, &missing).await?;
        if created > 0 {
            metrics::counter!(names::LEASES_CREATED).increment(created as u64);
            tracing::info!(stream = %source.label(), created, "created leases of shards");
        }
        for lease in leases.iter().filter(|lease| lease.range.is_none()) {
            if let Some(shard) = shards.get(&lease.shard_id) {
                keeper.table.put_range(&shard.id, shard.range).await?;
            }
        }
        let next_sync = keeper.clock.now() + keeper.settings.shard_sync_interval;
        self.streams[at].next_sync = next_sync;
        Ok(())
    }

    /// Looks for missing leases of new streams, and where the leases of a stream leave a part of the
    /// key space to nobody in several scans running.
    pub(super) async fn repair(
        &mut self,
        leases: &[Lease],
        unreadable: &[ShardId],
    ) -> Result<(), Error> {
        self.sync_new(leases, unreadable, Duration::ZERO).await?;
        for at in 0..self.streams.len() {
            let stream = &mut self.streams[at];
            let of_stream = leases
                .iter()
                .filter(|lease| stream.source.has(&lease.shard_id));
            let hole = !discover::covers_key_space(of_stream);
            stream.holes_seen = if hole { stream.holes_seen + 1 } else { 0 };
            if stream.holes_seen < HOLE_CONFIDENCE || self.keeper.clock.now() < stream.next_sync {
                continue;
            }
            match self.sync(at, leases, unreadable, Duration::ZERO).await {
                // The stream is gone; what its shards hold has been read or is lost with it.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    tracing::error!("the shards cannot be listed: {error}");
                }
                synced => self.outcome_of_sync(at, synced)?,
            }
        }
        Ok(())
    }
}

/// Reports open shards that count as read to their end. Where the application reads one stream, whose
/// leases do not say of which stream of that name they are, that is a stream that was created anew.
fn report_lives_of_others(shards: &ShardMap, leases: &[Lease], source: &Source, table: &str) {
    let ended = leases.iter().filter(|lease| lease.is_ended());
    for lease in ended.filter(|lease| shards.get(&lease.shard_id).is_some_and(Shard::is_open)) {
        tracing::error!(
            table,
            stream = %source.label(),
            shard = %lease.shard_id,
            "an open shard has a finished lease, so nobody reads it: was the stream deleted and \
             created anew under its name? Reset this lease (`leases reset`), or delete its row"
        );
    }
}

/// Creates `leases` a few at a time, those of parents before those of their children. How many were
/// not there yet.
async fn create_in_order(table: &dyn LeaseTable, leases: &[Lease]) -> Result<usize, Error> {
    let mut created = 0;
    let mut rest = leases;
    while !rest.is_empty() {
        let batch = independent_prefix(rest);
        let (now, later) = rest.split_at(batch);
        let creates = now.iter().map(|lease| table.create(lease));
        for outcome in futures::future::try_join_all(creates).await? {
            created += usize::from(outcome == Created::New);
        }
        rest = later;
    }
    Ok(created)
}

/// How many of the first leases have no parent among them; at least one.
fn independent_prefix(leases: &[Lease]) -> usize {
    let dependent = leases
        .iter()
        .enumerate()
        .take(CREATES_AT_ONCE)
        .skip(1)
        .find(|(at, lease)| {
            leases[..*at]
                .iter()
                .any(|earlier| lease.parents.contains(&earlier.shard_id))
        });
    dependent.map_or(leases.len().min(CREATES_AT_ONCE), |(at, _)| at)
}
