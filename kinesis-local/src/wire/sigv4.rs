//! Signatures of version 4: who signed a request, and for where.
//!
//! ```text
//! Authorization: AWS4-HMAC-SHA256 Credential=AKID/20261123/us-east-1/kinesis/aws4_request, …
//! ?X-Amz-Credential=AKID%2F20261123%2Fus-east-1%2Fkinesis%2Faws4_request&…
//! ```
//! Deliberately absent: the signature itself is not checked.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// What ends every credential scope.
const SCOPE_END: &str = "aws4_request";

/// The credential of a signature: access key id and scope.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Credential<'a> {
    text: Cow<'a, str>,
}

impl<'a> Credential<'a> {
    /// The credential of a signed request, in its header or its query; `None` for an unsigned one,
    /// and for one signed with version 2, which has no scope.
    pub(crate) fn of(headers: &'a HeaderMap, query: Option<&'a str>) -> Option<Self> {
        let header = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let text = if let Some(header) = header {
            let (_, credential) = header.split_once("Credential=")?;
            Cow::Borrowed(credential.split([',', ' ']).next()?)
        } else {
            let credential = query?
                .split('&')
                .find_map(|parameter| parameter.strip_prefix("X-Amz-Credential="))?;
            if credential.contains('/') {
                Cow::Borrowed(credential)
            } else {
                Cow::Owned(credential.replace("%2F", "/").replace("%2f", "/"))
            }
        };
        let credential = Self { text };
        (credential.nth_last(0)? == SCOPE_END).then_some(credential)
    }

    /// May hold slashes itself.
    pub(crate) fn access_key(&self) -> &str {
        self.text.rsplitn(5, '/').nth(4).unwrap_or_default()
    }

    pub(crate) fn region(&self) -> Option<&str> {
        self.nth_last(2)
    }

    pub(crate) fn service(&self) -> Option<&str> {
        self.nth_last(1)
    }

    fn nth_last(&self, part: usize) -> Option<&str> {
        self.text.rsplit('/').nth(part)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn header(credential: &str) -> HeaderMap {
        let value =
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=00ff");
        let value = HeaderValue::from_str(&value).unwrap();
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    #[test]
    fn a_credential_is_read_from_the_header_and_from_the_query() {
        let headers = header("AKID/20261123/eu-west-1/kinesis/aws4_request");
        let none = HeaderMap::new();
        let in_header = Credential::of(&headers, None).unwrap();
        for query in [
            "a=b&X-Amz-Credential=AKID%2F20261123%2Feu-west-1%2Fkinesis%2Faws4_request&c=d",
            "X-Amz-Credential=AKID/20261123/eu-west-1/kinesis/aws4_request",
        ] {
            assert_eq!(Credential::of(&none, Some(query)).unwrap(), in_header);
        }
        assert_eq!(in_header.access_key(), "AKID");
        assert_eq!(in_header.region(), Some("eu-west-1"));
        assert_eq!(in_header.service(), Some("kinesis"));
    }

    #[test]
    fn an_odd_credential_gives_what_it_has() {
        let headers = header("a/b/20261123/eu-west-1/kinesis/aws4_request");
        assert_eq!(Credential::of(&headers, None).unwrap().access_key(), "a/b");
        let headers = header("kinesis/aws4_request");
        let short = Credential::of(&headers, None).unwrap();
        assert_eq!((short.access_key(), short.region()), ("", None));
        assert_eq!(Credential::of(&header("AKID"), None), None);
        assert_eq!(Credential::of(&HeaderMap::new(), Some("a=b")), None);
    }
}
