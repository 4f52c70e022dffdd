//! A `kinesis-local` in process, with faults on the way to its DynamoDB, and workers on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use kinesis_core::{Clock, Rand, ShardId};
use kinesis_local::{KinesisLocal, Limits};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::lease::item::{self, Item, Row};
use crate::lease::layout::TableNames;
use crate::lease::table::LeaseTable;
use crate::lease::{HeldLease, Lease, LeaseKeeper, LeaseStore, LeaseTableSettings};
use crate::settings::Settings;
use crate::stream::{Sources, Streams};

pub(crate) const STREAM: &str = "orders";
pub(crate) const TABLE: &str = "billing";

/// Rows of one `BatchWriteItem`. Source: DynamoDB API.
const BATCH_MAX: usize = 25;

/// What happens to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// Carried out and answered.
    None,
    /// Carried out, but the connection breaks before the answer.
    LoseAnswer,
    /// Refused for want of throughput.
    Throttle,
    /// Refused for want of a permission.
    Deny,
    /// Refused, as if the table were not there.
    NotFound,
    /// Answered with this, by nobody.
    Answer(&'static str),
    /// Carried out after this time.
    Late(Duration),
    /// Never arrives.
    Drop,
    /// Arrives nowhere and is never answered.
    Hang,
}

type Judge = Arc<Mutex<Box<dyn FnMut(&str, &str) -> Fault + Send>>>;

/// Asks for each request, by the name of its operation and its body, what happens to it.
#[derive(Clone)]
pub(crate) struct FaultyClient {
    inner: SharedHttpConnector,
    judge: Judge,
}

impl std::fmt::Debug for FaultyClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultyClient")
    }
}

impl HttpConnector for FaultyClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default());
        let fault = (self.judge.lock().expect("not poisoned"))(&operation, &body);
        let inner = self.inner.clone();
        let broken = || ConnectorError::io("the connection broke".into());
        HttpConnectorFuture::new(async move {
            match fault {
                Fault::None => inner.call(request).await,
                Fault::Late(by) => {
                    sleep(by).await;
                    inner.call(request).await
                }
                Fault::LoseAnswer => {
                    inner.call(request).await?;
                    Err(broken())
                }
                Fault::Drop => Err(broken()),
                Fault::Hang => std::future::pending().await,
                Fault::Answer(body) => {
                    let status = 200u16.try_into().map_err(|_| broken())?;
                    Ok(HttpResponse::new(status, SdkBody::from(body)))
                }
                Fault::Throttle | Fault::Deny | Fault::NotFound => {
                    let name = match fault {
                        Fault::Throttle => "ProvisionedThroughputExceededException",
                        Fault::NotFound => "ResourceNotFoundException",
                        _ => "AccessDeniedException",
                    };
                    let body = format!(
                        r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{name}","message":"no"}}"#
                    );
                    let status = 400u16.try_into().map_err(|_| broken())?;
                    Ok(HttpResponse::new(status, SdkBody::from(body)))
                }
            }
        })
    }
}

impl HttpClient for FaultyClient {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// One stream and one lease table.
pub(crate) struct Rig {
    local: KinesisLocal,
    /// That of the workers. Their rows say when they were written, and change only with it.
    clock: Clock,
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
}

impl Rig {
    /// A stream of `shards` shards; no table yet.
    pub(crate) async fn new(shards: i32) -> Self {
        Self::with_clock(shards, Clock::system()).await
    }

    /// The same with a clock of the stream's own, so that a retention passes in virtual time.
    pub(crate) async fn with_clock(shards: i32, clock: Clock) -> Self {
        let local = KinesisLocal::builder()
            .rand(Rand::seeded(7))
            .clock(clock)
            .limits(Limits::Off)
            .start()
            .await
            .expect("starts");
        let config = local.sdk_config();
        let kinesis = aws_sdk_kinesis::Client::new(&config);
        let dynamodb = aws_sdk_dynamodb::Client::new(&config);
        kinesis
            .create_stream()
            .stream_name(STREAM)
            .shard_count(shards)
            .send()
            .await
            .expect("creates the stream");
        Self {
            local,
            clock: Clock::starting_at(Clock::system().epoch_millis()),
            kinesis,
            dynamodb,
        }
    }

    /// A DynamoDB client whose requests meet the faults that `judge` names.
    pub(crate) fn faulty(
        &self,
        mut judge: impl FnMut(&str) -> Fault + Send + 'static,
    ) -> aws_sdk_dynamodb::Client {
        self.faulty_by_body(move |operation, _| judge(operation))
    }

