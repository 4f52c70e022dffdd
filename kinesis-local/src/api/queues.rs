//! CreateQueue, DescribeQueue, UpdateQueue, DeleteQueue and ListQueues.
//!
//! Promises: a queue belongs to one stream, which is on demand and stays so, and stays, while it
//! has one; its name is taken once in an account and region; it counts with the stream's consumers.
//!
//! What its records go through is told in `stream::queue`, the operations on them in `records`.

use std::sync::Arc;

use kinesis_core::limits::{CONSUMERS_PER_ADVANTAGE_STREAM_MAX, CONSUMERS_PER_STREAM_MAX};
use serde::Deserialize;

use super::attached::{
    Kind, ListRequest, STREAMS_PER_LIST_MAX, StreamIdentifier, admits, check_filter, open_page,
    page,
};
use super::tags::{Tagged, check_tags};
use super::{Inner, Reply};
use crate::catalog::StreamCell;
use crate::stream::Stream;
use crate::stream::attached::AttachedId;
use crate::stream::change::Change;
use crate::stream::lifecycle::Status;
use crate::stream::queue::change::{Asked, NewQueue, QueueChange, StartingPosition};
use crate::stream::queue::{Attributes, Queue};
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Integer, List, Structure, Text, TextMap, Timestamp, decode};

mod answer;
mod records;

use answer::{ListAnswer, OneQueue, QueueAnswer, QueueSummary};

/// How long a received record is out of sight unless told otherwise. Source: API model.
const VISIBILITY_DEFAULT_S: u32 = 30;
/// Longest time out of sight: 12 hours. Source: API model.
const VISIBILITY_MAX_S: i32 = 43_200;
/// Receives before a record is a dead letter unless told otherwise. Source: API model.
const MAX_RECEIVES_DEFAULT: u32 = 6;
/// Receives before a record is a dead letter that can be asked for. Source: API model.
const MAX_RECEIVES_MAX: i32 = 1000;
/// Queues on a page that asks for no number. Source: none; what the other listings have.
const PAGE_DEFAULT: usize = 100;
/// Tells ListQueues' tokens from other sealed texts.
const TOKEN_KIND: u8 = 21;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct CreateQueueRequest<'a> {
    queue_name: Option<Text<'a>>,
    stream_configuration_list: Option<List<Structure<StreamConfiguration<'a>>>>,
    queue_attributes: Option<Structure<AttributesRequest<'a>>>,
    tags: Option<TextMap>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct StreamConfiguration<'a> {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    starting_position: Option<Structure<StartingPositionRequest<'a>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct StartingPositionRequest<'a> {
    r#type: Option<Text<'a>>,
    timestamp: Option<Timestamp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct AttributesRequest<'a> {
    visibility_timeout_seconds: Option<Integer>,
    dead_letter_configuration: Option<Structure<DeadLetterRequest<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct DeadLetterRequest<'a> {
    target_type: Option<Text<'a>>,
    max_receive_count: Option<Integer>,
}

/// DescribeQueue, UpdateQueue and DeleteQueue.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct QueueRequest<'a> {
    #[serde(rename = "QueueARN")]
    queue_arn: Option<Text<'a>>,
    queue_attributes: Option<Structure<AttributesRequest<'a>>>,
}

