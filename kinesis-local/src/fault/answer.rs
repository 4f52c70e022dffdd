//! How injected errors look on the wire of each service, and answers that break half-way.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body::{Frame, SizeHint};

use super::machine::{Cut, Refusal};
use super::plan::FaultService;
use crate::body::{BoxError, ResponseBody};
use crate::stream::iterator::ShardIterator;
use crate::wire::Body;
use crate::wire::fault::Fault;
use crate::wire::read::{Text, decode};

/// The namespace of DynamoDB's error codes.
const DYNAMODB: &str = "com.amazonaws.dynamodb.v20120810#";

impl Refusal {
    /// The refusal of a request to Kinesis.
    pub(crate) fn fault(&self, body: Body<'_>, now_ms: u64) -> Fault {
        match self {
            Self::Error {
                status,
                code,
                message,
            } => Fault {
                status: *status,
                code: Cow::Owned(code.clone()),
                message: Some(message.clone()),
            },
            Self::ExpiredIterator => Fault::new("ExpiredIteratorException", expired(body, now_ms)),
        }
    }

    /// The answer of DynamoDB or S3.
    #[cfg_attr(
        not(any(test, feature = "dynamodb", feature = "s3")),
        expect(dead_code, reason = "this build leaves out both")
    )]
    pub(crate) fn response(&self, service: FaultService) -> Response<ResponseBody> {
        let (status, code, message) = match self {
            Self::Error {
                status,
                code,
                message,
            } => (*status, &**code, &**message),
            // Only GetRecords is told this.
            Self::ExpiredIterator => (StatusCode::BAD_REQUEST, "ExpiredIteratorException", ""),
        };
        let (kind, body) = match service {
            FaultService::S3 => ("application/xml", xml(code, message)),
            FaultService::DynamoDb | FaultService::Kinesis => {
                let namespace = if code.contains('#') { "" } else { DYNAMODB };
                let code = format!("{namespace}{code}");
                let body = serde_json::json!({ "__type": code, "message": message });
                ("application/x-amz-json-1.0", body.to_string())
            }
        };
        let mut response = Response::new(ResponseBody::full(body));
        *response.status_mut() = status;
        let kind = HeaderValue::from_static(kind);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

fn xml(code: &str, message: &str) -> String {
    let message = message.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
}

/// What the service says of the iterator in `body` once it has expired.
fn expired(body: Body<'_>, now_ms: u64) -> String {
    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
    struct Request<'a> {
        shard_iterator: Option<Text<'a>>,
    }
    let request: Option<Request<'_>> = decode(body).ok();
    let text = request.and_then(|request| request.shard_iterator);
    let iterator = text.as_deref().and_then(ShardIterator::read);
    match iterator {
        Some(iterator) => iterator.expired_text(now_ms),
        None => "Iterator expired.".to_owned(),
    }
}

/// A body of which only a part comes.
#[derive(Debug)]
pub(crate) struct CutBody {
    inner: ResponseBody,
    /// Frames that still pass whole.
    frames: u64,
    /// Bytes that pass behind them.
    bytes: u64,
    silent: bool,
}

impl CutBody {
    pub(crate) fn new(inner: ResponseBody, cut: Cut) -> Self {
        Self {
            inner,
            // The initial response comes before the first event.
            frames: cut.events.map_or(0, |events| events.saturating_add(1)),
            bytes: cut.bytes,
            silent: cut.silent,
        }
    }
}

impl http_body::Body for CutBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.frames == 0 && self.bytes == 0 {
            if self.silent {
                return Poll::Pending;
            }
            return Poll::Ready(Some(Err(
                io::Error::from(io::ErrorKind::ConnectionReset).into()
            )));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame);
        };
        if self.frames > 0 {
            self.frames -= 1;
            return Poll::Ready(Some(Ok(frame)));
        }
        let Ok(mut data) = frame.into_data() else {
            return Poll::Ready(None);
        };
        let length = usize::try_from(self.bytes).map_or(data.len(), |left| left.min(data.len()));
        self.bytes -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(data.split_to(length)))))
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    /// What comes of five frames of four bytes, and whether it then breaks.
    async fn through(cut: Cut) -> (String, bool) {
        let (sender, body) = ResponseBody::channel(5);
        for frame in ["init", "one.", "two.", "tri.", "four"] {
            sender
                .send(Bytes::from_static(frame.as_bytes()))
                .await
                .unwrap();
        }
        drop(sender);
        let mut body = CutBody::new(body, cut);
        let mut came = String::new();
        loop {
            match body.frame().await {
                Some(Ok(frame)) => {
                    came.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
                }
                Some(Err(_)) => return (came, true),
                None => return (came, false),
            }
        }
    }

    #[tokio::test]
    async fn an_answer_breaks_after_its_events_and_bytes() {
        let cut = |events, bytes| Cut {
            events,
            bytes,
            silent: false,
        };
        let cases = [
            (cut(None, 0), "", true),
            (cut(None, 6), "initon", true),
            (cut(Some(0), 0), "init", true),
            (cut(Some(2), 0), "initone.two.", true),
            (cut(Some(2), 6), "initone.two.tri.fo", true),
            (cut(Some(9), 0), "initone.two.tri.four", false),
        ];
        for (cut, expected, broken) in cases {
            assert_eq!(through(cut).await, (expected.to_owned(), broken), "{cut:?}");
        }
    }

    #[test]
    fn every_service_words_its_errors_its_own_way() {
        let refusal = Refusal::Error {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "SlowDown".to_owned(),
            message: "a < b & c".to_owned(),
        };
        let response = refusal.response(FaultService::S3);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let ResponseBody::Full(body) = response.into_body() else {
            panic!("one buffer")
        };
        assert!(
            body.ends_with(
                b"<Error><Code>SlowDown</Code><Message>a &lt; b &amp; c</Message></Error>"
            )
        );
        let ResponseBody::Full(body) = refusal.response(FaultService::DynamoDb).into_body() else {
            panic!("one buffer")
        };
        assert_eq!(
            body,
            r#"{"__type":"com.amazonaws.dynamodb.v20120810#SlowDown","message":"a < b & c"}"#
        );
    }
}
