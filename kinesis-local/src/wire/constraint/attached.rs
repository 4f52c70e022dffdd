//! The constraints of queues and channels.

use std::fmt::{self, Display};

use super::{ARN_MAX_CHARS, Constraints, at_least_long, at_most_long, is_arn_of, pattern};

const QUEUE_ARN_PATTERN: &str = "arn:aws.*:kinesis:.*:\\d{12}:queue/\\S+";
const STREAM_ARN_PATTERN: &str = super::STREAM_ARN_PATTERN;

/// Longest receipt handle. Source: API model.
const RECEIPT_HANDLE_MAX_CHARS: usize = 1024;

impl Constraints {
    pub(crate) fn queue_name(&mut self, value: Option<&str>) {
        self.present(value.is_some(), "queueName");
        self.name("queueName", value);
    }

    /// A queue's ARN, which has to be there.
    pub(crate) fn queue_arn(&mut self, value: Option<&str>) {
        self.present(value.is_some(), "queueARN");
        self.arn("queueARN", value, ":queue/", QUEUE_ARN_PATTERN);
    }

    /// A stream's ARN in a list, where it has to be there.
    pub(crate) fn listed_stream_arn(&mut self, path: impl Display, value: Option<&str>) {
        self.present(value.is_some(), &path);
        self.arn(path, value, ":stream/", STREAM_ARN_PATTERN);
    }

    fn arn(
        &mut self,
        path: impl Display,
        value: Option<&str>,
        kind: &str,
        as_pattern: &'static str,
    ) {
        let Some(value) = value else { return };
        self.check(is_arn_of(value, kind), &path, value, pattern(as_pattern));
        self.length(path, value, 1, ARN_MAX_CHARS);
    }

    /// A receipt handle, which has to be there.
    pub(crate) fn receipt_handle(&mut self, path: impl Display, value: Option<&str>) {
        self.present(value.is_some(), &path);
        if let Some(value) = value {
            self.length(path, value, 1, RECEIPT_HANDLE_MAX_CHARS);
        }
    }

    /// How many structures of the type `name` a list has.
    pub(crate) fn structures(&mut self, path: &str, count: usize, max: usize, name: &'static str) {
        let shown = Structures { name, count };
        self.check(count >= 1, path, &shown, at_least_long(1));
        self.check(count <= max, path, &shown, at_most_long(max));
    }
}

/// A list of structures as the service prints it.
struct Structures {
    name: &'static str,
    count: usize,
}

impl Display for Structures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for at in 0..self.count {
            let comma = if at == 0 { "" } else { ", " };
            write!(
                f,
                "{comma}com.amazonaws.kinesis.v20131202.{}@c965e310",
                self.name
            )?;
        }
        f.write_str("]")
    }
}
