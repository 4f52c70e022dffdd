//! `worker leases …`: looking after the lease table of workers, over a socket.

use std::net::SocketAddr;
use std::process::Output;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_local::KinesisLocal;
use kinesis_producer::{Producer, UserRecord};
use serde_json::Value;
use tokio::process::{Child, Command};

#[path = "process/worker.rs"]
mod worker;

use worker::{PATIENCE, STREAM, terminate};

/// The leases of the board.
const LEASES: [&str; 2] = ["shardId-000000000000", "shardId-000000000001"];

/// As long as a worker's own `--failover-ms`: it renews every 4 s, so that the counter of a lease that it holds
/// moves in that time, however busy the machine is.
const HELD_MS: &str = "10000";

/// Runs `worker leases` with these arguments.
async fn leases(endpoint: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    let watch: &[&str] = match args.contains(&"--failover-ms") {
        true => &[],
        false => &["--failover-ms", "500"],
    };
    command
        .arg("leases")
        .args(args)
        .args(["--application", "board", "--endpoint-url", endpoint])
        .args(watch)
        // There is no KCL here.
        .args(["--kcl-failover-ms", "500"])
        .env("AWS_ACCESS_KEY_ID", "local")
        .env("AWS_SECRET_ACCESS_KEY", "local");
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    output.expect("it ends").expect("it starts")
}

