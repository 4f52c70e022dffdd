//! A KPL properties file as settings.
//!
//! The file has Java's format: `key = value`, `key: value` or `key value`, comments behind `#` or
//! `!`, a backslash for escapes and at the end of a line that goes on. The keys are the names of the
//! KPL's setters; of a key that is there twice the last one counts.

use std::fmt;
use std::time::Duration;

use super::{DURATION_MAX, Settings};
use crate::Error;

/// The largest number of a KPL option. Source: KPL, Java's `Long.MAX_VALUE`.
const LONG_MAX: u64 = i64::MAX as u64;

/// What became of a key of a KPL properties file that has no full counterpart here.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum KplWarning {
    /// The KPL's option has no meaning here, or belongs elsewhere; the text says which.
    NoMeaning {
        /// The KPL's name.
        key: &'static str,
        /// Why, and where to turn instead.
        reason: &'static str,
    },
    /// The KPL allows the value; here the nearest bound stands in its place.
    Clamped {
        /// The KPL's name.
        key: &'static str,
        /// The value in the file.
        value: u64,
        /// What it became, in the same unit.
        used: u64,
    },
    /// No version of the KPL up to 1.0.7 has this option.
    Unknown {
        /// The key as it stands in the file.
        key: String,
    },
}

impl KplWarning {
    /// The key in the file.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::NoMeaning { key, .. } | Self::Clamped { key, .. } => key,
            Self::Unknown { key } => key,
        }
    }
}

impl fmt::Display for KplWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMeaning { key, reason } => write!(f, "{key} is left out: {reason}"),
            Self::Clamped { key, value, used } => {
                write!(f, "{key} = {value} is out of bounds here; {used} is used")
            }
            Self::Unknown { key } => write!(f, "{key} is no option of the KPL; left out"),
        }
    }
}

const OF_THE_CLIENT: &str = "it belongs to the SDK client that the producer is given";
const OF_THE_RECORDER: &str = "metrics go to the recorder that the program installs";
const NO_CHILD: &str = "there is no child process";
const NO_THREADS: &str = "a producer has no threads of its own";
const NO_REGISTRY: &str = "there is no schema registry; see Producer::typed_with";

/// The KPL's options without a counterpart. Source: KPL 1.0.7, `KinesisProducerConfiguration`.
const NO_MEANING: [(&str, &str); 37] = [
    ("CaCertFile", OF_THE_CLIENT),
    ("CaCertPath", OF_THE_CLIENT),
    ("CloudwatchEndpoint", OF_THE_RECORDER),
    ("CloudwatchPort", OF_THE_RECORDER),
    ("ConnectTimeout", OF_THE_CLIENT),
    ("CredentialsProvider", OF_THE_CLIENT),
    ("CredentialsRefreshDelay", OF_THE_CLIENT),
    ("DaemonHealthCheckTimeoutMs", NO_CHILD),
    ("EnableCoreDumps", NO_CHILD),
    ("EnableDaemonHealthCheck", NO_CHILD),
    (
        "EnableOldestFutureTracker",
        "Producer::outstanding always knows the oldest age",
    ),
    ("GlueSchemaRegistryConfiguration", NO_REGISTRY),
    ("GlueSchemaRegistryCredentialsProvider", NO_REGISTRY),
    ("GlueSchemaRegistryPropertiesFilePath", NO_REGISTRY),
    ("KinesisEndpoint", OF_THE_CLIENT),
    ("KinesisPort", OF_THE_CLIENT),
    ("LogLevel", "logs go to the program's tracing subscriber"),
    ("MetricsCredentialsProvider", OF_THE_RECORDER),
    ("MetricsGranularity", OF_THE_RECORDER),
    ("MetricsLevel", OF_THE_RECORDER),
    ("MetricsNamespace", OF_THE_RECORDER),
    ("MetricsUploadDelay", OF_THE_RECORDER),
    ("MinConnections", "the KPL does not read it either"),
    ("NativeExecutable", NO_CHILD),
    ("ProxyHost", OF_THE_CLIENT),
    ("ProxyPassword", OF_THE_CLIENT),
    ("ProxyPort", OF_THE_CLIENT),
    ("ProxyUserName", OF_THE_CLIENT),
    ("Region", OF_THE_CLIENT),
    (
        "ReturnUserRecordOnFailure",
        "a failed record always comes back, without a copy",
    ),
    ("StsEndpoint", OF_THE_CLIENT),
    ("StsPort", OF_THE_CLIENT),
    ("TempDirectory", NO_CHILD),
    ("ThreadPoolSize", NO_THREADS),
    ("ThreadingModel", NO_THREADS),
    (
        "UserRecordTimeoutInMillis",
        "put tokio::time::timeout around the DeliveryFuture, or set RecordTtl",
    ),
    ("VerifyCertificate", OF_THE_CLIENT),
];

