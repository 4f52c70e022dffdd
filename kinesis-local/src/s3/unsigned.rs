//! A signed request made into the plain one that it stands for: no signature, no `aws-chunked`.
//!
//! Any credentials are accepted, so the signature carries nothing. What it protected on the way
//! (the payload) is still checked when the client sent a checksum, in front or behind.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Request, Uri};
use http_body::{Body, Frame, SizeHint};

use super::chunked::{Decoder, Malformed};
use super::pace::Pace;
use crate::body::BoxError;

/// Largest payload of a request. Source: S3 quotas (5 GiB for an object in one request or a part).
const PAYLOAD_MAX_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// Why a payload is not read on.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Abandoned {
    #[error("the upload is too slow")]
    TooSlow,
    #[error("the upload is larger than 5 GiB")]
    TooLarge,
}

/// Headers that belong to the signature.
const SIGNATURE_HEADERS: [&str; 4] = [
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
    "x-amz-trailer",
];

/// Query parameters that belong to a presigned URL, in either version of the signature.
const SIGNATURE_PARAMETERS: [&str; 10] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-Content-Sha256",
    "AWSAccessKeyId",
    "Signature",
];

/// The request without its signature, and with its payload as the body.
pub(super) fn plain<B>(request: Request<B>) -> Result<Request<s3s::Body>, Malformed>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (mut head, body) = request.into_parts();
    let decoder = decoder(&head.headers)?;
    if decoder.is_some() {
        let length = head.headers.remove("x-amz-decoded-content-length");
        if let Some(length) = length {
            head.headers.insert(CONTENT_LENGTH, length);
        }
        without_aws_chunked(&mut head.headers);
    }
    head.headers.remove(AUTHORIZATION);
    for name in SIGNATURE_HEADERS {
        head.headers.remove(name);
    }
    head.uri = without_signature(head.uri)?;
    let payload = Payload {
        body: Box::pin(body),
        left: PAYLOAD_MAX_BYTES,
        decoder,
        read: Bytes::new(),
        pace: Pace::begin(),
    };
    Ok(Request::from_parts(
        head,
        s3s::Body::http_body_unsync(payload),
    ))
}

/// What decodes the body, if it is `aws-chunked`.
fn decoder(headers: &HeaderMap) -> Result<Option<Decoder>, Malformed> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let streaming = text("x-amz-content-sha256").is_some_and(|sum| sum.starts_with("STREAMING-"));
    if !streaming {
        return Ok(None);
    }
    let length = text("x-amz-decoded-content-length")
        .and_then(|length| length.parse().ok())
        .ok_or(Malformed::Length)?;
    let trailer = text("x-amz-trailer").map(str::to_ascii_lowercase);
    Ok(Some(Decoder::new(length, trailer.as_deref())))
}

fn without_aws_chunked(headers: &mut HeaderMap) {
    let rest: Vec<&str> = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|coding| !coding.eq_ignore_ascii_case("aws-chunked") && !coding.is_empty())
        .collect();
    let rest = HeaderValue::from_str(&rest.join(", ")).ok();
    headers.remove(CONTENT_ENCODING);
    if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
        headers.insert(CONTENT_ENCODING, rest);
    }
}

fn without_signature(uri: Uri) -> Result<Uri, Malformed> {
    let Some(query) = uri.query() else {
        return Ok(uri);
    };
    let kept: Vec<&str> = query
        .split('&')
        .filter(|parameter| {
            let name = parameter.split('=').next().unwrap_or_default();
            !SIGNATURE_PARAMETERS.contains(&name)
        })
        .collect();
    let path_and_query = match kept.as_slice() {
        [] => uri.path().to_owned(),
        kept => format!("{}?{}", uri.path(), kept.join("&")),
    };
    let mut parts = uri.into_parts();
    parts.path_and_query = path_and_query.parse().ok();
    Uri::from_parts(parts).map_err(|_| Malformed::Framing("the query cannot be read"))
}

/// The payload of a request, as it arrives. Ends in an error if the client is too slow (see [`Pace`]).
struct Payload<B> {
    body: Pin<Box<B>>,
    /// How many bytes may still come.
    left: u64,
    decoder: Option<Decoder>,
    /// What was read and not yet decoded.
    read: Bytes,
    pace: Pace,
}

impl<B> Payload<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.body.as_mut().poll_frame(context) {
            Poll::Ready(frame) => {
                if let Some(Ok(frame)) = &frame {
                    self.pace.came(frame.data_ref().map_or(0, Bytes::len));
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                ready!(self.pace.poll_too_slow(context));
                Poll::Ready(Some(Err(Abandoned::TooSlow.into())))
            }
        }
    }
}

impl<B> Body for Payload<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let payload = self.get_mut();
        loop {
            if let Some(decoder) = &mut payload.decoder
                && let Some(piece) = decoder.next(&mut payload.read)?
            {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let frame = ready!(payload.poll_read(context)).transpose()?;
            let data = frame.map(Frame::into_data);
            if let Some(Ok(data)) = &data {
                payload.left = payload
                    .left
                    .checked_sub(data.len() as u64)
                    .ok_or(Abandoned::TooLarge)?;
            }
            match data {
                Some(Ok(data)) if payload.decoder.is_some() => payload.read = data,
                Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                // Trailers of HTTP itself mean nothing here.
                Some(Err(_)) => {}
                None => {
                    if let Some(decoder) = payload.decoder.take() {
                        decoder.finish()?;
                    }
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.decoder {
            None => self.body.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}
