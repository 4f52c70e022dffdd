//! Kinesis Data Streams in one process, with the DynamoDB and S3 that consumers need beside it.
//!
//! On AWS a record's stream is Kinesis, a consumer's leases are in DynamoDB and what a sink stores is
//! in S3. On a laptop or in a test all three are this crate: one process, one port, the same
//! application code.
//!
//! ```text
//!  producer ──PutRecords──▶ ┌────────── kinesis-local ──────────┐ ──GetRecords,──────▶ consumer
//!                           │ route: which service?             │   SubscribeToShard     │
//!                           │  ├─ Kinesis    streams, shards    │ ◀──leases, checkpoints─┤
//!  aws command, ──────────▶ │  ├─ DynamoDB   tables             │                        │
//!  any SDK                  │  └─ S3         buckets as folders │ ◀──objects─────────────┘
//!                           └───────────────────────────────────┘
//!          in process: an SDK HttpClient       over a socket: HTTP/1.1 and HTTP/2, one port
//! ```
//!
//! In a test or a program of your own there is no socket and nothing to clean up:
//!
//! ```
//! use aws_sdk_kinesis::{Client, primitives::Blob, types::ShardIteratorType};
//! use kinesis_local::KinesisLocal;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let local = KinesisLocal::builder().start().await?;
//! let kinesis = Client::new(&local.sdk_config());
//!
//! kinesis.create_stream().stream_name("flights").shard_count(1).send().await?;
//! let flight = Blob::new(r#"{"from":"JFK"}"#);
//! let put = kinesis.put_record().stream_name("flights").partition_key("JFK").data(flight);
//! let put = put.send().await?;
//!
//! let iterator = kinesis
//!     .get_shard_iterator()
//!     .stream_name("flights")
//!     .shard_id(put.shard_id())
//!     .shard_iterator_type(ShardIteratorType::TrimHorizon)
//!     .send()
//!     .await?;
//! let got = kinesis.get_records().set_shard_iterator(iterator.shard_iterator).send().await?;
//! assert_eq!(got.records()[0].sequence_number(), put.sequence_number());
//! local.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! Everything works under tokio's paused time: virtual time stands still while a request is carried
//! out, and moves on while everybody waits. Several instances in one process share nothing.
//!
//! For other processes [`Builder::listen`] opens a port, and so does the command `kinesis-local`,
//! which prints the line that any SDK or the `aws` command needs:
//! `export AWS_ENDPOINT_URL=http://127.0.0.1:4567`. The port speaks HTTP/1.1 and HTTP/2, with
//! [`Tls`] also inside TLS, and the two encodings of the service: JSON 1.1, and the CBOR 1.1 of the
//! SDKs for Java. Any credentials are accepted, so keep it on loopback; with [`Builder::auth`] or
//! `--auth FILE` only requests signed by the users of a file are. The pages under `/_local/` (health,
//! faults, time) are open even then, so loopback is the place for it all the same.
//!
//! # What survives what
//!
//! |  | shutdown | the process is killed | the machine stops |
//! |---|---|---|---|
//! | no data directory | nothing | nothing (buckets stay behind in the temporary directory) | nothing |
//! | streams in a data directory | all | all that was answered | all that was answered |
//! | tables in a data directory | all | all that was answered | all that was answered |
//! | objects in a data directory | all | all that was answered | all that was answered |
//! | iterators, subscriptions, unfinished multipart uploads | iterators stay valid, the rest is gone | as before | as before |
//!
//! An object's bytes are the old ones or the new ones as a whole. If a kill cuts off an overwrite, which was
//! not answered, the old bytes may be left without what was kept beside them: content type, user metadata,
//! checksums, and the ETag of several parts.
//!
//! A request that was received whole is carried out even if its caller goes away. A request that was
//! not answered may have been carried out or not, as with any service on the other end of a wire.
//!
//! # Accounts and regions
//!
//! Streams belong to the account and region that a request is signed for: the region is the one in
//! the signature's credential scope, and an access key id of 12 digits is an account, as in other
//! emulators. What a signature leaves open is as in [`Settings::region`] and [`Settings::account`].
//! The same name is another stream elsewhere, and one endpoint serves them all. Tables and buckets
//! are not kept apart: DynamoDB and S3 are the same for all.
//!
//! A stream, consumer or queue that is named by the ARN of another account is refused with
//! `AccessDeniedException`, unless its resource policy allows it. Conditions are looked at by the
//! operators `StringEquals`, `StringLike` and their `Not` and `IgnoreCase` forms, `ArnEquals`, `ArnLike`,
//! `Bool`, `Null` and `…IfExists`, on the keys `aws:PrincipalArn`, `PrincipalAccount`, `PrincipalType`,
//! `username`, `RequestedRegion`, `ResourceTag/…`, `PrincipalIsAWSService` and `ViaAWSService`. What
//! cannot be told here (organizations, networks, sessions, dates, sets) keeps the safe way: the statement
//! does not allow, and denies.
//!
//! # Operations of Kinesis
//!
//! | group | operations |
//! |---|---|
//! | streams | CreateStream, DeleteStream, ListStreams, DescribeStream, DescribeStreamSummary, UpdateStreamMode, IncreaseStreamRetentionPeriod, DecreaseStreamRetentionPeriod, DescribeLimits |
//! | account | DescribeAccountSettings, UpdateAccountSettings, UpdateStreamWarmThroughput |
//! | a stream's rules | StartStreamEncryption, StopStreamEncryption, EnableEnhancedMonitoring, DisableEnhancedMonitoring, UpdateMaxRecordSize, UpdateStreamRecordDistributionStrategy |
//! | resource policies | PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy |
//! | shards | ListShards, SplitShard, MergeShards, UpdateShardCount |
//! | records | PutRecord, PutRecords, GetShardIterator, GetRecords, SubscribeToShard |
//! | consumers | RegisterStreamConsumer, DeregisterStreamConsumer, DescribeStreamConsumer, ListStreamConsumers |
//! | channels | CreateChannel, DescribeChannel, UpdateChannel, DeleteChannel, ListChannels |
//! | queues | CreateQueue, DescribeQueue, UpdateQueue, DeleteQueue, ListQueues, ReceiveQueueRecords, AcknowledgeQueueRecords, UpdateQueueRecordsVisibility, ReceiveDeadLetterQueueRecords, AcknowledgeDeadLetterQueueRecords, RestoreDeadLetterQueueRecords, UpdateDeadLetterQueueRecordsVisibility |
//! | tags | AddTagsToStream, RemoveTagsFromStream, ListTagsForStream, TagResource, UntagResource, ListTagsForResource |
//!
//! Encryption is bookkeeping: nothing is enciphered, and every KMS key of a right form is enabled until
//! [`Settings::kms_keys`] or [`KinesisLocal::set_kms_key`] says otherwise. The metrics that a stream is
//! monitored by are remembered and not made.
//!
//! Those are all operations of the service's model of November 2026. On purpose not as the service says it:
//! the text of `IncompleteSignatureException` ends with the scheme of the Authorization header and not with
//! the whole of it, since it may hold what a log is not to; and DescribeLimits has no `ChannelCountLimit`,
//! which nothing published tells.
//!
//! # Limits
//!
//! The service's limits per second are enforced by default, with its codes and texts: what a shard
//! takes and gives, iterators and subscriptions, and the calls of each operation per account or
//! stream. [`Limits::Off`] (`--limits off`) turns all of them off, which is what a test wants that is
//! not about them; [`Limits::Given`] (`--limits FILE`) replaces single numbers, see [`Quotas`].
//!
//! | what | per second | refusal |
//! |---|---|---|
//! | written to a shard | 1 MiB, 1,000 records | `ProvisionedThroughputExceededException`, in PutRecords of the record alone |
//! | read from a shard by GetRecords | 2 MiB, 5 calls; a read of up to 10 MiB is given and paid for by a pause | `ProvisionedThroughputExceededException` |
//! | iterators of a shard | 5 | `ProvisionedThroughputExceededException` |
//! | pushed to a consumer from a shard | 2 MiB | waits |
//! | SubscribeToShard of a consumer and shard | 1 | `LimitExceededException` |
//! | calls of most other operations | 1 to 20 per account and region (ListShards: 1,000 per stream) | `LimitExceededException` |
//!
//! How many there may be is enforced under any of them, per account and region: 20,000 open shards, 50
//! on-demand streams, 5 streams, 5 queues and 5 channels on their way to be there or gone, 5 consumers
//! of a stream on their way to be there; of a stream 20 consumers and queues, one channel, 50 tags.
//!
//! On-demand streams follow their traffic under any of them: a shard that took more than half of what a
//! shard can take, for a minute of the caller's clock, is split in halves, at most every 15 minutes;
//! shards that were not needed for 30 days are merged, down to four.
//!
//! ## Warm throughput
//!
//! With UpdateAccountSettings an account commits itself in a region, for a day at least; its on-demand
//! streams can then be kept warm and have 50 consumers and queues instead of 20. A MiB a second stands
//! for a shard: a warmed stream has shards of which none holds more keys than its share, and is not
//! merged below that. What the documentation leaves open is answered like this:
//!
//! * A call that asks for no more than the stream can take releases what neither it nor the traffic of
//!   this hour and the last needs.
//! * Warm throughput ends with the commitment, and a later commitment does not bring it back; the shards
//!   are then kept by their traffic. Consumers above 20 stay.
//!
//! ## Queues
//!
//! A queue delivers each record of an on-demand stream to one receiver at a time, until it is
//! acknowledged, through splits and merges and never past the stream's retention. What the API model
//! leaves open is answered like this:
//!
//! * A receipt handle is good until its record is received again, acknowledged, becomes a dead letter
//!   or expires; its visibility timeout may be over. Entries with another handle fail: with
//!   `InvalidArgumentException` if it never was of this operation or is stale,
//!   with `ResourceNotFoundException` if the record is gone.
//! * A record becomes a dead letter when the visibility timeout of its last allowed receive ends.
//!   Receiving it as a dead letter goes on counting; restoring begins at zero.
//! * With 120,000 records in flight a receive finds nothing, as if the queue were empty.
//! * In a data directory, deliveries and acknowledgements are on the disk before they are answered:
//!   after a kill acknowledged records stay away, handles and receive counts stay good, and records in
//!   flight come again when their timeout is over. That goes also for what a receive took whose caller
//!   went away.
//! * `RecordId` is the record's sequence number here. On AWS it is opaque: do not rely on it.
//!
//! ## Channels
//!
//! A channel writes what arrives in an on-demand stream to a bucket of the same instance's S3 (feature
//! `s3`): all that is there once the oldest of it is `DataFreshnessInSeconds` old, 300 to 900 s as on
//! AWS, from 1 s on with [`Limits::Off`]. An object holds records of one shard, in their order, up to
//! 10,000 or 16 MiB: `JSON` and `STRING` records on a line each, `BYTE_ARRAY` records one behind the
//! other, compressed by `GZIP` or `ZSTD` if so asked.
//!
//! * The key is the output key template at the time when the object's first record arrived, with the
//!   channel's id (if the template has no `!{channel-id}`) and the shard and number of that record
//!   behind it (before `!{extension}`, if the template ends so). What a crash makes a channel deliver
//!   again therefore replaces the object that was there, and nothing that another channel wrote.
//! * A record that is not of the format is passed over; a line under the error prefix tells which.
//! * A channel that is created without its bucket is FAILED for good: delete it, as on AWS. One that
//!   loses its bucket later is FAILED, with the reason, until the bucket is back; it tries every 10 s
//!   and passes over nothing but what leaves the stream's retention meanwhile.
//! * Roles, bucket owners, encryption of objects and logging to CloudWatch are noted and described, not done
//!   or checked. S3 Tables are refused with `InvalidArgumentException`.
//!
//! # Faults on purpose
//!
//! A [`FaultPlan`] makes calls late, refuses them, loses them before or after their effect, refuses
//! entries of PutRecords, breaks answers and event streams half-way and expires iterators: by service,
//! operation, stream, shard and client, by number, rate and time, and from a seed, so that a run can
//! be repeated. It is given to [`Builder::faults`], to [`KinesisLocal::set_faults`], to the command by
//! `--faults FILE`, or while it runs:
//!
//! ```sh
//! curl -X PUT $AWS_ENDPOINT_URL/_local/faults -d '{"seed": 7, "rules": [
//!   {"operations": ["PutRecords"], "effect": {"fail_entries": {"rate": 0.1}}},
//!   {"table": "leases", "operations": ["UpdateItem"], "every": 10, "effect": "drop_response"}]}'
//! curl $AWS_ENDPOINT_URL/_local/faults            # the plan, and how often each rule fired
//! curl -X DELETE $AWS_ENDPOINT_URL/_local/faults
//! ```
//!
//! An injected error has the text that the service has for its code, unless the rule gives one; the
//! header `x-kinesis-local-fault` of the answer names the rule. `InternalFailureException` is a code of the
//! operations whose API model lists it (PutRecord, PutRecords, GetRecords, GetShardIterator, policies, tags
//! by ARN and queues), `InternalFailure` that of the others and of entries of PutRecords; a rule may
//! name either. Who has to sign is told about a wrong signature first, by each of the three services.
//!
//! # Clients that send or read badly
//!
//! Over a socket everything that a client can make the server hold is bounded, and so is the time for which
//! it can: a head and the pause before it by [`Settings::head_timeout_ms`], a body by
//! [`Settings::body_timeout_ms`], an answer by 32 KiB per head time-out, an S3 upload by 960 KiB per 30 s, a
//! subscription by its five minutes. At the defaults the memory for bodies, answers, events, heads and
//! connections is 1 GiB at most, beside what is stored; who would need more waits (bodies of more than
//! 16 KiB, such answers, events), or is told to come again (503, which SDKs do): the 4,097th request at
//! once, or an answer that found no room for 20 s. Those who hold memory and hardly send or read are cut
//! when others wait for it.
//!
//! # Time on purpose
//!
//! In a test the clock is the caller's ([`Builder::clock`]) and follows tokio's paused time. Where the
//! runtime cannot be paused, [`Builder::virtual_time`] or `--virtual-time` lets time pass by
//! [`KinesisLocal::advance`] or by
//!
//! ```sh
//! curl $AWS_ENDPOINT_URL/_local/time -d '{"advance_ms": 86400000}'   # or {"to_epoch_ms": …}
//! ```
//!
//! and records are trimmed, iterators expire, streams become ACTIVE, daily quotas begin anew and
//! subscriptions end, as if that time had passed: whoever sleeps is woken. Time never goes backward, not
//! over a restart of a data directory either: it goes on where the last change left it. Without virtual
//! time the machine's clock counts, and one that is behind the last change is warned of.
//! DynamoDB, S3 and the time-outs of connections keep the machine's time.
//!
//! # Features
//!
//! `cli` (the command), `dynamodb`, `s3`, `tls`; all are on by default. Without `dynamodb` or `s3` a request
//! for the service is answered with an error that names the feature. `testing` is off by default: it
//! adds the module `testing`, with what tests on a stream have in common.

