//! A letter as JSON; the members are told in the module above.

use serde::Serialize;

use super::DeadLetter;

#[derive(Serialize)]
struct Envelope<'a> {
    stream: &'a str,
    shard_id: &'a str,
    sequence_number: &'a str,
    sub_sequence: u64,
    aggregated: bool,
    partition_key: &'a str,
    explicit_hash_key: Option<String>,
    approximate_arrival_millis: Option<u64>,
    cause: super::FailureCause,
    error: &'a str,
    attempts: u32,
    given_up_at_millis: u64,
    part: usize,
    parts: usize,
    data_base64: String,
}

/// One part of a letter; `data` is the payload's share of it.
pub(super) fn part(letter: &DeadLetter, part: usize, parts: usize, data: &[u8]) -> Vec<u8> {
    let record = &letter.record;
    let envelope = Envelope {
        stream: &letter.stream,
        shard_id: letter.shard_id.as_str(),
        sequence_number: record.sequence_number.as_str(),
        sub_sequence: record.sub_sequence,
        aggregated: record.aggregated,
        partition_key: &record.partition_key,
        explicit_hash_key: record.explicit_hash_key.map(|key| key.to_string()),
        approximate_arrival_millis: record.approximate_arrival_millis,
        cause: letter.cause,
        error: &letter.error,
        attempts: letter.attempts,
        given_up_at_millis: letter.given_up_at_millis,
        part,
        parts,
        data_base64: aws_smithy_types::base64::encode(data),
    };
    serde_json::to_vec(&envelope).expect("strings and numbers are always JSON")
}
