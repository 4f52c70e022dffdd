//! The Kinesis service: one typed handler per operation over the streams.
//!
//! ```text
//! call ─▶ front (who asks for what, in the service's order of checks)
//!      ─▶ site (the streams of the caller's account and region)
//!      ─▶ operation ─▶ decode ─▶ constraints ─▶ handler ─▶ stream, log ─▶ encode
//! ```
//! Promises: what is acknowledged is stored (with a data directory: on the disk); what is read was
//! stored before; no lock is held across an await; a request that is dropped half-way leaves a
//! change either whole or absent.
//!
//! Deliberately absent: what a user may do. Signatures are checked where [`auth`](crate::auth) asks
//! for it, and looked at for their shape only where it does not.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use kinesis_core::{Clock, Rand};
use tokio_util::sync::CancellationToken;

use crate::answers::Share;
use crate::auth::Auth;
use crate::body::ResponseBody;
use crate::catalog::StreamCell;
use crate::error::Error;
use crate::limits::Limits;
use crate::log::entry::Entry;
use crate::log::{Log, LogFailure, Ticket};
use crate::place::Place;
use crate::stream::Stream;
use crate::stream::change::Change;
use crate::stream::encryption::KmsKeys;
use crate::stream::lifecycle::{Delays, Status};
use crate::wire::Body;
use crate::wire::fault::Fault;
use crate::wire::write::{Encode, Writer};

mod access;
mod account;
mod attached;
mod channels;
mod consumers;
mod demand;
mod describe;
mod encryption;
mod front;
mod get;
mod lookup;
mod monitoring;
pub(crate) mod operation;
mod pace;
mod policies;
mod put;
mod queues;
mod quotas;
mod record_rules;
mod reshard;
mod resource;
mod retention;
mod scaling;
mod shards;
mod site;
mod streams;
mod subscribe;
mod tags;
mod warm;

pub(crate) use channels::buckets::Buckets;
use operation::Operation;
use site::{Caller, Site, Sites};

/// What the service needs to start.
#[derive(Debug)]
pub(crate) struct KinesisOptions {
    pub(crate) clock: Clock,
    pub(crate) rand: Rand,
    /// Where the log is kept; `None`: in memory.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) limits: Limits,
    /// Who may call; `None`: anybody.
    pub(crate) auth: Option<Arc<Auth>>,
    pub(crate) delays: Delays,
    pub(crate) kms: KmsKeys,
    /// Where channels deliver to.
    pub(crate) buckets: Buckets,
}

/// The service. Cheap to clone; all clones are the same service.
#[derive(Clone, Debug)]
pub(crate) struct Kinesis {
    sites: Arc<Sites>,
}

/// One call: who asks for what, on the site of the caller's account and region.
#[derive(Debug)]
struct Inner {
    site: Arc<Site>,
    operation: Operation,
    caller: Caller,
    /// Cancelled when nobody waits for the answer any more.
    left: CancellationToken,
}

/// Who knows whether the caller still waits puts this beside the request; cancelled when it does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallerLeft(pub(crate) CancellationToken);

/// A handler works on its site.
impl Deref for Inner {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

/// What a handler answers.
#[derive(Debug)]
enum Reply {
    /// 200 without a body.
    Empty,
    /// 200 with a structure, in the encoding of the request.
    Answer(Vec<u8>),
    /// The same, in bytes that hold their share of the memory for answers.
    Shared(Bytes),
    /// SubscribeToShard's frames.
    Events(ResponseBody),
}

impl Reply {
    /// The answer to the request in `body`.
    fn to(body: Body<'_>, answer: &impl Encode) -> Self {
        let mut writer = Writer::new(body.format);
        answer.encode(&mut writer);
        Self::Answer(writer.into_bytes())
    }

    /// The same answer, with the share that was taken for it before it was known.
    fn with(self, share: Option<Share>) -> Self {
        match (self, share) {
            (Self::Answer(bytes), Some(mut share)) => {
                share.shrink_to(bytes.len());
                Self::Shared(share.hold(bytes.into()))
            }
            (reply, _) => reply,
        }
    }
}

impl Kinesis {
    /// Opens the service; with a data directory it recovers what was stored there. Blocks.
    pub(crate) fn open(options: KinesisOptions) -> Result<Self, Error> {
        let home = Arc::new(Place::new(&options.account, &options.region));
        // Time that can be advanced goes on where it was: what had expired then, is.
        let trim_until_ms = match options.clock.is_advanceable() {
            true => u64::MAX,
            false => options.clock.epoch_millis(),
        };
        let (log, held) = Log::open(options.data_dir.as_deref(), &home, trim_until_ms)?;
        catch_up(&options.clock, held.latest_ms);
        let sites = Sites::new(options, home, log, held)?;
        for site in sites.all() {
            site.resume_channels();
        }
        Ok(Self { sites })
    }

