//! Who writes into the stream while the fleet reads.

use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use kinesis_core::{Aggregate, Rand, UserRecord};
use kinesis_local::testing::TestStream;
use tokio_util::sync::CancellationToken;

use crate::simulation::processor::POISON;

/// Puts records, each key's in order, until it is enough.
pub(super) struct Writer {
    pub(super) stream: TestStream,
    pub(super) rand: Rand,
    /// One record of so many no processor can process; 0: none.
    pub(super) poison_every: u64,
    pub(super) enough: CancellationToken,
}

impl Writer {
    pub(super) async fn run(self) {
        let mut number = 0_u64;
        while !self.enough.is_cancelled() {
            for _ in 0..=self.rand.below(3) {
                self.put(&mut number).await;
            }
            tokio::time::sleep(Duration::from_millis(self.rand.below(1_500))).await;
        }
    }

    /// One record, or several of one key in an aggregate.
    async fn put(&self, number: &mut u64) {
        let key = format!("k{}", self.rand.below(7));
        let mut payload = || {
            *number += 1;
            let poison = self.poison_every > 0 && self.rand.below(self.poison_every) == 0;
            format!("{key}:{number}{}", if poison { POISON } else { "" })
        };
        let members = self.rand.below(4);
        let data = if members == 0 {
            payload().into_bytes()
        } else {
            let mut aggregate = Aggregate::new();
            for _ in 0..members {
                aggregate.push(UserRecord::new(key.as_str(), payload()));
            }
            aggregate.encode().to_vec()
        };
        let entry = PutRecordsRequestEntry::builder()
            .partition_key(&key)
            .data(Blob::new(data))
            .build()
            .expect("complete");
        let put = self
            .stream
            .client()
            .put_records()
            .stream_name(self.stream.name());
        let answer = put
            .records(entry)
            .send()
            .await
            .expect("the record is taken");
        assert_eq!(answer.failed_record_count, Some(0));
    }
}
