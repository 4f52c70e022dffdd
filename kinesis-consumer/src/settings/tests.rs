//! Defaults, bounds and the serialised form.

use super::*;

#[test]
fn the_defaults_are_valid() {
    Settings::default().validate().expect("valid");
}

#[test]
fn a_setting_out_of_bounds_is_named_with_its_bound() {
    let cases = [
        (
            Settings {
                max_records: 0,
                ..Settings::default()
            },
            "max_records",
            "1 to 10000",
        ),
        (
            Settings {
                max_records: 10_001,
                ..Settings::default()
            },
            "max_records",
            "1 to 10000",
        ),
        (
            Settings {
                idle_time_between_reads: Duration::from_millis(199),
                ..Settings::default()
            },
            "idle_time_between_reads",
            "200 ms",
        ),
        (
            Settings {
                shutdown_timeout: Duration::from_secs(24 * 60 * 60 + 1),
                ..Settings::default()
            },
            "shutdown_timeout",
            "86400000 ms",
        ),
        (
            Settings {
                task_backoff: Duration::ZERO,
                ..Settings::default()
            },
            "task_backoff",
            "1 ms",
        ),
        (
            Settings {
                task_backoff_max: Duration::from_millis(499),
                ..Settings::default()
            },
            "task_backoff_max",
            "500 ms",
        ),
        (
            Settings {
                kinesis_request_timeout: Duration::ZERO,
                ..Settings::default()
            },
            "kinesis_request_timeout",
            "1000 ms",
        ),
        (
            Settings {
                max_byte_size: 0,
                ..Settings::default()
            },
            "max_byte_size",
            "at least 1",
        ),
        (
            Settings {
                max_records_count: 0,
                ..Settings::default()
            },
            "max_records_count",
            "at least 1",
        ),
        (
            Settings {
                max_buffered_bytes: 1,
                ..Settings::default()
            },
            "max_buffered_bytes",
            "20971520",
        ),
    ];
    for (settings, field, bound) in cases {
        let error = settings.validate().expect_err(field);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(text.contains(field) && text.contains(bound), "{text}");
    }
}

#[test]
fn settings_are_read_with_their_units_and_unknown_ones_are_refused() {
    let text = r#"{"initial_position":{"at_timestamp":5},"idle_time_between_reads_millis":250,"lease":{"failover_time_millis":4000}}"#;
    let settings: Settings = serde_json::from_str(text).expect("readable");
    assert_eq!(settings.initial_position, InitialPosition::AtTimestamp(5));
    assert_eq!(settings.idle_time_between_reads, Duration::from_millis(250));
    assert_eq!(settings.lease.failover_time, Duration::from_secs(4));
    assert_eq!(settings.max_records, MAX_RECORDS_DEFAULT);
    let written = serde_json::to_string(&settings).expect("writable");
    assert_eq!(
        serde_json::from_str::<Settings>(&written).expect("readable"),
        settings
    );
    assert!(serde_json::from_str::<Settings>(r#"{"idle_time":250}"#).is_err());
}
