//! A record processor that appends what happens to it to a file, one JSON object per line:
//!
//! ```text
//! {"event":"started","worker":"w1","shard":"shardId-000000000000","from":"TRIM_HORIZON"}
//! {"event":"record","worker":"w1","shard":"…","sequence_number":"49…","sub_sequence":0,"partition_key":"JFK","data":"…"}
//! {"event":"checkpoint","worker":"w1","shard":"…","sequence_number":"49…","sub_sequence":0}
//! {"event":"lease_lost","worker":"w1","shard":"…"}
//! {"event":"ended","worker":"w1","shard":"…"}
//! ```
//!
//! The records of a batch are in the file (handed to the operating system in one write) before
//! they are checkpointed, and a checkpoint is in it after it was acknowledged. So a process may be
//! killed at any point: what was checkpointed is in its file.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kinesis_consumer::{
    Checkpointer, InitializeInput, Position, ProcessRecordsInput, ProcessorError, Record,
    RecordProcessor, ShardId,
};
use serde::Serialize;

/// The file of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct File {
    worker: Arc<str>,
    file: Arc<Mutex<fs::File>>,
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    worker: &'a str,
    shard: &'a str,
    #[serde(flatten)]
    detail: Option<Detail<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Detail<'a> {
    Start {
        from: String,
    },
    Place {
        sequence_number: &'a str,
        sub_sequence: u64,
    },
    Record {
        sequence_number: &'a str,
        sub_sequence: u64,
        partition_key: &'a str,
        #[serde(flatten)]
        data: Data<'a>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Data<'a> {
    Data(&'a str),
    /// A payload that is not UTF-8.
    DataBytes(&'a [u8]),
}

impl File {
    pub(crate) fn append_to(path: &Path, worker: String) -> io::Result<Self> {
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)?;
        Ok(Self {
            worker: worker.into(),
            file: Arc::new(Mutex::new(file)),
        })
    }

    fn append(&self, lines: &[u8]) -> io::Result<()> {
        self.file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(lines)
    }
}

/// Appends the events of one shard to the file.
#[derive(Debug)]
pub(crate) struct FileProcessor {
    file: File,
    shard: Option<ShardId>,
    /// How long the work on a batch takes.
    work: Duration,
}

impl FileProcessor {
    pub(crate) fn new(file: File, work: Duration) -> Self {
        Self {
            file,
            shard: None,
            work,
        }
    }

    fn push_line(
        &self,
        event: &'static str,
        detail: Option<Detail<'_>>,
        lines: &mut Vec<u8>,
    ) -> serde_json::Result<()> {
        let line = Line {
            event,
            worker: &self.file.worker,
            shard: self.shard.as_ref().map_or("", ShardId::as_str),
            detail,
        };
        serde_json::to_writer(&mut *lines, &line)?;
        lines.push(b'\n');
        Ok(())
    }

    fn note(&self, event: &'static str, detail: Option<Detail<'_>>) -> io::Result<()> {
        let mut lines = Vec::new();
        self.push_line(event, detail, &mut lines)?;
        self.file.append(&lines)
    }

    async fn checkpoint(&self, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
        let before = checkpointer.last();
        checkpointer.checkpoint().await?;
        match checkpointer.last() {
            Position::At {
                sequence_number,
                sub_sequence,
            } if checkpointer.last() != before => {
                let sequence_number = sequence_number.as_str();
                self.note(
                    "checkpoint",
                    Some(Detail::Place {
                        sequence_number,
                        sub_sequence,
                    }),
                )?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn detail(record: &Record) -> Detail<'_> {
    Detail::Record {
        sequence_number: record.sequence_number.as_str(),
        sub_sequence: record.sub_sequence,
        partition_key: &record.partition_key,
        data: match std::str::from_utf8(&record.data) {
            Ok(text) => Data::Data(text),
            Err(_) => Data::DataBytes(&record.data),
        },
    }
}

#[async_trait]
impl RecordProcessor for FileProcessor {
    async fn initialize(&mut self, input: InitializeInput) -> Result<(), ProcessorError> {
        self.shard = Some(input.shard_id);
        let from = match input.position.is_sentinel() {
            true => input.position.checkpoint().to_owned(),
            false => format!(
                "{}.{}",
                input.position.checkpoint(),
                input.position.sub_sequence()
            ),
        };
        self.note("started", Some(Detail::Start { from }))?;
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        tokio::time::sleep(self.work).await;
        let mut lines = Vec::new();
        for record in input.records.iter() {
            self.push_line("record", Some(detail(record)), &mut lines)?;
        }
        self.file.append(&lines)?;
        self.checkpoint(&input.checkpointer).await
    }

    async fn lease_lost(&mut self) {
        if let Err(error) = self.note("lease_lost", None) {
            tracing::warn!(%error, "the loss of a lease was not written to the file");
        }
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        checkpointer.checkpoint().await?;
        self.note("ended", None)?;
        Ok(())
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.checkpoint(&checkpointer).await
    }
}
