//! AddTagsToStream, RemoveTagsFromStream, ListTagsForStream, and TagResource, UntagResource,
//! ListTagsForResource for streams and what belongs to them.
//!
//! Promises: at most 50 tags on each; keys and values are of the characters that
//! the service takes; removing a tag that is not there is no error.

use std::fmt::{self, Display};

use serde::Deserialize;

use super::resource::{Part, Resource};
use super::{Inner, Reply};
use crate::stream::change::Tags;
use crate::wire::Body;
use crate::wire::constraint::{Constraints, at_least_long, at_most_long};
use crate::wire::fault::Fault;
use crate::wire::read::{Integer, List, Text, TextMap, decode};
use crate::wire::write::{Encode, Writer};

/// Tags that a stream or consumer may have. Source: service quota.
const TAGS_MAX: usize = 50;
/// Tags that one request may carry. Source: API model.
const TAGS_PER_REQUEST_MAX: usize = 200;
/// Keys that one request may remove. Source: API model.
const TAG_KEYS_PER_REQUEST_MAX: usize = 50;
/// Longest key of a tag. Source: API model.
const TAG_KEY_MAX_CHARS: usize = 128;
/// Longest value of a tag. Source: API model.
const TAG_VALUE_MAX_CHARS: usize = 256;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct AddTagsToStreamRequest<'a> {
    stream_name: Option<Text<'a>>,
    tags: Option<TextMap>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct RemoveTagsFromStreamRequest<'a> {
    stream_name: Option<Text<'a>>,
    tag_keys: Option<List<Text<'a>>>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct ListTagsForStreamRequest<'a> {
    stream_name: Option<Text<'a>>,
    exclusive_start_tag_key: Option<Text<'a>>,
    limit: Option<Integer>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
}

/// TagResource, UntagResource and ListTagsForResource.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct ResourceRequest<'a> {
    tags: Option<TextMap>,
    tag_keys: Option<List<Text<'a>>>,
    #[serde(rename = "ResourceARN")]
    resource_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
}

#[derive(Debug)]
struct TagsAnswer {
    tags: Vec<(String, String)>,
    /// Only ListTagsForStream tells it.
    has_more: Option<bool>,
}

impl Encode for TagsAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("Tags");
            writer.list(&self.tags, |writer, (key, value)| {
                writer.structure(|writer| {
                    writer.key("Key");
                    writer.text(key);
                    writer.key("Value");
                    writer.text(value);
                });
            });
            if let Some(has_more) = self.has_more {
                writer.key("HasMoreTags");
                writer.boolean(has_more);
            }
        });
    }
}

