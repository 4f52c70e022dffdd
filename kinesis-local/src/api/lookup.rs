//! What a rule of faults cannot read in a call itself, and the service knows.

use http::request::Parts;

use super::{Kinesis, front, shards};
use crate::fault::Wanted;
use crate::stream::attached::AttachedId;

impl Kinesis {
    /// What is wanted of the call with this head; `None`: there is no such thing.
    pub(crate) fn find(&self, head: &Parts, wanted: Wanted<'_>) -> Option<String> {
        match wanted {
            Wanted::ShardOf { stream, key } => {
                let caller = front::caller(&self.sites, &head.headers, head.uri.query());
                let site = self.sites.get(&caller.account, &caller.region)?;
                let cell = site.catalog.get(stream)?;
                let id = cell.read().route(key).identity.id();
                Some(id.as_str().to_owned())
            }
            Wanted::StreamOf { arn } => {
                let kinds = ["queue", "channel"].iter();
                let (place, id) = kinds
                    .filter_map(|kind| AttachedId::in_arn(arn, kind))
                    .next()?;
                let site = self.sites.get(&place.account, &place.region)?;
                let cell = site.catalog.by_id(id.stream)?;
                Some((*cell.name).to_owned())
            }
            Wanted::StreamIn { token } => shards::stream_in_token(token),
        }
    }
}