impl Inner {
    pub(super) async fn create_queue(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: CreateQueueRequest<'_> = decode(body)?;
        check_create(&request)?;
        self.check_writable()?;
        let name = request.queue_name.as_deref().unwrap_or_default();
        let List(streams) = request.stream_configuration_list.unwrap_or_default();
        let [Structure(configuration)] = &streams[..] else {
            return Err(Fault::validation(
                "StreamConfigurationList must contain exactly one stream.",
            ));
        };
        let asked = self.asked(configuration.starting_position.as_ref())?;
        let attributes = Attributes {
            visibility_s: VISIBILITY_DEFAULT_S,
            max_receives: Some(MAX_RECEIVES_DEFAULT),
        };
        let attributes = changed(attributes, request.queue_attributes.as_ref())?;
        let cell = self.stream(None, configuration.stream_arn.as_ref())?;
        let tags = request.tags.map(|tags| tags.0).unwrap_or_default();
        self.check_new_tags(&tags, 0, &Tagged::Queue(name))?;
        let (ticket, answer) = {
            let streams = self.catalog.write(); // one creation at a time: names are taken once
            self.check_creation(&streams, Kind::Queue, name)?;
            let mut stream = cell.write();
            self.check_takes(&stream, &cell, Kind::Queue)?;
            self.check_consumer_limit(&stream, &cell)?;
            let now_ms = self.now_ms();
            stream.forget_gone_queues(now_ms, self.delays);
            let start = StartingPosition::settle(asked, &stream, now_ms);
            let id = AttachedId {
                stream: cell.id,
                own: self.rand.next_u64(),
            };
            let new = NewQueue {
                id,
                name: name.to_owned(),
                attributes,
                start,
                cursors: NewQueue::cursors(start, &stream),
                tags,
            };
            let change = Change::Queue {
                id: id.own,
                change: QueueChange::Create(Box::new(new)),
            };
            let ticket = self.change(&cell, &mut stream, change)?;
            (ticket, self.describe_queue_of(&cell, &stream, id.own)?)
        };
        self.stored(ticket).await?;
        Ok(Reply::to(body, &OneQueue(answer)))
    }

    pub(super) async fn describe_queue(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: QueueRequest<'_> = decode(body)?;
        check_queue(&request)?;
        let (cell, id) = self.queue_cell(request.queue_arn.as_deref().unwrap_or_default())?;
        let answer = self.describe_queue_of(&cell, &cell.read(), id.own)?;
        self.settled().await?;
        Ok(Reply::to(body, &OneQueue(answer)))
    }

    pub(super) async fn update_queue(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: QueueRequest<'_> = decode(body)?;
        check_update(&request)?;
        self.check_writable()?;
        let arn = request.queue_arn.as_deref().unwrap_or_default();
        let (cell, id) = self.queue_cell(arn)?;
        let (ticket, answer) = {
            let mut stream = cell.write();
            let attributes = {
                let queue = stream.queue(id.own).ok_or_else(|| self.no_queue(arn))?;
                self.check_queue(&queue, arn, &[Status::Active], Fault::in_use)?;
                changed(queue.attributes, request.queue_attributes.as_ref())?
            };
            let change = Change::Queue {
                id: id.own,
                change: QueueChange::Update(attributes),
            };
            let ticket = self.change(&cell, &mut stream, change)?;
            stream.wake(); // what waits for dead letters may find some now
            (ticket, self.describe_queue_of(&cell, &stream, id.own)?)
        };
        self.stored(ticket).await?;
        Ok(Reply::to(body, &OneQueue(answer)))
    }

    pub(super) async fn delete_queue(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: QueueRequest<'_> = decode(body)?;
        check_queue(&request)?;
        self.check_writable()?;
        let arn = request.queue_arn.as_deref().unwrap_or_default();
        let (cell, id) = self.queue_cell(arn)?;
        let Some(ticket) = self.delete_attached(&cell, id, Kind::Queue, arn)? else {
            return Ok(Reply::Empty);
        };
        self.stored(ticket).await?;
        Ok(Reply::Empty)
    }

    pub(super) async fn list_queues(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ListRequest<'_> = decode(body)?;
        check_list(&request)?;
        self.check_pace()?;
        let now_ms = self.now_ms();
        let after = open_page(request.next_token.as_ref(), TOKEN_KIND, now_ms)?;
        let max = request
            .max_results
            .map_or(PAGE_DEFAULT, |max| max.0.max(1) as usize);
        let cells: Vec<Arc<StreamCell>> = self.catalog.read().values().cloned().collect();
        let mut queues = Vec::new();
        for cell in cells {
            let stream = cell.read();
            let identifier = || StreamIdentifier {
                arn: cell.arn(),
                created_ms: stream.life.created_ms,
            };
            if stream.queues.is_empty() || !admits(&request.stream_filter, &identifier()) {
                continue;
            }
            for queue in stream.queues.keys().filter_map(|&id| stream.queue(id)) {
                let status = queue.status(now_ms, self.delays);
                if status != Status::Gone && queue.name > after {
                    queues.push(QueueSummary {
                        name: queue.name.clone(),
                        arn: queue.id.arn("queue", &cell.place),
                        status,
                        created_ms: queue.life.created_ms,
                        stream: identifier(),
                    });
                }
            }
        }
        let (queues, next_token) = page(queues, max, |queue| &queue.name, TOKEN_KIND, now_ms);
        self.settled().await?;
        Ok(Reply::to(body, &ListAnswer { queues, next_token }))
    }