/// Reads a file's text; see [`Settings::from_kpl_properties`].
pub(super) fn read(text: &str) -> Result<(Settings, Vec<KplWarning>), Error> {
    let mut settings = Settings::default();
    let mut warnings = Vec::new();
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in logical_lines(text) {
        let (key, value) = split(&line);
        entries.retain(|(earlier, _)| *earlier != key);
        entries.push((key, value));
    }
    for (key, value) in &entries {
        let mut number = Number {
            value: value.trim(),
            warnings: &mut warnings,
        };
        match key.as_str() {
            "AggregationEnabled" => {
                settings.aggregation_enabled = flag("AggregationEnabled", value)?;
            }
            "AggregationMaxCount" => {
                settings.aggregation_max_count =
                    number.count("AggregationMaxCount", 1..=LONG_MAX, u32::MAX as usize)?;
            }
            "AggregationMaxSize" => {
                settings.aggregation_max_size =
                    number.count("AggregationMaxSize", 64..=10_485_760, usize::MAX)?;
            }
            "CollectionMaxCount" => {
                settings.collection_max_count =
                    number.count("CollectionMaxCount", 1..=500, usize::MAX)?;
            }
            "CollectionMaxSize" => {
                settings.collection_max_size = number.count(
                    "CollectionMaxSize",
                    52_224..=LONG_MAX,
                    Settings::default().collection_max_size,
                )?;
            }
            "FailIfThrottled" => settings.fail_if_throttled = flag("FailIfThrottled", value)?,
            "MaxConnections" => {
                settings.max_in_flight = number.count("MaxConnections", 1..=256, usize::MAX)?;
            }
            "MaxUserRecordSize" => {
                let bytes = number.count("MaxUserRecordSize", 64..=10_485_760, usize::MAX)?;
                settings.max_user_record_size = Some(bytes);
            }
            "RateLimit" => {
                let per_cent = number.count("RateLimit", 1..=LONG_MAX, 1_000_000)?;
                settings.rate_limit = u32::try_from(per_cent).unwrap_or(u32::MAX);
            }
            "RecordMaxBufferedTime" => {
                settings.record_max_buffered_time =
                    number.millis("RecordMaxBufferedTime", 0..=LONG_MAX)?;
            }
            // What is longer than a year stands for ever, in the KPL's files too.
            "RecordTtl" => {
                let ttl = Duration::from_millis(number.parse("RecordTtl", 100..=LONG_MAX)?);
                settings.record_ttl = (ttl <= DURATION_MAX).then_some(ttl);
            }
            "RequestTimeout" => {
                settings.request_timeout = number.millis("RequestTimeout", 100..=600_000)?;
            }
            other => warnings.push(match NO_MEANING.iter().find(|(key, _)| *key == other) {
                Some(&(key, reason)) => KplWarning::NoMeaning { key, reason },
                None => KplWarning::Unknown { key: key.clone() },
            }),
        }
    }
    // The KPL sends a larger aggregate by itself; here a request has room for one.
    let largest = settings.aggregation_max_size;
    if settings.collection_max_size < largest {
        warnings.push(KplWarning::Clamped {
            key: "CollectionMaxSize",
            value: settings.collection_max_size as u64,
            used: largest as u64,
        });
        settings.collection_max_size = largest;
    }
    settings.validate()?;
    Ok((settings, warnings))
}

/// A number in the file, with where to tell that it was brought within bounds.
struct Number<'a> {
    value: &'a str,
    warnings: &'a mut Vec<KplWarning>,
}

