use std::sync::Arc;

use bytes::Bytes;
use kinesis_core::SequenceNumber;

use super::*;

fn line(format: LineFormat, data: impl Into<Bytes>) -> String {
    let sequence = SequenceNumber::try_from("4959").unwrap();
    let mut record = Record::new(Arc::from("JFK \"T4\""), data, sequence);
    record.sub_sequence = 7;
    record.approximate_arrival_millis = Some(1_700_000_000_123);
    let mut line = Vec::new();
    format
        .write_line(&ShardId::from("shardId-000000000001"), &record, &mut line)
        .unwrap();
    let mut line = String::from_utf8(line).unwrap();
    assert_eq!(line.pop(), Some('\n'), "a line ends with a newline");
    assert!(!line.contains(['\n', '\r']), "and has no other: {line:?}");
    line
}

#[test]
fn json_on_one_line_is_kept_byte_for_byte() {
    let flight = r#"{"b":1.10,"a":123456789012345678901234567890,"a":"\u00e9\n"}"#;
    assert_eq!(line(LineFormat::Data, flight), flight);
    assert_eq!(line(LineFormat::Data, format!(" \t{flight}\r\n")), flight);
    for scalar in ["null", "-0.0", "\"x\"", "[]"] {
        assert_eq!(line(LineFormat::Data, scalar), scalar);
    }
}

#[test]
fn line_breaks_in_json_become_spaces_and_its_values_stay() {
    let pretty = "{\n  \"delay\": 12,\r\n  \"text\": \"a\\nb\"\n}\n";
    let flat = line(LineFormat::Data, pretty);
    assert_eq!(flat, "{   \"delay\": 12,    \"text\": \"a\\nb\" }");
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(value(&flat), value(pretty));
}

#[test]
fn what_is_no_json_is_stored_in_base64() {
    let cases: [(&[u8], &str); 6] = [
        (b"", ""),
        (b"plain text", "cGxhaW4gdGV4dA=="),
        (b"{\"a\":1}{\"a\":2}", "eyJhIjoxfXsiYSI6Mn0="),
        (b"{\"a\":\"\xff\"}", "eyJhIjoi/yJ9"),
        (b"{\"a\":\"line\nbreak\"}", "eyJhIjoibGluZQpicmVhayJ9"),
        (b"\xef\xbb\xbf{}", "77u/e30="),
    ];
    for (data, base64) in cases {
        assert_eq!(
            line(LineFormat::Data, data),
            format!("{{\"data_base64\":\"{base64}\"}}"),
            "{data:?}"
        );
    }
}

#[test]
fn an_envelope_tells_where_a_record_comes_from() {
    let head = concat!(
        r#"{"shard_id":"shardId-000000000001","sequence_number":"4959","sub_sequence":7,"#,
        r#""partition_key":"JFK \"T4\"","approximate_arrival_millis":1700000000123,"#
    );
    assert_eq!(
        line(LineFormat::Envelope, "{\n\"a\":1}"),
        format!(r#"{head}"data":{{ "a":1}}}}"#)
    );
    assert_eq!(
        line(LineFormat::Envelope, "text"),
        format!(r#"{head}"data_base64":"dGV4dA=="}}"#)
    );
    for data in ["{\"a\":1}", "text"] {
        serde_json::from_str::<serde_json::Value>(&line(LineFormat::Envelope, data)).unwrap();
    }
}
