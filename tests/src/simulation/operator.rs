//! Who looks after the lease table from outside, while the fleet runs or stands still: by the commands of
//! the worker binary, and now and then with a heavy hand.
//!
//! Its network is sound: what goes wrong between it and the table is the tests' of the commands themselves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::ShardId;
use kinesis_consumer::admin::{Change, LeaseAdmin, ResetTo, Which};
use kinesis_core::{Clock, Rand};
use kinesis_local::KinesisLocal;

use super::log::Log;
use super::network::Network;
use super::time::Signing;
use crate::world::APPLICATION;

/// Its name in the log.
pub(super) const OPERATOR: &str = "operator";

/// What owns a lease that its holder was asked to let go.
/// Source: `NOBODY` of the consumer's `lease/admin/change`.
pub(super) const NOBODY: &str = "released-by-operator";

/// The operator. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    admin: LeaseAdmin,
    dynamodb: aws_sdk_dynamodb::Client,
    clock: Clock,
    log: Log,
}

/// What the operator does.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// `leases release`
    Release(Which),
    /// `leases reset`
    Reset(Which, ResetTo),
    /// `leases unstick`
    Unstick,
}

impl Operator {
    /// One with a clock that is right.
    pub(super) fn new(local: &KinesisLocal, clock: Clock, log: Log, rand: Rand) -> Self {
        let name = Arc::from(OPERATOR);
        let network = Network::new(name, local.http_client(), log.clone(), rand, None);
        let config = local
            .sdk_config()
            .into_builder()
            .http_client(network)
            .time_source(Signing::by(clock.clone()))
            .build();
        let dynamodb = aws_sdk_dynamodb::Client::new(&config);
        let kinesis = aws_sdk_kinesis::Client::new(&config);
        let admin = LeaseAdmin::new(APPLICATION, kinesis, dynamodb.clone()).clock(clock.clone());
        Self {
            admin,
            dynamodb,
            clock,
            log,
        }
    }

    /// Does it.
    pub(super) async fn does(&self, deed: Deed) {
        self.log.step(format!("the operator begins: {deed:?}"));
        let changes = match &deed {
            Deed::Release(which) => self.admin.release(which).await,
            Deed::Reset(which, to) => {
                // Sequence numbers tell when a record came in whole seconds.
                self.until_a_second_begins().await;
                self.admin.reset(which, to.clone()).await
            }
            Deed::Unstick => self.admin.unstick().await,
        };
        // A lease that was named may be gone meanwhile, or the table not be there yet.
        let told = changes.as_ref().map(|changes| told(changes));
        self.log.step(format!("the operator is done: {told:?}"));
    }

    /// Deletes the row of a lease, whoever owns it.
    pub(super) async fn deletes(&self, lease: &ShardId) {
        self.log
            .step(format!("the operator deletes the row of {lease}"));
        let key = AttributeValue::S(lease.to_string());
        let delete = self.dynamodb.delete_item().table_name(APPLICATION);
        let deleted = delete.key("leaseKey", key).send().await;
        deleted.expect("kinesis-local has the table");
    }

    async fn until_a_second_begins(&self) {
        loop {
            let millis = self.clock.epoch_millis() % 1_000;
            if millis == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1_000 - millis)).await;
        }
    }
}

/// One lease.
pub(super) fn only(lease: &ShardId) -> Which {
    Which::Of(BTreeSet::from([lease.to_string()]))
}

fn told(changes: &[Change]) -> Vec<String> {
    let told = changes
        .iter()
        .map(|change| format!("{} {}", change.lease, change.result));
    told.collect()
}
