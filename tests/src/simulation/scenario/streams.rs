//! The streams of an application: one, or two on one lease table, of which the second is taken from the
//! workers at times and given back.

use kinesis_consumer::{ShardId, StreamSource, Streams};
use kinesis_local::KinesisLocal;
use kinesis_local::testing::TestStream;

use super::Scenario;
use crate::world::STREAM;

/// The stream that some applications read beside the other.
const SECOND: &str = "gates";

/// A stream, and how leases name its shards.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) stream: TestStream,
    /// The stream's part of the keys of its leases, where the application reads several.
    prefix: Option<String>,
}

impl Source {
    /// The key of a shard's lease, which is what the log and the rules call the shard.
    pub(super) fn key(&self, shard_id: &str) -> ShardId {
        match &self.prefix {
            Some(prefix) => format!("{prefix}:{shard_id}").as_str().into(),
            None => shard_id.into(),
        }
    }
}

/// The streams of an application, of so many shards each.
pub(super) async fn create(local: &KinesisLocal, shards: &[i32]) -> Vec<Source> {
    let mut sources = Vec::new();
    for (name, shards) in [STREAM, SECOND].into_iter().zip(shards.iter().copied()) {
        let stream = TestStream::create(local, name, shards).await;
        sources.push(Source {
            prefix: None,
            stream,
        });
    }
    if sources.len() > 1 {
        for source in &mut sources {
            source.prefix = Some(prefix(&source.stream).await);
        }
    }
    sources
}

/// `account:name:second of creation`
async fn prefix(stream: &TestStream) -> String {
    let summary = stream.summary().await;
    let account = summary.stream_arn().split(':').nth(4);
    let account = account.expect("an ARN has an account");
    let created = summary.stream_creation_timestamp().secs();
    format!("{account}:{}:{created}", stream.name())
}

impl Scenario {
    /// What a worker that comes now is to read, where that is several streams.
    pub(super) fn list(&self) -> Option<Streams> {
        let read = self.sources.iter().take(if self.takes_one { 1 } else { 2 });
        let sources = read.map(|source| StreamSource::new(source.stream.name()));
        (self.sources.len() > 1).then(|| Streams::new(sources).expect("two names"))
    }

    /// One of the streams.
    pub(super) fn any_source(&self) -> &Source {
        &self.sources[self.rand.below(self.sources.len() as u64) as usize]
    }

    /// The second stream is taken from the workers, or given back: from all at once, or from some of them,
    /// which the others follow at the next time.
    pub(super) fn change_streams(&mut self) {
        if self.sources.len() < 2 {
            return;
        }
        self.takes_one = !self.takes_one;
        let all = self.rand.below(2) == 0;
        for worker in &self.workers {
            if all || self.rand.below(2) == 0 {
                self.log.step(format!(
                    "{} is {} {SECOND}",
                    worker.name,
                    if self.takes_one { "to leave" } else { "given" }
                ));
                worker.reads(SECOND, !self.takes_one);
            }
        }
    }

    /// Every worker is to read all streams.
    pub(super) fn all_streams(&mut self) {
        self.takes_one = false;
        for worker in &self.workers {
            worker.reads(SECOND, true);
        }
    }
}
