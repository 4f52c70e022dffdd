//! The canonical form of a request: what both sides sign.
//!
//! ```text
//! method \n path \n query, sorted \n header:value \n … \n\n names of the headers \n payload hash
//! ```
//! Source: "Create a signed AWS API request", IAM user guide.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::request::Parts;

/// How a service writes the path of a request.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Path {
    /// Encoded once more than it is sent, without its dots and doubled slashes.
    Normalized,
    /// S3: as it is sent, whatever it is.
    AsSent,
}

/// The canonical request. Names of headers that are not there count as empty.
pub(super) fn request(
    head: &Parts,
    path: Path,
    signed_headers: &str,
    payload_hash: &str,
) -> String {
    let mut text = format!("{}\n", head.method);
    match path {
        Path::Normalized => encode(&normalized(head.uri.path()), true, &mut text),
        Path::AsSent => encode(&decode(head.uri.path()), true, &mut text),
    }
    text.push('\n');
    text.push_str(&query(head.uri.query().unwrap_or_default()));
    text.push('\n');
    for name in signed_headers.split(';') {
        text.push_str(name);
        text.push(':');
        text.push_str(&header(head, name));
        text.push('\n');
    }
    // A String takes whatever is written to it.
    let written = write!(text, "\n{signed_headers}\n{payload_hash}");
    if written.is_err() {
        text.clear();
    }
    text
}

/// A parameter of the query, decoded.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key != name {
            return None;
        }
        if !value.contains('%') {
            return Some(Cow::Borrowed(value));
        }
        String::from_utf8(decode(value)).ok().map(Cow::Owned)
    })
}

/// The values of a header, trimmed and joined; HTTP/2 has the host in the address.
fn header(head: &Parts, name: &str) -> String {
    let mut values = Vec::new();
    for value in head.headers.get_all(name) {
        let value = String::from_utf8_lossy(value.as_bytes());
        let words: Vec<&str> = value.split(' ').filter(|word| !word.is_empty()).collect();
        values.push(words.join(" "));
    }
    if values.is_empty() && name == "host" {
        return head
            .uri
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
    }
    values.join(",")
}

/// The parameters in the order of their encoded names and values, without the signature.
fn query(query: &str) -> String {
    let encoded = |text: &str| {
        let mut out = String::new();
        encode(&decode(text), false, &mut out);
        out
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| *name != "X-Amz-Signature")
        .map(|(name, value)| (encoded(name), encoded(value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// The path without `.`, `..` and empty segments.
fn normalized(path: &str) -> Vec<u8> {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut text = format!("/{}", segments.join("/"));
    let is_folder = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    if is_folder && text.len() > 1 {
        text.push('/');
    }
    text.into_bytes()
}

/// Undoes percent-encoding; what is no code stays as it is.
fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| {
        bytes
            .get(at)
            .and_then(|&byte| char::from(byte).to_digit(16))
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%'
            && let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2))
        {
            out.push((high * 16 + low) as u8);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

/// Percent-encodes all but the unreserved characters.
fn encode(bytes: &[u8], keep_slash: bool, out: &mut String) {
    const HEX: [u8; 16] = *b"0123456789ABCDEF";
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (keep_slash && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}
