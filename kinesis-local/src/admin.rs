//! This server's own pages, under `/_local/`.
//!
//! ```text
//! GET /_local/health   200 {"status":"ok"} once requests are admitted
//! ```
//!
//! Deliberately absent: anything that changes state.

use http::request::Parts;
use http::{Method, Response, StatusCode};

use crate::body::ResponseBody;
use crate::route::refusal;

/// Answers a request for one of the pages.
pub(crate) fn answer(head: &Parts) -> Response<ResponseBody> {
    let readable = matches!(head.method, Method::GET | Method::HEAD);
    match head.uri.path() {
        "/_local/health" if readable => health(),
        "/_local/health" => refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "this page can only be read: use GET",
        ),
        _ => refusal(
            StatusCode::NOT_FOUND,
            "NotFound",
            "there is no such page; /_local/health is one",
        ),
    }
}

fn health() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(r#"{"status":"ok"}"#));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}
