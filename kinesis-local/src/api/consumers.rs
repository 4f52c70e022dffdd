//! RegisterStreamConsumer, DescribeStreamConsumer, ListStreamConsumers and
//! DeregisterStreamConsumer.

use std::sync::Arc;

use serde::Deserialize;

use super::attached::{open_page, page};
use super::tags::{Tagged, check_tags};
use super::{Inner, Reply, no_stream, unwritable};
use crate::catalog::StreamCell;
use crate::log::entry::Entry;
use crate::place::StreamArn;
use crate::stream::Stream;
use crate::stream::consumer::{Consumer, consumer_arn, parse_consumer_arn};
use crate::stream::lifecycle::Status;
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Integer, Text, TextMap, Timestamp, decode};
use crate::wire::write::{Encode, Writer};

/// Consumers on a page, also if more are asked for. Source: API model.
const PAGE_MAX: usize = 100;
/// Consumers of a stream that may be CREATING at once. Source: `RegisterStreamConsumer`.
const CREATING_MAX: usize = 5;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct RegisterRequest<'a> {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    consumer_name: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
    tags: Option<TextMap>,
}

/// DescribeStreamConsumer and DeregisterStreamConsumer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct ConsumerRequest<'a> {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    consumer_name: Option<Text<'a>>,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct ListRequest<'a> {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    next_token: Option<Text<'a>>,
    max_results: Option<Integer>,
    stream_creation_timestamp: Option<Timestamp>,
    stream_id: Option<Text<'a>>,
}

/// A consumer as it is described.
#[derive(Debug)]
struct ConsumerAnswer {
    name: String,
    arn: String,
    status: Status,
    created_ms: u64,
    /// Only DescribeStreamConsumer names the stream.
    stream_arn: Option<String>,
}

impl Encode for ConsumerAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("ConsumerName");
            writer.plain(&self.name);
            writer.key("ConsumerARN");
            writer.plain(&self.arn);
            writer.key("ConsumerStatus");
            writer.plain(self.status.name());
            writer.key("ConsumerCreationTimestamp");
            writer.timestamp(self.created_ms);
            if let Some(arn) = &self.stream_arn {
                writer.key("StreamARN");
                writer.plain(arn);
            }
        });
    }
}

/// One consumer under the member that the operation calls it by.
#[derive(Debug)]
struct OneConsumer(&'static str, ConsumerAnswer);

impl Encode for OneConsumer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key(self.0);
            self.1.encode(writer);
        });
    }
}

#[derive(Debug)]
struct ListAnswer {
    consumers: Vec<ConsumerAnswer>,
    next_token: Option<String>,
}

impl Encode for ListAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("Consumers");
            writer.list(&self.consumers, |writer, consumer| consumer.encode(writer));
            if let Some(token) = &self.next_token {
                writer.key("NextToken");
                writer.plain(token);
            }
        });
    }
}

/// Tells ListStreamConsumers' tokens from other sealed texts.
const TOKEN_KIND: u8 = 4;

impl Inner {
    pub(super) async fn register_stream_consumer(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: RegisterRequest<'_> = decode(body)?;
        check_register(&request)?;
        self.check_writable()?;
        let cell = self.stream(None, request.stream_arn.as_ref())?;
        self.check_there(&cell)?;
        if let Some(TextMap(tags)) = &request.tags {
            self.check_new_tags(tags, 0, &Tagged::Consumer(&cell.name))?;
        }
        let name = request.consumer_name.as_deref().unwrap_or_default();
        let (ticket, answer) = {
            let mut stream = cell.write();
            stream.forget_gone_consumers(self.now_ms(), self.delays);
            let account = &cell.place.account;
            if stream.consumers.contains_key(name) {
                return Err(Fault::in_use(format!(
                    "Consumer {name} under stream {} already exists for account {account}.",
                    cell.name
                )));
            }
            self.check_consumer_limit(&stream, &cell)?;
            self.check_creating_consumers(&stream, &cell)?;
            let at_ms = self.now_ms();
            let tags = request.tags.map(|tags| tags.0).unwrap_or_default();
            let consumer = Consumer::registered(at_ms, tags.clone());
            let answer = self.describe(&cell, name, &consumer, false);
            stream.consumers.insert(name.to_owned(), consumer);
            let entry = Entry::RegisterConsumer {
                stream: cell.id,
                name: name.to_owned(),
                at_ms,
                tags,
            };
            (self.log.submit(entry, None, None), answer)
        };
        ticket
            .stored()
            .await
            .map_err(|failure| unwritable(&failure))?;
        Ok(Reply::to(body, &OneConsumer("Consumer", answer)))
    }

