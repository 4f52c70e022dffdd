//! The body of a response, on its way to a socket or straight to an SDK client in the same process.
//!
//! Promises: the type is `Send + Sync` (the SDK's `SdkBody` asks for both), it never copies the
//! bytes it was given, and a streamed body holds at most the capacity that its maker chose.
//!
//! ```text
//! Full    one buffer, its exact length known          every JSON or CBOR answer
//! Frames  a bounded channel; ends when the sender     SubscribeToShard: one message per frame
//!         is dropped, and the sender's `closed()`
//!         ends when the reader went away
//! Cut     one of the others, and not all of it         faults on purpose
//! Object  what the S3 service streams from a file,    GetObject
//!         or XML in one buffer                        all else of S3
//! ```
//!
//! Deliberately absent: trailers. None of the three protocols answers with them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

use crate::fault::CutBody;

/// Any error, boxed: what a body that is read from a file can fail with.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a response; see the module's doc for the kinds.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// One buffer; empty once it was read.
    Full(Bytes),
    /// Frames from a channel, until its sender is dropped.
    Frames(mpsc::Receiver<Bytes>),
    /// An answer of the S3 service.
    #[cfg(feature = "s3")]
    Object(Box<s3s::Body>),
    /// An answer that breaks half-way, on purpose.
    Cut(Box<CutBody>),
}

impl ResponseBody {
    /// A body of one buffer.
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(bytes.into())
    }

    /// A body that is fed through the sender, at most `capacity` frames ahead of the reader.
    ///
    /// Dropping the sender ends the body; `Sender::closed` tells that the reader went away.
    pub(crate) fn channel(capacity: usize) -> (mpsc::Sender<Bytes>, Self) {
        let (sender, receiver) = mpsc::channel(capacity);
        (sender, Self::Frames(receiver))
    }

    /// The bytes that it has in memory from the start.
    pub(crate) fn in_memory(&self) -> usize {
        match self {
            Self::Full(bytes) => bytes.len(),
            Self::Cut(body) => body.inner().in_memory(),
            Self::Frames(_) => 0,
            // All but an object is XML that was made whole: a list of a thousand long keys has 1.2 MB.
            #[cfg(feature = "s3")]
            Self::Object(body) => body.bytes().map_or(0, |bytes| bytes.len()),
        }
    }

    /// Whether more of it is made while it is read, ahead of its reader.
    pub(crate) fn is_made_as_it_is_read(&self) -> bool {
        match self {
            Self::Frames(_) => true,
            Self::Cut(body) => body.inner().is_made_as_it_is_read(),
            Self::Full(_) => false,
            #[cfg(feature = "s3")]
            Self::Object(_) => false,
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Frames(frames) => frames
                .poll_recv(context)
                .map(|frame| frame.map(|bytes| Ok(Frame::data(bytes)))),
            #[cfg(feature = "s3")]
            Self::Object(body) => Pin::new(body.as_mut()).poll_frame(context),
            Self::Cut(body) => Pin::new(body.as_mut()).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Frames(_) | Self::Cut(_) => false,
            #[cfg(feature = "s3")]
            Self::Object(body) => http_body::Body::is_end_stream(body.as_ref()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Frames(_) => SizeHint::default(),
            #[cfg(feature = "s3")]
            Self::Object(body) => http_body::Body::size_hint(body.as_ref()),
            Self::Cut(body) => http_body::Body::size_hint(body.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn a_body_can_be_given_to_the_sdk() {
        fn sync<T: Send + Sync>() {}
        sync::<ResponseBody>();
    }

    #[tokio::test]
    async fn a_full_body_is_read_once_and_knows_its_length() {
        let body = ResponseBody::full("twelve bytes");
        assert_eq!(body.size_hint().exact(), Some(12));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "twelve bytes");
        assert!(ResponseBody::full("").is_end_stream());
    }

    #[tokio::test]
    async fn a_streamed_body_ends_when_its_sender_is_dropped() {
        let (sender, mut body) = ResponseBody::channel(1);
        sender.send(Bytes::from_static(b"one")).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "one");
        drop(sender);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn the_sender_learns_that_the_reader_went_away() {
        let (sender, body) = ResponseBody::channel(1);
        drop(body);
        sender.closed().await;
    }
}
