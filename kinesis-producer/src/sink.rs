//! Many records at a time: a [`futures::Sink`].

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Sink;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

use crate::{DeliveryFuture, Error, ErrorKind, Producer, UserRecord};

/// A [`Sink`] of user records into a producer; see [`Producer::sink`].
///
/// It is ready while the producer has room. Flushing it, and closing it, end when every record that
/// this sink took is resolved; closing it does not close the producer.
///
/// Dropped, it loses the one record that it took and that still waits for room; a flush or a close
/// waits for it. Records that have their room are delivered all the same.
///
/// # Errors
/// A record that was refused or not delivered comes back in an error, from whichever call sees it
/// first. One error tells of one record: the sink goes on working, and the others are delivered.
/// Combinators such as `send_all` and `forward` stop at the first error, with records under way
/// whose outcomes only a later flush of the same sink tells.
#[must_use = "a sink does nothing unless it is given records"]
pub struct RecordSink {
    producer: Producer,
    /// The one record that waits for room.
    accepting: Option<BoxFuture<'static, Result<DeliveryFuture, Error>>>,
    /// No more than the producer lets be outstanding, and those resolved since the last call.
    outcomes: FuturesUnordered<DeliveryFuture>,
}

impl RecordSink {
    pub(crate) fn new(producer: Producer) -> Self {
        Self {
            producer,
            accepting: None,
            outcomes: FuturesUnordered::new(),
        }
    }

    /// Waits until the record taken last has its room.
    fn poll_accepted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(accepting) = &mut self.accepting {
            let accepted = ready!(accepting.as_mut().poll(cx));
            self.accepting = None;
            self.outcomes.push(accepted?);
        }
        Poll::Ready(Ok(()))
    }

    /// Looks at the outcomes that are there; ready when there are no others.
    fn poll_outcomes(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while let Some(outcome) = ready!(self.outcomes.poll_next_unpin(cx)) {
            outcome?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink<UserRecord> for RecordSink {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Poll::Ready(Err(error)) = self.poll_outcomes(cx) {
            return Poll::Ready(Err(error));
        }
        self.poll_accepted(cx)
    }

    /// One that is called before `poll_ready` said so hands the record back, with
    /// [`ErrorKind::Full`].
    fn start_send(mut self: Pin<&mut Self>, record: UserRecord) -> Result<(), Error> {
        if self.accepting.is_some() {
            return Err(self.producer.full(record));
        }
        match self.producer.try_send(record) {
            Ok(outcome) => self.outcomes.push(outcome),
            Err(error) if error.kind() == ErrorKind::Full => {
                let producer = self.producer.clone();
                let Some(record) = error.into_record() else {
                    return Err(Error::stopped());
                };
                let accepting = async move { producer.enqueue(record).await };
                self.accepting = Some(Box::pin(accepting));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_accepted(cx))?;
        self.poll_outcomes(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flush(cx)
    }
}

impl fmt::Debug for RecordSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordSink")
            .field("producer", &self.producer)
            .field("unseen", &self.outcomes.len())
            .finish_non_exhaustive()
    }
}
