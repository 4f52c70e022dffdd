//! PutResourcePolicy, GetResourcePolicy and DeleteResourcePolicy, for streams, consumers and queues.
//!
//! Promises: the region and account in the ARN are looked at first, then the policy, and only then
//! whether the resource is there, as the service does. What a policy allows is decided by
//! `stream::policy` where a request of another account reaches a stream.

use serde::Deserialize;

use super::resource::Resource;
use super::{Inner, Reply};
use crate::stream::change::Change;
use crate::stream::policy::{Kind, check};
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Text, decode};
use crate::wire::write::{Encode, Writer};

/// What the service tells of a resource without a policy.
const NO_POLICY: &str = "{}";

/// All three operations.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct PolicyRequest<'a> {
    #[serde(rename = "ResourceARN")]
    resource_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
    policy: Option<Text<'a>>,
}

#[derive(Debug)]
struct PolicyAnswer {
    policy: String,
}

impl Encode for PolicyAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("Policy");
            writer.text(&self.policy);
        });
    }
}

impl PolicyRequest<'_> {
    fn arn(&self) -> &str {
        self.resource_arn.as_deref().unwrap_or_default()
    }

    fn check(&self, needs_policy: bool) -> Result<(), Fault> {
        let mut constraints = Constraints::default();
        constraints.present(self.resource_arn.is_some(), "resourceARN");
        constraints.resource_arn(self.resource_arn.as_deref());
        constraints.stream_id(self.stream_id.as_deref());
        if needs_policy {
            constraints.present(self.policy.is_some(), "policy");
        }
        constraints.done()
    }
}

impl Inner {
    pub(super) async fn put_resource_policy(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: PolicyRequest<'_> = decode(body)?;
        request.check(true)?;
        self.check_owner(request.arn())?;
        let document = request.policy.as_deref().unwrap_or_default();
        check(document, kind_of(request.arn()), request.arn()).map_err(Fault::invalid_argument)?;
        let resource = self.resource(request.arn())?;
        self.check_there(&resource.cell)?;
        self.set_policy(resource, Some(document.to_owned())).await
    }

    pub(super) async fn get_resource_policy(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: PolicyRequest<'_> = decode(body)?;
        request.check(false)?;
        self.check_owner(request.arn())?;
        let resource = self.resource(request.arn())?;
        self.check_there(&resource.cell)?;
        let policy = resource.cell.read().policy(&resource.holder()?);
        self.settled().await?;
        let policy = policy.unwrap_or_else(|| NO_POLICY.to_owned());
        Ok(Reply::to(body, &PolicyAnswer { policy }))
    }

    pub(super) async fn delete_resource_policy(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: PolicyRequest<'_> = decode(body)?;
        request.check(false)?;
        self.check_owner(request.arn())?;
        let resource = self.resource(request.arn())?;
        self.check_there(&resource.cell)?;
        if resource.cell.read().policy(&resource.holder()?).is_none() {
            return Err(Fault::not_found(format!(
                "No resource policy found for resource ARN {}.",
                request.arn()
            )));
        }
        self.set_policy(resource, None).await
    }

    async fn set_policy(
        &self,
        resource: Resource,
        document: Option<String>,
    ) -> Result<Reply, Fault> {
        self.check_writable()?;
        let ticket = {
            let mut stream = resource.cell.write();
            let holder = resource.holder()?;
            let change = Change::Policy { holder, document };
            self.change(&resource.cell, &mut stream, change)?
        };
        self.stored(ticket).await?;
        Ok(Reply::Empty)
    }

    /// Policies are the owner's: the ARN has to be of the caller's region and account.
    fn check_owner(&self, arn: &str) -> Result<(), Fault> {
        let mut parts = arn.splitn(6, ':').skip(3);
        let (region, account) = (parts.next(), parts.next());
        if region != Some(&*self.place.region) {
            return Err(Fault::not_found(format!("Resource {arn} not found.")));
        }
        if account != Some(&*self.place.account) {
            return Err(Fault::new(
                "UnrecognizedClientException",
                "No account found for the given parameters",
            ));
        }
        Ok(())
    }
}

fn kind_of(arn: &str) -> Kind {
    if arn.contains(":queue/") {
        Kind::Queue
    } else if arn.contains("/consumer/") {
        Kind::Consumer
    } else {
        Kind::Stream
    }
}
