//! CreateChannel, DescribeChannel, UpdateChannel, DeleteChannel and ListChannels.
//!
//! Promises: a channel belongs to one stream, which is on demand when it is created (the model names
//! only queues as what keeps a stream from being provisioned later) and stays while it has one; its
//! name is taken once in an account and region; what arrives once it is ACTIVE is
//! delivered to a bucket of this instance's S3, not later than its data freshness, see `delivery`.
//!
//! Deliberately absent: S3 Tables, which are refused; logs to CloudWatch and encryption of objects,
//! which are only noted; roles, which are not assumed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::attached::{Kind, ListRequest, StreamIdentifier, admits, check_filter, open_page, page};
use super::encryption::{check_key, check_writing};
use super::site::Site;
use super::tags::Tagged;
use super::{Inner, Reply};
use crate::catalog::StreamCell;
use crate::stream::Stream;
use crate::stream::attached::AttachedId;
use crate::stream::change::Change;
use crate::stream::channel::Channel;
use crate::stream::channel::change::{Bucket, ChannelChange, Logging, NewChannel};
use crate::stream::channel::object::{Compression, Format, KEY_TEMPLATE_DEFAULT, check_template};
use crate::stream::lifecycle::Status;
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Integer, List, Structure, Text, decode};

mod answer;
pub(crate) mod buckets;
mod delivery;
mod request;

use answer::{ChannelFacts, ListAnswer, OneChannel};
use buckets::Buckets;
use delivery::Delivery;
use request::{
    ChannelRequest, CreateChannelRequest, LoggingConfiguration, S3Destination, StreamConfiguration,
    check_channel, check_create, check_update,
};

/// How old data may get unless told otherwise, in seconds. Source: API model.
const FRESHNESS_DEFAULT_S: i32 = 300;
/// How fresh data may be asked to be, in seconds. Source: developer guide, data delivery concepts.
const FRESHNESS_MIN_S: i32 = 300;
const FRESHNESS_MAX_S: i32 = 900;
/// Channels of a stream that deliver to a bucket. Source: developer guide, delivery quotas.
const CHANNELS_PER_STREAM_MAX: usize = 1;
/// Channels on a page, also of one that asks for more. Source: API model.
const PAGE_MAX: usize = 100;
/// Tells ListChannels' tokens from other sealed texts.
const TOKEN_KIND: u8 = 22;

/// What delivers, for all channels.
#[derive(Debug, Default)]
pub(super) struct Channels {
    buckets: Buckets,
    tasks: TaskTracker,
    /// Told when a channel is changed, by its id.
    changed: Mutex<BTreeMap<AttachedId, Arc<Notify>>>,
}

impl Channels {
    pub(super) fn new(buckets: Buckets) -> Self {
        Self {
            buckets,
            ..Self::default()
        }
    }

