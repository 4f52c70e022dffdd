//! The `kinesis-local` command is killed with SIGKILL while clients write records, items and objects,
//! again and again on one data directory: what it acknowledged is there, and what it did not is there as a
//! whole or not at all.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![cfg(all(feature = "cli", feature = "dynamodb", feature = "s3", unix))]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use kinesis_local::KinesisLocal;

#[path = "killed/items.rs"]
mod items;
#[path = "killed/objects.rs"]
mod objects;
#[path = "killed/records.rs"]
mod records;

/// Writers of records, and of items; and half as many of objects.
const WRITERS: usize = 4;
/// The longest that a call may take, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the command is killed.
const KILLS: usize = 6;
/// Acknowledged requests of each kind after which each kill comes; different each time, so that it meets
/// the stores in different states.
const REQUESTS_BEFORE_KILL: [[usize; 3]; KILLS] = [
    [7, 1, 0],
    [50, 15, 4],
    [111, 40, 9],
    [180, 31, 14],
    [20, 17, 7],
    [5, 53, 11],
];

/// A running command; killed when dropped.
struct Running {
    process: Child,
    endpoint: String,
}

impl Running {
    fn start(data_dir: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_kinesis-local"))
            .args(["--port", "0", "--limits", "off", "--data-dir"])
            .arg(data_dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        let endpoint = first
            .trim()
            .strip_prefix("kinesis-local listening on ")
            .unwrap()
            .to_owned();
        Self { process, endpoint }
    }

    /// Clients over the socket that try once: a retry would blur what was acknowledged.
    async fn config(&self) -> SdkConfig {
        let config = KinesisLocal::builder().start().await.unwrap().sdk_config();
        config
            .into_builder()
            .endpoint_url(&self.endpoint)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_timeout(PATIENCE).build())
            .build()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// What a store has to hold: of each key the version that was acknowledged. Each key has one writer.
#[derive(Debug, Default)]
struct Ledger(BTreeMap<String, Entry>);

#[derive(Debug, Default)]
struct Entry {
    /// `None`: it is not there.
    known: Option<u64>,
    /// What a change that was not acknowledged yet makes of it.
    under_way: Option<Option<u64>>,
    /// What is there was acknowledged, and is no change that a kill cut off before its answer.
    acknowledged: bool,
}

type Books = Arc<Mutex<Ledger>>;

/// Notes a change and whether it was acknowledged; `false`: the server is gone.
async fn change<T, E: Debug, R>(
    books: &Books,
    key: &str,
    to: Option<u64>,
    request: impl Future<Output = Result<T, SdkError<E, R>>>,
) -> bool {
    let with = |note: &dyn Fn(&mut Entry)| {
        note(books.lock().unwrap().0.entry(key.to_owned()).or_default());
    };
    with(&|entry| entry.under_way = Some(to));
    match request.await {
        Ok(_) => {
            with(&|entry| {
                *entry = Entry {
                    known: to,
                    under_way: None,
                    acknowledged: true,
                }
            });
            true
        }
        Err(SdkError::ServiceError(refused)) => {
            panic!("{key} was not to be changed to {to:?}: {:?}", refused.err())
        }
        Err(_) => false,
    }
}

fn is_acknowledged(books: &Books, key: &str) -> bool {
    let books = books.lock().unwrap();
    books
        .0
        .get(key)
        .is_some_and(|entry| entry.acknowledged && entry.under_way.is_none())
}

fn known(books: &Books, key: &str) -> Option<u64> {
    books
        .lock()
        .unwrap()
        .0
        .get(key)
        .and_then(|entry| entry.known)
}

impl Ledger {
    /// Holds it against what is there. What was under way may have happened, as a whole.
    fn check(&mut self, mut found: BTreeMap<String, u64>) {
        for (key, entry) in &mut self.0 {
            let found = found.remove(key);
            let under_way = entry.under_way.take();
            let may_be = under_way == Some(found);
            assert!(
                found == entry.known || may_be,
                "{key}: {found:?}, not {entry:?}"
            );
            // A change that was cut off may have taken what is noted beside the old bytes.
            entry.acknowledged &= under_way.is_none();
            entry.known = found;
        }
        assert!(found.is_empty(), "{found:?} were never written");
    }
}

/// The number of a change, which no other round's has.
fn version(round: usize, n: usize) -> u64 {
    (round * 1_000_000 + n) as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_every_kill_and_what_was_not_is_nowhere_half_there() {
    let directory = tempfile::tempdir().unwrap();
    let records = records::Acknowledged::default();
    let (items, objects) = (Books::default(), Books::default());
    for (round, wanted) in REQUESTS_BEFORE_KILL.into_iter().enumerate() {
        let running = Running::start(directory.path());
        let config = running.config().await;
        if round == 0 {
            records::create(&config).await;
            items::create(&config).await;
            objects::create(&config).await;
        }
        let found = items::read(&config).await;
        items.lock().unwrap().check(found);
        let found = objects::read(&config, &objects).await;
        objects.lock().unwrap().check(found);
        let counts: [Arc<AtomicUsize>; 3] = Default::default();
        let [of_records, of_items, of_objects] = &counts;
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let (records, count) = (Arc::clone(&records), Arc::clone(of_records));
            writers.push(tokio::spawn(records::write(
                config.clone(),
                writer,
                round,
                records,
                count,
            )));
            let (books, count) = (Arc::clone(&items), Arc::clone(of_items));
            writers.push(tokio::spawn(items::write(
                config.clone(),
                writer,
                round,
                books,
                count,
            )));
            if writer % 2 == 0 {
                let (books, count) = (Arc::clone(&objects), Arc::clone(of_objects));
                writers.push(tokio::spawn(objects::write(
                    config.clone(),
                    writer,
                    round,
                    books,
                    count,
                )));
            }
        }
        let enough = || {
            counts
                .iter()
                .zip(wanted)
                .all(|(count, wanted)| count.load(Ordering::Relaxed) >= wanted)
        };
        while !enough() {
            assert!(
                !writers.iter().any(|writer| writer.is_finished()),
                "the server ended early"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(running);
        for writer in writers {
            writer.await.unwrap();
        }
    }
    let running = Running::start(directory.path());
    let config = running.config().await;
    let found = records::read(&config).await;
    records::check(&records.lock().unwrap(), &found);
    let found = items::read(&config).await;
    items.lock().unwrap().check(found);
    let found = objects::read(&config, &objects).await;
    objects.lock().unwrap().check(found);
}
