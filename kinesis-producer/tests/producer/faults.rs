//! An SDK HTTP client that fails PutRecords by script and passes everything else through.

use std::collections::{BTreeMap, VecDeque};
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
    /// The same with a message.
    RefuseSaying(u16, &'static str, &'static str),
    /// Only every other record is stored; the rest fails with this code.
    RefuseHalf(&'static str),
    /// Stored, but the connection breaks before the answer.
    LoseAnswer,
    /// Stored, but the answer lacks its last entry.
    ShortAnswer,
    /// Never answered.
    Hang,
    /// Stored, and answered once [`Faulty::answer`] says so.
    AnswerLate,
}

/// The partition key of a record that the service does not like.
pub(crate) const POISON: &str = "poison";

/// Whether the service says which record of a request it does not like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Named {
    Yes,
    No,
}

#[derive(Debug, Default)]
struct Script {
    next: VecDeque<Fault>,
    afterwards: Option<Fault>,
    /// Operations that are refused, each with an error code.
    refused: Vec<(&'static str, &'static str)>,
    /// Members of the answer to DescribeStreamSummary that are other than the stream's.
    summary: Vec<(&'static str, Value)>,
    /// Whether a request with a record of the key [`POISON`] is refused, and if so with its place.
    poison: Option<Named>,
    /// Members of aggregates count there too.
    poison_inside: bool,
    /// Records are put into any shard, in turn.
    scatter: bool,
    /// Where each request went.
    hosts: Vec<(String, String)>,
    /// How many requests each operation had.
    calls: BTreeMap<String, usize>,
    /// How many records each PutRecords request had.
    requests: Vec<usize>,
    /// Data and keys of each PutRecords request.
    bytes: Vec<usize>,
    /// Shards are listed one a page.
    paged: bool,
    /// Pages of listings before the one that is refused next.
    refused_page: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    inner: InProcessClient,
    script: Arc<Mutex<Script>>,
    late: Arc<tokio::sync::Notify>,
}

impl Faulty {
    pub(crate) fn new(inner: InProcessClient) -> Self {
        Self {
            inner,
            script: Arc::default(),
            late: Arc::default(),
        }
    }

    /// Lets one late answer go.
    pub(crate) fn answer(&self) {
        self.late.notify_one();
    }

    /// The next requests meet these faults; those after them pass.
    pub(crate) fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script().next.extend(faults);
    }

    /// From now on every request meets this fault.
    pub(crate) fn always(&self, fault: Fault) {
        self.script().afterwards = Some(fault);
    }

    /// From now on this operation is refused with this error code.
    pub(crate) fn refuse(&self, operation: &'static str, code: &'static str) {
        self.script().refused.push((operation, code));
    }

    /// From now on this operation is not refused any more.
    pub(crate) fn allow(&self, operation: &'static str) {
        self.script().refused.retain(|(name, _)| *name != operation);
    }

    /// From now on DescribeStreamSummary answers with this in place of what it has.
    pub(crate) fn describe(&self, member: &'static str, value: Value) {
        self.script().summary.push((member, value));
    }

    /// From now on requests with a record of the key [`POISON`] are refused.
    pub(crate) fn poison(&self, named: Named) {
        self.script().poison = Some(named);
    }

    /// The same, but the key may be a member's of an aggregate.
    pub(crate) fn poison_inside(&self, named: Named) {
        self.poison(named);
        self.script().poison_inside = true;
    }

    /// From now on the service puts records into any shard, as a stream with AUTO distribution.
    pub(crate) fn scatter(&self) {
        self.script().scatter = true;
        self.describe("RecordDistributionStrategy", json!("AUTO"));
    }

    /// From now on records are put where their keys belong again.
    pub(crate) fn gather(&self) {
        self.script().scatter = false;
        self.describe("RecordDistributionStrategy", json!("UNIFORM"));
    }

    /// The operation and host of each request so far.
    pub(crate) fn hosts(&self) -> Vec<(String, String)> {
        self.script().hosts.clone()
    }

    /// How many requests this operation had so far.
    pub(crate) fn calls(&self, operation: &str) -> usize {
        self.script().calls.get(operation).copied().unwrap_or(0)
    }

    /// Data and keys of each PutRecords request so far.
    pub(crate) fn bytes(&self) -> Vec<usize> {
        self.script().bytes.clone()
    }

