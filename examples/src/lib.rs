//! Small programs to read in order, the quickstart, and the worker binary.
//!
//! | Program | What one learns |
//! |---|---|
//! | `01_local` | a stream in this process, put and read with the AWS SDK alone |
//! | `02_produce` | sending records: batches, aggregates, where each record went |
//! | `03_consume` | a record processor with checkpoints that survive a restart |
//! | `quickstart` | all of it: 20,000 flights, two workers, a split, objects in S3, and the proof |
//! | `worker` | a worker to deploy: AWS or kinesis-local, S3 or a file, graceful on SIGTERM |
//! | `load` | what producing and consuming cost on a machine |
//!
//! `cargo run --release -p examples --bin 01_local`, and so on. The library has what the programs
//! and the workspace's tests share: the flights, the account of what arrived, and the bucket read
//! back.

pub mod arrivals;
pub mod bucket;
pub mod flights;