    fn changed(&self) -> MutexGuard<'_, BTreeMap<AttachedId, Arc<Notify>>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing is delivered any more. To be called once the service has ended.
    pub(super) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Site {
    /// Begins to deliver for the channels that a recovery brought back.
    pub(super) fn resume_channels(&self) {
        let cells: Vec<Arc<StreamCell>> = self.catalog.read().values().cloned().collect();
        for cell in cells {
            let ids: Vec<AttachedId> = {
                let stream = cell.read();
                let channels = stream.channels.keys().filter_map(|&id| stream.channel(id));
                let channels = channels.filter(|channel| !channel.is_over());
                channels.map(|channel| channel.settings.id).collect()
            };
            for id in ids {
                self.begin_delivery(&cell, id);
            }
        }
    }

    fn begin_delivery(&self, cell: &Arc<StreamCell>, id: AttachedId) {
        let changed = Arc::new(Notify::new());
        self.channels.changed().insert(id, Arc::clone(&changed));
        let delivery = Delivery {
            clock: self.clock.clone(),
            log: self.log.clone(),
            kms: self.kms.clone(),
            buckets: self.channels.buckets.clone(),
            cell: Arc::clone(cell),
            id: id.own,
            changed,
            ended: self.subscriptions.closing(),
        };
        self.channels.tasks.spawn(delivery.run());
    }
}

impl Inner {
    pub(super) async fn create_channel(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: CreateChannelRequest<'_> = decode(body)?;
        check_create(&request)?;
        self.check_writable()?;
        let (stream_request, destination) = parts(&request)?;
        let cell = self.stream(None, stream_request.stream_arn.as_ref())?;
        let mut new = self.new_channel(&request, stream_request, destination, &cell)?;
        self.check_new_tags(&new.tags, 0, &Tagged::Channel(&new.name))?;
        if let Some(key) = &new.encryption_key {
            check_writing(&self.kms, &Some(key.as_str().into()))?;
        }
        if !self.channels.buckets.are_there() {
            return Err(Fault::invalid_argument(
                "S3DestinationConfiguration cannot be used: this kinesis-local was built without \
                 its feature `s3`.",
            ));
        }
        new.failed = self.missing_bucket(&new).await;
        let id = new.id;
        let (ticket, answer) = {
            let streams = self.catalog.write(); // one creation at a time: names are taken once
            self.check_creation(&streams, Kind::Channel, &new.name)?;
            let mut stream = cell.write();
            self.check_takes(&stream, &cell, Kind::Channel)?;
            self.check_channel_limit(&stream, &cell)?;
            stream.forget_gone_channels(self.now_ms(), self.delays);
            new.cursors = NewChannel::cursors(&stream);
            let change = Change::Channel {
                id: id.own,
                change: ChannelChange::Create(Box::new(new)),
            };
            let ticket = self.change(&cell, &mut stream, change)?;
            (ticket, self.describe_channel_of(&cell, &stream, id.own)?)
        };
        self.begin_delivery(&cell, id);
        self.stored(ticket).await?;
        Ok(Reply::to(body, &answer))
    }

    fn new_channel(
        &self,
        request: &CreateChannelRequest<'_>,
        stream: &StreamConfiguration<'_>,
        destination: &S3Destination<'_>,
        cell: &StreamCell,
    ) -> Result<NewChannel, Fault> {
        let owned = |text: &Option<Text<'_>>| text.as_deref().map(str::to_owned);
        let needed = |text: &Option<Text<'_>>| owned(text).unwrap_or_default();
        let id = AttachedId {
            stream: cell.id,
            own: self.rand.next_u64(),
        };
        let name = needed(&request.channel_name);
        let record = stream.record_configuration.as_ref();
        let (format, schema_arn) = match record {
            Some(Structure(record)) => (
                format(record.record_format_type.as_deref())?,
                owned(&record.schema_arn),
            ),
            None => (Format::ByteArray, None),
        };
        let Some(Structure(storage)) = &destination.storage else {
            return Err(Fault::internal("a checked member is missing"));
        };
        let key_template = owned(&storage.output_key_template);
        let key_template = key_template.unwrap_or_else(|| KEY_TEMPLATE_DEFAULT.to_owned());
        check_template(&key_template).map_err(|reason| {
            Fault::validation(format!("OutputKeyTemplate is not valid: {reason}."))
        })?;
        let bucket = Bucket {
            arn: needed(&storage.bucket_arn),
            owner: needed(&storage.expected_bucket_owner),
        };
        let default_prefix = || format!("kinesis-channel/errors/{name}/{id}/");
        let (errors, error_prefix) = match &destination.dead_letters {
            None => (bucket.clone(), default_prefix()),
            Some(Structure(errors)) => (
                Bucket {
                    arn: needed(&errors.bucket_arn),
                    owner: needed(&errors.expected_bucket_owner),
                },
                owned(&errors.error_output_prefix).unwrap_or_else(default_prefix),
            ),
        };
        let encryption = request.encryption_configuration.as_ref();
        let encryption_key = encryption.and_then(|encryption| owned(&encryption.0.key_id));
        if encryption_key.as_deref() == Some("alias/aws/kinesis") {
            return Err(Fault::invalid_argument(
                "The service's own key alias/aws/kinesis cannot encrypt what a channel delivers.",
            ));
        }
        if let Some(key) = &encryption_key {
            check_key(&self.kms, key)?;
        }
        Ok(NewChannel {
            from_ms: self.now_ms() + self.delays.create.as_millis() as u64,
            freshness_s: self.freshness(destination.data_freshness_in_seconds)?,
            role_arn: needed(&request.role_arn),
            storage_class: owned(&storage.storage_class).unwrap_or_else(|| "STANDARD".to_owned()),
            compression: match storage.compression_type.as_deref() {
                Some("GZIP") => Compression::Gzip,
                Some("ZSTD") => Compression::Zstd,
                _ => Compression::None,
            },
            logging: logging(request.logging_configuration.as_ref()).unwrap_or_default(),
            failed: None,
            cursors: Vec::new(),
            tags: request.tags.clone().map(|tags| tags.0).unwrap_or_default(),
            id,
            name,
            format,
            schema_arn,
            bucket,
            key_template,
            errors,
            error_prefix,
            encryption_key,
        })
    }

