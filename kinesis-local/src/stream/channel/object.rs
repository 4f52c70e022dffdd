//! The objects that a channel writes: their names and what is in them.
//!
//! ```text
//! kinesis-channel/c/ID/2026/11/23/02/c-ID-2026-11-23-02-00-000000000003-00000000000000000042.json.gz
//! └ the template, at the time when the first record arrived ┘ └ its shard ┘ └ its number ──────┘ └ !{extension}
//! ```
//! with the channel's id before the shard if the template does not have it.
//!
//! Promises: the same records of a channel have the same name and contents, whenever they are
//! delivered; no other channel's object has that name, whatever their templates and prefixes are; a
//! record is written as it was put, JSON and texts each on a line of their own, bytes one behind
//! the other; a record that is not of the format goes to the errors, which tell which it was and
//! not what was in it.

use crate::date::Utc;
use crate::stream::shard::{Identity, Record};

/// What a channel's objects are called unless it says otherwise. Source: developer guide, S3 output
/// key template.
pub(crate) const KEY_TEMPLATE_DEFAULT: &str = "kinesis-channel/!{channel-name}/!{channel-id}/\
    !{yyyy}/!{MM}/!{dd}/!{HH}/!{channel-name}-!{channel-id}-!{yyyy}-!{MM}-!{dd}-!{HH}-!{mm}\
    !{extension}";

const EXTENSION: &str = "!{extension}";

const CHANNEL_ID: &str = "!{channel-id}";

/// Stands for the instant only while a template is checked.
const VARIABLES: [&str; 8] = [
    "channel-name",
    "channel-id",
    "yyyy",
    "MM",
    "dd",
    "HH",
    "mm",
    "extension",
];

/// What the records of a stream are.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Json,
    String,
    ByteArray,
}

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::String => "STRING",
            Self::ByteArray => "BYTE_ARRAY",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Json => ".json",
            Self::String => ".txt",
            Self::ByteArray => ".bin",
        }
    }

    /// Why the data is not of this format.
    fn refusal(self, data: &[u8]) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Json => serde_json::from_slice::<serde::de::IgnoredAny>(data)
                .is_err()
                .then_some(("InvalidJson", "The record is not valid JSON.")),
            Self::String => std::str::from_utf8(data)
                .is_err()
                .then_some(("InvalidUtf8", "The record is not valid UTF-8.")),
            Self::ByteArray => None,
        }
    }
}

/// How objects are made smaller.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Gzip => "GZIP",
            Self::Zstd => "ZSTD",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }
}

/// Why a template leads to no key.
pub(crate) fn check_template(template: &str) -> Result<(), String> {
    if template.starts_with('/') || template.ends_with('/') {
        return Err("it must not begin or end with '/'".to_owned());
    }
    // What S3 here keeps as a folder cannot have these names.
    let parts = template.split('/');
    if parts
        .clone()
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return Err("a part between '/' must not be empty, '.' or '..'".to_owned());
    }
    let mut rest = template;
    while let Some((_, after)) = rest.split_once("!{") {
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| "a '!{' has no '}'".to_owned())?;
        if !VARIABLES.contains(&name) {
            let known = VARIABLES.join(", ");
            return Err(format!("'{name}' is none of its variables: {known}"));
        }
        rest = after;
    }
    Ok(())
}

/// Whose objects they are.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Naming<'a> {
    pub(crate) channel: &'a str,
    pub(crate) id: &'a str,
    pub(crate) format: Format,
    pub(crate) compression: Compression,
}

impl Naming<'_> {
    /// The key of the object that begins with `first`.
    pub(crate) fn key(&self, template: &str, shard: &Identity, first: &Record) -> String {
        let place = if template.contains(CHANNEL_ID) {
            place(shard, first)
        } else {
            format!("{CHANNEL_ID}-{}", place(shard, first))
        };
        // Before the extension, so that the name still tells what is in it.
        let template = match template.strip_suffix(EXTENSION) {
            Some(stem) => format!("{stem}-{place}{EXTENSION}"),
            None => format!("{template}-{place}"),
        };
        let at = Utc::at(first.arrival_ms);
        let extension = format!(
            "{}{}",
            self.format.extension(),
            self.compression.extension()
        );
        template
            .replace("!{channel-name}", self.channel)
            .replace(CHANNEL_ID, self.id)
            .replace("!{yyyy}", &format!("{:04}", at.year))
            .replace("!{MM}", &format!("{:02}", at.month))
            .replace("!{dd}", &format!("{:02}", at.day))
            .replace("!{HH}", &format!("{:02}", at.hour))
            .replace("!{mm}", &format!("{:02}", at.minute))
            .replace(EXTENSION, &extension)
    }

    /// The key of the object that tells of refused records of the batch that begins with `first`.
    pub(crate) fn error_key(&self, prefix: &str, shard: &Identity, first: &Record) -> String {
        format!("{prefix}{}-{}.json", self.id, place(shard, first))
    }
}

