//! What a rule of faults cannot read in a call itself, and the service knows.

use http::request::Parts;

use super::{Kinesis, front, shards};
use crate::fault::Wanted;
use crate::place::StreamArn;
use crate::stream::attached::AttachedId;
use crate::stream::distribution::Distribution;

impl Kinesis {
    /// What is wanted of the call with this head; `None`: there is no such thing.
    pub(crate) fn find(&self, head: &Parts, wanted: Wanted<'_>) -> Option<String> {
        match wanted {
            Wanted::ShardOf { arn, stream, key } => {
                let caller = front::caller(&self.sites, &head.headers, head.uri.query());
                let named = arn.map(StreamArn::read);
                let account = named.as_ref().map_or(&*caller.account, |arn| arn.account);
                let site = self.sites.get(account, &caller.region)?;
                let cell = site.catalog.get(stream)?;
                let stream = cell.read();
                match stream.distribution {
                    Distribution::UserPartitionKey => {
                        Some(stream.route(key).identity.id().as_str().to_owned())
                    }
                    // The shard is chosen when the record is placed.
                    Distribution::Auto => None,
                }
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
