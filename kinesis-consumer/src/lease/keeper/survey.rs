//! What takes calls that may hang, apart from the leases: a task for each question.
//!
//! ```text
//!  streams, clean ──which stream, which shards, is there an index?──▶ Survey ─▶ a task each
//!        ▲          delete what is of no more use                                 │ at most so many
//!        └────── Found, taken in while the keeper waits for its next look ◀───────┘ calls at once
//! ```
//!
//! Kinesis lists and describes streams by another service than the one that gives records out, and
//! DynamoDB tables by another than the one that reads rows. While those are slow or down, leases are
//! given, taken and renewed all the same. So nothing here is waited for by a look at the leases. Nor is
//! the deleting of rows, of which there may be thousands after a stream was rescaled.
//!
//! A sync works on the rows that its asker read, and lists the shards after them, in one attempt. If it had to
//! wait so long for its turn that the rows are old, nothing is done. It ends with the rows created.
//!
//! Dropping the survey ends its tasks; each of their writes is on a condition, as after a crash.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use kinesis_core::{Clock, Position, Shard, ShardId, ShardMap};
use metrics::counter;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use super::{LeaseKeeper, names};
use crate::discover::{self, Known};
use crate::error::{Error, ErrorKind};
use crate::lease::stats::WorkerStats;
use crate::lease::table::{Created, Index, LeaseTable};
use crate::lease::{FORMER_OWNER, Lease};
use crate::stream::{Source, StreamId, StreamSource};

/// Streams being looked up at once: one that is not answered takes ten seconds, and others are not to
/// wait for it. Source: none, reasonable default; DescribeStreamSummary may be called 20 times a second.
const LOOKS_AT_ONCE: usize = 10;

/// Streams whose shards are being listed at once. Source: none, reasonable default; ListShards may be
/// called 1,000 times a second for each stream.
const LISTS_AT_ONCE: usize = 32;

/// How old the rows may be that a sync goes by once its listing is there; it may have waited for its turn, and
/// others may have gone on. Source: none, reasonable default: a listing takes ten seconds at the most.
const ROWS_AGE_MAX: Duration = Duration::from_secs(15);

/// Leases being created at once for one stream. Source: none, reasonable default.
const CREATES_AT_ONCE: usize = 8;

/// Rows being deleted at once. Source: none, as for creating; a thousand rows take two seconds, and a table
/// with little throughput has most of it left for renewals.
const DELETES_AT_ONCE: usize = 8;

/// An answer.
#[derive(Debug)]
pub(super) enum Found {
    /// Which stream one of the application's list is.
    Named(StreamSource, Result<StreamId, Error>),
    /// Which stream answers to the address of one that is in doubt.
    Seen(Arc<Source>, Result<StreamId, Error>),
    /// How many rows of the stream were written: created, or completed.
    Synced(Arc<Source>, Result<usize, Error>),
    /// Leases of shards that are not listed any more are gone.
    Cleaned(Arc<Source>),
    /// Rows of no more use are gone, or are looked at later.
    Deleted,
    /// Whether the leases of an owner can be asked for.
    Indexed(Result<Index, Error>),
}

/// The questions under way.
#[derive(Debug)]
pub(super) struct Survey {
    asker: Asker,
    tasks: JoinSet<Found>,
}

/// Who asks.
#[derive(Clone, Debug)]
struct Asker {
    kinesis: aws_sdk_kinesis::Client,
    table: Arc<dyn LeaseTable>,
    clock: Clock,
    looks: Arc<Semaphore>,
    lists: Arc<Semaphore>,
}

impl Survey {
    pub(super) fn new(keeper: &LeaseKeeper) -> Self {
        Self {
            asker: Asker {
                kinesis: keeper.kinesis.clone(),
                table: Arc::clone(&keeper.table),
                clock: keeper.clock.clone(),
                looks: Arc::new(Semaphore::new(LOOKS_AT_ONCE)),
                lists: Arc::new(Semaphore::new(LISTS_AT_ONCE)),
            },
            tasks: JoinSet::new(),
        }
    }

