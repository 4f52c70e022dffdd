//! What is checked of a request before it reaches its operation, in the service's order.
//!
//! ```text
//! request ids ─ Origin ─ method ─ body there? ─ Content-Type ─ body an object? ─ operation ─ auth
//!                                          ─ an error on purpose?
//! ```
//! Promises: each refusal has the status, body and headers of the service (kinesalite's connection
//! tests, which ran against it). The path is not looked at.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use kinesis_core::Rand;
use tokio_util::sync::CancellationToken;

use super::operation::Operation;
use super::site::{Caller, Principal, Sites};
use super::{CallerLeft, Inner, Reply};
use crate::answers::{Answers, HoldsShare};
use crate::body::ResponseBody;
use crate::fault::{Effects, Told};
use crate::place::{is_account, is_region};
use crate::wire::fault::{Fault, SERIALIZATION};
use crate::wire::read;
use crate::wire::sigv4::Credential;
use crate::wire::{Body, Format};

const JSON: &str = Format::Json.content_type();
const CBOR: &str = Format::Cbor.content_type();
const PLAIN_JSON: &str = "application/json";
const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ID_2: HeaderName = HeaderName::from_static("x-amz-id-2");
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// How long a browser may keep a preflight's answer. Source: service behaviour.
const CORS_MAX_AGE_S: &str = "172800";
const CORS_EXPOSED: &str =
    "x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,Date";

/// Answers one request.
pub(super) async fn answer(sites: &Sites, request: Request<Bytes>) -> Response<ResponseBody> {
    let from_browser = request.headers().contains_key("origin");
    if from_browser && request.method() == Method::OPTIONS {
        return preflight(sites, request.headers());
    }
    let mut response = checked(sites, &request).await;
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, text(&sites.home.rand.uuid()));
    headers.insert(ID_2, text(&id_2(&sites.home.rand)));
    if from_browser {
        headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
        headers.insert(
            "access-control-expose-headers",
            HeaderValue::from_static(CORS_EXPOSED),
        );
    }
    response
}

async fn checked(sites: &Sites, request: &Request<Bytes>) -> Response<ResponseBody> {
    let body = request.body();
    if request.method() != Method::POST {
        return access_denied();
    }
    let target = request
        .headers()
        .get(TARGET)
        .and_then(|target| target.to_str().ok());
    let operation = target.and_then(Operation::from_target);
    let content_type = content_type(request.headers());
    if body.is_empty() {
        let code = match operation {
            Some(_) => SERIALIZATION,
            None => "UnknownOperationException",
        };
        // Only who says JSON is told in JSON.
        let format = match content_type {
            JSON => Format::Json,
            _ => Format::Cbor,
        };
        return fault(format, &Fault::bare(code));
    }
    let format = match content_type {
        JSON => Format::Json,
        CBOR => Format::Cbor,
        PLAIN_JSON => return plain_json(body),
        _ if target.is_none() => return access_denied(),
        _ => {
            return respond(
                StatusCode::NOT_FOUND,
                None,
                "<UnknownOperationException/>\n",
            );
        }
    };
    let body = Body::new(format, body);
    let Some(operation) = operation else {
        let code = if read::is_object(body) {
            "UnknownOperationException"
        } else {
            SERIALIZATION
        };
        return fault(format, &Fault::bare(code));
    };
    if let Err(refusal) = check_auth(request) {
        // A body that does not parse is told before a signature that is missing.
        let refusal = if read::is_object(body) {
            refusal
        } else {
            Fault::bare(SERIALIZATION)
        };
        return fault(format, &refusal);
    }
    if let Some(auth) = &sites.auth {
        let (head, whole) = request.clone().into_parts();
        let now_ms = sites.home.clock.epoch_millis();
        if let Err(refusal) = auth.check("kinesis", &head, Some(&whole), now_ms) {
            let (code, text) = refusal.json();
            return fault(format, &Fault::new(code, text));
        }
    }
    let caller = caller(sites, request.headers(), request.uri().query());
    let faults = request.extensions().get::<Arc<Effects>>();
    if let Some(refusal) = faults.and_then(|faults| faults.refusal.as_ref()) {
        let told = Told {
            operation: &operation.name(),
            account: &caller.account,
            principal: &caller.principal.to_string(),
            now_ms: sites.home.clock.epoch_millis(),
            ..Told::default()
        };
        let mut answer = fault(format, &refusal.fault(told));
        refusal.name_rule(&mut answer);
        return answer;
    }
    let body = Body {
        faults: faults.map(|faults| &faults.entries),
        answers: request.extensions().get::<Answers>(),
        ..body
    };
    let left = request.extensions().get::<CallerLeft>();
    let left = left.map(|left| left.0.clone()).unwrap_or_default();
    match call(sites, operation, caller, left, body).await {
        Ok(Reply::Empty) => respond(StatusCode::OK, Some(format.content_type()), ""),
        Ok(Reply::Answer(body)) => respond(StatusCode::OK, Some(format.content_type()), body),
        Ok(Reply::Shared(body)) => {
            let mut response = respond(StatusCode::OK, Some(format.content_type()), body);
            response.extensions_mut().insert(HoldsShare);
            response
        }
        Ok(Reply::Events(body)) => {
            let mut response = Response::new(body);
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
            response
        }
        Err(refusal) if operation.lists_internal_failure() => fault(format, &refusal),
        Err(refusal) => fault(format, &refusal.common()),
    }
}

