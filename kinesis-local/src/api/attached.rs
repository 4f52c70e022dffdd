//! Queues and channels: how their ARNs and lists lead to streams.

use std::sync::Arc;

use kinesis_core::limits::NEXT_TOKEN_LIFETIME;
use serde::Deserialize;

use super::Inner;
use crate::catalog::StreamCell;
use crate::stream::attached::AttachedId;
use crate::stream::lifecycle::Status;
use crate::stream::token::{Opened, Sealer};
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{List, Structure, Text, Timestamp};
use crate::wire::write::Writer;

/// Streams, queues or channels that may be CREATING or DELETING at once. Source: `CreateStream`;
/// quotas for queues, developer guide.
pub(super) const PASSING_MAX: usize = 5;

/// Streams that one list of a request may name. Source: API model.
pub(super) const STREAMS_PER_LIST_MAX: usize = 10_000;

/// Entries of a list that are looked at one by one. Source: none; more failures than are told.
const ENTRIES_CHECKED: usize = 10;

/// One stream that ListQueues or ListChannels is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
pub(super) struct StreamFilter<'a> {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_creation_timestamp: Option<Timestamp>,
}

/// The streams that a listing is asked for; `None`: all.
pub(super) type Filter<'a> = Option<List<Structure<StreamFilter<'a>>>>;

/// A stream as a listing names it.
#[derive(Debug)]
pub(super) struct StreamIdentifier {
    pub(super) arn: String,
    pub(super) created_ms: u64,
}

impl StreamIdentifier {
    /// `"Streams":[…]`
    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.key("Streams");
        writer.list([self], |writer, stream| {
            writer.structure(|writer| {
                writer.key("StreamARN");
                writer.plain(&stream.arn);
                writer.key("StreamCreationTimestamp");
                writer.timestamp(stream.created_ms);
            });
        });
    }
}

/// Whether the filter lets the stream through.
pub(super) fn admits(filter: &Filter<'_>, stream: &StreamIdentifier) -> bool {
    let Some(List(filters)) = filter else {
        return true;
    };
    filters.iter().any(|Structure(filter)| {
        let created_s = filter.stream_creation_timestamp.map(|at| at.0 / 1000);
        filter.stream_arn.as_deref() == Some(&*stream.arn)
            && created_s.is_none_or(|created_s| created_s == stream.created_ms / 1000)
    })
}

pub(super) fn check_filter(constraints: &mut Constraints, filter: &Filter<'_>, name: &'static str) {
    let Some(List(filters)) = filter else { return };
    constraints.structures("streamFilter", filters.len(), STREAMS_PER_LIST_MAX, name);
    for (at, Structure(filter)) in (1..=ENTRIES_CHECKED).zip(filters) {
        let path = format_args!("streamFilter.{at}.member.streamARN");
        constraints.listed_stream_arn(path, filter.stream_arn.as_deref());
    }
}

/// The name after which a listing goes on.
pub(super) fn open_page(token: Option<&Text<'_>>, kind: u8, now_ms: u64) -> Result<String, Fault> {
    let Some(token) = token else {
        return Ok(String::new());
    };
    let opened = Opened::open(token, kind)
        .and_then(|mut opened| Some((opened.u64()?, opened.text()?)))
        .ok_or_else(|| Fault::invalid_argument("NextToken is invalid."));
    let (sealed_ms, after) = opened?;
    if u128::from(now_ms.saturating_sub(sealed_ms)) > NEXT_TOKEN_LIFETIME.as_millis() {
        return Err(Fault::new(
            "ExpiredNextTokenException",
            "NextToken has expired.",
        ));
    }
    Ok(after)
}

pub(super) fn seal_page(kind: u8, last_name: &str, now_ms: u64) -> String {
    Sealer::new(kind).u64(now_ms).text(last_name).seal()
}

impl Inner {
    /// The stream and id behind an ARN of the caller's account and region with `kind` (`queue`,
    /// `channel`); whether the stream has it is not said.
    pub(super) fn attached(&self, arn: &str, kind: &str) -> Option<(Arc<StreamCell>, AttachedId)> {
        let (place, id) = AttachedId::in_arn(arn, kind)?;
        let cell = (place == *self.place).then(|| self.catalog.by_id(id.stream));
        Some((cell??, id))
    }

    /// Refuses another creation or deletion while too many are under way, in the words that the
    /// service has for streams. Source of the text: answers recorded by users of Terraform.
    pub(super) fn check_passing(&self, passing: usize, what: &str) -> Result<(), Fault> {
        if passing < PASSING_MAX {
            return Ok(());
        }
        Err(Fault::limit_exceeded(format!(
            "This request would have exceed the limit on the number of {what} that can \
             simultaneously be in CREATING or DELETING for the account {}. Limit: {PASSING_MAX}.",
            self.place.account
        )))
    }
}

/// Whether something is about to be there or about to be gone.
pub(super) fn is_passing(status: Status) -> bool {
    matches!(status, Status::Creating | Status::Deleting)
}
