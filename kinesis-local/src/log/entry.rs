//! One change of the store.

use std::collections::BTreeMap;

use kinesis_core::HashKey;

use crate::stream::NewStream;
use crate::stream::shard::Record;

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    CreateStream(NewStream),
    DeleteStream {
        stream: u64,
        at_ms: u64,
    },
    Split {
        stream: u64,
        shard: u32,
        key: HashKey,
        at_ms: u64,
    },
    Merge {
        stream: u64,
        shard: u32,
        adjacent: u32,
        at_ms: u64,
    },
    RegisterConsumer {
        stream: u64,
        name: String,
        at_ms: u64,
        tags: BTreeMap<String, String>,
    },
    DeregisterConsumer {
        stream: u64,
        name: String,
        at_ms: u64,
    },
    Records {
        stream: u64,
        shard: u32,
        records: Vec<Record>,
    },
}
