//! One attempt to store a dead letter.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::timeout;

use super::call::{chain, panic_text};
use crate::dead_letter::{DeadLetter, DeadLetters};

/// How long a destination may take for one letter before it is asked again.
/// Source: none, reasonable default: a letter of 10 MiB at 200 KiB/s.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Stores a letter; the text of what went wrong if that failed, panicked or took too long.
pub(super) async fn bury(destination: &dyn DeadLetters, letter: &DeadLetter) -> Result<(), String> {
    let write = AssertUnwindSafe(destination.write(letter)).catch_unwind();
    match timeout(WRITE_TIMEOUT, write).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(chain(&error)),
        Ok(Err(panic)) => Err(panicked(&*panic)),
        Err(_) => Err(format!("no answer within {} s", WRITE_TIMEOUT.as_secs())),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    format!("the destination panicked: {}", panic_text(panic))
}
