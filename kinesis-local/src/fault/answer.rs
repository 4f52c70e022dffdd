//! How injected errors look on the wire of each service, and answers that break half-way.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response};
use http_body::{Frame, SizeHint};

use super::machine::{Cut, Refusal, on_purpose};
use super::plan::FaultService;
use super::words::{self, Told};
use crate::body::{BoxError, ResponseBody};
use crate::wire::fault::Fault;

/// The namespace of DynamoDB's error codes.
const DYNAMODB: &str = "com.amazonaws.dynamodb.v20120810#";

/// Names the rule that an answer comes from.
const RULE: HeaderName = HeaderName::from_static("x-kinesis-local-fault");

impl Refusal {
    /// The refusal of a request to Kinesis, with what of it the call itself does not tell.
    pub(crate) fn fault(&self, told: Told<'_>) -> Fault {
        let told = Told {
            stream: self.call.streams.first().map(String::as_str),
            shard: self.call.shards.first().map(String::as_str),
            consumer_arn: self.call.consumer_arn.as_deref(),
            iterator: self.call.iterator.as_ref(),
            ..told
        };
        let text = self.message.clone();
        let text = text.or_else(|| words::of_kinesis(&self.code, &told));
        Fault {
            status: self.status,
            code: Cow::Owned(self.code.clone()),
            message: Some(text.unwrap_or_else(|| on_purpose(&self.rule))),
        }
    }

    /// Says in the answer which rule it comes from, because its text may be the service's.
    pub(crate) fn name_rule(&self, answer: &mut Response<ResponseBody>) {
        if let Ok(rule) = HeaderValue::from_str(&self.rule) {
            answer.headers_mut().insert(RULE, rule);
        }
    }

    /// The answer of DynamoDB or S3.
    #[cfg_attr(
        not(any(test, feature = "dynamodb", feature = "s3")),
        expect(dead_code, reason = "this build leaves out both")
    )]
    pub(crate) fn response(&self, service: FaultService) -> Response<ResponseBody> {
        let code = &*self.code;
        let message = match (&self.message, words::of_store(service, code)) {
            (Some(message), _) => message.clone(),
            (None, Some(usual)) => usual.to_owned(),
            (None, None) => on_purpose(&self.rule),
        };
        let (kind, body) = match service {
            FaultService::S3 => ("application/xml", xml(code, &message)),
            FaultService::DynamoDb | FaultService::Kinesis => {
                let namespace = if code.contains('#') { "" } else { DYNAMODB };
                let code = format!("{namespace}{code}");
                let body = serde_json::json!({ "__type": code, "message": message });
                ("application/x-amz-json-1.0", body.to_string())
            }
        };
        let mut response = Response::new(ResponseBody::full(body));
        *response.status_mut() = self.status;
        let kind = HeaderValue::from_static(kind);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        self.name_rule(&mut response);
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

    /// The answer that breaks.
    pub(crate) fn inner(&self) -> &ResponseBody {
        &self.inner
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
    use http::StatusCode;
    use http_body_util::BodyExt as _;

    use super::super::call::Call;
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
        let refusal = Refusal {
            rule: "slow".to_owned(),
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "SlowDown".to_owned(),
            message: Some("a < b & c".to_owned()),
            call: Call::default(),
        };
        let response = refusal.response(FaultService::S3);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["x-kinesis-local-fault"], "slow");
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
