//! An answer of `GetRecords` that is larger than expected waits in its HTTP body.
//!
//! ```text
//! head ─▶ Content-Length: more than was reserved? ─▶ asked(payload) ─▶ exchanged in the budget ─▶ open() ─▶ body
//! ```
//!
//! How many records are asked for goes by the size of those before them, and records may grow a
//! thousandfold from one answer to the next. What an answer has in its body is not read before there is
//! room for all of it, so growing records do not take what is buffered above the budget. Meanwhile the
//! connection holds what its windows hold.
//!
//! An answer whose head does not say how long it is passes: the service always says so.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextMut;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use kinesis_core::limits;

use super::Gate;
use crate::error::BoxError;

/// Puts the gate into the way of an answer that is larger than the room for it.
#[derive(Clone, Debug)]
pub(crate) struct Doorkeeper {
    pub(crate) gate: Arc<Gate>,
    /// Bytes that were reserved: for payload, keys and what is around them.
    pub(crate) room: usize,
}

impl Intercept for Doorkeeper {
    fn name(&self) -> &'static str {
        "Doorkeeper"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if response.status().is_success() {
            self.hold(response.body_mut());
        }
        Ok(())
    }
}

impl Doorkeeper {
    /// Lets the body wait if it is larger than the room.
    fn hold(&self, body: &mut SdkBody) {
        let Some(bytes) = body.content_length().map(bytes_of_body) else {
            return;
        };
        if bytes > self.room {
            let inner = std::mem::replace(body, SdkBody::taken());
            self.gate.ask(bytes);
            let gate = Arc::clone(&self.gate);
            *body = SdkBody::from_body_1_x(WaitingBody { inner, gate });
        }
    }
}

/// Bytes that an answer takes whose body has `length` bytes: the payload is in base64, four characters
/// for three bytes. What is around the records counts as if it were payload, as it does in what is
/// reserved; of the largest answers it does not, which have no more payload than this.
fn bytes_of_body(length: u64) -> usize {
    let bytes = usize::try_from(length / 4 * 3).unwrap_or(usize::MAX);
    bytes.min(limits::GET_RECORDS_MAX_BYTES)
}

/// The body of an answer, none of which is read before its gate is open.
struct WaitingBody {
    inner: SdkBody,
    gate: Arc<Gate>,
}

impl Body for WaitingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        ready!(self.gate.poll_open(cx));
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;