    /// The service's bounds; without limits a second is enough, for who does not want to wait.
    fn freshness(&self, asked: Option<Integer>) -> Result<u32, Fault> {
        let asked = asked.map_or(FRESHNESS_DEFAULT_S, |asked| asked.0);
        let min = match self.quotas {
            None => 1,
            Some(_) => FRESHNESS_MIN_S,
        };
        if (min..=FRESHNESS_MAX_S).contains(&asked) {
            return Ok(asked.unsigned_abs());
        }
        Err(Fault::validation(format!(
            "DataFreshnessInSeconds must be between {min} and {FRESHNESS_MAX_S}, it is {asked}."
        )))
    }

    /// Why the channel cannot deliver from the start.
    async fn missing_bucket(&self, new: &NewChannel) -> Option<String> {
        for bucket in [&new.bucket, &new.errors] {
            if let Err(error) = self.channels.buckets.check(bucket.name()).await {
                return Some(error.to_string());
            }
        }
        None
    }

    pub(super) async fn describe_channel(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ChannelRequest<'_> = decode(body)?;
        check_channel(&request)?;
        let arn = request.channel_arn.as_deref().unwrap_or_default();
        let (cell, id) = self.channel_cell(arn)?;
        let answer = self.describe_channel_of(&cell, &cell.read(), id.own)?;
        self.settled().await?;
        Ok(Reply::to(body, &answer))
    }

    pub(super) async fn update_channel(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ChannelRequest<'_> = decode(body)?;
        check_update(&request)?;
        self.check_writable()?;
        if request.s3_tables.is_some() {
            return Err(Fault::validation(
                "S3TablesDestinationConfiguration is given for a channel that delivers to a bucket.",
            ));
        }
        let arn = request.channel_arn.as_deref().unwrap_or_default();
        let (cell, id) = self.channel_cell(arn)?;
        let asked = request.s3.and_then(|s3| s3.0.data_freshness_in_seconds);
        let asked = asked.map(|asked| self.freshness(Some(asked))).transpose()?;
        let (ticket, answer) = {
            let mut stream = cell.write();
            let change = {
                let channel = stream.channel(id.own).ok_or_else(|| self.no_channel(arn))?;
                self.check_channel_active(&channel, arn)?;
                let settings = &channel.settings;
                let logging = logging(request.logging_configuration.as_ref());
                ChannelChange::Update {
                    freshness_s: asked.unwrap_or(settings.freshness_s),
                    logging: logging.unwrap_or_else(|| settings.logging.clone()),
                }
            };
            let change = Change::Channel { id: id.own, change };
            let ticket = self.change(&cell, &mut stream, change)?;
            (ticket, self.describe_channel_of(&cell, &stream, id.own)?)
        };
        if let Some(changed) = self.channels.changed().get(&id) {
            changed.notify_one();
        }
        self.stored(ticket).await?;
        Ok(Reply::to(body, &answer))
    }