    /// The listing of the shards goes one shard a page, and this page of the next one, from 0, is
    /// refused.
    pub(crate) fn refuse_page(&self, page: usize) {
        let mut script = self.script();
        (script.paged, script.refused_page) = (true, Some(page));
    }

    /// The listing of the shards is as it was.
    pub(crate) fn list_whole(&self) {
        self.script().paged = false;
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
        let poison = self.script().poison;
        let bytes = records.iter().map(|record| {
            let text = |member: &str| record[member].as_str().unwrap_or_default().to_owned();
            let data = text("Data");
            data.len() / 4 * 3 - data.matches('=').count() + text("PartitionKey").len()
        });
        self.script().bytes.push(bytes.sum());
        let scatter = self.script().scatter;
        let guilty = records.iter().position(|record| {
            // Members are not encoded, so their keys stand in the data as they are.
            let inside = || {
                let data = record["Data"].as_str().unwrap_or_default();
                let data = aws_smithy_types::base64::decode(data).expect("base64");
                data.windows(POISON.len())
                    .any(|part| part == POISON.as_bytes())
            };
            record["PartitionKey"] == POISON || self.script().poison_inside && inside()
        });
        if let (Some(named), Some(at)) = (poison, guilty) {
            self.script().requests.push(records.len());
            let place = match named {
                Named::Yes => format!("records.{}.member.data", at + 1),
                Named::No => "data".to_owned(),
            };
            let message = format!(
                "1 validation error detected: Value 'java.nio.HeapByteBuffer' at '{place}' failed \
                 to satisfy constraint: Member must have length less than or equal to 1048576"
            );
            let body = json!({ "__type": "ValidationException", "message": message });
            return Ok(answer(400, &body));
        }
        if scatter {
            let so_far: usize = self.requests().iter().sum();
            for (at, record) in body["Records"]
                .as_array_mut()
                .into_iter()
                .flatten()
                .enumerate()
            {
                let part = u128::MAX / 7 * ((so_far + at) as u128 % 7);
                record["ExplicitHashKey"] = json!(part.to_string());
            }
            set_body(&mut request, &body);
        }
        match self.fault(records.len()) {
            Fault::Pass => self.inner.call(request).await,
            Fault::Refuse(status, code) => Ok(answer(status, &json!({ "__type": code }))),
            Fault::RefuseSaying(status, code, message) => Ok(answer(
                status,
                &json!({ "__type": code, "message": message }),
            )),
            Fault::Hang => std::future::pending().await,
            Fault::AnswerLate => {
                let stored = self.inner.call(request).await;
                self.late.notified().await;
                stored
            }
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
                    set_body(&mut request, &body);
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

fn set_body(request: &mut HttpRequest, body: &Value) {
    *request.body_mut() = SdkBody::from(body.to_string());
    let length = request.body().content_length().expect("known");
    request
        .headers_mut()
        .insert("content-length", length.to_string());
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
        let operation = target.rsplit('.').next().unwrap_or_default();
        let mut script = self.script();
        *script.calls.entry(operation.to_owned()).or_default() += 1;
        let host = request.uri().split('/').nth(2).unwrap_or_default();
        script.hosts.push((operation.to_owned(), host.to_owned()));
        let refused = script
            .refused
            .iter()
            .find(|(refused, _)| *refused == operation);
        if let Some((_, code)) = refused {
            return HttpConnectorFuture::ready(Ok(answer(400, &json!({ "__type": code }))));
        }
        match operation {
            "PutRecords" => HttpConnectorFuture::new(self.clone().put_records(request)),
            "ListShards" if script.paged => {
                let mut request = request;
                let body = request.body().bytes().expect("a whole body");
                let mut body: Value = serde_json::from_slice(body).expect("JSON");
                body["MaxResults"] = json!(1);
                set_body(&mut request, &body);
                if script.refused_page == Some(0) {
                    script.refused_page = None;
                    let code = json!({ "__type": "ResourceInUseException" });
                    return HttpConnectorFuture::ready(Ok(answer(400, &code)));
                }
                script.refused_page = script.refused_page.map(|page| page - 1);
                self.inner.call(request)
            }
            "DescribeStreamSummary" => {
                let (summary, inner) = (script.summary.clone(), self.inner.clone());
                HttpConnectorFuture::new(async move {
                    let mut body = json_of(inner.call(request).await?).await;
                    for (member, value) in summary {
                        body["StreamDescriptionSummary"][member] = value;
                    }
                    Ok(answer(200, &body))
                })
            }
            _ => self.inner.call(request),
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