impl Number<'_> {
    fn parse(&self, key: &'static str, kpl: std::ops::RangeInclusive<u64>) -> Result<u64, Error> {
        let number = self.value.parse().ok().filter(|value| kpl.contains(value));
        number.ok_or_else(|| {
            let (min, max) = (kpl.start(), kpl.end());
            Error::setting(key, format!("it is no whole number in {min}..={max}"))
        })
    }

    fn within(
        &mut self,
        key: &'static str,
        kpl: std::ops::RangeInclusive<u64>,
        max: u64,
    ) -> Result<u64, Error> {
        let value = self.parse(key, kpl)?;
        if value > max {
            let used = max;
            self.warnings.push(KplWarning::Clamped { key, value, used });
        }
        Ok(value.min(max))
    }

    fn count(
        &mut self,
        key: &'static str,
        kpl: std::ops::RangeInclusive<u64>,
        max: usize,
    ) -> Result<usize, Error> {
        let value = self.within(key, kpl, max as u64)?;
        Ok(usize::try_from(value).unwrap_or(max))
    }

    fn millis(
        &mut self,
        key: &'static str,
        kpl: std::ops::RangeInclusive<u64>,
    ) -> Result<Duration, Error> {
        let max = u64::try_from(DURATION_MAX.as_millis()).unwrap_or(u64::MAX);
        self.within(key, kpl, max).map(Duration::from_millis)
    }
}

fn flag(key: &'static str, value: &str) -> Result<bool, Error> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::setting(key, "it is neither true nor false".into())),
    }
}

/// The lines that hold something, those that a backslash continues put together.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open: Option<String> = None;
    // Lines end with either or both of them.
    let text = text.replace("\r\n", "\n");
    for line in text.split(['\n', '\r']) {
        let line = line.trim_start_matches([' ', '\t', '\x0c']);
        if open.is_none() && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        let goes_on = backslashes % 2 == 1;
        let part = if goes_on {
            &line[..line.len() - 1]
        } else {
            line
        };
        let whole = open.take().unwrap_or_default() + part;
        if goes_on {
            open = Some(whole);
        } else {
            lines.push(whole);
        }
    }
    lines.extend(open);
    lines
}