    pub(super) async fn describe_stream_consumer(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ConsumerRequest<'_> = decode(body)?;
        check_consumer(&request)?;
        let (cell, name) = self.consumer_of(&request)?;
        let answer = {
            let stream = cell.read();
            let consumer = stream.consumer(&name, self.now_ms(), self.delays);
            let consumer = consumer.ok_or_else(|| no_consumer(&name, &cell.place.account))?;
            self.describe(&cell, &name, consumer, true)
        };
        self.settled().await?;
        Ok(Reply::to(body, &OneConsumer("ConsumerDescription", answer)))
    }

    pub(super) async fn deregister_stream_consumer(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ConsumerRequest<'_> = decode(body)?;
        check_consumer(&request)?;
        self.check_writable()?;
        let (cell, name) = self.consumer_of(&request)?;
        let at_ms = self.now_ms();
        let ticket = {
            let mut stream = cell.write();
            stream.forget_gone_consumers(at_ms, self.delays);
            let consumer = stream.consumers.get_mut(&name);
            let consumer = consumer.ok_or_else(|| no_consumer(&name, &cell.place.account))?;
            if consumer.life.deleted_ms.is_some() {
                return Ok(Reply::Empty); // already on its way
            }
            consumer.life.deleted_ms = Some(at_ms);
            let arn = consumer_arn(&cell.arn(), &name, consumer.life.created_ms);
            stream.forget_gone_consumers(at_ms, self.delays);
            self.subscriptions.end_consumer(&arn);
            let entry = Entry::DeregisterConsumer {
                stream: cell.id,
                name,
                at_ms,
            };
            self.log.submit(entry, None, None)
        };
        ticket
            .stored()
            .await
            .map_err(|failure| unwritable(&failure))?;
        Ok(Reply::Empty)
    }

    pub(super) async fn list_stream_consumers(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ListRequest<'_> = decode(body)?;
        check_list(&request)?;
        if request.next_token.is_some() && request.stream_creation_timestamp.is_some() {
            return Err(Fault::invalid_argument(
                "NextToken and StreamCreationTimestamp cannot be provided together.",
            ));
        }
        let cell = self.stream(None, request.stream_arn.as_ref())?;
        let same = |asked: Timestamp| asked.0 / 1000 == cell.read().life.created_ms / 1000;
        if !request.stream_creation_timestamp.is_none_or(same) {
            return Err(no_stream(&cell.name, &cell.place.account));
        }
        self.check_there(&cell)?;
        let now_ms = self.now_ms();
        let after = open_page(request.next_token.as_ref(), TOKEN_KIND, now_ms)?;
        let max = request
            .max_results
            .map_or(PAGE_MAX, |max| (max.0.max(1) as usize).min(PAGE_MAX));
        let consumers: Vec<ConsumerAnswer> = {
            let stream = cell.read();
            let later = stream.consumers.iter().filter(|(name, consumer)| {
                **name > after && !consumer.is_gone(now_ms, self.delays)
            });
            later
                .take(max.saturating_add(1))
                .map(|(name, consumer)| self.describe(&cell, name, consumer, false))
                .collect()
        };
        let (consumers, next_token) = page(
            consumers,
            max,
            |consumer| &consumer.name,
            TOKEN_KIND,
            now_ms,
        );
        self.settled().await?;
        Ok(Reply::to(
            body,
            &ListAnswer {
                consumers,
                next_token,
            },
        ))
    }

    fn describe(
        &self,
        cell: &StreamCell,
        name: &str,
        consumer: &Consumer,
        with_stream: bool,
    ) -> ConsumerAnswer {
        let stream_arn = cell.arn();
        ConsumerAnswer {
            name: name.to_owned(),
            arn: consumer_arn(&stream_arn, name, consumer.life.created_ms),
            status: consumer.life.status(self.now_ms(), self.delays),
            created_ms: consumer.life.created_ms,
            stream_arn: with_stream.then_some(stream_arn),
        }
    }

