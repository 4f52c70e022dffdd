//! Checks a typed request against the model's constraints and words the failures as the service
//! does.
//!
//! Promises: at most ten failures are reported, in model order; nothing is allocated while all
//! checks pass. The paths start lower-case and list elements count from one.

use std::fmt::{self, Display};

use super::fault::Fault;
use super::read::Text;

mod arn;
mod attached;
mod channel;

use arn::{is_arn_of, is_consumer_arn, is_resource_arn};

/// Failures that one answer names. Source: service behaviour.
const FAILURES_MAX: usize = 10;

/// The failures so far.
#[derive(Debug, Default)]
pub(crate) struct Constraints {
    failures: Vec<String>,
}

const NAME_PATTERN: &str = "[a-zA-Z0-9_.-]+";
const HASH_KEY_PATTERN: &str = "0|([1-9]\\d{0,38})";
const SEQUENCE_NUMBER_PATTERN: &str = "0|([1-9]\\d{0,128})";
const STREAM_ARN_PATTERN: &str = "arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+";
const RESOURCE_ARN_PATTERN: &str = "arn:aws.*:kinesis:.*:\\d{12}:.*(stream|channel|queue)/\\S+";
const STREAM_ID_PATTERN: &str = "[a-z0-9]{20}-[a-z0-9]{3}";
const CONSUMER_ARN_PATTERN: &str = "^(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/[a-zA-Z0-9_.-]+:[0-9]+";

/// Longest name of a stream, shard or consumer. Source: API model.
const NAME_MAX_CHARS: usize = 128;
/// Longest ARN. Source: API model.
const ARN_MAX_CHARS: usize = 2048;
/// Longest paging token. Source: API model.
const TOKEN_MAX_CHARS: usize = 1_048_576;
/// Longest stream id. Source: API model.
const STREAM_ID_MAX_CHARS: usize = 24;

impl Constraints {
    /// The checks of a request that names a stream. In the model's order its name comes first, then
    /// the request's `own` members, and its ARN and id last.
    pub(crate) fn of_stream(
        name: &Option<Text<'_>>,
        own: impl FnOnce(&mut Self),
        arn: &Option<Text<'_>>,
        id: &Option<Text<'_>>,
    ) -> Result<(), Fault> {
        let mut constraints = Self::default();
        constraints.stream_name(name.as_deref());
        own(&mut constraints);
        constraints.stream_arn(arn.as_deref());
        constraints.stream_id(id.as_deref());
        constraints.done()
    }

    /// Ends the checks: the failures as one fault.
    pub(crate) fn done(self) -> Result<(), Fault> {
        let count = self.failures.len();
        if count == 0 {
            return Ok(());
        }
        Err(Fault::validation(format!(
            "{count} validation error{} detected: {}",
            if count == 1 { "" } else { "s" },
            self.failures.join("; ")
        )))
    }

    /// Notes a failure of `value` (quoted) at `path` unless `holds`.
    pub(crate) fn check(
        &mut self,
        holds: bool,
        path: impl Display,
        value: impl Display,
        text: impl Display,
    ) {
        if !holds && self.failures.len() < FAILURES_MAX {
            self.failures.push(format!(
                "Value '{value}' at '{path}' failed to satisfy constraint: {text}"
            ));
        }
    }

    /// A member that has to be there.
    pub(crate) fn present(&mut self, present: bool, path: impl Display) {
        if !present && self.failures.len() < FAILURES_MAX {
            self.failures.push(format!(
                "Value null at '{path}' failed to satisfy constraint: Member must not be null"
            ));
        }
    }

    /// A text's length in characters.
    pub(crate) fn length(&mut self, path: impl Display, value: &str, min: usize, max: usize) {
        let chars = if value.len() <= max && value.len() >= min && min <= 1 {
            return; // at most `max` bytes is at most `max` characters
        } else {
            value.chars().count()
        };
        self.check(chars >= min, &path, value, at_least_long(min));
        self.check(chars <= max, &path, value, at_most_long(max));
    }

    /// A number's bounds.
    pub(crate) fn range(&mut self, path: &str, value: Option<i32>, min: i32, max: i32) {
        let Some(value) = value else { return };
        let text = format_args!("Member must have value greater than or equal to {min}");
        self.check(value >= min, path, value, text);
        let text = format_args!("Member must have value less than or equal to {max}");
        self.check(value <= max, path, value, text);
    }

    /// One of the model's names; `None` is checked by [`present`](Self::present).
    pub(crate) fn one_of(&mut self, path: &str, value: Option<&str>, names: &[&str]) {
        if let Some(value) = value.filter(|value| !names.contains(value)) {
            self.check(false, path, value, enum_value(names));
        }
    }

    fn name(&mut self, path: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.check(is_name(value), path, value, pattern(NAME_PATTERN));
        self.length(path, value, 1, NAME_MAX_CHARS);
    }

    pub(crate) fn stream_name(&mut self, value: Option<&str>) {
        self.name("streamName", value);
    }

    pub(crate) fn exclusive_start_stream_name(&mut self, value: Option<&str>) {
        self.name("exclusiveStartStreamName", value);
    }

    pub(crate) fn consumer_name(&mut self, value: Option<&str>) {
        self.name("consumerName", value);
    }

    pub(crate) fn shard_id(&mut self, path: &str, value: Option<&str>) {
        self.name(path, value);
    }

