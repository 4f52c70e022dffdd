//! One record, one line of an NDJSON object.
//!
//! What a line holds:
//!
//! | The record's data | [`LineFormat::Data`] | [`LineFormat::Envelope`] |
//! |---|---|---|
//! | JSON on one line | the data, byte for byte, without blanks around it | `{"shard_id":…,"data":<JSON>}` |
//! | JSON on several lines | the same with each line break as a space | the same |
//! | anything else, also not UTF-8, also empty | `{"data_base64":"…"}` | `{"shard_id":…,"data_base64":"…"}` |
//!
//! JSON is never parsed into values and written again: numbers keep all their digits, members their
//! order and duplicates. That works because a line break inside a JSON text can only be insignificant
//! space (inside a string it has to be escaped), so a space in its place means the same.
//!
//! Nothing is refused: a record that is no JSON is data that somebody sent, and a sink that stops at
//! it or skips it helps nobody. In `Data` a line `{"data_base64":"…"}` may also be what the producer
//! sent; where that matters, `Envelope` tells the two apart.
//!
//! Absent: compression, delimiters other than newline, columnar formats.

use kinesis_core::ShardId;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::record::Record;

/// What the lines of an object hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LineFormat {
    /// The record's data as it is when it is JSON, with line breaks as spaces; anything else as
    /// `{"data_base64":"…"}`.
    #[default]
    Data,
    /// An object with `shard_id`, `sequence_number` (decimal string), `sub_sequence` (number),
    /// `partition_key`, `approximate_arrival_millis` (milliseconds since 1970, or null), and the data
    /// as `data` when it is JSON, else as `data_base64`.
    Envelope,
}

#[derive(Serialize)]
struct Envelope<'a> {
    shard_id: &'a str,
    sequence_number: &'a str,
    sub_sequence: u64,
    partition_key: &'a str,
    approximate_arrival_millis: Option<u64>,
}

impl LineFormat {
    /// Appends the record's line, with its newline.
    pub(super) fn write_line(
        self,
        shard_id: &ShardId,
        record: &Record,
        line: &mut Vec<u8>,
    ) -> Result<(), serde_json::Error> {
        match (self, single_json(&record.data)) {
            (Self::Data, Some(json)) => push_on_one_line(json, line),
            (Self::Data, None) => {
                line.push(b'{');
                push_base64(&record.data, line);
            }
            (Self::Envelope, json) => {
                let envelope = Envelope {
                    shard_id: shard_id.as_str(),
                    sequence_number: record.sequence_number.as_str(),
                    sub_sequence: record.sub_sequence,
                    partition_key: &record.partition_key,
                    approximate_arrival_millis: record.approximate_arrival_millis,
                };
                serde_json::to_writer(&mut *line, &envelope)?;
                line.pop(); // The closing brace: the data is the last member.
                line.push(b',');
                match json {
                    Some(json) => {
                        line.extend_from_slice(br#""data":"#);
                        push_on_one_line(json, line);
                        line.push(b'}');
                    }
                    None => push_base64(&record.data, line),
                }
            }
        }
        line.push(b'\n');
        Ok(())
    }
}

/// The data as one JSON text without blanks around it, if that is what it is.
fn single_json(data: &[u8]) -> Option<&str> {
    // The parser below skips strings without a look at their encoding, so this comes first.
    let text = std::str::from_utf8(data).ok()?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    Some(text.trim_matches([' ', '\t', '\n', '\r']))
}

fn push_on_one_line(json: &str, line: &mut Vec<u8>) {
    let start = line.len();
    line.extend_from_slice(json.as_bytes());
    for byte in &mut line[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

fn push_base64(data: &[u8], line: &mut Vec<u8>) {
    line.extend_from_slice(br#""data_base64":""#);
    line.extend_from_slice(aws_smithy_types::base64::encode(data).as_bytes());
    line.extend_from_slice(br#""}"#);
}

#[cfg(test)]
mod tests;
