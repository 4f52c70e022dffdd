//! Queues and channels, which have much in common: how their ARNs and lists lead to streams, what is
//! asked before one is created or deleted, and how they are listed.

use std::sync::Arc;

use kinesis_core::limits::NEXT_TOKEN_LIFETIME;
use serde::Deserialize;

use super::Inner;
use crate::catalog::{StreamCell, Streams};
use crate::log::Ticket;
use crate::stream::attached::AttachedId;
use crate::stream::change::Change;
use crate::stream::channel::change::ChannelChange;
use crate::stream::lifecycle::{Delays, Status};
use crate::stream::queue::change::QueueChange;
use crate::stream::token::{Opened, Sealer};
use crate::stream::{Mode, Stream};
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Integer, List, Structure, Text, Timestamp};
use crate::wire::write::Writer;

/// Streams, queues or channels that may be CREATING or DELETING at once. Source: `CreateStream`;
/// quotas for queues, developer guide.
const PASSING_MAX: usize = 5;

/// Streams that one list of a request may name. Source: API model.
pub(super) const STREAMS_PER_LIST_MAX: usize = 10_000;

/// Entries of a list that are looked at one by one. Source: none; more failures than are told.
const ENTRIES_CHECKED: usize = 10;

/// What hangs on a stream and has an ARN of its own.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Queue,
    Channel,
}

impl Kind {
    /// The word in its ARN, and in texts.
    fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Channel => "channel",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Queue => "queues",
            Self::Channel => "channels",
        }
    }

    /// The word at the beginning of a text.
    fn title(self) -> &'static str {
        match self {
            Self::Queue => "Queue",
            Self::Channel => "Channel",
        }
    }

    /// The name and state of one; `None`: the stream has no such.
    fn of(self, stream: &Stream, id: u64, now_ms: u64, delays: Delays) -> Option<(String, Status)> {
        Some(match self {
            Self::Queue => {
                let queue = stream.queue(id)?;
                (queue.name.clone(), queue.status(now_ms, delays))
            }
            Self::Channel => {
                let channel = stream.channel(id)?;
                (
                    channel.settings.name.clone(),
                    channel.status(now_ms, delays),
                )
            }
        })
    }

    /// The names and states of all that a stream has.
    fn all(self, stream: &Stream, now_ms: u64, delays: Delays) -> Vec<(String, Status)> {
        let ids: Vec<u64> = match self {
            Self::Queue => stream.queues.keys().copied().collect(),
            Self::Channel => stream.channels.keys().copied().collect(),
        };
        let all = ids.into_iter();
        all.filter_map(|id| self.of(stream, id, now_ms, delays))
            .collect()
    }

    fn deletion(self, id: u64) -> Change {
        match self {
            Self::Queue => Change::Queue {
                id,
                change: QueueChange::Delete,
            },
            Self::Channel => Change::Channel {
                id,
                change: ChannelChange::Delete,
            },
        }
    }
}

/// ListQueues and ListChannels.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
pub(super) struct ListRequest<'a> {
    pub(super) max_results: Option<Integer>,
    pub(super) next_token: Option<Text<'a>>,
    pub(super) stream_filter: Filter<'a>,
}

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

/// The first `max` in the order of their names, and the token of the page behind them if there is one.
pub(super) fn page<T>(
    mut listed: Vec<T>,
    max: usize,
    name: impl Fn(&T) -> &str,
    kind: u8,
    now_ms: u64,
) -> (Vec<T>, Option<String>) {
    listed.sort_by(|one, other| name(one).cmp(name(other)));
    let has_more = listed.len() > max;
    listed.truncate(max);
    let last = listed.last().filter(|_| has_more);
    let token = last.map(|last| Sealer::new(kind).u64(now_ms).text(name(last)).seal());
    (listed, token)
}

impl Inner {
    /// The stream and id behind an ARN of the caller's account and region; whether the stream has it
    /// is not said.
    pub(super) fn attached(&self, arn: &str, kind: Kind) -> Option<(Arc<StreamCell>, AttachedId)> {
        let (place, id) = AttachedId::in_arn(arn, kind.word())?;
        let cell = (place == *self.place).then(|| self.catalog.by_id(id.stream));
        Some((cell??, id))
    }

    /// The refusal of an ARN that leads to none.
    pub(super) fn none_there(&self, kind: Kind, arn: &str) -> Fault {
        let (title, account) = (kind.title(), self.account_of(kind, arn));
        Fault::not_found(format!("{title} {arn} under account {account} not found."))
    }

    /// The account that an ARN names.
    pub(super) fn account_of(&self, kind: Kind, arn: &str) -> Arc<str> {
        let named = AttachedId::in_arn(arn, kind.word());
        named.map_or_else(
            || Arc::clone(&self.place.account),
            |(place, _)| place.account,
        )
    }

    /// Whether another of this name may be created: the name is free, and not too many are under way.
    pub(super) fn check_creation(
        &self,
        streams: &Streams,
        kind: Kind,
        name: &str,
    ) -> Result<(), Fault> {
        let taken = |taken: &str, status| taken == name && status != Status::Gone;
        if self.count_attached(streams, kind, taken) > 0 {
            let (title, account) = (kind.title(), &self.place.account);
            return Err(Fault::in_use(format!(
                "{title} {name} under account {account} already exists."
            )));
        }
        let passing = self.count_attached(streams, kind, |_, status| is_passing(status));
        self.check_passing(passing, kind.plural())
    }

    /// Whether the stream is in a state and mode to have another.
    pub(super) fn check_takes(
        &self,
        stream: &Stream,
        cell: &StreamCell,
        kind: Kind,
    ) -> Result<(), Fault> {
        let status = stream.status(self.now_ms(), self.delays);
        if !matches!(status, Status::Active | Status::Updating) {
            self.check_active(stream, cell)?;
        }
        if stream.mode == Mode::OnDemand {
            return Ok(());
        }
        Err(Fault::validation(format!(
            "{}s are supported only on streams in ON_DEMAND mode. Stream {} under account {} is in \
             {} mode.",
            kind.title(),
            cell.name,
            cell.place.account,
            stream.mode.name()
        )))
    }

    /// Deletes what `arn` names; `None`: it is already on its way.
    pub(super) fn delete_attached(
        &self,
        cell: &StreamCell,
        id: AttachedId,
        kind: Kind,
        arn: &str,
    ) -> Result<Option<Ticket>, Fault> {
        let passing =
            self.count_attached(&self.catalog.read(), kind, |_, status| is_passing(status));
        let mut stream = cell.write();
        let found = kind.of(&stream, id.own, self.now_ms(), self.delays);
        match found.ok_or_else(|| self.none_there(kind, arn))? {
            (_, Status::Deleting) => return Ok(None),
            (_, Status::Creating) => {} // it is counted already
            (_, Status::Active | Status::Updating | Status::Gone) => {
                self.check_passing(passing, kind.plural())?;
            }
        }
        let ticket = self.change(cell, &mut stream, kind.deletion(id.own))?;
        stream.wake(); // who waits learns that it is gone
        Ok(Some(ticket))
    }

    /// How many of all streams have such a name and state.
    fn count_attached(
        &self,
        streams: &Streams,
        kind: Kind,
        is: impl Fn(&str, Status) -> bool,
    ) -> usize {
        let of = |cell: &Arc<StreamCell>| {
            let all = kind.all(&cell.read(), self.now_ms(), self.delays);
            all.iter()
                .filter(|(name, status)| is(name, *status))
                .count()
        };
        streams.values().map(of).sum()
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
