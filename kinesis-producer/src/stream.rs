//! Which stream: by name, or by ARN where it is another account's; and what it says about itself.

mod inquiry;
mod summary;

use std::sync::Arc;

pub(crate) use self::inquiry::Inquiry;
pub(crate) use self::summary::{StreamTraits, describe};
use crate::Error;

/// The most characters of a stream's name. Source: model, `StreamName`.
const NAME_MAX_CHARS: usize = 128;

/// A stream as the SDK's requests name it.
#[derive(Clone, Debug)]
pub(crate) struct StreamRef {
    /// What logs, metrics and errors say.
    pub(crate) name: Arc<str>,
    arn: Option<Arc<str>>,
}

impl StreamRef {
    /// Takes a name, or an ARN: `arn:PARTITION:kinesis:REGION:ACCOUNT:stream/NAME`.
    pub(crate) fn parse(given: &Arc<str>) -> Result<Self, Error> {
        let refused = |what: &str| Err(Error::setting("stream", what.to_owned()));
        let (name, arn) = if given.starts_with("arn:") {
            let parts: Vec<_> = given.splitn(6, ':').collect();
            match parts[..] {
                [_, _, "kinesis", _, _, resource] if resource.starts_with("stream/") => (
                    Arc::from(&resource["stream/".len()..]),
                    Some(Arc::clone(given)),
                ),
                _ => return refused("an ARN is arn:PARTITION:kinesis:REGION:ACCOUNT:stream/NAME"),
            }
        } else {
            (Arc::clone(given), None)
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !(1..=NAME_MAX_CHARS).contains(&name.len()) || !name.chars().all(allowed) {
            return refused("a name has 1 to 128 of the characters a-z A-Z 0-9 _ . -");
        }
        Ok(Self { name, arn })
    }

    /// The name for a request, unless it has the ARN.
    pub(crate) fn name_field(&self) -> Option<String> {
        self.arn.is_none().then(|| self.name.to_string())
    }

    /// The ARN for a request, if it was given.
    pub(crate) fn arn_field(&self) -> Option<String> {
        self.arn.as_ref().map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, Option<String>, Option<String>), Error> {
        let stream = StreamRef::parse(&text.into())?;
        let (name, arn) = (stream.name_field(), stream.arn_field());
        Ok((stream.name.to_string(), name, arn))
    }

    #[test]
    fn a_request_has_the_name_or_the_arn_as_it_was_given() {
        let name = parse("flights.v1").expect("a name");
        assert_eq!(name, ("flights.v1".into(), Some("flights.v1".into()), None));
        let text = "arn:aws-us-gov:kinesis:us-gov-west-1:123456789012:stream/flights";
        let arn = parse(text).expect("an ARN");
        assert_eq!(arn, ("flights".into(), None, Some(text.into())));
    }

    #[test]
    fn what_is_neither_is_refused_with_what_it_should_be() {
        let long = "x".repeat(129);
        for text in [
            "",
            "flights/1",
            &long,
            "arn:aws:kinesis:us-east-1:123456789012:stream/",
            "arn:aws:kinesis:us-east-1:123456789012:stream/a/consumer/b:1",
            "arn:aws:sqs:us-east-1:123456789012:flights",
            "arn:aws:kinesis",
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.to_string().contains("`stream`"), "{error}");
        }
    }
}
