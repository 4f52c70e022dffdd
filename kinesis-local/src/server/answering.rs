//! An answer on its way to a socket, piece by piece.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::CancellationToken;

use super::activity::UnderWay;
use super::places::Places;
use crate::answers::{Answers, PIECE_BYTES, Reading, Share, Watched};
use crate::body::{BoxError, ResponseBody};
use crate::route::Place;

/// What an answer has of the server, until the last of its bytes is written.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) under_way: UnderWay,
    pub(super) place: Option<Place>,
    #[expect(dead_code, reason = "held for its drop")]
    pub(super) share: Option<Share>,
    /// It has a share, or its bytes have.
    pub(super) holds_share: bool,
}

/// The body of an answer. What it gives out is held until it is written, however far ahead of that HTTP
/// takes it.
#[derive(Debug)]
pub(super) struct Answering {
    body: ResponseBody,
    /// What was taken from the body and is not yet given out.
    rest: Bytes,
    reading: Arc<Reading>,
    held: Arc<(Held, [Option<Watched>; 2])>,
}

impl Answering {
    /// To cut it is to cancel `stream`, or if that is not enough, `connection`.
    pub(super) fn begin(
        body: ResponseBody,
        held: Held,
        (answers, places): (&Answers, &Places),
        stream: CancellationToken,
        connection: CancellationToken,
    ) -> Self {
        let length = match body.is_made_as_it_is_read() {
            true => None,
            false => body.size_hint().exact(),
        };
        let reading = Arc::new(Reading::begin(length, stream, connection));
        held.under_way.is_answered_by(&reading);
        let has_shares = held.holds_share || body.is_made_as_it_is_read();
        let watched = [
            has_shares.then(|| answers.watch(&reading)),
            held.place.is_some().then(|| places.watch(&reading)),
        ];
        Self {
            body,
            rest: Bytes::new(),
            reading,
            held: Arc::new((held, watched)),
        }
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let answering = self.get_mut();
        if answering.rest.is_empty() {
            let frame = match Pin::new(&mut answering.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Pending => {
                    answering.reading.drained();
                    return Poll::Pending;
                }
                ended => return ended,
            };
            match frame.into_data() {
                Ok(data) => {
                    let held = Arc::clone(&answering.held);
                    answering.rest = answering.reading.hand_over(data, held);
                }
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = answering.rest.len().min(PIECE_BYTES);
        answering.reading.taken(piece);
        // The last piece takes the buffer along, so that it is written when the piece is.
        let piece = match piece == answering.rest.len() {
            true => std::mem::take(&mut answering.rest),
            false => answering.rest.split_to(piece),
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::super::activity::Activity;
    use super::*;

    fn answering(
        activity: &Activity,
        answers: &Answers,
        body: ResponseBody,
        share: Option<Share>,
    ) -> Answering {
        let held = Held {
            under_way: activity.request(),
            place: None,
            holds_share: share.is_some(),
            share,
        };
        let cut = CancellationToken::new();
        let places = Places::new(0);
        Answering::begin(body, held, (answers, &places), cut.clone(), cut)
    }

    #[tokio::test]
    async fn an_answer_is_given_out_in_pieces_and_under_way_until_the_last_is_written() {
        let (activity, answers) = (Activity::begin(), Answers::new());
        let free = answers.free_kib();
        let whole: Bytes = (0..100_000_u32).map(|at| at as u8).collect();
        let share = answers.share_in_time(whole.len()).await.unwrap();
        let body = ResponseBody::full(whole.clone());
        let mut body = answering(&activity, &answers, body, share);
        let mut left = whole.len() as u64;
        let mut pieces = Vec::new();
        while !body.is_end_stream() {
            assert_eq!(body.size_hint().exact(), Some(left));
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE_BYTES);
            left -= piece.len() as u64;
            pieces.push(piece);
        }
        drop(body);
        assert_eq!(pieces.concat(), whole);
        let last = pieces.pop();
        drop(pieces);
        assert!(activity.idle_since().is_none());
        assert!(answers.free_kib() < free);
        drop(last);
        assert!(activity.idle_since().is_some());
        assert_eq!(answers.free_kib(), free);
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscription_with_nothing_to_say_is_not_unread() {
        let (activity, answers) = (Activity::begin(), Answers::new());
        let (sender, body) = ResponseBody::channel(1);
        let mut body = answering(&activity, &answers, body, None);
        sender.send(Bytes::from_static(b"event")).await.unwrap();
        assert!(body.reading.unread_since().is_some());
        let event = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(event, "event");
        let nothing = futures::poll!(body.frame());
        assert!(nothing.is_pending());
        assert!(
            body.reading.unread_since().is_some(),
            "the event is not written"
        );
        drop(event);
        assert_eq!(body.reading.unread_since(), None);
    }
}