    /// The stream and id of a queue that is not gone.
    pub(super) fn queue_cell(&self, arn: &str) -> Result<(Arc<StreamCell>, AttachedId), Fault> {
        let (cell, id) = self
            .queue_in_reach(arn)?
            .ok_or_else(|| self.no_queue(arn))?;
        self.check_pace_on(&cell)?;
        Ok((cell, id))
    }

    fn no_queue(&self, arn: &str) -> Fault {
        self.none_there(Kind::Queue, arn)
    }

    /// Whether the queue is in one of the states that an operation takes; the refusal is the
    /// operation's.
    fn check_queue(
        &self,
        queue: &Queue,
        arn: &str,
        taken: &[Status],
        refusal: impl FnOnce(String) -> Fault,
    ) -> Result<(), Fault> {
        match queue.status(self.now_ms(), self.delays) {
            status if taken.contains(&status) => Ok(()),
            Status::Gone => Err(self.no_queue(arn)),
            status => Err(refusal(format!(
                "Queue {arn} under account {} not ACTIVE, instead in state {}",
                self.account_of(Kind::Queue, arn),
                status.name()
            ))),
        }
    }

    fn asked(
        &self,
        position: Option<&Structure<StartingPositionRequest<'_>>>,
    ) -> Result<Asked, Fault> {
        let Some(Structure(position)) = position else {
            return Ok(Asked::Latest);
        };
        match (position.r#type.as_deref(), position.timestamp) {
            (Some("AT_TIMESTAMP"), Some(Timestamp(ms))) if ms > self.now_ms() => Err(
                Fault::validation("The Timestamp of a StartingPosition cannot be in the future."),
            ),
            (Some("AT_TIMESTAMP"), Some(Timestamp(ms))) => Ok(Asked::Timestamp(ms)),
            (Some("AT_TIMESTAMP"), None) => Err(Fault::validation(
                "A StartingPosition of the Type AT_TIMESTAMP needs a Timestamp.",
            )),
            (_, Some(_)) => Err(Fault::validation(
                "Only a StartingPosition of the Type AT_TIMESTAMP can have a Timestamp.",
            )),
            (Some("TRIM_HORIZON"), None) => Ok(Asked::TrimHorizon),
            (_, None) => Ok(Asked::Latest),
        }
    }

    /// Whether the stream may have another consumer or queue.
    pub(super) fn check_consumer_limit(
        &self,
        stream: &Stream,
        cell: &StreamCell,
    ) -> Result<(), Fault> {
        let queues = stream.queue_count(self.now_ms(), self.delays);
        // Both are only made in one's own account.
        let commitment = *self.commitment();
        let most = if stream.is_advantage(&commitment, self.now_ms()) {
            CONSUMERS_PER_ADVANTAGE_STREAM_MAX
        } else {
            CONSUMERS_PER_STREAM_MAX
        };
        let consumers = stream.consumer_count(self.now_ms(), self.delays);
        if consumers + queues < most {
            return Ok(());
        }
        Err(Fault::limit_exceeded(format!(
            "This request would exceed the limit of {most} consumers for \
             stream {} under account {}.",
            cell.name, cell.place.account
        )))
    }

    /// Refuses what cannot be done to a stream with queues.
    pub(super) fn check_has_no_queues(
        &self,
        stream: &Stream,
        cell: &StreamCell,
        operation: &str,
    ) -> Result<(), Fault> {
        if stream.queue_count(self.now_ms(), self.delays) == 0 {
            return Ok(());
        }
        Err(Fault::in_use(format!(
            "{operation} can't change {} because there are queues on this data stream. Delete \
             them with DeleteQueue first.",
            cell.arn()
        )))
    }

