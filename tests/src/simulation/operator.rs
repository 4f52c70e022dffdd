//! Who looks after the lease table from outside, while the fleet runs or stands still: by the commands of
//! the worker binary, and now and then with a heavy hand.
//!
//! Its network is sound: what goes wrong between it and the table is the tests' of the commands themselves.
//! Each deed has a name, which is that of whoever calls the table for it, so that a write is known to be of
//! it; what a reset is to write, the log is told before, and not by the command.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::ShardId;
use kinesis_consumer::admin::{Change, LeaseAdmin, ResetTo, Which};
use kinesis_core::{Clock, Position, Rand};
use kinesis_local::KinesisLocal;

use super::log::{Event, Log, Start};
use super::network::Network;
use super::time::Signing;
use crate::world::APPLICATION;

/// Begins the name of each deed.
const OPERATOR: &str = "operator ";

/// What owns a lease that its holder was asked to let go.
/// Source: `RELEASED_BY_OPERATOR` of the consumer's `lease`.
pub(super) const NOBODY: &str = "released-by-operator";

/// Whether who calls a service is an operator, and not a worker.
pub(super) fn is_operator(name: &str) -> bool {
    name.starts_with(OPERATOR)
}

/// The operator. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    local: KinesisLocal,
    clock: Clock,
    log: Log,
    rand: Rand,
    /// How many deeds there were.
    deeds: Arc<AtomicUsize>,
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
        Self {
            local: local.clone(),
            clock,
            log,
            rand,
            deeds: Arc::default(),
        }
    }

    /// Does it.
    pub(super) async fn does(&self, deed: Deed) {
        let name = self.next();
        self.log.step(format!("{name} begins: {deed:?}"));
        let (kinesis, dynamodb) = self.clients(&name);
        let admin = LeaseAdmin::new(APPLICATION, kinesis, dynamodb).clock(self.clock.clone());
        let changes = match &deed {
            Deed::Release(which) => admin.release(which).await,
            Deed::Reset(which, to) => {
                // Sequence numbers tell when a record came in whole seconds.
                self.until_a_second_begins().await;
                let deed = Arc::clone(&name);
                let start = self.start(to);
                self.log.push(Event::Resets { deed, to: start });
                admin.reset(which, to.clone()).await
            }
            Deed::Unstick => admin.unstick().await,
        };
        // A lease that was named may be gone meanwhile, or the table not be there yet.
        let told = changes.as_ref().map(|changes| told(changes));
        self.log.step(format!("{name} is done: {told:?}"));
    }

    /// Deletes the row of a lease, whoever owns it.
    pub(super) async fn deletes(&self, lease: &ShardId) {
        let name = self.next();
        self.log.step(format!("{name} deletes the row of {lease}"));
        let key = AttributeValue::S(lease.to_string());
        let (_, dynamodb) = self.clients(&name);
        let delete = dynamodb.delete_item().table_name(APPLICATION);
        let deleted = delete.key("leaseKey", key).send().await;
        deleted.expect("kinesis-local has the table");
    }

    /// The name of the next deed.
    fn next(&self) -> Arc<str> {
        let number = 1 + self.deeds.fetch_add(1, Ordering::Relaxed);
        format!("{OPERATOR}{number}").into()
    }

    /// What calls the services for a deed.
    fn clients(&self, deed: &Arc<str>) -> (aws_sdk_kinesis::Client, aws_sdk_dynamodb::Client) {
        let (client, rand) = (self.local.http_client(), self.rand.fork());
        let network = Network::new(Arc::clone(deed), client, self.log.clone(), rand, None);
        let config = self
            .local
            .sdk_config()
            .into_builder()
            .http_client(network)
            .time_source(Signing::by(self.clock.clone()))
            .build();
        let kinesis = aws_sdk_kinesis::Client::new(&config);
        (kinesis, aws_sdk_dynamodb::Client::new(&config))
    }

    /// What a reset promises to write.
    fn start(&self, to: &ResetTo) -> Start {
        let (position, starts_at) = match to {
            ResetTo::Latest => (Position::Latest, Some(self.clock.epoch_millis())),
            ResetTo::AtTimestamp(millis) => (Position::AtTimestamp, Some(*millis)),
            ResetTo::TrimHorizon => (Position::TrimHorizon, None),
            other => panic!("no scenario resets to {other:?}"),
        };
        Start {
            position,
            starts_at,
        }
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