    /// Which stream is this one of the list?
    pub(super) fn name(&mut self, stream: StreamSource) {
        let asker = self.asker.clone();
        self.spawn(async move {
            let id = sound(asker.identify(&stream.address)).await;
            Found::Named(stream, id)
        });
    }

    /// Is this still the same stream?
    pub(super) fn look_again(&mut self, source: Arc<Source>) {
        let asker = self.asker.clone();
        self.spawn(async move {
            let id = sound(asker.identify(&source.address)).await;
            Found::Seen(source, id)
        });
    }

    /// Which leases does the stream lack, to which these of `leases` belong? They are created, where
    /// workers of a KCL are in the fleet so that those can read them, and the rows of a KCL 2.x completed.
    pub(super) fn sync(
        &mut self,
        source: Arc<Source>,
        leases: Vec<Lease>,
        unreadable: Vec<ShardId>,
        beside_kcl: bool,
    ) {
        let asker = self.asker.clone();
        let read_by = asker.clock.now();
        self.spawn(async move {
            let known = Known {
                leases: &leases,
                unreadable: &unreadable,
                beside_kcl,
            };
            let synced = sound(asker.sync(&source, known, read_by)).await;
            Found::Synced(source, synced)
        });
    }

    /// Which of these finished leases without children are of shards that the stream does not have any
    /// more? They are deleted.
    pub(super) fn clean(&mut self, source: Arc<Source>, childless: Vec<Lease>) {
        let asker = self.asker.clone();
        self.spawn(async move {
            if let Err(error) = sound(asker.clean(&source, childless)).await {
                tracing::warn!(
                    stream = %source.label(),
                    "leases of shards that may be gone are looked at later: {error}"
                );
            }
            Found::Cleaned(source)
        });
    }

    /// These finished leases, and these rows of workers of long ago, are deleted, as far as they still are
    /// as they were seen.
    pub(super) fn delete(&mut self, finished: Vec<Lease>, workers: Vec<WorkerStats>) {
        let asker = self.asker.clone();
        self.spawn(async move {
            if let Err(error) = sound(asker.delete(finished, workers)).await {
                tracing::warn!("rows of no more use are deleted later: {error}");
            }
            Found::Deleted
        });
    }

    /// Can the leases of an owner be asked for?
    pub(super) fn look_at_index(&mut self) {
        let table = Arc::clone(&self.asker.table);
        self.spawn(async move { Found::Indexed(sound(table.index()).await) });
    }

    fn spawn(&mut self, question: impl Future<Output = Found> + Send + 'static) {
        self.tasks.spawn(question.in_current_span());
    }

    /// The next answer; `None` if nothing is asked.
    ///
    /// # Cancel safety
    /// No answer is lost.
    pub(super) async fn next(&mut self) -> Option<Found> {
        loop {
            match self.tasks.join_next().await? {
                Ok(found) => return Some(found),
                // Not by a panic, which is caught; the runtime shuts down.
                Err(error) => tracing::debug!("a question to Kinesis was dropped: {error}"),
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Asks nothing any more.
    pub(super) fn stop(&mut self) {
        self.tasks.abort_all();
    }
}

/// A panic is an error, so that whoever asked is told and may ask again.
async fn sound<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    caught.unwrap_or_else(|_| {
        let what = "a look at the streams stopped by a defect of this crate";
        Err(Error::new(ErrorKind::Internal, what))
    })
}

/// `None` never comes: the semaphores are not closed.
async fn turn(calls: &Semaphore) -> Option<SemaphorePermit<'_>> {
    calls.acquire().await.ok()
}

impl Asker {
    async fn identify(&self, stream: &crate::stream::Address) -> Result<StreamId, Error> {
        let _turn = turn(&self.looks).await;
        discover::identify(&self.kinesis, stream).await
    }