    /// A Kinesis client, likewise.
    pub(crate) fn faulty_kinesis(
        &self,
        mut judge: impl FnMut(&str) -> Fault + Send + 'static,
    ) -> aws_sdk_kinesis::Client {
        let http = self.faulty_http(move |operation, _| judge(operation));
        let config = aws_sdk_kinesis::Config::from(&self.local.sdk_config()).to_builder();
        aws_sdk_kinesis::Client::from_conf(config.http_client(http).build())
    }

    /// A DynamoDB client by the text of the request, too.
    pub(crate) fn faulty_by_body(
        &self,
        judge: impl FnMut(&str, &str) -> Fault + Send + 'static,
    ) -> aws_sdk_dynamodb::Client {
        let http = self.faulty_http(judge);
        let config = aws_sdk_dynamodb::Config::from(&self.local.sdk_config()).to_builder();
        aws_sdk_dynamodb::Client::from_conf(config.http_client(http).build())
    }

    fn faulty_http(
        &self,
        judge: impl FnMut(&str, &str) -> Fault + Send + 'static,
    ) -> SharedHttpClient {
        SharedHttpClient::new(FaultyClient {
            inner: SharedHttpConnector::new(self.local.http_client()),
            judge: Arc::new(Mutex::new(Box::new(judge))),
        })
    }

    /// The table, created if need be.
    pub(crate) async fn table(&self) -> Arc<dyn LeaseTable> {
        let table = self.table_through(&self.dynamodb);
        let ensured = table.prepare(&LeaseTableSettings::default()).await;
        ensured.expect("the table is there");
        table
    }

    pub(crate) fn table_through(&self, client: &aws_sdk_dynamodb::Client) -> Arc<dyn LeaseTable> {
        let store = LeaseStore::from(client.clone());
        store.table(
            &TableNames::of(TABLE),
            Duration::from_secs(10),
            Rand::seeded(3),
        )
    }

    /// What the wall clocks of the workers say.
    pub(crate) fn now_millis(&self) -> u64 {
        self.clock.epoch_millis()
    }

    pub(crate) async fn put(&self, item: Item) {
        let put = self
            .dynamodb
            .put_item()
            .table_name(TABLE)
            .set_item(Some(item));
        put.send().await.expect("puts the row");
    }

    /// The same with many rows.
    pub(crate) async fn put_all(&self, items: Vec<Item>) {
        for items in items.chunks(BATCH_MAX) {
            let put = |item: &Item| {
                let put = PutRequest::builder().set_item(Some(item.clone())).build();
                let put = put.expect("has an item");
                WriteRequest::builder().put_request(put).build()
            };
            let puts = items.iter().map(put).collect();
            let write = self.dynamodb.batch_write_item().request_items(TABLE, puts);
            let answer = write.send().await.expect("puts the rows");
            let left = answer.unprocessed_items().map_or(0, |items| items.len());
            assert_eq!(left, 0, "without limits all are put");
        }
    }

    /// The row as stored.
    pub(crate) async fn item(&self, shard: u64) -> Item {
        let key = AttributeValue::S(ShardId::from_index(shard).to_string());
        let get = self
            .dynamodb
            .get_item()
            .table_name(TABLE)
            .key(item::LEASE_KEY, key);
        let answer = get
            .consistent_read(true)
            .send()
            .await
            .expect("gets the row");
        answer.item().cloned().unwrap_or_default()
    }

    pub(crate) async fn lease(&self, shard: u64) -> Lease {
        match item::read(&self.item(shard).await) {
            Row::Lease(lease) => *lease,
            other => panic!("not a lease: {other:?}"),
        }
    }

    /// The keeper of worker `b` of `stream`, with the defaults.
    pub(crate) fn keeper(&self, stream: &str) -> LeaseKeeper {
        let (leases, settings) = (self.dynamodb.clone().into(), Settings::default());
        let (clock, rand) = (self.clock.clone(), Rand::seeded(1));
        let kinesis = self.kinesis.clone();
        LeaseKeeper::new(kinesis, &leases, TABLE, stream, "b", &settings, clock, rand)
    }

    /// A worker with the defaults, seeded by its name.
    pub(crate) fn worker(&self, id: &str) -> Worker {
        self.worker_with(
            id,
            self.dynamodb.clone(),
            &Settings::default(),
            OnHandoff::Release,
        )
    }

    pub(crate) fn worker_with(
        &self,
        id: &str,
        dynamodb: aws_sdk_dynamodb::Client,
        settings: &Settings,
        on_handoff: OnHandoff,
    ) -> Worker {
        self.worker_of(id, STREAM.into(), dynamodb, settings, on_handoff)
    }