    /// The stream and the consumer's name, by the consumer's ARN or by the stream's and the name.
    fn consumer_of(
        &self,
        request: &ConsumerRequest<'_>,
    ) -> Result<(Arc<StreamCell>, String), Fault> {
        if let Some(arn) = request.consumer_arn.as_deref() {
            // "You may also provide all three parameters, as long as they don't conflict."
            let (stream, consumer) = (&request.stream_arn, &request.consumer_name);
            let conflicts = arn.rsplit_once("/consumer/").is_some_and(|(of, rest)| {
                let name = rest.split_once(':').map_or(rest, |(name, _)| name);
                stream.as_deref().is_some_and(|stream| stream != of)
                    || consumer.as_deref().is_some_and(|consumer| consumer != name)
            });
            if conflicts {
                return Err(Fault::invalid_argument(
                    "ConsumerARN conflicts with StreamARN or ConsumerName.",
                ));
            }
            let (cell, name) = self.consumer_by_arn(arn)?;
            return Ok((cell, name.to_owned()));
        }
        match (&request.stream_arn, request.consumer_name.as_deref()) {
            (Some(_), Some(name)) => Ok((
                self.stream(None, request.stream_arn.as_ref())?,
                name.to_owned(),
            )),
            _ => Err(Fault::invalid_argument(
                "Either ConsumerARN or both StreamARN and ConsumerName should be provided.",
            )),
        }
    }

    /// The stream and name of a registered consumer.
    pub(super) fn consumer_by_arn<'a>(
        &self,
        arn: &'a str,
    ) -> Result<(Arc<StreamCell>, &'a str), Fault> {
        let missing = || no_consumer(arn, StreamArn::read(arn).account);
        let (_, name, created_s) = parse_consumer_arn(arn).ok_or_else(missing)?;
        let cell = self.stream_by_arn(arn)?;
        let same = cell
            .read()
            .consumer(name, self.now_ms(), self.delays)
            .is_some_and(|consumer| consumer.life.created_ms / 1000 == created_s);
        if same {
            Ok((cell, name))
        } else {
            Err(missing())
        }
    }

    fn check_creating_consumers(&self, stream: &Stream, cell: &StreamCell) -> Result<(), Fault> {
        let now_ms = self.now_ms();
        let creating =
            |consumer: &&Consumer| consumer.life.status(now_ms, self.delays) == Status::Creating;
        if stream.consumers.values().filter(creating).count() < CREATING_MAX {
            return Ok(());
        }
        Err(Fault::limit_exceeded(format!(
            "This request would have exceed the limit on the number of consumers that can \
             simultaneously be in CREATING for stream {} under account {}. Limit: {CREATING_MAX}.",
            cell.name, cell.place.account
        )))
    }
}

pub(super) fn no_consumer(name: &str, account: &str) -> Fault {
    Fault::not_found(format!("Consumer {name}, account {account} not found."))
}

fn check_register(request: &RegisterRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.present(request.stream_arn.is_some(), "streamARN");
    constraints.stream_arn(request.stream_arn.as_deref());
    constraints.present(request.consumer_name.is_some(), "consumerName");
    constraints.consumer_name(request.consumer_name.as_deref());
    constraints.stream_id(request.stream_id.as_deref());
    check_tags(&mut constraints, request.tags.as_ref());
    constraints.done()
}

fn check_consumer(request: &ConsumerRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.stream_arn(request.stream_arn.as_deref());
    constraints.consumer_name(request.consumer_name.as_deref());
    constraints.consumer_arn(request.consumer_arn.as_deref());
    constraints.stream_id(request.stream_id.as_deref());
    constraints.done()
}

fn check_list(request: &ListRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.present(request.stream_arn.is_some(), "streamARN");
    constraints.stream_arn(request.stream_arn.as_deref());
    constraints.token(request.next_token.as_deref());
    constraints.range(
        "maxResults",
        request.max_results.map(|max| max.0),
        1,
        10_000,
    );
    constraints.stream_id(request.stream_id.as_deref());
    constraints.done()
}
