//! The first leg of a record's journey: from the application into the stream.
//!
//! ```text
//! send ─▶ intake ─────▶ lane of its shard ───────────▶ request ───────▶ PutRecords ─▶ Delivery
//!         room in        aggregate: many user records   collect: the      send: one      to each
//!         records and    in one Kinesis record          ready lanes,      attempt        caller
//!         bytes          limit: the shard's quota       ≤ 500, ≤ 10 MiB      │
//!                             ▲                                              │
//!                             └───────── retry: what failed, by record ◀─────┘
//! ```
//!
//! A [`Producer`] is a cheap-clone handle over one task on the caller's tokio runtime; it starts
//! no threads. The SDK client is the caller's and needs no special set-up.
//!
//! ```
//! use aws_sdk_kinesis::Client;
//! use kinesis_local::KinesisLocal;
//! use kinesis_producer::{Producer, UserRecord};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A stream in this process; on AWS this is aws_config and an existing stream.
//! let local = KinesisLocal::builder().start().await?;
//! let kinesis = Client::new(&local.sdk_config());
//! kinesis.create_stream().stream_name("flights").shard_count(4).send().await?;
//!
//! let producer = Producer::builder(kinesis, "flights").build()?;
//!
//! // One record, and where it landed.
//! let delivery = producer.send(UserRecord::new("JFK", r#"{"delay":12}"#)).await?;
//! assert_eq!(delivery.shard_id.as_str(), "shardId-000000000003");
//!
//! // Many: `enqueue` waits for room only, so that records travel together.
//! let mut outcomes = Vec::new();
//! for delay in 0..1000 {
//!     let record = UserRecord::new("LAX", format!(r#"{{"delay":{delay}}}"#));
//!     outcomes.push(producer.enqueue(record).await?);
//! }
//! for outcome in outcomes {
//!     if let Err(error) = outcome.await {
//!         eprintln!("{:?}: {error}", error.kind());
//!         let _yours_again = error.into_record();
//!     }
//! }
//! producer.close(std::time::Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # When a record leaves
//! As soon as its shard can take it, unless company is likely. While nothing is in flight it leaves at
//! once, so an idle producer adds no latency. Otherwise a request leaves a quarter of a round trip
//! after the one before it, with all that has gathered for shards that have nothing in flight: the
//! linger adapts, and a light load over many shards makes four requests in a round trip, not one for
//! each shard. [`Settings::record_max_buffered_time`] bounds that wait; with 0 there is none. Full
//! aggregates, a flush, a close and a retry wait for nobody. While its shard has a request in flight,
//! or all [`Settings::max_in_flight`] slots are taken, a record gathers company in any case.
//!
//! # What a failure does
//! Throttles, 5xx answers, timeouts and broken connections are retried per record, for as long as
//! [`Settings::record_ttl`] says, with exponential backoff and full jitter per shard. Without one, which
//! is the default, that is for ever: an endpoint whose name does not resolve, or whose certificate is not
//! trusted, looks like an outage, and all that tells of it is a warning a minute. What no retry
//! cures (no such stream, access denied, a refused record, a KMS key) fails at once with the
//! [`ErrorKind`] that says what to do; the record comes back in the [`Error`]. What may pass by itself
//! although it looks so (expired credentials, a signature of another time, an instance metadata service
//! that does not answer) is tried for a minute, one for all records: then each fails at its first such
//! refusal, until a request passes or none was sent for a minute. Of a request that
//! the service refuses whole, only the guilty record fails: the one that the answer names, or else
//! found by halving. What is larger than the stream's own maximum record size is not sent at all.
//!
//! [`Delivery`] and [`Error`] tell of each failed attempt how it failed, when it was sent and how long
//! it took.
//!
//! # What can be seen
//! [`metrics`] has the KPL's names and more, [`Producer::outstanding`] the counts and the oldest
//! record's age. Each request is a `tracing` span at debug level: `put_records` (stream, number of
//! the request, records, bytes) and `look_at_stream` (its shards, or what it is
//! like). Neither holds keys or data.
//!
//! # In AWS Lambda
//! Call [`Producer::flush`] before each return: between two calls the process stands still, and
//! what is on its way then may be cut off. A longer standstill breaks nothing: no timer catches up,
//! a request that was cut off is sent again, and records past their
//! [`Settings::record_ttl`] fail.
//!
//! # Coming from the KPL
//! [`Settings::from_kpl_properties`] reads its properties file and has the table of its options.
//!
//! # When the stream is resharded
//! An aggregate is only acknowledged if every member belongs to the shard that took it, because a
//! KCL consumer drops any other; else its members are sent again. What waits moves to its new
//! shards as soon as the map of them is fresh.
//!
//! # Typed records
//! [`Producer::typed`] takes serde values as JSON, [`Producer::typed_with`] any [`codec`], gzip or
//! zstd around it if the features of these names are on; the consumer reads by the same codec.
//!
//! # Deliberately absent
//! Threads, child processes, CloudWatch, a schema registry, and exactly-once: see [`Producer`] on
//! order and delivery.

mod attempts;
#[doc(hidden)]
pub mod bench;
mod error;
pub mod metrics;
mod pipeline;
mod producer;
mod record;
mod service;
mod settings;
mod shard_map;
mod sink;
mod stream;
mod typed;

pub use attempts::{FailedAttempt, FailureClass};
pub use error::{Error, ErrorKind};
pub use kinesis_core::codec;
pub use kinesis_core::{HashKey, InvalidHashKey, Position, SequenceNumber, ShardId};
pub use producer::{Builder, Outstanding, Producer};
pub use record::{Delivery, DeliveryFuture, UserRecord};
pub use settings::{EnvelopeKey, KplWarning, Settings};
pub use sink::RecordSink;
pub use typed::TypedProducer;