    /// Answers one request; refusals are answers too.
    pub(crate) async fn call(&self, request: Request<Bytes>) -> Response<ResponseBody> {
        self.sites.trim_if_due();
        front::answer(&self.sites, request).await
    }

    /// The states of the KMS keys.
    pub(crate) fn kms(&self) -> &KmsKeys {
        &self.sites.home.kms
    }

    /// Nothing is written once this returns: another instance may read what is there. To be called
    /// when no request is under way any more; what one left behind unawaited is written first.
    pub(crate) async fn seal(&self) {
        self.sites.home.log.seal().await;
    }

    /// Ends subscriptions and deliveries and waits until everything is stored.
    pub(crate) async fn close(&self) {
        self.sites.home.subscriptions.end_all();
        self.sites.home.channels.ended().await;
        self.sites.home.log.close().await;
    }
}

impl Inner {
    async fn run(&self, body: Body<'_>) -> Result<Reply, Fault> {
        match self.operation {
            Operation::PutRecord => self.put_record(body).await,
            Operation::PutRecords => self.put_records(body).await,
            Operation::GetRecords => self.get_records(body).await,
            Operation::GetShardIterator => self.get_shard_iterator(body).await,
            Operation::SubscribeToShard => self.subscribe_to_shard(body).await,
            Operation::CreateStream => self.create_stream(body).await,
            Operation::DeleteStream => self.delete_stream(body).await,
            Operation::ListStreams => self.list_streams(body).await,
            Operation::DescribeStream => self.describe_stream(body).await,
            Operation::DescribeStreamSummary => self.describe_stream_summary(body).await,
            Operation::ListShards => self.list_shards(body).await,
            Operation::SplitShard => self.split_shard(body).await,
            Operation::MergeShards => self.merge_shards(body).await,
            Operation::RegisterStreamConsumer => self.register_stream_consumer(body).await,
            Operation::DescribeStreamConsumer => self.describe_stream_consumer(body).await,
            Operation::ListStreamConsumers => self.list_stream_consumers(body).await,
            Operation::DeregisterStreamConsumer => self.deregister_stream_consumer(body).await,
            Operation::AddTagsToStream => self.add_tags_to_stream(body).await,
            Operation::RemoveTagsFromStream => self.remove_tags_from_stream(body).await,
            Operation::ListTagsForStream => self.list_tags_for_stream(body).await,
            Operation::TagResource => self.tag_resource(body).await,
            Operation::UntagResource => self.untag_resource(body).await,
            Operation::ListTagsForResource => self.list_tags_for_resource(body).await,
            Operation::IncreaseStreamRetentionPeriod => {
                self.increase_stream_retention_period(body).await
            }
            Operation::DecreaseStreamRetentionPeriod => {
                self.decrease_stream_retention_period(body).await
            }
            Operation::UpdateShardCount => self.update_shard_count(body).await,
            Operation::DescribeLimits => self.describe_limits(body).await,
            Operation::UpdateStreamMode => self.update_stream_mode(body).await,
            Operation::StartStreamEncryption => self.start_stream_encryption(body).await,
            Operation::StopStreamEncryption => self.stop_stream_encryption(body).await,
            Operation::EnableEnhancedMonitoring => self.enable_enhanced_monitoring(body).await,
            Operation::DisableEnhancedMonitoring => self.disable_enhanced_monitoring(body).await,
            Operation::UpdateMaxRecordSize => self.update_max_record_size(body).await,
            Operation::UpdateStreamRecordDistributionStrategy => {
                self.update_stream_record_distribution_strategy(body).await
            }
            Operation::CreateChannel => self.create_channel(body).await,
            Operation::DescribeChannel => self.describe_channel(body).await,
            Operation::UpdateChannel => self.update_channel(body).await,
            Operation::DeleteChannel => self.delete_channel(body).await,
            Operation::ListChannels => self.list_channels(body).await,
            Operation::CreateQueue => self.create_queue(body).await,
            Operation::DescribeQueue => self.describe_queue(body).await,
            Operation::UpdateQueue => self.update_queue(body).await,
            Operation::DeleteQueue => self.delete_queue(body).await,
            Operation::ListQueues => self.list_queues(body).await,
            Operation::ReceiveQueueRecords => self.receive_queue_records(body).await,
            Operation::AcknowledgeQueueRecords => self.acknowledge_queue_records(body).await,
            Operation::UpdateQueueRecordsVisibility => {
                self.update_queue_records_visibility(body).await
            }
            Operation::ReceiveDeadLetterQueueRecords => {
                self.receive_dead_letter_queue_records(body).await
            }
            Operation::AcknowledgeDeadLetterQueueRecords => {
                self.acknowledge_dead_letter_queue_records(body).await
            }
            Operation::RestoreDeadLetterQueueRecords => {
                self.restore_dead_letter_queue_records(body).await
            }
            Operation::UpdateDeadLetterQueueRecordsVisibility => {
                self.update_dead_letter_queue_records_visibility(body).await
            }
            Operation::DescribeAccountSettings => self.describe_account_settings(body).await,
            Operation::UpdateAccountSettings => self.update_account_settings(body).await,
            Operation::UpdateStreamWarmThroughput => self.update_stream_warm_throughput(body).await,
            Operation::PutResourcePolicy => self.put_resource_policy(body).await,
            Operation::GetResourcePolicy => self.get_resource_policy(body).await,
            Operation::DeleteResourcePolicy => self.delete_resource_policy(body).await,
        }
    }