    pub(super) async fn delete_channel(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ChannelRequest<'_> = decode(body)?;
        check_channel(&request)?;
        self.check_writable()?;
        let arn = request.channel_arn.as_deref().unwrap_or_default();
        let (cell, id) = self.channel_cell(arn)?;
        let Some(ticket) = self.delete_attached(&cell, id, Kind::Channel, arn)? else {
            return Ok(Reply::Empty);
        };
        if let Some(changed) = self.channels.changed().remove(&id) {
            changed.notify_one(); // its task ends
        }
        self.stored(ticket).await?;
        Ok(Reply::Empty)
    }

    pub(super) async fn list_channels(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ListRequest<'_> = decode(body)?;
        check_list(&request)?;
        self.check_pace()?;
        let now_ms = self.now_ms();
        let after = open_page(request.next_token.as_ref(), TOKEN_KIND, now_ms)?;
        let max = request
            .max_results
            .map_or(PAGE_MAX, |max| max.0.max(1) as usize);
        let max = max.min(PAGE_MAX);
        let cells: Vec<Arc<StreamCell>> = self.catalog.read().values().cloned().collect();
        let mut channels = Vec::new();
        for cell in cells {
            let stream = cell.read();
            for channel in stream.channels.keys().filter_map(|&id| stream.channel(id)) {
                let facts = self.channel_facts(&cell, &stream, &channel);
                let is_there = channel.status(now_ms, self.delays) != Status::Gone;
                if is_there && facts.name > after && admits(&request.stream_filter, &facts.stream) {
                    channels.push(facts);
                }
            }
        }
        let (channels, next_token) =
            page(channels, max, |channel| &channel.name, TOKEN_KIND, now_ms);
        self.settled().await?;
        let answer = ListAnswer {
            channels,
            next_token,
        };
        Ok(Reply::to(body, &answer))
    }

    /// The stream and id of a channel that is not gone.
    pub(super) fn channel_cell(&self, arn: &str) -> Result<(Arc<StreamCell>, AttachedId), Fault> {
        let found = self.attached(arn, Kind::Channel).filter(|(cell, id)| {
            let (now_ms, delays) = (self.now_ms(), self.delays);
            let stream = cell.read();
            let channel = stream.channel(id.own);
            channel.is_some_and(|channel| channel.status(now_ms, delays) != Status::Gone)
        });
        let Some((cell, id)) = found else {
            self.check_own_channel(arn)?;
            return Err(self.no_channel(arn));
        };
        self.check_pace_on(&cell)?;
        Ok((cell, id))
    }

    fn no_channel(&self, arn: &str) -> Fault {
        self.none_there(Kind::Channel, arn)
    }

    fn check_channel_active(&self, channel: &Channel, arn: &str) -> Result<(), Fault> {
        let (status, reason) = self.channel_status(channel);
        if status == Status::Active.name() && reason.is_none() {
            return Ok(());
        }
        Err(Fault::in_use(format!(
            "Channel {arn} under account {} not ACTIVE, instead in state {status}",
            self.place.account
        )))
    }

    /// The state, and why it is FAILED.
    fn channel_status(&self, channel: &Channel) -> (&'static str, Option<String>) {
        let status = channel.status(self.now_ms(), self.delays);
        match (status, channel.failure()) {
            (Status::Active | Status::Updating, Some(reason)) => {
                ("FAILED", Some(reason.to_owned()))
            }
            (status, _) => (status.name(), None),
        }
    }

    /// Whether the stream may have another channel.
    fn check_channel_limit(&self, stream: &Stream, cell: &StreamCell) -> Result<(), Fault> {
        if stream.channel_count(self.now_ms(), self.delays) < CHANNELS_PER_STREAM_MAX {
            return Ok(());
        }
        Err(Fault::limit_exceeded(format!(
            "This request would exceed the limit of {CHANNELS_PER_STREAM_MAX} channel to a general \
             purpose bucket for stream {} under account {}.",
            cell.name, cell.place.account
        )))
    }