/// Key and value of a line, escapes resolved.
fn split(line: &str) -> (String, String) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (c == '=' || c == ':' || c == ' ' || c == '\t' || c == '\x0c');
        escaped = c == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches([' ', '\t', '\x0c']);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    let value = rest.trim_start_matches([' ', '\t', '\x0c']);
    (unescape(key), unescape(value))
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\x0c'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok();
                out.push(
                    code.and_then(char::from_u32)
                        .unwrap_or(char::REPLACEMENT_CHARACTER),
                );
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn what_means_the_same_is_taken_over_from_any_form_of_java_properties() {
        let text = "# a comment\n\
            ! another\r\n\
            \n\
            AggregationEnabled = FALSE\n\
            AggregationMaxCount: 100\n\
            AggregationMaxSize 20000\n\
            CollectionMaxCount\\u003d=1\n\
            CollectionMaxCount=50\n\
            CollectionMaxSize=5242880\n\
            \tRecordTtl = 60\\\n\
            \x20\x20\x20 000\n\
            RecordMaxBufferedTime=5\n\
            MaxConnections=12\n\
            MaxUserRecordSize=2000000\n\
            RateLimit=150\n\
            FailIfThrottled=true\n\
            RequestTimeout=4000\r\
            RequestTimeout=5000";
        let (settings, warnings) = Settings::from_kpl_properties(text).expect("a file");
        let expected = Settings {
            aggregation_enabled: false,
            aggregation_max_count: 100,
            aggregation_max_size: 20_000,
            collection_max_count: 50,
            collection_max_size: 5_242_880,
            record_ttl: Some(Duration::from_secs(60)),
            record_max_buffered_time: Duration::from_millis(5),
            max_in_flight: 12,
            max_user_record_size: Some(2_000_000),
            rate_limit: 150,
            fail_if_throttled: true,
            request_timeout: Duration::from_secs(5),
            ..Settings::default()
        };
        assert_eq!(settings, expected);
        let key = "CollectionMaxCount=".to_owned();
        assert_eq!(warnings, [KplWarning::Unknown { key }]);
    }

    /// Source: KPL 1.0.7, the setters of `KinesisProducerConfiguration`.
    const ALL_OPTIONS: &str = "\
        AggregationEnabled=true AggregationMaxCount=1 AggregationMaxSize=64 CaCertFile=x \
        CaCertPath=x CloudwatchEndpoint=x CloudwatchPort=443 CollectionMaxCount=1 \
        CollectionMaxSize=5242880 ConnectTimeout=6000 CredentialsProvider=x \
        CredentialsRefreshDelay=5000 DaemonHealthCheckTimeoutMs=30000 EnableCoreDumps=false \
        EnableDaemonHealthCheck=false EnableOldestFutureTracker=true FailIfThrottled=false \
        GlueSchemaRegistryConfiguration=x GlueSchemaRegistryCredentialsProvider=x \
        GlueSchemaRegistryPropertiesFilePath=x KinesisEndpoint=x KinesisPort=443 LogLevel=info \
        MaxConnections=24 MaxUserRecordSize=1048576 MetricsCredentialsProvider=x \
        MetricsGranularity=shard MetricsLevel=detailed MetricsNamespace=x \
        MetricsUploadDelay=60000 MinConnections=1 NativeExecutable=x ProxyHost=x \
        ProxyPassword=x ProxyPort=443 ProxyUserName=x RateLimit=150 RecordMaxBufferedTime=100 \
        RecordTtl=30000 Region=us-east-1 RequestTimeout=6000 ReturnUserRecordOnFailure=true \
        StsEndpoint=x StsPort=443 TempDirectory=x ThreadPoolSize=64 ThreadingModel=POOLED \
        UserRecordTimeoutInMillis=0 VerifyCertificate=true";

    #[test]
    fn every_option_of_the_kpl_is_taken_over_or_said_to_have_no_meaning() {
        let taken_over = [
            "AggregationEnabled",
            "AggregationMaxCount",
            "AggregationMaxSize",
            "CollectionMaxCount",
            "CollectionMaxSize",
            "FailIfThrottled",
            "MaxConnections",
            "MaxUserRecordSize",
            "RateLimit",
            "RecordMaxBufferedTime",
            "RecordTtl",
            "RequestTimeout",
        ];
        let text = ALL_OPTIONS.replace(' ', "\n");
        let (_, warnings) = Settings::from_kpl_properties(&text).expect("a file");
        for line in text.lines() {
            let (key, _) = line.split_once('=').expect("a line");
            let warning = warnings.iter().find(|warning| warning.key() == key);
            match warning {
                None => assert!(taken_over.contains(&key), "{key}"),
                Some(warning) => assert!(matches!(warning, KplWarning::NoMeaning { .. }), "{key}"),
            }
        }
        assert_eq!(warnings.len() + taken_over.len(), text.lines().count());
    }

    #[test]
    fn values_that_only_the_kpl_allows_are_clamped_and_said_to_be() {
        let text = "RecordTtl=9223372036854775807\n\
            RecordMaxBufferedTime=9223372036854775807\n\
            AggregationMaxCount=4294967296\n\
            CollectionMaxSize=99999999\n\
            RateLimit=2000000";
        let (settings, warnings) = Settings::from_kpl_properties(text).expect("a file");
        assert_eq!(settings.record_ttl, None, "for ever, as it was meant");
        let clamped: Vec<_> = warnings.iter().map(KplWarning::key).collect();
        let expected = [
            "RecordMaxBufferedTime",
            "AggregationMaxCount",
            "CollectionMaxSize",
            "RateLimit",
        ];
        assert_eq!(clamped, expected);
        assert!(warnings[3].to_string().contains("1000000"));
    }

    #[test]
    fn a_value_that_the_kpl_refuses_is_refused_and_named_without_being_quoted() {
        for line in [
            "RecordTtl=99",
            "RequestTimeout=600001",
            "CollectionMaxCount=501",
            "AggregationMaxSize=hunter2",
            "AggregationEnabled=hunter2",
        ] {
            let error = Settings::from_kpl_properties(line).expect_err(line);
            assert_eq!(error.kind(), ErrorKind::InvalidSettings);
            let (key, value) = line.split_once('=').expect("a line");
            let text = error.to_string();
            assert!(text.contains(key) && !text.contains(value), "{text}");
        }
        let (_, warnings) = Settings::from_kpl_properties("ProxyPassword=hunter2").expect("a file");
        assert!(!format!("{warnings:?} {}", warnings[0]).contains("hunter2"));
    }
}