    fn status(&self, cell: &StreamCell) -> Status {
        cell.read().status(self.now_ms(), self.delays)
    }

    /// Whether the stream is in the state to be changed.
    fn check_active(&self, stream: &Stream, cell: &StreamCell) -> Result<(), Fault> {
        let (name, account) = (&cell.name, &cell.place.account);
        match stream.status(self.now_ms(), self.delays) {
            Status::Active => Ok(()),
            status => Err(Fault::in_use(format!(
                "Stream {name} under account {account} not ACTIVE, instead in state {}",
                status.name()
            ))),
        }
    }

    /// Whether the stream is there to be asked about; operations that do not change its shards take
    /// it while it is UPDATING, too.
    fn check_there(&self, cell: &StreamCell) -> Result<(), Fault> {
        let (name, account) = (&cell.name, &cell.place.account);
        match self.status(cell) {
            Status::Active | Status::Updating => Ok(()),
            status @ (Status::Creating | Status::Deleting | Status::Gone) => {
                Err(Fault::in_use(format!(
                    "Stream {name} under account {account} not ACTIVE or UPDATING, instead in state \
                     {}",
                    status.name()
                )))
            }
        }
    }

    /// Waits until no answer can show what a crash would take back.
    async fn settled(&self) -> Result<(), Fault> {
        self.log
            .settled()
            .await
            .map_err(|failure| unwritable(&failure))
    }

    /// Waits until the change is stored.
    async fn stored(&self, ticket: Ticket) -> Result<(), Fault> {
        let stored = ticket.stored().await;
        stored.map_err(|failure| unwritable(&failure))
    }
}

impl Site {
    fn now_ms(&self) -> u64 {
        self.clock.epoch_millis()
    }

    /// Makes the change in the stream, which the caller holds locked, and puts it in line for the
    /// log.
    fn change(
        &self,
        cell: &StreamCell,
        stream: &mut Stream,
        change: Change,
    ) -> Result<Ticket, Fault> {
        let at_ms = self.now_ms();
        stream.apply(&change, at_ms).map_err(Fault::internal)?;
        let entry = Entry::Change {
            stream: cell.id,
            at_ms,
            change,
        };
        Ok(self.log.submit(entry, None, None))
    }

    /// Refuses a change at once when the store cannot keep it.
    fn check_writable(&self) -> Result<(), Fault> {
        self.log.check().map_err(|failure| unwritable(&failure))
    }
}

/// Lets the time go on behind everything that the log tells of.
fn catch_up(clock: &Clock, latest_ms: u64) {
    let behind_ms = latest_ms.saturating_sub(clock.epoch_millis());
    if behind_ms == 0 {
        return;
    }
    match clock.advance_to(latest_ms) {
        Ok(()) => tracing::info!(behind_ms, "The time goes on where it was in the log."),
        Err(error) => tracing::warn!(
            %error,
            behind_ms,
            "The clock is behind the last change in the log: what waits for a time waits longer. If \
             that time was advanced on purpose, start with --virtual-time, or \
             Builder::virtual_time(true)."
        ),
    }
}

fn no_stream(name: &str, account: &str) -> Fault {
    Fault::not_found(format!("Stream {name} under account {account} not found."))
}

fn unwritable(failure: &LogFailure) -> Fault {
    Fault::internal(failure.to_string())
}

#[cfg(test)]
mod tests;
