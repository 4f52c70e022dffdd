//! Where resources live: an account in a region.
//!
//! Promises: equal names in two places are two resources; an ARN names exactly one place.

use std::fmt;
use std::sync::Arc;

/// Digits of an AWS account id. Source: AWS account management reference.
pub(crate) const ACCOUNT_DIGITS: usize = 12;

/// Longest region name accepted. Source: none; the longest of AWS has 16 characters.
pub(crate) const REGION_MAX_CHARS: usize = 32;

/// An account in a region.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Place {
    pub(crate) account: Arc<str>,
    pub(crate) region: Arc<str>,
}

impl Place {
    pub(crate) fn new(account: &str, region: &str) -> Self {
        Self {
            account: account.into(),
            region: region.into(),
        }
    }

    pub(crate) fn is(&self, account: &str, region: &str) -> bool {
        *self.account == *account && *self.region == *region
    }

    /// The ARN of a stream here.
    pub(crate) fn stream_arn(&self, name: &str) -> String {
        format!(
            "arn:aws:kinesis:{}:{}:stream/{name}",
            self.region, self.account
        )
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account {} in {}", self.account, self.region)
    }
}

/// Whether this can be an account: 12 digits.
pub(crate) fn is_account(text: &str) -> bool {
    text.len() == ACCOUNT_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether this can be a region: a few of `a-z`, `0-9` and `-`.
pub(crate) fn is_region(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=REGION_MAX_CHARS).contains(&text.len()) && text.bytes().all(allowed)
}

/// What the ARN of a stream, or of something within a stream, names.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct StreamArn<'a> {
    pub(crate) account: &'a str,
    pub(crate) region: &'a str,
    pub(crate) stream: &'a str,
}

impl<'a> StreamArn<'a> {
    /// Reads an ARN whose form the constraints have checked; of others it reads what is there. What
    /// is behind the stream's name belongs to it, unless it is a consumer.
    pub(crate) fn read(arn: &'a str) -> Self {
        let named = Self::read_whole(arn);
        let stream = named.stream.split_once("/consumer/");
        Self {
            stream: stream.map_or(named.stream, |(stream, _)| stream),
            ..named
        }
    }

    /// The same of an ARN that names a stream and nothing within it.
    pub(crate) fn read_whole(arn: &'a str) -> Self {
        let (place, stream) = arn.split_once(":stream/").unwrap_or_default();
        let mut place = place.rsplit(':');
        Self {
            account: place.next().unwrap_or_default(),
            region: place.next().unwrap_or_default(),
            stream,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_leads_back_to_the_place_and_the_stream() {
        let place = Place::new("111122223333", "eu-west-1");
        let arn = place.stream_arn("s");
        assert_eq!(arn, "arn:aws:kinesis:eu-west-1:111122223333:stream/s");
        for arn in [arn.clone(), format!("{arn}/consumer/c:1700000000")] {
            let read = StreamArn::read(&arn);
            assert!(place.is(read.account, read.region));
            assert_eq!(read.stream, "s");
        }
        assert_eq!(StreamArn::read("arn:aws:s3:::bucket"), StreamArn::default());
        // The model's pattern takes it, and no stream has such a name.
        let longer = format!("{arn}/extra");
        assert_eq!(StreamArn::read(&longer).stream, "s/extra");
        let consumer = format!("{arn}/consumer/c:1700000000");
        let whole = StreamArn::read_whole(&consumer).stream;
        assert_eq!(whole, "s/consumer/c:1700000000");
    }

    #[test]
    fn accounts_are_twelve_digits_and_regions_are_short_names() {
        assert!(is_account("000000000000"));
        for odd in [
            "",
            "00000000000",
            "0000000000000",
            "00000000000a",
            "AKIDEXAMPLE0",
        ] {
            assert!(!is_account(odd), "{odd}");
        }
        assert!(is_region("us-gov-west-1") && is_region("local"));
        for odd in ["", "US-EAST-1", "us east", "a/b", &"a".repeat(33)] {
            assert!(!is_region(odd), "{odd}");
        }
    }
}
