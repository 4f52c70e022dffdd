//! What a resource ARN leads to: a stream, or a consumer of one.

use std::sync::Arc;

use super::Inner;
use crate::catalog::StreamCell;
use crate::wire::fault::Fault;

/// A stream or one of its consumers.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) cell: Arc<StreamCell>,
    /// The consumer's name; `None`: the stream itself.
    pub(super) consumer: Option<String>,
}

impl Inner {
    /// The resource that `arn` names. There are no channels and queues.
    pub(super) fn resource(&self, arn: &str) -> Result<Resource, Fault> {
        if arn.contains(":stream/") && arn.contains("/consumer/") {
            let (cell, name) = self.consumer_by_arn(arn)?;
            return Ok(Resource {
                cell,
                consumer: Some(name.to_owned()),
            });
        }
        if !arn.contains(":stream/") {
            return Err(Fault::not_found(format!("Resource {arn} not found.")));
        }
        Ok(Resource {
            cell: self.stream_by_name(self.name_in_arn(arn)?)?,
            consumer: None,
        })
    }
}
