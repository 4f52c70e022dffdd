//! Admission of events into memory: the body of an event stream that is read only as far as there
//! is room.
//!
//! ```text
//! socket ─▶ GatedBody ─▶ SDK's decoder ─▶ event
//!             │ u32 length of the next frame: more than a control frame?
//!             └ asked(length) ─▶ fetch task reserves it in the budget ─▶ open() ─▶ the frame passes
//! ```
//!
//! An event says how long it is in its first four bytes. The body lets those through, then holds
//! the rest back until the task that reads has reserved that much. A shard that waits for its next
//! event therefore holds nothing of the budget, and one that has no room holds one chunk of the
//! transport (an HTTP/2 frame) and no more: the transport's window does the rest.
//!
//! Frames of at most [`FREE_FRAME_BYTES`] pass at any time: the opening of the stream, which the
//! SDK waits for before anybody can reserve, signs of life and exceptions.
//!
//! An answer of `GetRecords` says its length in its head; one that is larger than what was reserved for
//! it waits in the same way, as a whole ([`answer`]).
//!
//! Deliberately absent: decoding, checksums; both are the SDK's.

pub(crate) mod answer;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextMut;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::Notify;

use crate::error::BoxError;

/// Frames up to this length pass without a reservation. Source: none, reasonable default: a sign of
/// life takes about 300 bytes.
pub(crate) const FREE_FRAME_BYTES: usize = 4 * 1024;

/// A longer frame is not one. Source: the event-stream encoding's largest message, 24 MiB.
const FRAME_BYTES_MAX: usize = 24 * 1024 * 1024;

/// A shorter frame is not one. Source: the event-stream encoding: prelude, its checksum, checksum.
const FRAME_BYTES_MIN: usize = 16;

/// Bytes of a frame's length at its begin.
const LENGTH_BYTES: usize = 4;

/// Between the body of one subscription and the task that reads it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Length of the frame that waits.
    waiting: Option<usize>,
    reader: Option<Waker>,
}

impl Gate {
    /// Waits until an event wants in; its length in bytes. Cancel safe: what was not answered by
    /// [`Self::open`] is asked again.
    pub(crate) async fn asked(&self) -> usize {
        loop {
            if let Some(bytes) = self.lock().waiting {
                return bytes;
            }
            self.asked.notified().await;
        }
    }

    /// Lets the event that waits pass.
    pub(crate) fn open(&self) {
        let mut state = self.lock();
        state.waiting = None;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    fn ask(&self, bytes: usize) {
        self.lock().waiting = Some(bytes);
        self.asked.notify_one();
    }

    fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.waiting.is_none() {
            return Poll::Ready(());
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where in the sequence of frames the next byte lies.
#[derive(Clone, Copy, Debug)]
enum At {
    /// In a length of which so many bytes are known.
    Length {
        known: usize,
        bytes: [u8; LENGTH_BYTES],
    },
    /// Behind the length of a frame that waits for room; so many bytes of it are left.
    Held(usize),
    /// Within a frame that may pass; so many bytes of it are left.
    Passing(usize),
}

impl At {
    const BOUNDARY: Self = Self::Length {
        known: 0,
        bytes: [0; LENGTH_BYTES],
    };
}

/// The body of a subscription's answer, read only as far as its gate is open.
pub(crate) struct GatedBody {
    inner: SdkBody,
    gate: Arc<Gate>,
    /// Received and held back.
    ahead: Bytes,
    at: At,
}

impl GatedBody {
    pub(crate) fn new(inner: SdkBody, gate: Arc<Gate>) -> Self {
        Self {
            inner,
            gate,
            ahead: Bytes::new(),
            at: At::BOUNDARY,
        }
    }

    /// The part of what was received that may pass now; empty while a frame is held.
    fn pass(&mut self) -> Result<Bytes, BoxError> {
        match self.at {
            At::Held(_) => Ok(Bytes::new()),
            At::Length { known, mut bytes } => {
                let part = self
                    .ahead
                    .split_to((LENGTH_BYTES - known).min(self.ahead.len()));
                let known_now = known + part.len();
                bytes[known..known_now].copy_from_slice(&part);
                self.at = if known_now < LENGTH_BYTES {
                    At::Length {
                        known: known_now,
                        bytes,
                    }
                } else {
                    self.admit(u32::from_be_bytes(bytes) as usize)?
                };
                Ok(part)
            }
            At::Passing(left) => {
                let part = self.ahead.split_to(left.min(self.ahead.len()));
                self.at = match left - part.len() {
                    0 => At::BOUNDARY,
                    left => At::Passing(left),
                };
                Ok(part)
            }
        }
    }

    fn admit(&self, length: usize) -> Result<At, BoxError> {
        if !(FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&length) {
            return Err("the event stream has a frame of an impossible length".into());
        }
        let left = length - LENGTH_BYTES;
        if length <= FREE_FRAME_BYTES {
            return Ok(At::Passing(left));
        }
        self.gate.ask(length);
        Ok(At::Held(left))
    }
}

impl Body for GatedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let At::Held(left) = self.at {
                if self.gate.poll_open(cx).is_pending() {
                    return Poll::Pending;
                }
                self.at = At::Passing(left);
            }
            if !self.ahead.is_empty() {
                return Poll::Ready(Some(self.pass().map(Frame::data)));
            }
            match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                // Event streams have no trailers.
                Poll::Ready(Some(Ok(frame))) => self.ahead = frame.into_data().unwrap_or_default(),
            }
        }
    }
}

/// Puts the gate into the way of an answer's body.
#[derive(Clone, Debug)]
pub(crate) struct Gatekeeper(pub(crate) Arc<Gate>);

impl Intercept for Gatekeeper {
    fn name(&self) -> &'static str {
        "Gatekeeper"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        // A refusal is not an event stream.
        if response.status().is_success() {
            let body = std::mem::replace(response.body_mut(), SdkBody::taken());
            let gated = GatedBody::new(body, Arc::clone(&self.0));
            *response.body_mut() = SdkBody::from_body_1_x(gated);
        }
        Ok(())
    }
}

impl fmt::Debug for GatedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedBody")
            .field("ahead_bytes", &self.ahead.len())
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