/// What gets the tags, as refusals name it.
#[derive(Debug)]
pub(super) enum Tagged<'a> {
    Stream(&'a str),
    /// By its stream's name.
    Consumer(&'a str),
    /// By its own name, which is new.
    Queue(&'a str),
    /// By its stream's name.
    QueueOf(&'a str),
    /// By its own name, which is new.
    Channel(&'a str),
    /// By its stream's name.
    ChannelOf(&'a str),
}

impl Display for Tagged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(name) => write!(f, "stream {name}"),
            Self::Consumer(stream) => write!(f, "consumer of stream {stream}"),
            Self::Queue(name) => write!(f, "queue {name}"),
            Self::QueueOf(stream) => write!(f, "queue of stream {stream}"),
            Self::Channel(name) => write!(f, "channel {name}"),
            Self::ChannelOf(stream) => write!(f, "channel of stream {stream}"),
        }
    }
}

impl Resource {
    fn tagged(&self) -> Tagged<'_> {
        match self.part {
            Part::Whole => Tagged::Stream(&self.cell.name),
            Part::Consumer(_) => Tagged::Consumer(&self.cell.name),
            Part::Queue(_) => Tagged::QueueOf(&self.cell.name),
            Part::Channel(_) => Tagged::ChannelOf(&self.cell.name),
        }
    }
}

impl Inner {
    pub(super) async fn add_tags_to_stream(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: AddTagsToStreamRequest<'_> = decode(body)?;
        let own = |constraints: &mut Constraints| {
            constraints.present(request.tags.is_some(), "tags");
            check_tags(constraints, request.tags.as_ref());
        };
        let (name, arn) = (&request.stream_name, &request.stream_arn);
        Constraints::of_stream(name, own, arn, &request.stream_id)?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let resource = Resource::stream(cell);
        self.tag(resource, request.tags.unwrap_or_default().0).await
    }

    pub(super) async fn tag_resource(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ResourceRequest<'_> = decode(body)?;
        let mut constraints = Constraints::default();
        constraints.present(request.tags.is_some(), "tags");
        check_tags(&mut constraints, request.tags.as_ref());
        check_resource(&mut constraints, &request);
        constraints.done()?;
        let resource = self.resource(request.resource_arn.as_deref().unwrap_or_default())?;
        self.tag(resource, request.tags.unwrap_or_default().0).await
    }

    pub(super) async fn remove_tags_from_stream(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: RemoveTagsFromStreamRequest<'_> = decode(body)?;
        let own = |constraints: &mut Constraints| {
            check_tag_keys(constraints, request.tag_keys.as_ref());
        };
        let (name, arn) = (&request.stream_name, &request.stream_arn);
        Constraints::of_stream(name, own, arn, &request.stream_id)?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let resource = Resource::stream(cell);
        self.untag(resource, request.tag_keys).await
    }

    pub(super) async fn untag_resource(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ResourceRequest<'_> = decode(body)?;
        let mut constraints = Constraints::default();
        check_tag_keys(&mut constraints, request.tag_keys.as_ref());
        check_resource(&mut constraints, &request);
        constraints.done()?;
        let resource = self.resource(request.resource_arn.as_deref().unwrap_or_default())?;
        self.untag(resource, request.tag_keys).await
    }

    pub(super) async fn list_tags_for_stream(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ListTagsForStreamRequest<'_> = decode(body)?;
        let after = request.exclusive_start_tag_key.as_deref();
        let limit = request.limit.map(|limit| limit.0);
        let own = |constraints: &mut Constraints| {
            if let Some(key) = after {
                constraints.length("exclusiveStartTagKey", key, 1, TAG_KEY_MAX_CHARS);
            }
            constraints.range("limit", limit, 1, TAGS_MAX as i32);
        };
        let (name, arn) = (&request.stream_name, &request.stream_arn);
        Constraints::of_stream(name, own, arn, &request.stream_id)?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let max = limit.map_or(TAGS_MAX, |limit| limit.max(1) as usize);
        let mut tags: Vec<(String, String)> = {
            let stream = cell.read();
            let later = stream
                .tags
                .iter()
                .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
            let owned = |(key, value): (&String, &String)| (key.clone(), value.clone());
            later.take(max + 1).map(owned).collect()
        };
        let has_more = tags.len() > max;
        tags.truncate(max);
        self.settled().await?;
        Ok(Reply::to(
            body,
            &TagsAnswer {
                tags,
                has_more: Some(has_more),
            },
        ))
    }

    pub(super) async fn list_tags_for_resource(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ResourceRequest<'_> = decode(body)?;
        let mut constraints = Constraints::default();
        check_resource(&mut constraints, &request);
        constraints.done()?;
        let resource = self.resource(request.resource_arn.as_deref().unwrap_or_default())?;
        self.check_there(&resource.cell)?;
        let tags = resource.tags(&resource.cell.read());
        self.settled().await?;
        Ok(Reply::to(
            body,
            &TagsAnswer {
                tags: tags.into_iter().collect(),
                has_more: None,
            },
        ))
    }

    async fn tag(&self, resource: Resource, set: Tags) -> Result<Reply, Fault> {
        self.check_writable()?;
        self.check_there(&resource.cell)?;
        let tagged = resource.tagged();
        let ticket = {
            let mut stream = resource.cell.write();
            let there = resource.tags(&stream);
            let kept = there.keys().filter(|key| !set.contains_key(*key)).count();
            self.check_new_tags(&set, kept, &tagged)?;
            let change = resource.change_tags(set, Vec::new());
            self.change(&resource.cell, &mut stream, change)?
        };
        self.stored(ticket).await?;
        Ok(Reply::Empty)
    }

    async fn untag(
        &self,
        resource: Resource,
        keys: Option<List<Text<'_>>>,
    ) -> Result<Reply, Fault> {
        self.check_writable()?;
        self.check_there(&resource.cell)?;
        let keys = keys.unwrap_or_default().0;
        let removed: Vec<String> = keys.iter().map(|key| key.to_string()).collect();
        let texts = removed.iter().map(String::as_str);
        self.check_characters(texts, "remove tags from", &resource.tagged())?;
        let ticket = {
            let mut stream = resource.cell.write();
            let change = resource.change_tags(Tags::new(), removed);
            self.change(&resource.cell, &mut stream, change)?
        };
        self.stored(ticket).await?;
        Ok(Reply::Empty)
    }

    /// Whether `set` may be added beside `kept` tags with other keys.
    pub(super) fn check_new_tags(
        &self,
        set: &Tags,
        kept: usize,
        tagged: &Tagged<'_>,
    ) -> Result<(), Fault> {
        let texts = set.iter().flat_map(|(key, value)| [&**key, &**value]);
        self.check_characters(texts, "add tags to", tagged)?;
        if kept + set.len() <= TAGS_MAX {
            return Ok(());
        }
        Err(Fault::invalid_argument(format!(
            "Failed to add tags to {tagged} under account {} because a given stream cannot have \
             more than {TAGS_MAX} tags associated with it.",
            self.place.account
        )))
    }

    /// The service refuses `%` in other words than the rest.
    fn check_characters<'a>(
        &self,
        texts: impl Iterator<Item = &'a str> + Clone,
        what: &str,
        tagged: &Tagged<'_>,
    ) -> Result<(), Fault> {
        let allowed = |c: char| is_tag_char(c) || c == '%';
        if !texts.clone().all(|text| text.chars().all(allowed)) {
            return Err(Fault::invalid_argument(
                "Some tags contain invalid characters. Valid characters: Unicode letters, digits, \
                 white space, _ . / = + - % @ :.",
            ));
        }
        if texts.clone().any(|text| text.contains('%')) {
            return Err(Fault::invalid_argument(format!(
                "Failed to {what} {tagged} under account {} because some tags contained illegal \
                 characters. The allowed characters are Unicode letters, white-spaces, \
                 '_',',','/','=','+','-','@',':'.",
                self.place.account
            )));
        }
        Ok(())
    }
}

