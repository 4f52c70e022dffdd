//! Where it happens: a kinesis-local in this process with a stream, and the directory that holds
//! everything.
//!
//! ```text
//! DIR/runs.ndjson        one line when a run begins, one when it has ended without a fault
//! DIR/s3/flights/…       the objects, plain files
//! DIR/…                  stream and lease table, as kinesis-local keeps them
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use kinesis_consumer::BoxError;
use kinesis_local::KinesisLocal;
use serde::{Deserialize, Serialize};

use crate::traffic::is_open;

/// The stream's name.
pub(crate) const STREAM: &str = "flights";
/// The bucket's name.
pub(crate) const BUCKET: &str = "flights";

/// One line of `runs.ndjson`.
#[derive(Debug, Deserialize, Serialize)]
struct RunLine {
    run: u32,
    finished: bool,
}

/// A stream, a bucket, and the clients to reach them.
#[derive(Debug)]
pub(crate) struct Place {
    local: KinesisLocal,
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    directory: PathBuf,
    run: u32,
    finished_runs: BTreeSet<u32>,
}

impl Place {
    /// Opens `keep`, or a fresh temporary directory, and creates in it what is missing.
    pub(crate) async fn open(keep: Option<&Path>, shards: u32) -> Result<Self, BoxError> {
        let directory = match keep {
            Some(directory) => {
                fs::create_dir_all(directory)?;
                directory.canonicalize()?
            }
            // It stays: the objects are there to be opened.
            None => tempfile::Builder::new()
                .prefix("kinesis-quickstart-")
                .tempdir()?
                .keep(),
        };
        let local = KinesisLocal::builder().data_dir(&directory).start().await?;
        let config = local.sdk_config();
        let lines = read_runs(&directory)?;
        let place = Self {
            kinesis: aws_sdk_kinesis::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            s3: aws_sdk_s3::Client::new(&config),
            local,
            directory,
            run: lines.iter().map(|line| line.run).max().unwrap_or(0) + 1,
            finished_runs: lines
                .iter()
                .filter(|line| line.finished)
                .map(|line| line.run)
                .collect(),
        };
        place.note(RunLine {
            run: place.run,
            finished: false,
        })?;
        place.create_stream(shards).await?;
        place.create_bucket().await?;
        Ok(place)
    }

    async fn create_stream(&self, shards: u32) -> Result<(), BoxError> {
        let shards = i32::try_from(shards)?;
        let created = self
            .kinesis
            .create_stream()
            .stream_name(STREAM)
            .shard_count(shards)
            .send()
            .await;
        match created.map_err(aws_sdk_kinesis::Error::from) {
            Ok(_) | Err(aws_sdk_kinesis::Error::ResourceInUseException(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn create_bucket(&self) -> Result<(), BoxError> {
        use aws_sdk_s3::Error::{BucketAlreadyExists, BucketAlreadyOwnedByYou};
        let created = self.s3.create_bucket().bucket(BUCKET).send().await;
        match created.map_err(aws_sdk_s3::Error::from) {
            Ok(_) | Err(BucketAlreadyExists(_) | BucketAlreadyOwnedByYou(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How many shards of the stream take records: those that were not split.
    pub(crate) async fn open_shards(&self) -> Result<usize, BoxError> {
        let listed = self
            .kinesis
            .list_shards()
            .stream_name(STREAM)
            .send()
            .await?;
        Ok(listed
            .shards()
            .iter()
            .filter(|shard| is_open(shard))
            .count())
    }

    /// The number of this run on the directory, from 1.
    pub(crate) fn run(&self) -> u32 {
        self.run
    }

    /// Whether an earlier run ended well, so that none of its flights may come again.
    pub(crate) fn has_finished(&self, run: u32) -> bool {
        self.finished_runs.contains(&run)
    }

    /// Where the objects are, as files.
    pub(crate) fn bucket_directory(&self) -> PathBuf {
        self.directory.join("s3").join(BUCKET)
    }

    /// Closes everything, so that the next run can go on.
    pub(crate) async fn close(&self, without_fault: bool) -> Result<(), BoxError> {
        self.local.shutdown().await;
        if without_fault {
            self.note(RunLine {
                run: self.run,
                finished: true,
            })?;
        }
        Ok(())
    }

    fn note(&self, line: RunLine) -> Result<(), BoxError> {
        let path = self.directory.join("runs.ndjson");
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)?;
        file.write_all(format!("{}\n", serde_json::to_string(&line)?).as_bytes())?;
        Ok(())
    }
}

fn read_runs(directory: &Path) -> Result<Vec<RunLine>, BoxError> {
    let path = directory.join("runs.ndjson");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let lines = fs::read_to_string(path)?;
    Ok(lines
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}