/// What tells an object from the channel's others. Not from another channel's: two streams, or one
/// that was deleted and made again, count their shards and records alike.
fn place(shard: &Identity, first: &Record) -> String {
    format!("{:012}-{:020}", shard.index, first.counter)
}

/// What becomes of the records of a batch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Contents {
    /// Before compression; empty: no record was of the format.
    pub(crate) body: Vec<u8>,
    /// A line of JSON per record that was not; empty: all were.
    pub(crate) errors: Vec<u8>,
}

impl Contents {
    pub(crate) fn of(format: Format, shard: &Identity, records: &[Record]) -> Self {
        let mut contents = Self::default();
        for record in records {
            match format.refusal(&record.data) {
                None => {
                    contents.body.extend_from_slice(&record.data);
                    if format != Format::ByteArray {
                        contents.body.push(b'\n');
                    }
                }
                Some((code, message)) => {
                    let number = shard.sequence_number(record.counter, record.arrival_ms);
                    let error = serde_json::json!({
                        "shardId": shard.id().as_str(),
                        "sequenceNumber": number.as_str(),
                        "arrivalTimestamp": record.arrival_ms,
                        "errorCode": code,
                        "errorMessage": message,
                    });
                    contents.errors.extend(error.to_string().into_bytes());
                    contents.errors.push(b'\n');
                }
            }
        }
        contents
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kinesis_core::HashKeyRange;

    use super::*;

    /// 2026-11-23 02:00 UTC.
    const NOW_MS: u64 = 1_795_399_200_000;

    fn shard() -> Identity {
        Identity {
            index: 3,
            range: HashKeyRange::FULL,
            parent: None,
            adjacent_parent: None,
            created_ms: NOW_MS,
            created_s: NOW_MS / 1000,
        }
    }

    fn record(data: &'static [u8]) -> Record {
        Record {
            counter: 42,
            arrival_ms: NOW_MS,
            partition_key: "k".into(),
            data: Bytes::from_static(data),
            key: None,
        }
    }

    #[test]
    fn a_record_of_another_format_and_a_template_of_unknown_variables_are_refused_with_a_reason() {
        let told = |format: Format, data: &[u8]| format.refusal(data);
        let json = ("InvalidJson", "The record is not valid JSON.");
        assert_eq!(told(Format::Json, b"{"), Some(json));
        let utf8 = ("InvalidUtf8", "The record is not valid UTF-8.");
        assert_eq!(told(Format::String, b"\xff"), Some(utf8));
        assert_eq!(told(Format::ByteArray, b"\xff"), None);
        let reason = check_template("a/!{nothing}").unwrap_err();
        assert!(
            reason.starts_with("'nothing' is none of its variables: "),
            "{reason}"
        );
    }

    #[test]
    fn a_name_follows_from_the_template_and_the_first_record() {
        let naming = Naming {
            channel: "c",
            id: "ID",
            format: Format::Json,
            compression: Compression::Gzip,
        };
        let key = |template| naming.key(template, &shard(), &record(b""));
        assert_eq!(
            key(KEY_TEMPLATE_DEFAULT),
            "kinesis-channel/c/ID/2026/11/23/02/\
             c-ID-2026-11-23-02-00-000000000003-00000000000000000042.json.gz"
        );
        assert_eq!(
            key("all/of=it"),
            "all/of=it-ID-000000000003-00000000000000000042"
        );
        let errors = naming.error_key("errors/", &shard(), &record(b""));
        assert_eq!(errors, "errors/ID-000000000003-00000000000000000042.json");
    }

    #[test]
    fn a_template_has_known_variables_and_leads_to_a_key() {
        for template in [KEY_TEMPLATE_DEFAULT, "a", "a/!{MM}.b", "{!}"] {
            assert_eq!(check_template(template), Ok(()), "{template}");
        }
        for template in ["/a", "a/", "a//b", "../a", "!{nonsense}", "!{MM", "a/./b"] {
            assert!(check_template(template).is_err(), "{template}");
        }
    }

    #[test]
    fn records_are_written_as_they_are_and_those_of_another_format_are_told() {
        let records = [record(b"{\"a\":1}"), record(b"\xff"), record(b"text")];
        let of = |format| Contents::of(format, &shard(), &records);
        assert_eq!(of(Format::Json).body, b"{\"a\":1}\n");
        assert_eq!(of(Format::String).body, b"{\"a\":1}\ntext\n");
        assert_eq!(of(Format::ByteArray).body, b"{\"a\":1}\xfftext");
        assert!(of(Format::ByteArray).errors.is_empty());
        let errors = String::from_utf8(of(Format::Json).errors).unwrap();
        assert_eq!(errors.lines().count(), 2);
        assert!(errors.contains("\"errorCode\":\"InvalidJson\""), "{errors}");
        assert!(!errors.contains("text"), "no payload: {errors}");
    }
}