/// Source: kinesalite's suite, which ran against the service.
fn is_tag_char(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || " _./=+-@:".contains(c)
        || ('\u{C0}'..='\u{1FFF}').contains(&c)
        || ('\u{2C00}'..='\u{D7FF}').contains(&c)
}

/// The model's constraints of a map of tags.
pub(super) fn check_tags(constraints: &mut Constraints, tags: Option<&TextMap>) {
    let Some(TextMap(tags)) = tags else { return };
    let shown = || {
        let pairs: Vec<String> = tags
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        format!("{{{}}}", pairs.join(", "))
    };
    if tags.is_empty() {
        constraints.check(false, "tags", shown(), at_least_long(1));
    }
    if tags.len() > TAGS_PER_REQUEST_MAX {
        constraints.check(false, "tags", shown(), at_most_long(TAGS_PER_REQUEST_MAX));
    }
    if !tags.keys().all(|key| fits(key, 1, TAG_KEY_MAX_CHARS)) {
        let text = format!("Map keys must satisfy constraint: {}", key_lengths());
        constraints.check(false, "tags", shown(), text);
    }
    if !tags
        .values()
        .all(|value| fits(value, 0, TAG_VALUE_MAX_CHARS))
    {
        let text = format!(
            "Map value must satisfy constraint: [{}, {}]",
            at_most_long(TAG_VALUE_MAX_CHARS),
            at_least_long(0)
        );
        constraints.check(false, "tags", shown(), text);
    }
}

/// The model's constraints of a list of tag keys, which has to be there.
fn check_tag_keys(constraints: &mut Constraints, keys: Option<&List<Text<'_>>>) {
    constraints.present(keys.is_some(), "tagKeys");
    let Some(List(keys)) = keys else { return };
    let shown = || {
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        format!("[{}]", keys.join(", "))
    };
    if keys.is_empty() {
        constraints.check(false, "tagKeys", shown(), at_least_long(1));
    }
    if keys.len() > TAG_KEYS_PER_REQUEST_MAX {
        let text = at_most_long(TAG_KEYS_PER_REQUEST_MAX);
        constraints.check(false, "tagKeys", shown(), text);
    }
    if !keys.iter().all(|key| fits(key, 1, TAG_KEY_MAX_CHARS)) {
        let text = format!("Member must satisfy constraint: {}", key_lengths());
        constraints.check(false, "tagKeys", shown(), text);
    }
}

fn check_resource(constraints: &mut Constraints, request: &ResourceRequest<'_>) {
    constraints.present(request.resource_arn.is_some(), "resourceARN");
    constraints.resource_arn(request.resource_arn.as_deref());
    constraints.stream_id(request.stream_id.as_deref());
}

fn fits(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.chars().count())
}

fn key_lengths() -> String {
    format!(
        "[{}, {}]",
        at_most_long(TAG_KEY_MAX_CHARS),
        at_least_long(1)
    )
}