/// The one JSON object that a command prints, and whether it succeeded.
async fn json(endpoint: &str, args: &[&str]) -> (Value, bool) {
    let output = leases(endpoint, &[args, &["--json"]].concat()).await;
    let object = serde_json::from_slice(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    (
        object.unwrap_or_else(|error| panic!("{args:?}: {error}\n{errors}")),
        output.status.success(),
    )
}

/// What a command prints for people, and its exit code.
async fn text(endpoint: &str, args: &[&str]) -> (String, Option<i32>) {
    let output = leases(endpoint, args).await;
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    (text, output.status.code())
}

/// What became of each lease.
fn results(object: &Value) -> Vec<&str> {
    let leases = object["leases"].as_array().expect("leases").iter();
    leases
        .map(|lease| lease["result"].as_str().expect("a result"))
        .collect()
}

/// Where the worker writes down what it does.
const SEEN: &str = "seen.ndjson";

/// A stream of two shards with records, and the worker `first` that has checkpointed in both.
struct Board {
    local: KinesisLocal,
    endpoint: String,
    worker: Child,
    directory: tempfile::TempDir,
}

impl Board {
    async fn new() -> Self {
        let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
        let local = KinesisLocal::builder()
            .listen(loopback)
            .start()
            .await
            .expect("it listens");
        let endpoint = local.endpoint_url();
        let kinesis = aws_sdk_kinesis::Client::new(&local.sdk_config());
        let create = kinesis.create_stream().stream_name(STREAM).shard_count(2);
        create.send().await.expect("the stream is created");
        let producer = Producer::builder(kinesis, STREAM)
            .build()
            .expect("valid settings");
        for number in 0..100 {
            let record = UserRecord::new(format!("key-{number}"), number.to_string());
            drop(producer.enqueue(record).await.expect("accepted"));
        }
        producer.flush().await;

        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join(SEEN);
        let running = worker::command(&endpoint, "first")
            .arg("--out")
            .arg(&out)
            .spawn();
        let board = Self {
            local,
            endpoint,
            worker: running.expect("the worker starts"),
            directory,
        };
        let rows = board
            .until("checkpoints", |rows| {
                let done = |row: &Value| row["checkpoint_age_seconds"].is_u64();
                rows.len() == 2 && rows.iter().all(done)
            })
            .await;
        assert!(rows.iter().all(|row| row["owner"] == "first"), "{rows:?}");
        board
    }

    /// How often the worker has begun to work on a shard.
    fn started(&self, shard: &str) -> usize {
        let seen = std::fs::read_to_string(self.directory.path().join(SEEN));
        let seen = seen.unwrap_or_default();
        let is = |line: &&str| line.contains(r#""event":"started""#) && line.contains(shard);
        seen.lines().filter(is).count()
    }

    /// The leases as listed, once `holds` says so of them.
    async fn until(&self, what: &str, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let found = async {
            loop {
                let output = leases(&self.endpoint, &["list", "--json"]).await;
                let listed = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default();
                let rows = listed["leases"].as_array().cloned().unwrap_or_default();
                if holds(&rows) {
                    return rows;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("never came: {what}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_releases_leases_of_a_live_and_of_a_dead_worker_and_ends_a_handoff_that_hangs()
{
    let mut board = Board::new().await;
    let endpoint = board.endpoint.clone();
    let first = ["release", "--lease", LEASES[0], "--failover-ms", HELD_MS];
    let (asked, all) = json(&endpoint, &first).await;
    assert_eq!((results(&asked), all), (vec!["asked"], true));
    // It lets go of the lease, and is given it again, as it is alone.
    board
        .until("the lease is back", |rows| {
            board.started(LEASES[0]) == 2 && rows[0]["owner"] == "first"
        })
        .await;
    assert_eq!(board.started(LEASES[1]), 1, "it keeps the other one");

    board.worker.kill().await.expect("it dies");
    let (released, all) = json(&endpoint, &["release", "--all"]).await;
    assert_eq!((results(&released), all), (vec!["done", "done"], true));
    let (listed, _) = json(&endpoint, &["list"]).await;
    for row in listed["leases"].as_array().expect("leases") {
        assert!(row["owner"].is_null(), "{row}");
    }

    // As a KCL leaves it (its issue 1743).
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let dynamodb = aws_sdk_dynamodb::Client::new(&board.local.sdk_config());
    let update = dynamodb
        .update_item()
        .table_name("board")
        .key("leaseKey", text("shardId-000000000001"))
        .update_expression("SET leaseOwner = :to, checkpointOwner = :from")
        .expression_attribute_values(":to", text("second"))
        .expression_attribute_values(":from", text("first"));
    update.send().await.expect("a handoff");
    let (unstuck, all) = json(&endpoint, &["unstick"]).await;
    assert_eq!((results(&unstuck), all), (vec!["done"], true));
    assert_eq!(unstuck["leases"][0]["lease"], "shardId-000000000001");
    let (unstuck, all) = json(&endpoint, &["unstick"]).await;
    assert_eq!((results(&unstuck), all), (vec![], true));
    let (listed, _) = json(&endpoint, &["list"]).await;
    assert!(listed["leases"][1]["owner"].is_null(), "{listed}");
    board.local.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_lists_verifies_resets_and_converts_the_leases_of_stopped_workers() {
    let board = Board::new().await;
    let endpoint = board.endpoint.clone();
    let other = ["list", "--table", "of-a-kcl"];
    let output = leases(&endpoint, &other).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("lease table of-a-kcl"), "{errors}");
    assert!(!output.status.success());
    let held = [
        "reset",
        "--all",
        "--to",
        "trim_horizon",
        "--failover-ms",
        HELD_MS,
    ];
    let (refused, all) = json(&endpoint, &held).await;
    assert_eq!((results(&refused), all), (vec!["held", "held"], false));
    terminate(board.worker).await;

    let (listed, listed_well) = json(&endpoint, &["list", "--stream", STREAM]).await;
    assert!(listed_well);
    let first = &listed["leases"][0];
    assert_eq!(first["lease"], "shardId-000000000000");
    assert_eq!(first["millis_behind_latest"], 0, "{first}");
    let text = String::from_utf8(leases(&endpoint, &["list"]).await.stdout).expect("UTF-8");
    assert!(text.starts_with("lease"), "{text}");

    let (cover, sound) = json(&endpoint, &["verify"]).await;
    assert!(sound && cover["sound"] == true, "{cover}");

    let (cover, sound) = json(&endpoint, &["verify", "--stream", STREAM]).await;
    assert!(sound && cover["sound"] == true, "{cover}");

    let (reset, all) = json(&endpoint, &["reset", "--all", "--to", "trim_horizon"]).await;
    assert_eq!((results(&reset), all), (vec!["done", "done"], true));

    let (converted, all) = json(&endpoint, &["convert", "--to", "multi", "--stream", STREAM]).await;
    assert_eq!((results(&converted), all), (vec!["done", "done"], true));
    let (listed, _) = json(&endpoint, &["list"]).await;
    let key = listed["leases"][0]["lease"].as_str().expect("a key");
    let stream = listed["leases"][0]["stream"].as_str().expect("a stream");
    assert_eq!(key, format!("{stream}:shardId-000000000000"));
    assert_eq!(listed["leases"][0]["checkpoint"], "TRIM_HORIZON");
    let (back, _) = json(
        &endpoint,
        &["convert", "--to", "single", "--stream", stream],
    )
    .await;
    assert_eq!(results(&back), ["done", "done"]);

    let (unstuck, all) = json(&endpoint, &["unstick"]).await;
    assert_eq!((results(&unstuck), all), (vec![], true));
    let (released, all) = json(&endpoint, &["release", "--lease", "shardId-000000000001"]).await;
    assert_eq!((results(&released), all), (vec!["unchanged"], true));
    let unknown = leases(&endpoint, &["release", "--lease", "shardId-9"]).await;
    assert!(!unknown.status.success());
    let complaint = String::from_utf8_lossy(&unknown.stderr);
    assert!(
        complaint.contains("there is no lease shardId-9"),
        "{complaint}"
    );
    board.local.shutdown().await;
}

/// Each command with something to do, as people read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_reads_what_each_command_did_and_scripts_its_exit_code() {
    let mut board = Board::new().await;
    let endpoint = board.endpoint.clone();
    let held = ["reset", "--all", "--to", "latest", "--failover-ms", HELD_MS];
    let (told, code) = text(&endpoint, &held).await;
    let lines: Vec<&str> = told.lines().collect();
    assert!(
        lines.len() == 2
            && LEASES
                .iter()
                .zip(&lines)
                .all(|(lease, line)| line.starts_with(lease)),
        "{told}"
    );
    assert_eq!(code, Some(1), "they are held: {told}");
    board.worker.kill().await.expect("it dies");

    let one = ["release", "--lease", LEASES[1]];
    let (told, code) = text(&endpoint, &one).await;
    assert!(
        told.starts_with(LEASES[1]) && told.lines().count() == 1,
        "{told}"
    );
    assert_eq!(code, Some(0));
    let (_, code) = text(&endpoint, &["release", "--all"]).await;
    assert_eq!(code, Some(0));
    let (told, code) = text(&endpoint, &["list"]).await;
    assert!(told.starts_with("lease"), "{told}");
    assert!(LEASES.iter().all(|lease| told.contains(lease)), "{told}");
    assert!(!told.contains("first"), "nobody owns them: {told}");
    assert_eq!(code, Some(0));

    let key = |text: &str| AttributeValue::S(text.to_owned());
    let dynamodb = aws_sdk_dynamodb::Client::new(&board.local.sdk_config());
    let hangs = dynamodb
        .update_item()
        .table_name("board")
        .key("leaseKey", key(LEASES[0]))
        .update_expression("SET leaseOwner = :to, checkpointOwner = :from")
        .expression_attribute_values(":to", key("second"))
        .expression_attribute_values(":from", key("first"));
    hangs.send().await.expect("a handoff");
    let (told, code) = text(&endpoint, &["unstick"]).await;
    assert!(
        told.starts_with(LEASES[0]) && told.lines().count() == 1,
        "{told}"
    );
    assert_eq!(code, Some(0));

    let (_, code) = text(
        &endpoint,
        &["reset", "--lease", LEASES[0], "--to", "1700000000000"],
    )
    .await;
    assert_eq!(code, Some(0));
    let (listed, _) = json(&endpoint, &["list"]).await;
    assert_eq!(
        listed["leases"][0]["checkpoint"], "AT_TIMESTAMP",
        "{listed}"
    );
    assert_ne!(
        listed["leases"][1]["checkpoint"], "AT_TIMESTAMP",
        "{listed}"
    );

    let (told, code) = text(&endpoint, &["verify"]).await;
    assert_eq!(code, Some(0), "{told}");
    let delete = dynamodb.delete_item().table_name("board");
    let delete = delete.key("leaseKey", key(LEASES[1]));
    delete.send().await.expect("deleted");
    let (told, code) = text(&endpoint, &["verify"]).await;
    assert_eq!(code, Some(1), "half of the key space is nobody's: {told}");
    let (cover, sound) = json(&endpoint, &["verify"]).await;
    assert!(!sound && cover["sound"] == false, "{cover}");

    let (told, code) = text(&endpoint, &["convert", "--to", "multi", "--stream", STREAM]).await;
    assert!(
        told.lines().count() == 1 && told.contains(LEASES[0]),
        "{told}"
    );
    assert_eq!(code, Some(0));

    let moved = told.split_whitespace().next().expect("a lease");
    let (listed, _) = json(&endpoint, &["list"]).await;
    let last = listed["leases"][0]["lease"].as_str().expect("a lease");
    assert!(last.ends_with(moved), "{listed}");
    let delete = dynamodb.delete_item().table_name("board");
    let delete = delete.key("leaseKey", key(last));
    delete.send().await.expect("deleted");
    let (told, code) = text(&endpoint, &["verify"]).await;
    assert!(told.ends_with("not sound\n"), "no lease is left: {told}");
    assert_eq!(code, Some(1));
    board.local.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_command_explains_itself_and_what_cannot_be_understood_is_told_apart_from_what_failed()
{
    let nowhere = "http://127.0.0.1:1";
    for command in ["list", "release", "reset", "convert", "unstick", "verify"] {
        let (help, code) = text(nowhere, &[command, "--help"]).await;
        assert_eq!(code, Some(0), "{command}");
        let says = [
            "--application",
            "--json",
            "--failover-ms",
            "--kcl-failover-ms",
            "--endpoint-url",
        ];
        assert!(
            says.iter().all(|flag| help.contains(flag)),
            "{command}: {help}"
        );
    }
    for (args, names) in [
        (&["reset", "--all", "--to", "yesterday"][..], "trim_horizon"),
        (&["reset", "--all"], "--to"),
        (&["release"], "--lease"),
        (&["release", "--all", "--lease", "a"], "--lease"),
        (&["convert", "--to", "several", "--stream", "s"], "multi"),
        (&["rename"], "rename"),
    ] {
        let output = leases(nowhere, args).await;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {complaint}");
        assert!(complaint.contains(names), "{args:?}: {complaint}");
    }
    let (told, code) = text(nowhere, &["list"]).await;
    assert_eq!((told.as_str(), code), ("", Some(1)), "nobody listens there");
}