    pub(crate) fn stream_arn(&mut self, value: Option<&str>) {
        let Some(value) = value else { return };
        self.check(
            is_arn_of(value, ":stream/"),
            "streamARN",
            value,
            pattern(STREAM_ARN_PATTERN),
        );
        self.length("streamARN", value, 1, ARN_MAX_CHARS);
    }

    pub(crate) fn consumer_arn(&mut self, value: Option<&str>) {
        let Some(value) = value else { return };
        self.check(
            is_consumer_arn(value),
            "consumerARN",
            value,
            pattern(CONSUMER_ARN_PATTERN),
        );
        self.length("consumerARN", value, 1, ARN_MAX_CHARS);
    }

    pub(crate) fn resource_arn(&mut self, value: Option<&str>) {
        let Some(value) = value else { return };
        self.check(
            is_resource_arn(value),
            "resourceARN",
            value,
            pattern(RESOURCE_ARN_PATTERN),
        );
        self.length("resourceARN", value, 1, ARN_MAX_CHARS);
    }

    pub(crate) fn stream_id(&mut self, value: Option<&str>) {
        let Some(value) = value else { return };
        self.check(
            is_stream_id(value),
            "streamId",
            value,
            pattern(STREAM_ID_PATTERN),
        );
        self.length("streamId", value, 1, STREAM_ID_MAX_CHARS);
    }

    pub(crate) fn token(&mut self, value: Option<&str>) {
        if let Some(value) = value {
            self.length("nextToken", value, 1, TOKEN_MAX_CHARS);
        }
    }

    pub(crate) fn hash_key(&mut self, path: impl Display, value: Option<&str>) {
        if let Some(value) = value {
            self.check(
                is_decimal(value, 39),
                path,
                value,
                pattern(HASH_KEY_PATTERN),
            );
        }
    }

    pub(crate) fn sequence_number(&mut self, path: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.check(
                is_decimal(value, 129),
                path,
                value,
                pattern(SEQUENCE_NUMBER_PATTERN),
            );
        }
    }
}

/// "Member must have length less than or equal to N".
pub(crate) fn at_most_long(max: usize) -> impl Display {
    Worded("Member must have length less than or equal to ", max)
}

/// "Member must have length greater than or equal to N".
pub(crate) fn at_least_long(min: usize) -> impl Display {
    Worded("Member must have length greater than or equal to ", min)
}

/// "Member must satisfy enum value set: [A, B]".
pub(crate) fn enum_value(names: &[&str]) -> String {
    format!("Member must satisfy enum value set: [{}]", Joined(names))
}

struct Worded(&'static str, usize);

impl Display for Worded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0, self.1)
    }
}

struct Joined<'a>(&'a [&'a str]);

impl Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            write!(f, "{}{name}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

fn pattern(pattern: &'static str) -> impl Display {
    struct Pattern(&'static str);
    impl Display for Pattern {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(
                f,
                "Member must satisfy regular expression pattern: {}",
                self.0
            )
        }
    }
    Pattern(pattern)
}

/// `[a-zA-Z0-9_.-]+`
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// `0|([1-9]\d{0,digits-1})`
fn is_decimal(text: &str, digits: usize) -> bool {
    text == "0"
        || (!text.starts_with('0')
            && (1..=digits).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `[a-z0-9]{20}-[a-z0-9]{3}`
fn is_stream_id(text: &str) -> bool {
    let plain = |part: &str| {
        part.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    text.split_once('-').is_some_and(|(left, right)| {
        left.len() == 20 && right.len() == 3 && plain(left) && plain(right)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(check: impl FnOnce(&mut Constraints)) -> Option<String> {
        let mut constraints = Constraints::default();
        check(&mut constraints);
        constraints.done().err().and_then(|fault| fault.message)
    }

    #[test]
    fn an_empty_name_fails_its_pattern_and_then_its_length() {
        assert_eq!(
            text(|constraints| constraints.stream_name(Some(""))).unwrap(),
            "2 validation errors detected: Value '' at 'streamName' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; Value '' at \
             'streamName' failed to satisfy constraint: Member must have length greater than or \
             equal to 1"
        );
    }

    #[test]
    fn a_missing_member_is_null() {
        assert_eq!(
            text(|constraints| constraints.present(false, "shardId")).unwrap(),
            "1 validation error detected: Value null at 'shardId' failed to satisfy constraint: \
             Member must not be null"
        );
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        assert_eq!(
            text(|constraints| constraints.one_of("type", Some("C"), &["A", "B"])).unwrap(),
            "1 validation error detected: Value 'C' at 'type' failed to satisfy constraint: \
             Member must satisfy enum value set: [A, B]"
        );
    }

    #[test]
    fn ten_failures_are_enough() {
        let text = text(|constraints| {
            for at in 0..20 {
                constraints.present(false, at);
            }
        });
        assert!(text.unwrap().starts_with("10 validation errors detected: "));
    }

    #[test]
    fn decimals_have_no_leading_zero_and_a_bounded_length() {
        assert!(is_decimal("0", 39) && is_decimal("10", 39));
        assert!(!is_decimal("", 39) && !is_decimal("01", 39) && !is_decimal("-1", 39));
        assert!(is_decimal(&"9".repeat(39), 39) && !is_decimal(&"9".repeat(40), 39));
    }

    #[test]
    fn lengths_count_characters_not_bytes() {
        let key = "я".repeat(256);
        assert_eq!(
            text(|constraints| constraints.length("partitionKey", &key, 1, 256)),
            None
        );
        let key = "я".repeat(257);
        assert!(text(|constraints| constraints.length("partitionKey", &key, 1, 256)).is_some());
    }
}