    /// Refuses to delete a stream with channels.
    pub(super) fn check_has_no_channels(
        &self,
        stream: &Stream,
        cell: &StreamCell,
    ) -> Result<(), Fault> {
        if stream.channel_count(self.now_ms(), self.delays) == 0 {
            return Ok(());
        }
        Err(Fault::in_use(format!(
            "DeleteStream can't delete {} because there are channels on this data stream. Delete \
             them with DeleteChannel first.",
            cell.arn()
        )))
    }

    fn describe_channel_of(
        &self,
        cell: &StreamCell,
        stream: &Stream,
        id: u64,
    ) -> Result<OneChannel, Fault> {
        let channel = stream.channel(id);
        let channel = channel.ok_or_else(|| Fault::internal("a channel vanished"))?;
        Ok(OneChannel {
            facts: self.channel_facts(cell, stream, &channel),
            settings: channel.settings.clone(),
        })
    }

    fn channel_facts(&self, cell: &StreamCell, stream: &Stream, channel: &Channel) -> ChannelFacts {
        let (status, reason) = self.channel_status(channel);
        let id = channel.settings.id;
        ChannelFacts {
            name: channel.settings.name.clone(),
            arn: id.arn("channel", &cell.place),
            id: id.to_string(),
            status,
            reason,
            created_ms: channel.life.created_ms,
            stream: StreamIdentifier {
                arn: cell.arn(),
                created_ms: stream.life.created_ms,
            },
        }
    }
}

/// The one stream and the one destination of a request.
fn parts<'r, 'a>(
    request: &'r CreateChannelRequest<'a>,
) -> Result<(&'r StreamConfiguration<'a>, &'r S3Destination<'a>), Fault> {
    let streams = request.stream_configuration_list.as_ref();
    let Some([Structure(stream)]) = streams.map(|List(streams)| &streams[..]) else {
        return Err(Fault::validation(
            "StreamConfigurationList must contain exactly one stream.",
        ));
    };
    match (&request.s3, &request.s3_tables) {
        (Some(Structure(s3)), None) => Ok((stream, s3)),
        (None, Some(_)) => Err(Fault::invalid_argument(
            "S3TablesDestinationConfiguration is not supported by kinesis-local; use \
             S3DestinationConfiguration.",
        )),
        (None, None) | (Some(_), Some(_)) => Err(Fault::validation(
            "Either S3DestinationConfiguration or S3TablesDestinationConfiguration must be \
             specified, but not both.",
        )),
    }
}

fn format(name: Option<&str>) -> Result<Format, Fault> {
    match name {
        Some("JSON") => Ok(Format::Json),
        Some("STRING") => Ok(Format::String),
        Some("GSR_JSON") => Err(Fault::validation(
            "RecordFormatType GSR_JSON is supported only for S3TablesDestinationConfiguration.",
        )),
        _ => Ok(Format::ByteArray),
    }
}

/// The logging that a request asks for.
fn logging(request: Option<&Structure<LoggingConfiguration<'_>>>) -> Option<Logging> {
    let Structure(logs) = request?.0.cloud_watch_logs.as_ref()?;
    let owned = |text: &Option<Text<'_>>| text.as_deref().map(str::to_owned);
    Some(Logging {
        enabled: logs.enabled.is_some_and(|enabled| enabled.0),
        group: owned(&logs.log_group_name),
        stream: owned(&logs.log_stream_name),
    })
}

fn check_list(request: &ListRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    check_filter(&mut constraints, &request.stream_filter, "StreamFilter");
    let max = request.max_results.map(|max| max.0);
    constraints.range("maxResults", max, 1, 10_000);
    constraints.token(request.next_token.as_deref());
    constraints.done()
}