/// Carries the operation out where its caller is.
async fn call(
    sites: &Sites,
    operation: Operation,
    caller: Caller,
    left: CancellationToken,
    body: Body<'_>,
) -> Result<Reply, Fault> {
    let site = sites.site_for(&caller.account, &caller.region, operation.creates())?;
    let inner = Inner {
        site,
        operation,
        caller,
        left,
    };
    inner.run(body).await
}

/// Who calls: a user, or else an access key id of 12 digits is an account, as in other emulators; what the
/// signature leaves open or gives oddly is as in the settings.
pub(super) fn caller(sites: &Sites, headers: &HeaderMap, query: Option<&str>) -> Caller {
    let credential = Credential::of(headers, query);
    let named = |part: Option<&str>, home: &Arc<str>| match part {
        Some(part) if *part != **home => Arc::from(part),
        _ => Arc::clone(home),
    };
    let home = &sites.home.place;
    let key = credential.as_ref().map(Credential::access_key);
    let user = sites
        .auth
        .as_ref()
        .and_then(|auth| auth.user(key?))
        .cloned();
    let account = match &user {
        Some(user) => user.account.as_deref(),
        None => key.filter(|key| is_account(key)),
    };
    let account = named(account, &home.account);
    let region = credential.as_ref().and_then(Credential::region);
    Caller {
        region: named(region.filter(|region| is_region(region)), &home.region),
        principal: match user {
            Some(user) => Principal::User(Arc::clone(&account), user),
            None => Principal::Account(Arc::clone(&account)),
        },
        account,
    }
}

