//! The worker binary as a process: how a test starts one and ends it in order.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

/// The stream that the workers of these tests read.
pub(crate) const STREAM: &str = "flights";

/// No step of these tests takes longer, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A worker of the application `board` at `endpoint`; killed when its handle is dropped. What it
/// does with the records is for the caller to add.
pub(crate) fn command(endpoint: &str, id: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    command
        .args(["--stream", STREAM, "--application", "board"])
        .args(["--worker-id", id, "--endpoint-url", endpoint])
        .args(["--idle-ms", "200"])
        .env("AWS_ACCESS_KEY_ID", "local")
        .env("AWS_SECRET_ACCESS_KEY", "local")
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Asks the worker to end, and waits until it did so in order.
pub(crate) async fn terminate(mut worker: Child) {
    let pid = worker.id().expect("it still runs").to_string();
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -TERM {pid}")])
        .status()
        .await;
    assert!(sent.is_ok_and(|status| status.success()));
    let ended = tokio::time::timeout(PATIENCE, worker.wait())
        .await
        .expect("it ends");
    assert!(ended.is_ok_and(|status| status.success()), "an orderly end");
}
