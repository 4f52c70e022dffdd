//! The records that all benches send.

use std::sync::Arc;

use bytes::Bytes;
use kinesis_core::UserRecord;

/// How many of them.
pub(crate) const RECORDS: usize = 50_000;
const DATA_BYTES: usize = 100;

/// Records of 100 bytes over so many partition keys.
pub(crate) fn records(keys: usize) -> Vec<UserRecord> {
    let keys: Vec<Arc<str>> = (0..keys)
        .map(|key| format!("vehicle-{key:06}").into())
        .collect();
    let data = Bytes::from(vec![b'x'; DATA_BYTES]);
    (0..RECORDS)
        .map(|number| {
            let key = &keys[number.wrapping_mul(7919) % keys.len()];
            UserRecord::new(Arc::clone(key), data.clone())
        })
        .collect()
}
