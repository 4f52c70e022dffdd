//! A worker of the real KCL in a process of its own; see `interop/kcl`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use kinesis_core::{Position, ShardId};
use tests::history::{Event, History};
use tests::world::APPLICATION;
use tests::{World, maven};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::streams::Reads;

/// A small heap, and no time spent on compiling what runs for a minute: several JVMs run at once.
pub(super) const FRUGAL: [&str; 3] = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// The longest wait for anything. Source: measured; on a machine that is as busy as ten of it, a JVM alone takes
/// a minute to begin.
pub(super) const PATIENCE: Duration = Duration::from_secs(150);

/// The pause between two looks at what is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Which KCL it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Version {
    /// The last 2.x: no leader, each takes leases from the others.
    Two,
    /// The last one that keeps lock, states and worker metrics in tables of their own.
    ThreeFour,
    /// The newest.
    Newest,
}

impl Version {
    async fn built(self) -> PathBuf {
        let tmp = env!("CARGO_TARGET_TMPDIR");
        match self {
            Self::Two => maven::built_with("kcl", "2.7.2", tmp).await,
            Self::ThreeFour => maven::built_with("kcl", "3.4.2", tmp).await,
            Self::Newest => maven::built("kcl", tmp).await,
        }
    }
}

/// How the KCL reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Retrieval {
    Polling,
    FanOut,
}

/// What a processor checkpoints.
#[derive(Clone, Copy, Debug)]
pub(super) enum Checkpoints {
    /// Each batch as a whole.
    All,
    /// Each batch up to the record in its middle, and nothing when it is asked to stop.
    Half,
}

/// Where the KCL is in its own migrations.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// In none.
    Settled,
    /// It works as a KCL 2 does, until all workers can do better.
    Compatible,
    /// In the second phase of the move out of the tables of KCL 3.4.
    Moving,
}

/// How a worker is set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub(super) version: Version,
    pub(super) reads: Reads,
    pub(super) retrieval: Retrieval,
    pub(super) checkpoints: Checkpoints,
    pub(super) stage: Stage,
    /// It cleans up the leases of finished shards after seconds, not minutes.
    pub(super) tidy: bool,
    /// No worker is given more than two leases, if it leads.
    pub(super) two_leases: bool,
    /// It renews a lease once in twenty seconds.
    pub(super) slow: bool,
    /// What the lease table is called, if not as the application.
    pub(super) table: Option<&'static str>,
}

impl Default for How {
    fn default() -> Self {
        Self {
            version: Version::Newest,
            reads: Reads::One,
            retrieval: Retrieval::Polling,
            checkpoints: Checkpoints::All,
            stage: Stage::Settled,
            tidy: false,
            two_leases: false,
            slow: false,
            table: None,
        }
    }
}

/// A running worker; killed when dropped.
#[derive(Debug)]
pub(super) struct KclWorker {
    child: Child,
    stdin: ChildStdin,
    reading: JoinHandle<()>,
    log: PathBuf,
}

impl KclWorker {
    /// Starts `worker` on the world's stream, or the streams of it that are to be read; what it sees goes into `history`, and what it logs
    /// into a file named after `scenario` and it.
    pub(super) async fn start(
        world: &World,
        scenario: &str,
        worker: &str,
        how: How,
        history: &History,
    ) -> Self {
        let built = how.version.built().await;
        let log = built.join(format!("{scenario}-{worker}.log"));
        let stderr = std::fs::File::create(&log).expect("the log can be written");
        let mut java = Command::new("java");
        java.args(FRUGAL)
            .arg("-Dorg.slf4j.simpleLogger.showDateTime=true")
            .arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS")
            .arg("-classpath")
            .arg(maven::class_path(&built))
            .args(["KclWorker", &world.local.endpoint_url()])
            .arg(how.reads.streams().join(","))
            .args([APPLICATION, worker])
            .arg(match how.retrieval {
                Retrieval::Polling => "polling",
                Retrieval::FanOut => "fanout",
            })
            .arg(match how.checkpoints {
                Checkpoints::All => "all",
                Checkpoints::Half => "half",
            })
            .args(match how.stage {
                Stage::Settled => None,
                Stage::Compatible => Some("compatible"),
                Stage::Moving => Some("moving"),
            })
            .args(how.tidy.then_some("tidy"))
            .args(how.two_leases.then_some("two-leases"))
            .args(how.slow.then_some("slow"))
            .args(how.table.map(|table| format!("table={table}")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true);
        let mut child = java.spawn().expect("java starts");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        let reading = tokio::spawn(follow(stdout, worker.to_owned(), history.clone()));
        Self {
            child,
            stdin,
            reading,
            log,
        }
    }

    /// Waits until `done`.
    ///
    /// # Panics
    /// When the worker ends before, or time is up.
    pub(super) async fn wait_until(&self, what: &str, done: impl Fn() -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !done() {
                assert!(
                    !self.reading.is_finished(),
                    "the KCL ended before: {what}; see {}",
                    self.log.display()
                );
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        assert!(
            waited.await.is_ok(),
            "waited {PATIENCE:?} for: {what}; see {}",
            self.log.display()
        );
    }

    /// What the worker has logged so far.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log can be read")
    }

    /// Kills the worker where it stands, and waits until all it said is written down.
    pub(super) async fn kill(mut self) {
        self.child.kill().await.expect("it is killed");
        self.reading.await.expect("its output was understood");
    }

    /// Lets the worker shut down in order and waits until it is gone.
    ///
    /// # Panics
    /// When it does not, or reports a failure.
    pub(super) async fn stop(mut self) {
        drop(self.stdin);
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let log = self.log.display();
        let status = ended.unwrap_or_else(|_| panic!("the KCL did not stop; see {log}"));
        let status = status.expect("the child can be waited for");
        assert!(status.success(), "the KCL ended with {status}; see {log}");
        self.reading.await.expect("its output was understood");
    }
}

/// Writes down what the worker says until its output ends.
async fn follow(stdout: ChildStdout, worker: String, history: History) {
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await.expect("the output is text") {
        if let Some(event) = event(&worker, &line) {
            history.push(event);
        }
    }
}

/// What one line says; `None` for what a [`History`] has no event for.
fn event(worker: &str, line: &str) -> Option<Event> {
    let fields: Vec<_> = line.split('\t').collect();
    let worker = worker.to_owned();
    let shard = ShardId::from(*fields.get(1)?);
    let position = |number: &str, sub: &str| {
        let sub = sub.parse().expect("a sub-sequence number");
        Position::at(number.parse().expect("a sequence number"), sub)
    };
    Some(match fields[..] {
        ["started", _] => Event::Started { worker, shard },
        ["record", _, number, sub, _key, payload] => Event::Delivered {
            worker,
            shard,
            position: position(number, sub),
            payload: payload.to_owned(),
        },
        ["checkpoint", _, number, sub] => Event::Checkpointed {
            shard,
            position: position(number, sub),
        },
        ["ended", _] => Event::Ended { shard },
        ["lost", _] => Event::LeaseLost { worker, shard },
        ["requested", _] => return None,
        _ => panic!("the worker said {line:?}"),
    })
}
