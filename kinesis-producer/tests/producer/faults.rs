//! An SDK HTTP client that fails PutRecords by script and passes everything else through.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use kinesis_local::InProcessClient;
use serde_json::{Value, json};

/// What happens to one PutRecords request instead of the plain thing.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing: the request passes.
    Pass,
    /// Answered with this status and error code; nothing is stored.
    Refuse(u16, &'static str),
    /// Only every other record is stored; the rest fails with this code.
    RefuseHalf(&'static str),
    /// Stored, but the connection breaks before the answer.
    LoseAnswer,
    /// Stored, but the answer lacks its last entry.
    ShortAnswer,
    /// Never answered.
    Hang,
}

#[derive(Debug, Default)]
struct Script {
    next: VecDeque<Fault>,
    afterwards: Option<Fault>,
    /// How many records each PutRecords request had.
    requests: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    inner: InProcessClient,
    script: Arc<Mutex<Script>>,
}

impl Faulty {
    pub(crate) fn new(inner: InProcessClient) -> Self {
        Self {
            inner,
            script: Arc::default(),
        }
    }

    /// The next requests meet these faults; those after them pass.
    pub(crate) fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script().next.extend(faults);
    }

    /// From now on every request meets this fault.
    pub(crate) fn always(&self, fault: Fault) {
        self.script().afterwards = Some(fault);
    }

    /// How many records each PutRecords request had so far.
    pub(crate) fn requests(&self) -> Vec<usize> {
        self.script().requests.clone()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("no panic while it is held")
    }

    fn fault(&self, records: usize) -> Fault {
        let mut script = self.script();
        script.requests.push(records);
        let afterwards = script.afterwards.clone().unwrap_or(Fault::Pass);
        script.next.pop_front().unwrap_or(afterwards)
    }

    async fn put_records(self, mut request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let body = request.body().bytes().expect("a whole body");
        let mut body: Value = serde_json::from_slice(body).expect("JSON");
        let records = body["Records"].as_array().expect("records").clone();
        match self.fault(records.len()) {
            Fault::Pass => self.inner.call(request).await,
            Fault::Refuse(status, code) => Ok(answer(status, &json!({ "__type": code }))),
            Fault::Hang => std::future::pending().await,
            Fault::LoseAnswer => {
                self.inner.call(request).await?;
                Err(ConnectorError::io("the connection broke".into()))
            }
            Fault::ShortAnswer => {
                let mut stored = json_of(self.inner.call(request).await?).await;
                stored["Records"].as_array_mut().expect("records").pop();
                Ok(answer(200, &stored))
            }
            Fault::RefuseHalf(code) => {
                let kept: Vec<_> = records.iter().skip(1).step_by(2).cloned().collect();
                let mut entries = Vec::new();
                if !kept.is_empty() {
                    body["Records"] = kept.into();
                    *request.body_mut() = SdkBody::from(body.to_string());
                    let length = request.body().content_length().expect("known");
                    request
                        .headers_mut()
                        .insert("content-length", length.to_string());
                    let stored = json_of(self.inner.call(request).await?).await;
                    entries = stored["Records"].as_array().expect("records").clone();
                }
                let mut stored = entries.into_iter();
                let merged = (0..records.len()).map(|index| {
                    let refused = json!({ "ErrorCode": code, "ErrorMessage": "by script" });
                    if index % 2 == 0 {
                        refused
                    } else {
                        stored.next().expect("an answer")
                    }
                });
                Ok(answer(
                    200,
                    &json!({ "Records": merged.collect::<Vec<_>>() }),
                ))
            }
        }
    }
}

async fn json_of(response: HttpResponse) -> Value {
    let body = ByteStream::new(response.into_body())
        .collect()
        .await
        .expect("a body");
    serde_json::from_slice(&body.into_bytes()).expect("JSON")
}

fn answer(status: u16, body: &Value) -> HttpResponse {
    let status = status.try_into().expect("a status");
    HttpResponse::new(status, SdkBody::from(body.to_string()))
}

impl HttpConnector for Faulty {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        if target.ends_with(".PutRecords") {
            HttpConnectorFuture::new(self.clone().put_records(request))
        } else {
            self.inner.call(request)
        }
    }
}

impl HttpClient for Faulty {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
