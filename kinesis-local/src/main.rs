//! The `kinesis-local` command; [`cli`] says what it takes, prints and returns.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::run()
}
