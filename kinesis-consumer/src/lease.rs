//! Skeleton of the seam between the lease keeper and the shards: names and signatures only.

use std::collections::BTreeSet;
use std::sync::Arc;

use kinesis_core::{HashKeyRange, Position, ShardId};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind};

/// Settings of the lease table and of the workers that share it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseSettings {}

impl LeaseSettings {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// One row of the lease table.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) shard_id: ShardId,
    pub(crate) checkpoint: Position,
    pub(crate) parents: BTreeSet<ShardId>,
    pub(crate) range: Option<HashKeyRange>,
}

/// A shard that a split or merge made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ChildShard {
    pub(crate) id: ShardId,
    pub(crate) parents: Vec<ShardId>,
    pub(crate) range: HashKeyRange,
}

/// One lease that this worker holds.
#[derive(Clone, Debug)]
pub(crate) struct HeldLease {
    shared: Arc<(Lease, CancellationToken, CancellationToken)>,
}

impl HeldLease {
    pub(crate) fn shard_id(&self) -> &ShardId {
        &self.shared.0.shard_id
    }

    pub(crate) fn lease(&self) -> Lease {
        self.shared.0.clone()
    }

    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.shared.1
    }

    pub(crate) fn handoff_requested(&self) -> &CancellationToken {
        &self.shared.2
    }

    pub(crate) async fn checkpoint(&self, _position: &Position) -> Result<(), Error> {
        Err(Error::new(ErrorKind::Internal, "no lease table yet"))
    }

    pub(crate) async fn end_shard(&self, _children: &[ChildShard]) -> Result<(), Error> {
        Err(Error::new(ErrorKind::Internal, "no lease table yet"))
    }

    pub(crate) async fn release(&self) -> Result<(), Error> {
        Err(Error::new(ErrorKind::Internal, "no lease table yet"))
    }
}