/// The answer to a browser that asks whether it may ask.
fn preflight(sites: &Sites, asked: &HeaderMap) -> Response<ResponseBody> {
    let mut response = respond(StatusCode::OK, None, "");
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, text(&sites.home.rand.uuid()));
    headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
    headers.insert(
        "access-control-max-age",
        HeaderValue::from_static(CORS_MAX_AGE_S),
    );
    for (from, to) in [
        (
            "access-control-request-headers",
            "access-control-allow-headers",
        ),
        (
            "access-control-request-method",
            "access-control-allow-methods",
        ),
    ] {
        if let Some(value) = asked.get(from) {
            headers.insert(to, value.clone());
        }
    }
    response
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// A body in plain JSON is never an operation: it is told so in the envelope of that type.
fn plain_json(body: &[u8]) -> Response<ResponseBody> {
    let (status, code) = if read::is_object(Body::new(Format::Json, body)) {
        (StatusCode::NOT_FOUND, "UnknownOperationException")
    } else {
        (StatusCode::BAD_REQUEST, SERIALIZATION)
    };
    let envelope =
        format!(r#"{{"Output":{{"__type":"com.amazon.coral.service#{code}"}},"Version":"1.0"}}"#);
    respond(status, Some(PLAIN_JSON), envelope)
}

fn access_denied() -> Response<ResponseBody> {
    const BODY: &str = "<AccessDeniedException>\n  <Message>Unable to determine service/operation \
                        name to be authorized</Message>\n</AccessDeniedException>\n";
    respond(StatusCode::FORBIDDEN, None, BODY)
}

/// The shape of the signature; the signature itself is checked if there are users.
fn check_auth(request: &Request<Bytes>) -> Result<(), Fault> {
    let headers = request.headers();
    let header = headers
        .get("authorization")
        .map(|value| value.to_str().unwrap_or_default());
    let query = request.uri().query().unwrap_or_default();
    let in_query = |name: &str| {
        query
            .split('&')
            .any(|pair| pair.split('=').next().is_some_and(|key| key == name))
    };
    match (header, in_query("X-Amz-Algorithm")) {
        (Some(_), true) => Err(Fault::new(
            "InvalidSignatureException",
            "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP \
             header.",
        )),
        (None, false) => Err(Fault::new(
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        )),
        (Some(header), false) => {
            let dated = headers.contains_key("x-amz-date") || headers.contains_key("date");
            check_header(header, dated)
        }
        (None, true) => check_query(in_query),
    }
}

fn check_header(header: &str, dated: bool) -> Result<(), Fault> {
    let mut missing = String::new();
    for name in ["Credential", "Signature", "SignedHeaders"] {
        let there = header.split([' ', ',']).any(|part| {
            part.split_once('=')
                .is_some_and(|(key, value)| key == name && !value.is_empty())
        });
        if !there {
            missing.push_str(&format!(
                "Authorization header requires '{name}' parameter. "
            ));
        }
    }
    if !dated {
        missing.push_str(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ",
        );
    }
    if missing.is_empty() {
        return Ok(());
    }
    // The service repeats the header here; ours keeps credentials out of its answers.
    let scheme = header.split(' ').next().unwrap_or_default();
    Err(Fault::new(
        "IncompleteSignatureException",
        format!("{missing}Authorization={scheme}"),
    ))
}

fn check_query(in_query: impl Fn(&str) -> bool) -> Result<(), Fault> {
    let mut missing = String::new();
    for name in [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
        "X-Amz-Date",
    ] {
        if !in_query(name) {
            missing.push_str(&format!(
                "AWS query-string parameters must include '{name}'. "
            ));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Fault::new(
        "IncompleteSignatureException",
        format!("{missing}Re-examine the query-string parameters."),
    ))
}

fn fault(format: Format, fault: &Fault) -> Response<ResponseBody> {
    respond(
        fault.status,
        Some(format.content_type()),
        fault.body(format),
    )
}

fn respond(
    status: StatusCode,
    content_type: Option<&'static str>,
    body: impl Into<Bytes>,
) -> Response<ResponseBody> {
    let body = body.into();
    // Said here because HTTP/2 would leave it out where there is no body.
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length);
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Bytes in an extended request id. Source: the service's are 64 to 80.
const ID_2_BYTES: usize = 64;

fn id_2(rand: &Rand) -> String {
    let mut state = rand.next_u64();
    let mut bytes = [0; ID_2_BYTES];
    for chunk in bytes.chunks_exact_mut(8) {
        // Weyl steps through a mixer: this only has to look different each time.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    base64_simd::STANDARD.encode_to_string(bytes)
}