    fn describe_queue_of(
        &self,
        cell: &StreamCell,
        stream: &Stream,
        id: u64,
    ) -> Result<QueueAnswer, Fault> {
        let queue = stream.queue(id);
        let queue = queue.ok_or_else(|| Fault::internal("a queue vanished"))?;
        Ok(QueueAnswer {
            name: queue.name.clone(),
            arn: queue.id.arn("queue", &cell.place),
            status: queue.status(self.now_ms(), self.delays),
            created_ms: queue.life.created_ms,
            stream_arn: cell.arn(),
            start: queue.start,
            attributes: queue.attributes,
        })
    }
}

/// The attributes with what the request changes.
fn changed(
    mut attributes: Attributes,
    request: Option<&Structure<AttributesRequest<'_>>>,
) -> Result<Attributes, Fault> {
    let Some(Structure(request)) = request else {
        return Ok(attributes);
    };
    if let Some(Integer(seconds)) = request.visibility_timeout_seconds {
        attributes.visibility_s = seconds.unsigned_abs();
    }
    if let Some(Structure(dead_letters)) = &request.dead_letter_configuration {
        let receives = dead_letters.max_receive_count;
        attributes.max_receives = match (dead_letters.target_type.as_deref(), receives) {
            (Some("NONE"), _) => None,
            (_, Some(Integer(receives))) => Some(receives.unsigned_abs()),
            (_, None) => {
                return Err(Fault::validation(
                    "MaxReceiveCount is required when the TargetType is BUILT_IN.",
                ));
            }
        };
    }
    Ok(attributes)
}

fn check_create(request: &CreateQueueRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.queue_name(request.queue_name.as_deref());
    let list = request.stream_configuration_list.as_ref();
    constraints.present(list.is_some(), "streamConfigurationList");
    if let Some(List(list)) = list {
        let name = "QueueStreamConfiguration";
        let path = "streamConfigurationList";
        constraints.structures(path, list.len(), STREAMS_PER_LIST_MAX, name);
        if let Some(Structure(first)) = list.first() {
            let path = "streamConfigurationList.1.member";
            let arn = first.stream_arn.as_deref();
            constraints.listed_stream_arn(format_args!("{path}.streamARN"), arn);
            if let Some(Structure(position)) = &first.starting_position {
                let path = "streamConfigurationList.1.member.startingPosition.type";
                let kind = position.r#type.as_deref();
                constraints.present(kind.is_some(), path);
                constraints.one_of(path, kind, &["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"]);
            }
        }
    }
    check_attributes(&mut constraints, request.queue_attributes.as_ref());
    check_tags(&mut constraints, request.tags.as_ref());
    constraints.done()
}

fn check_attributes(
    constraints: &mut Constraints,
    request: Option<&Structure<AttributesRequest<'_>>>,
) {
    let Some(Structure(request)) = request else {
        return;
    };
    let seconds = request.visibility_timeout_seconds.map(|seconds| seconds.0);
    let path = "queueAttributes.visibilityTimeoutSeconds";
    constraints.range(path, seconds, 0, VISIBILITY_MAX_S);
    if let Some(Structure(dead_letters)) = &request.dead_letter_configuration {
        let path = "queueAttributes.deadLetterConfiguration.targetType";
        let target = dead_letters.target_type.as_deref();
        constraints.present(target.is_some(), path);
        constraints.one_of(path, target, &["BUILT_IN", "NONE"]);
        let path = "queueAttributes.deadLetterConfiguration.maxReceiveCount";
        let receives = dead_letters.max_receive_count.map(|receives| receives.0);
        constraints.range(path, receives, 1, MAX_RECEIVES_MAX);
    }
}

fn check_queue(request: &QueueRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.queue_arn(request.queue_arn.as_deref());
    constraints.done()
}

fn check_update(request: &QueueRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.queue_arn(request.queue_arn.as_deref());
    let attributes = request.queue_attributes.as_ref();
    constraints.present(attributes.is_some(), "queueAttributes");
    check_attributes(&mut constraints, attributes);
    constraints.done()
}

fn check_list(request: &ListRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    let max = request.max_results.map(|max| max.0);
    constraints.range("maxResults", max, 1, 10_000);
    constraints.token(request.next_token.as_deref());
    check_filter(
        &mut constraints,
        &request.stream_filter,
        "QueueStreamFilter",
    );
    constraints.done()
}
