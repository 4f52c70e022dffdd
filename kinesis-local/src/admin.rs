//! The server's own pages, under `/_local`.
//!
//! ```text
//! GET    /_local/health   200 {"status":"ok"} once requests are admitted
//! GET    /_local/faults   200 the fault plan, and how often each of its rules fired
//! PUT    /_local/faults   replaces the plan by the body (JSON); 400 says what is wrong with it
//! DELETE /_local/faults   removes the plan
//! GET    /_local/time     200 {"epoch_ms":…,"ahead_ms":…,"virtual":…}
//! POST   /_local/time     {"advance_ms":…} or {"to_epoch_ms":…}: lets time pass; 400 says why not
//! ```
//!
//! Faults never meet these pages.

use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use kinesis_core::Clock;
use serde::Deserialize;

use crate::body::ResponseBody;
use crate::fault::{FaultPlan, Faults};
use crate::local::not_advanced;
use crate::route::refusal;

/// Answers a request for one of the pages.
pub(crate) fn answer(
    head: &Parts,
    body: &[u8],
    faults: &Faults,
    clock: &Clock,
) -> Response<ResponseBody> {
    match head.uri.path() {
        "/_local/health" => match head.method {
            Method::GET | Method::HEAD => page(r#"{"status":"ok"}"#),
            _ => not_allowed("GET"),
        },
        "/_local/faults" => match head.method {
            Method::GET | Method::HEAD => report(faults),
            Method::PUT => match serde_json::from_slice(body) {
                Ok(plan) => replace(faults, plan),
                Err(error) => invalid(&format!("the body is not a fault plan: {error}")),
            },
            Method::DELETE => replace(faults, FaultPlan::default()),
            _ => not_allowed("GET, PUT, DELETE"),
        },
        "/_local/time" => match head.method {
            Method::GET | Method::HEAD => time(clock),
            Method::POST => match serde_json::from_slice(body) {
                Ok(move_to) => pass(clock, move_to),
                Err(error) => invalid(&format!(
                    "the body is neither {{\"advance_ms\":N}} nor {{\"to_epoch_ms\":N}}: {error}"
                )),
            },
            _ => not_allowed("GET, POST"),
        },
        _ => refusal(
            StatusCode::NOT_FOUND,
            "NotFound",
            "there is no such page; /_local/health, /_local/faults and /_local/time are there",
        ),
    }
}

fn replace(faults: &Faults, plan: FaultPlan) -> Response<ResponseBody> {
    match faults.set(plan) {
        Ok(()) => report(faults),
        Err(error) => invalid(&error.to_string()),
    }
}

fn report(faults: &Faults) -> Response<ResponseBody> {
    match faults.report() {
        Ok(report) => page(report),
        Err(error) => {
            tracing::error!(%error, "The fault plan cannot be shown.");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            refusal(status, "InternalFailure", "the plan cannot be shown")
        }
    }
}

/// What the body of `/_local/time` asks for.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pass {
    AdvanceMs(u64),
    ToEpochMs(u64),
}

fn pass(clock: &Clock, asked: Pass) -> Response<ResponseBody> {
    let passed = match asked {
        Pass::AdvanceMs(ms) => clock.advance(Duration::from_millis(ms)),
        Pass::ToEpochMs(ms) => clock.advance_to(ms),
    };
    match passed {
        Ok(()) => time(clock),
        Err(why) => invalid(&not_advanced(why)),
    }
}

fn time(clock: &Clock) -> Response<ResponseBody> {
    page(format!(
        r#"{{"epoch_ms":{},"ahead_ms":{},"virtual":{}}}"#,
        clock.epoch_millis(),
        clock.ahead().as_millis(),
        clock.is_advanceable()
    ))
}

fn invalid(why: &str) -> Response<ResponseBody> {
    refusal(StatusCode::BAD_REQUEST, "InvalidArgument", why)
}

fn not_allowed(methods: &'static str) -> Response<ResponseBody> {
    let why = format!("this page answers {methods}");
    let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", &why);
    let methods = HeaderValue::from_static(methods);
    answer.headers_mut().insert(ALLOW, methods);
    answer
}

fn page(body: impl Into<bytes::Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(body));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
