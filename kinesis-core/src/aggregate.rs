//! The KPL aggregate: many user records in one Kinesis record.
//!
//! ```text
//! F3 89 9A C2 │ AggregatedRecord (protobuf, proto2) │ MD5 of the protobuf, 16 bytes
//!
//! AggregatedRecord   repeated string partition_key_table     = 1    0A len utf8
//!                    repeated string explicit_hash_key_table = 2    12 len decimal
//!                    repeated Record records                 = 3    1A len Record
//! Record             required uint64 partition_key_index     = 1    08 varint
//!                    optional uint64 explicit_hash_key_index = 2    10 varint
//!                    required bytes  data                    = 3    1A len bytes
//!                    repeated Tag    tags                    = 4    read over, never written
//! ```
//!
//! [`Aggregate`] writes it byte for byte as the KPL does: both tables first, each in the order of
//! first use and without repeats, then the records; index 0 and empty data are written out. Its
//! size is known exactly before a record is added. [`deaggregate`] reads what any writer of the
//! format makes, and tells a payload that only looks like an aggregate from a damaged one.
//!
//! Deliberately absent: when to cut an aggregate (the producer's business) and which members a
//! shard's reader keeps (the consumer's).
//!
//! Source: `aggregation-format.md` of the Amazon Kinesis Producer Library.

mod checksum;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{Deaggregated, RawReason, deaggregate, deaggregate_each, members_at_most};
pub use encode::{Aggregate, AggregateLayout, Unsealed};

/// The first bytes of every aggregate.
pub const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];

/// Bytes of the MD5 that ends every aggregate.
pub const CHECKSUM_BYTES: usize = 16;

/// Field tags of `AggregatedRecord` and `Record`: field number · 8 + wire type.
mod tag {
    pub(super) const KEY_TABLE: u8 = 0x0a;
    pub(super) const HASH_KEY_TABLE: u8 = 0x12;
    pub(super) const RECORDS: u8 = 0x1a;
    pub(super) const KEY_INDEX: u8 = 0x08;
    pub(super) const HASH_KEY_INDEX: u8 = 0x10;
    pub(super) const DATA: u8 = 0x1a;
}