    /// A worker that reads several streams, with the defaults.
    pub(crate) fn worker_of_streams(&self, id: &str, streams: &Streams) -> Worker {
        let sources = Sources::Many(streams.clone());
        let (dynamodb, settings) = (self.dynamodb.clone(), Settings::default());
        self.worker_of(id, sources, dynamodb, &settings, OnHandoff::Release)
    }

    pub(crate) fn worker_of(
        &self,
        id: &str,
        sources: Sources,
        dynamodb: aws_sdk_dynamodb::Client,
        settings: &Settings,
        on_handoff: OnHandoff,
    ) -> Worker {
        let seed = id
            .bytes()
            .fold(7, |seed: u64, byte| seed * 31 + u64::from(byte));
        let keeper = LeaseKeeper::new(
            self.kinesis.clone(),
            &dynamodb.into(),
            TABLE,
            sources,
            id,
            settings,
            self.clock.clone(),
            Rand::seeded(seed),
        );
        Worker::start(keeper, on_handoff)
    }
}

/// What a worker does when a lease is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OnHandoff {
    Release,
    Ignore,
}

pub(crate) type Held = Arc<Mutex<BTreeMap<ShardId, HeldLease>>>;

/// A keeper and the simplest consumer: it keeps what it gains until it is lost or asked for.
pub(crate) struct Worker {
    pub(crate) held: Held,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Worker {
    fn start(keeper: LeaseKeeper, on_handoff: OnHandoff) -> Self {
        let held = Held::default();
        let stop = CancellationToken::new();
        let (sender, mut gained) = mpsc::channel::<HeldLease>(4);
        let run = keeper.run(sender, stop.clone());
        let (leases, stopping) = (Arc::clone(&held), stop.clone());
        // One task, so that aborting it ends all at once, as a crash does.
        let task = tokio::spawn(async move {
            let mut run = std::pin::pin!(run);
            let mut watchers = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    outcome = &mut run => return outcome,
                    Some(lease) = gained.recv() => {
                        let id = lease.lease().shard_id;
                        leases.lock().expect("not poisoned").insert(id, lease.clone());
                        watchers.spawn(watch(lease, Arc::clone(&leases), stopping.clone(), on_handoff));
                    }
                }
            }
        });
        Self { held, stop, task }
    }

    /// The keys of the leases this worker works by.
    pub(crate) fn keys(&self) -> Vec<ShardId> {
        let held = self.held.lock().expect("not poisoned");
        let live = held
            .iter()
            .filter(|(_, lease)| !lease.lost().is_cancelled());
        live.map(|(key, _)| key.clone()).collect()
    }

    /// The shards this worker works on, of a single stream.
    pub(crate) fn shards(&self) -> Vec<u64> {
        self.keys().iter().filter_map(ShardId::index).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.keys().len()
    }

    pub(crate) fn lease(&self, shard: u64) -> HeldLease {
        self.lease_of(&ShardId::from_index(shard))
    }

    pub(crate) fn lease_of(&self, key: &ShardId) -> HeldLease {
        let held = self.held.lock().expect("not poisoned");
        held.get(key).expect("holds the lease").clone()
    }

    /// Ends at once, without a word to anybody.
    pub(crate) fn crash(self) {
        self.task.abort();
    }

    /// Ends as it should.
    pub(crate) async fn stop(self) -> Result<(), Error> {
        self.stop.cancel();
        self.task.await.expect("no panic")
    }
}

async fn watch(lease: HeldLease, held: Held, stop: CancellationToken, on_handoff: OnHandoff) {
    let asked_for = async {
        lease.handoff_requested().cancelled().await;
        if on_handoff == OnHandoff::Ignore {
            std::future::pending::<()>().await;
        }
    };
    let source = Arc::clone(lease.source());
    tokio::select! {
        () = lease.lost().cancelled() => {}
        () = asked_for => lease.release().await.expect("hands over"),
        () = source.stop.cancelled() => lease.release().await.expect("gives back"),
        () = stop.cancelled() => lease.release().await.expect("gives back"),
    }
    let key = lease.lease().shard_id;
    held.lock().expect("not poisoned").remove(&key);
}

/// Waits in virtual time until `holds`, checking all along that no shard has two workers.
pub(crate) async fn until(what: &str, workers: &[&Worker], mut holds: impl FnMut() -> bool) {
    for _ in 0..4_000 {
        let mut all: Vec<_> = workers.iter().flat_map(|worker| worker.keys()).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "two workers on one shard");
        if holds() {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let state: Vec<_> = workers.iter().map(|worker| worker.keys()).collect();
    panic!("never happened: {what}; workers hold {state:?}");
}
