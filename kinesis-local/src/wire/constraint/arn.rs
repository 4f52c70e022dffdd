//! The model's patterns of Kinesis ARNs, matched as the service matches them: the whole text, `.` as
//! anything but the end of a line, `\S` as anything but white space of ASCII.
//!
//! ```text
//! arn:aws.*:kinesis:.*:\d{12}:stream/\S+
//!        └─ head ──────────┘└─ kind ┘└ no white space
//! ```
//! Promises: time in proportion to the length, however often a text repeats a part. The patterns take
//! more than there are ARNs: `arn:aws:kinesis:x:stream/y:000000000000:stream/a` is none, and is not
//! found. `api/tests/facts/model/patterns.rs` holds these against the patterns themselves.

use super::is_name;

/// `arn:aws.*:kinesis:.*:\d{12}KIND\S+`, where the kind is `:stream/` or the like.
pub(super) fn is_arn_of(text: &str, kind: &str) -> bool {
    let Some(rest) = behind_service(text) else {
        return false;
    };
    let reach = Reach::of(rest);
    rest.match_indices(kind)
        .any(|(at, _)| reach.has(at, at + kind.len()) && ends_in_account(&rest[..at]))
}

/// `arn:aws.*:kinesis:.*:\d{12}:.*(stream|channel|queue)/\S+`
pub(super) fn is_resource_arn(text: &str) -> bool {
    let Some(rest) = behind_account(text) else {
        return false;
    };
    let reach = Reach::of(rest);
    ["stream/", "channel/", "queue/"].iter().any(|kind| {
        rest.match_indices(kind)
            .any(|(at, _)| reach.has(at, at + kind.len()))
    })
}

/// `arn:aws.*:kinesis:.*:\d{12}:.*stream/[a-zA-Z0-9_.-]+/consumer/[a-zA-Z0-9_.-]+:[0-9]+`
pub(super) fn is_consumer_arn(text: &str) -> bool {
    // Neither name holds a slash or a colon, so the last ones are those between the names.
    let parts = || {
        let (before, created) = text.rsplit_once(':')?;
        let (before, consumer) = before.rsplit_once("/consumer/")?;
        let (before, stream) = before.rsplit_once('/')?;
        let before = behind_account(before.strip_suffix("stream")?)?;
        Some((before, stream, consumer, created))
    };
    parts().is_some_and(|(before, stream, consumer, created)| {
        let created_in_digits =
            !created.is_empty() && created.bytes().all(|byte| byte.is_ascii_digit());
        created_in_digits && is_name(consumer) && is_name(stream) && !before.contains(ends_line)
    })
}

/// What follows `arn:aws.*:kinesis` and its colon, which is left: the `.*` may be empty.
fn behind_service(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("arn:aws")?;
    // The first is as good as any: it leaves the most.
    let (partition, _) = rest.split_once(":kinesis:")?;
    let rest = &rest[partition.len() + ":kinesis:".len()..];
    (!partition.contains(ends_line)).then_some(rest)
}

/// What follows `arn:aws.*:kinesis:.*:\d{12}:`.
fn behind_account(text: &str) -> Option<&str> {
    let rest = behind_service(text)?;
    let (at, _) = rest
        .match_indices(':')
        .find(|(at, _)| ends_in_account(&rest[..*at]))?;
    let (region, rest) = (&rest[..at], &rest[at + 1..]);
    (!region.contains(ends_line)).then_some(rest)
}

/// `.*:\d{12}`
fn ends_in_account(before: &str) -> bool {
    before.rsplit_once(':').is_some_and(|(_, account)| {
        account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// How far `.*` reaches into a text, and from where on `\S+` reaches its end.
struct Reach {
    dots_until: usize,
    no_blank_from: usize,
    length: usize,
}

impl Reach {
    fn of(text: &str) -> Self {
        Self {
            dots_until: text.find(ends_line).unwrap_or(text.len()),
            no_blank_from: text.rfind(is_blank).map_or(0, |at| at + 1),
            length: text.len(),
        }
    }

    /// Whether `.*` reaches `left` and `\S+` goes from `right` to the end.
    fn has(&self, left: usize, right: usize) -> bool {
        left <= self.dots_until && (self.no_blank_from..self.length).contains(&right)
    }
}

/// What `.` does not match. Source: `java.util.regex.Pattern`, line terminators.
fn ends_line(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What `\S` does not match. Source: `java.util.regex.Pattern`, predefined character classes.
fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/a";

    fn is_stream_arn(text: &str) -> bool {
        is_arn_of(text, ":stream/")
    }

    #[test]
    fn arns_are_told_from_other_texts() {
        assert!(is_stream_arn(STREAM) && is_stream_arn(&STREAM.replace("aws", "aws-cn")));
        for bad in [
            "a",
            "arn:aws:kinesis:us-east-1:1:stream/a",
            "arn:aws:s3:::stream/a",
        ] {
            assert!(!is_stream_arn(bad), "{bad}");
        }
        assert!(is_resource_arn(STREAM) && is_resource_arn(&STREAM.replace("stream", "queue")));
        assert!(is_resource_arn(&format!("{STREAM}/consumer/c:1700000000")));
        for bad in [
            "arn:aws:kinesis:us-east-1:1:stream/a",
            "arn:aws:kinesis:us-east-1:000000000000:table/a",
            "arn:aws:kinesis:us-east-1:000000000000:stream/",
        ] {
            assert!(!is_resource_arn(bad), "{bad}");
        }
        assert!(is_consumer_arn(&format!("{STREAM}/consumer/c:1700000000")));
        assert!(!is_consumer_arn(&format!("{STREAM}/consumer/c")));
        for name in ["a*b", "a/b", "ä", ""] {
            let arn = format!("arn:aws:kinesis:us-east-1:000000000000:stream/{name}/consumer/c:1");
            assert!(!is_consumer_arn(&arn), "{arn}");
        }
    }

    #[test]
    fn what_an_arn_repeats_is_searched_to_its_end() {
        let twice = "arn:aws:kinesis:x:stream/y:000000000000:stream/a";
        assert!(is_stream_arn(twice) && is_resource_arn(twice));
        assert!(is_stream_arn(
            "arn:aws:kinesis::kinesis:1:000000000000:stream/a"
        ));
        assert!(is_consumer_arn(&format!(
            "{STREAM}/consumer/c:1/stream/s/consumer/c:2"
        )));
        let blank = "arn:aws:kinesis:x:000000000000:stream/a b:000000000000:stream/a";
        assert!(is_stream_arn(blank), "the blank is before the last name");
        assert!(
            !is_stream_arn(&blank.replace(' ', "\n")),
            "a line ends there"
        );
    }
}
