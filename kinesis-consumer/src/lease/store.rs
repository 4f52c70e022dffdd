//! Where an application's leases are kept, as the application chooses it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kinesis_core::Rand;

use super::layout::TableNames;
use super::table::LeaseTable;
use super::table::dynamodb::DynamoDbTable;
use super::table::memory::MemoryTable;

/// Where leases, and with them checkpoints, are kept: in DynamoDB, or in the memory of this process.
/// A DynamoDB client is one by `into`, so [`Consumer::builder`](crate::Consumer::builder) takes either.
///
/// | | DynamoDB | [`in_memory`](Self::in_memory) |
/// |---|---|---|
/// | who shares the shards | workers of any process, and of the KCL | consumers of this process that were given a clone of one store |
/// | when the process ends | checkpoints stay, and others go on there | checkpoints are lost: the next one starts at [`Settings::initial_position`](crate::Settings::initial_position) |
/// | needs | a table, and the permission for it | nothing |
/// | [`admin`](crate::admin), metrics of read and write units | yes | no |
///
/// In memory is for what reads a stream as a whole and begins anew each time: a tool that shows what
/// passes, a test, a cache that is filled from the stream. Within the process everything else is the
/// same: leases expire when their consumer is dropped, move to consumers that join, and keep parents
/// before children.
///
/// ```
/// use kinesis_consumer::{Consumer, LeaseStore, RecordProcessorFactory};
///
/// fn tail(
///     kinesis: aws_sdk_kinesis::Client,
///     factory: impl RecordProcessorFactory + 'static,
/// ) -> Result<Consumer, kinesis_consumer::Error> {
///     Consumer::builder("tail", "flights", kinesis, LeaseStore::in_memory(), factory).build()
/// }
/// ```
///
/// Cheap to clone; clones are the same store. Tables of different applications in it know nothing of
/// each other.
#[derive(Clone)]
pub struct LeaseStore(Kind);

#[derive(Clone)]
enum Kind {
    DynamoDb(aws_sdk_dynamodb::Client),
    Memory(Arc<Mutex<BTreeMap<String, Arc<MemoryTable>>>>),
}

impl LeaseStore {
    /// An empty store in the memory of this process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self(Kind::Memory(Arc::default()))
    }

    /// The table of `names`, whose requests, where it makes any, fit `failover_time`.
    pub(crate) fn table(
        &self,
        names: &TableNames,
        failover_time: Duration,
        rand: Rand,
    ) -> Arc<dyn LeaseTable> {
        match &self.0 {
            Kind::DynamoDb(client) => {
                Arc::new(DynamoDbTable::new(client, names, failover_time, rand))
            }
            Kind::Memory(tables) => {
                let mut tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
                let table = tables
                    .entry(names.leases.clone())
                    .or_insert_with(|| Arc::new(MemoryTable::new(&names.leases)));
                Arc::<MemoryTable>::clone(table)
            }
        }
    }
}

impl From<aws_sdk_dynamodb::Client> for LeaseStore {
    fn from(client: aws_sdk_dynamodb::Client) -> Self {
        Self(Kind::DynamoDb(client))
    }
}

impl fmt::Debug for LeaseStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::DynamoDb(_) => "LeaseStore::DynamoDb",
            Kind::Memory(_) => "LeaseStore::Memory",
        })
    }
}
