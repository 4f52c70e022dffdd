//! How fast a fleet of worker processes recovers, measured once for real: `kinesis-local` and `worker`
//! as processes, over sockets, by the clock on the wall.
//!
//! ```sh
//! cargo build --workspace --bin kinesis-local --bin worker --bin recovery
//! target/debug/recovery
//! ```
//!
//! Takes the other two programs from beside itself. `tests/tests/fleet.rs` asserts the same in virtual
//! time; `BENCHMARKS.md` has both. Every shard is given ten records a second; workers run at default
//! settings. A figure is the time until the last of the shards that lost their worker has a record
//! processed by another one. Ends with 1 if a figure misses its target, or after four minutes.

mod fleet;

use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use fleet::{Fleet, Log, SETTLED, terminate};
use kinesis_core::Clock;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

type Failure = Box<dyn std::error::Error>;

/// The whole run.
const BOUND: Duration = Duration::from_secs(240);
/// The KCL renews every 3,308 ms whatever else it writes. Source: KCL 3.5.1, `failoverTimeMillis` and
/// its epsilon.
const KCL_RENEWAL: Duration = Duration::from_millis(3_308);
/// How long writes are counted, and how far checkpoints are apart.
const WRITES_FOR: Duration = Duration::from_secs(45);
const CHECKPOINT_EVERY: Duration = Duration::from_secs(3);

/// One line of the result; whether the target was met.
fn tell(what: &str, figure: f64, unit: &str, target: &str, met: bool) -> bool {
    let mark = if met { ' ' } else { '✗' };
    println!("{what:<52} {figure:>7.2} {unit:<2}  target {target} {mark}");
    met
}

async fn measure(fleet: &Fleet) -> Result<bool, Failure> {
    let mut good = true;
    fleet.stream("eight", 8).await?;
    let trickle = fleet.trickle("eight", 8);
    let mut names = (b'a'..=b'z').map(|letter| char::from(letter).to_string());
    let mut next = || names.next().ok_or("out of names");
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(fleet.worker("eight", &next()?)?);
    }
    let cases = [
        (
            "clean stop of a worker → its shards are read",
            false,
            true,
            3.0,
        ),
        (
            "clean stop of the leader → its shards are read",
            true,
            true,
            3.0,
        ),
        (
            "SIGKILL of a worker → its shards are read",
            false,
            false,
            15.0,
        ),
        (
            "SIGKILL of the leader → its shards are read",
            true,
            false,
            30.0,
        ),
    ];
    for (what, of_leader, clean, target) in cases {
        fleet.settled(&workers, 2).await?;
        fleet.log().records.clear();
        let took = fleet
            .lose(&mut workers, of_leader, clean)
            .await?
            .as_secs_f64();
        good &= tell(what, took, "s", &format!("≤ {target} s"), took <= target);
        if clean {
            // Whoever went is gone by now, and whatever came twice has come.
            tokio::time::sleep(SETTLED).await;
            let again: u64 = fleet.log().records.values().map(|times| times - 1).sum();
            good &= tell(
                "    records that came twice",
                again as f64,
                "",
                "0",
                again == 0,
            );
        }
        workers.push(fleet.worker("eight", &next()?)?);
    }
    drop((trickle, workers));

    fleet.stream("hundred", 100).await?;
    let trickle = fleet.trickle("hundred", 100);
    let mut before = fleet.worker("hundred", "before")?;
    let all = |name: &'static str| move || fleet.shards_of(name).len() == 100;
    fleet.until("all shards", all("before")).await?;
    terminate(&mut before.child).await?;
    before.child.wait().await?;
    let since = fleet.clock.now();
    let after = fleet.worker("hundred", "after")?;
    fleet.until("all shards", all("after")).await?;
    let of_after = |log: &Log| -> Vec<Instant> {
        let firsts = log.firsts.iter().filter(|((name, _), _)| name == "after");
        firsts.map(|(_, at)| *at).collect()
    };
    let times = of_after(&fleet.log());
    let first = times
        .iter()
        .min()
        .map_or(f64::NAN, |at| (*at - since).as_secs_f64());
    let last = times
        .iter()
        .max()
        .map_or(f64::NAN, |at| (*at - since).as_secs_f64());
    good &= tell(
        "start on a table of 100 leases: first record",
        first,
        "s",
        "≤ 5 s",
        first <= 5.0,
    );
    good &= tell(
        "    a record of every shard",
        last,
        "s",
        "≤ 5 s",
        last <= 5.0,
    );
    drop((trickle, after));

    fleet.stream("writes", 8).await?;
    fleet.put("writes", 8).await?;
    let writer = fleet.worker("writes", "writer")?;
    let all = || fleet.shards_of("writer").len() == 8;
    fleet.until("all shards", all).await?;
    fleet.log().checkpoints = 0;
    let (before, since) = (fleet.counters("writes").await?, fleet.clock.now());
    let mut pace = tokio::time::interval(CHECKPOINT_EVERY);
    while fleet.clock.now() - since < WRITES_FOR {
        pace.tick().await;
        fleet.put("writes", 8).await?;
    }
    let took = fleet.clock.now() - since;
    let writes = (fleet.counters("writes").await? - before) as f64;
    let checkpoints = fleet.log().checkpoints as f64;
    let of_kcl = checkpoints + 8.0 * took.as_secs_f64() / KCL_RENEWAL.as_secs_f64();
    let saved = (1.0 - writes / of_kcl) * 100.0;
    println!("    {writes} writes of 8 leases in {took:.1?}, {checkpoints} checkpoints");
    good &= tell(
        "lease writes less than by the KCL's rule",
        saved,
        "%",
        "≥ 30 %",
        saved >= 30.0,
    );
    drop(writer);
    Ok(good)
}

/// Starts kinesis-local and returns it with its address.
async fn local(programs: &Path) -> Result<(Child, String), Failure> {
    let mut child = Command::new(programs.join("kinesis-local"))
        .args(["--port", "0"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or("it is piped")?;
    let first = BufReader::new(stdout).lines().next_line().await?;
    let first = first.ok_or("kinesis-local did not start")?;
    let (_, url) = first.rsplit_once(' ').ok_or("no address")?;
    Ok((child, url.to_owned()))
}

async fn run() -> Result<bool, Failure> {
    let this = std::env::current_exe()?;
    let programs = this.parent().ok_or("no directory")?.to_owned();
    let (_local, endpoint) = local(&programs).await?;
    let config = aws_types::SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(&endpoint)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "local", "local", None, None, "recovery",
        )))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let directory = tempfile::tempdir()?;
    let fleet = Fleet {
        programs,
        directory: directory.path().to_owned(),
        endpoint,
        kinesis: aws_sdk_kinesis::Client::new(&config),
        dynamodb: aws_sdk_dynamodb::Client::new(&config),
        clock: Clock::system(),
        log: Arc::default(),
    };
    tokio::time::timeout(BOUND, measure(&fleet)).await?
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