mod admin;
mod answers;
mod api;
mod auth;
mod body;
mod catalog;
mod commitment;
mod data_dir;
mod date;
mod disk;
#[cfg(feature = "dynamodb")]
mod dynamodb;
mod embed;
mod error;
mod fault;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod local;
mod log;
pub mod metrics;
mod place;
mod route;
#[cfg(feature = "s3")]
mod s3;
mod server;
mod services;
mod settings;
mod stream;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg_attr(not(feature = "tls"), path = "tls/absent.rs")]
mod tls;
mod wire;

pub use auth::{User, Users};
pub use embed::InProcessClient;
pub use error::{Error, ErrorKind};
pub use fault::{
    FAULT_LATENCY_MAX_MS, FAULT_RULES_MAX, FaultCount, FaultEffect, FaultPlan, FaultRule,
    FaultService,
};
pub use limits::{Limits, Quotas};
pub use local::{Builder, KinesisLocal};
pub use settings::{
    DEFAULT_ACCOUNT, DEFAULT_BODY_TIMEOUT, DEFAULT_HEAD_TIMEOUT, DEFAULT_MAX_CONNECTIONS,
    DEFAULT_PORT, DEFAULT_REGION, DEFAULT_SHUTDOWN_DEADLINE, Settings, Tls,
};
pub use stream::encryption::KmsKeyState;
