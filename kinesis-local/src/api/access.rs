//! How a request reaches the stream or queue that it names, and by whose leave.
//!
//! ```text
//! name ─────────▶ the caller's own account and region
//! ARN ─ own ────▶ the same
//!     └ another account's ─▶ the resource policy of what is asked for ─▶ there, or AccessDeniedException
//! ```
//! Promises: nothing of another account is reached but what its resource policy allows; whether it is
//! there is not told to who is not allowed. An endpoint serves one region.

use std::sync::Arc;

use super::site::Site;
use super::{Inner, no_stream};
use crate::catalog::StreamCell;
use crate::place::{Place, StreamArn};
use crate::stream::attached::AttachedId;
use crate::stream::change::Holder;
use crate::stream::consumer::parse_consumer_arn;
use crate::stream::lifecycle::Status;
use crate::stream::policy::{self, Decision};
use crate::wire::fault::Fault;
use crate::wire::read::Text;

impl Inner {
    /// The stream that a request names, whatever its state.
    pub(super) fn stream(
        &self,
        name: Option<&Text<'_>>,
        arn: Option<&Text<'_>>,
    ) -> Result<Arc<StreamCell>, Fault> {
        match (name, arn) {
            (Some(name), None) => self.stream_by_name(name),
            (None, Some(arn)) => self.stream_by_its_arn(arn),
            (Some(name), Some(arn)) if StreamArn::read_whole(arn).stream == &**name => {
                self.stream_by_its_arn(arn)
            }
            (Some(_), Some(_)) => Err(Fault::invalid_argument(
                "StreamName and StreamARN name different streams.",
            )),
            (None, None) => Err(Fault::invalid_argument(
                "Either StreamName or StreamARN should be provided.",
            )),
        }
    }

    /// A stream of the caller's own account and region.
    fn stream_by_name(&self, name: &str) -> Result<Arc<StreamCell>, Fault> {
        let cell = self.catalog.get(name);
        let cell = cell
            .filter(|cell| self.status(cell) != Status::Gone)
            .ok_or_else(|| no_stream(name, &self.place.account))?;
        self.check_pace_on(&cell)?;
        Ok(cell)
    }

    /// The stream whose ARN this is, and not one that it only begins with.
    fn stream_by_its_arn(&self, arn: &str) -> Result<Arc<StreamCell>, Fault> {
        let StreamArn {
            account,
            region,
            stream,
        } = StreamArn::read_whole(arn);
        self.stream_in(account, region, stream, &Holder::Stream)
    }

    /// The stream that an ARN names, also that of a consumer.
    pub(super) fn stream_by_arn(&self, arn: &str) -> Result<Arc<StreamCell>, Fault> {
        let StreamArn {
            account,
            region,
            stream,
        } = StreamArn::read(arn);
        let consumer = parse_consumer_arn(arn);
        let asked = consumer.map_or(Holder::Stream, |(_, name, _)| {
            Holder::Consumer(name.to_owned())
        });
        self.stream_in(account, region, stream, &asked)
    }

    /// A stream wherever it is; in another account only what the resource policy of what is asked
    /// for allows.
    pub(super) fn stream_in(
        &self,
        account: &str,
        region: &str,
        stream: &str,
        asked: &Holder,
    ) -> Result<Arc<StreamCell>, Fault> {
        if self.place.is(account, region) {
            return self.stream_by_name(stream);
        }
        if *self.place.region != *region {
            // An endpoint serves one region.
            return Err(no_stream(stream, account));
        }
        let site = self.site_of(account, region);
        let cell = site.and_then(|site| site.catalog.get(stream));
        let cell = cell.filter(|cell| self.status(cell) != Status::Gone);
        let arn = || Place::new(account, region).stream_arn(stream);
        let cell = self.permitted(cell, asked, arn)?;
        self.check_pace_on(&cell)?;
        Ok(cell)
    }

    /// The stream of a queue that is not gone, wherever it is; in another account only what the
    /// queue's resource policy allows. `None`: there is none, and the caller may know.
    pub(super) fn queue_in_reach(
        &self,
        arn: &str,
    ) -> Result<Option<(Arc<StreamCell>, AttachedId)>, Fault> {
        let Some((place, id)) = AttachedId::in_arn(arn, "queue") else {
            return Ok(None);
        };
        let (now_ms, delays) = (self.now_ms(), self.delays);
        let there = |cell: &Arc<StreamCell>| {
            let stream = cell.read();
            let queue = stream.queue(id.own);
            queue.is_some_and(|queue| queue.status(now_ms, delays) != Status::Gone)
        };
        if place == *self.place {
            let cell = self.catalog.by_id(id.stream).filter(there);
            return Ok(cell.map(|cell| (cell, id)));
        }
        if place.region != self.place.region {
            return Ok(None);
        }
        let site = self.site_of(&place.account, &place.region);
        let cell = site.and_then(|site| site.catalog.by_id(id.stream));
        let cell = cell.filter(there);
        let cell = self.permitted(cell, &Holder::Queue(id.own), || arn.to_owned())?;
        Ok(Some((cell, id)))
    }

    /// Refuses a channel of another account of the region: channels have no policy that could share
    /// them, and whether it is there is not told.
    pub(super) fn check_own_channel(&self, arn: &str) -> Result<(), Fault> {
        match AttachedId::in_arn(arn, "channel") {
            Some((place, _)) if place != *self.place && place.region == self.place.region => {
                let permitted = self.permitted(None, &Holder::Stream, || arn.to_owned());
                permitted.map(drop)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn site_of(&self, account: &str, region: &str) -> Option<Arc<Site>> {
        self.sites.upgrade()?.get(account, region)
    }

    /// What of another account's is asked for, if its resource policy lets the caller.
    fn permitted(
        &self,
        cell: Option<Arc<StreamCell>>,
        asked: &Holder,
        arn: impl FnOnce() -> String,
    ) -> Result<Arc<StreamCell>, Fault> {
        let action = format!("kinesis:{}", self.operation.name());
        let principal = self.caller.principal.to_string();
        let decision = cell.as_ref().map_or(Decision::NotMentioned, |cell| {
            let stream = cell.read();
            let Some(policy) = stream.policy(asked) else {
                return Decision::NotMentioned;
            };
            let request = policy::Request {
                account: &self.caller.account,
                principal: &principal,
                user: self.caller.principal.user(),
                region: &self.place.region,
                tags: &stream.tags_of(asked),
            };
            policy::allows(&policy, asked.kind(), &request, &action)
        });
        let why = match (decision, cell) {
            (Decision::Allowed, Some(cell)) => return Ok(cell),
            (Decision::Denied, _) => "with an explicit deny in a resource-based policy".to_owned(),
            // What is not there is told as what is not allowed.
            (Decision::Allowed | Decision::NotMentioned, _) => {
                format!("because no resource-based policy allows the {action} action")
            }
        };
        let arn = arn();
        Err(Fault::new(
            "AccessDeniedException",
            format!(
                "User: {principal} is not authorized to perform: {action} on resource: {arn} {why}"
            ),
        ))
    }
}