    async fn list(&self, source: &Source) -> Result<(ShardMap, Option<u64>), Error> {
        let _turn = turn(&self.lists).await;
        let listing = discover::list_once(&self.kinesis, &source.address).await?;
        Ok((source.keyed(&listing.shards), listing.service_millis))
    }

    async fn sync(
        &self,
        source: &Source,
        known: Known<'_>,
        read_by: Instant,
    ) -> Result<usize, Error> {
        let (shards, service_millis) = self.list(source).await?;
        let age = self.clock.now().duration_since(read_by);
        if age > ROWS_AGE_MAX {
            let what = format!(
                "the look at the shards of stream {} took {age:?}, and is made again by newer leases",
                source.label()
            );
            return Err(Error::new(ErrorKind::Unavailable, what));
        }
        // By the clock that stamps the records, whatever this worker's says.
        let now_millis = service_millis.unwrap_or_else(|| self.clock.epoch_millis());
        let leases = known.leases;
        let mut missing = discover::missing_leases(&shards, known, source.initial, now_millis);
        if !leases.is_empty() {
            // Its row may have been deleted while a worker held it, which finds that out when it renews, or
            // fences itself: until then the lease is somebody's, and free once it stood still for as long.
            let owner = |lease: &mut Lease| lease.owner = Some(FORMER_OWNER.to_owned());
            missing.iter_mut().for_each(owner);
        }
        report_earlier_starts(&missing, source);
        report_lives_of_others(&shards, leases, source, self.table.name());
        let created = create_in_order(&*self.table, &missing).await?;
        if created > 0 {
            counter!(names::LEASES_CREATED).increment(created as u64);
            tracing::info!(stream = %source.label(), created, "created leases of shards");
        }
        let mut written = created;
        for lease in leases.iter().filter(|lease| lease.range.is_none()) {
            if let Some(shard) = shards.get(&lease.shard_id) {
                self.table.put_range(&shard.id, shard.range).await?;
                written += 1;
            }
        }
        Ok(written)
    }

    async fn clean(&self, source: &Source, mut childless: Vec<Lease>) -> Result<(), Error> {
        let (shards, _) = self.list(source).await?;
        childless.retain(|lease| shards.get(&lease.shard_id).is_none());
        self.delete(childless, Vec::new()).await
    }

    /// Stops at the first delete that fails: where one is throttled the others would be, too.
    async fn delete(&self, finished: Vec<Lease>, workers: Vec<WorkerStats>) -> Result<(), Error> {
        let leases = finished.into_iter().map(|lease| async move {
            if self.table.delete_ended(&lease).await? {
                counter!(names::LEASES_DELETED).increment(1);
                tracing::info!(shard = %lease.shard_id, "deleted the lease of a finished shard");
            }
            Ok(())
        });
        at_once(leases).await?;
        let workers = workers.into_iter().map(|row| async move {
            let as_seen = row.updated_at..=row.updated_at;
            self.table.delete_stats(&row.worker, as_seen).await
        });
        at_once(workers).await
    }
}

/// A few of these deletes at a time, until one fails.
async fn at_once(
    deletes: impl Iterator<Item = impl Future<Output = Result<(), Error>>>,
) -> Result<(), Error> {
    let deletes = stream::iter(deletes).buffer_unordered(DELETES_AT_ONCE);
    deletes.try_collect().await
}

/// Reports leases that begin at an instant, and are read from the beginning for the sake of a KCL.
fn report_earlier_starts(missing: &[Lease], source: &Source) {
    for lease in missing {
        if let (Position::TrimHorizon, Some(began_at)) = (&lease.checkpoint, lease.starts_at_millis)
        {
            tracing::warn!(
                stream = %source.label(), shard = %lease.shard_id, began_at,
                "the lease was missing, and is made anew for all that the shard holds, and not from the instant \
                 on at which the application began: a KCL shares the table, or did within a day, and could not \
                 read it"
            );
        }
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

#[cfg(test)]
mod tests;
