//! What passes a closed gate, an open one, and in which pieces.

use futures::FutureExt;
use futures::future::poll_fn;

use super::*;

/// A body that arrives in these chunks and then stays open.
struct Chunks(std::collections::VecDeque<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.0.pop_front() {
            Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            None => Poll::Pending,
        }
    }
}

fn frame(length: usize) -> Vec<u8> {
    let mut frame = vec![7; length];
    frame[..4].copy_from_slice(&u32::try_from(length).expect("small").to_be_bytes());
    frame
}

fn gated(bytes: &[u8], chunk: usize) -> (GatedBody, Arc<Gate>) {
    let chunks = bytes.chunks(chunk).map(Bytes::copy_from_slice).collect();
    let gate = Arc::new(Gate::default());
    let body = SdkBody::from_body_1_x(Chunks(chunks));
    (GatedBody::new(body, Arc::clone(&gate)), gate)
}

/// What passes now.
fn passes(body: &mut GatedBody) -> Vec<u8> {
    let mut passed = Vec::new();
    while let Some(Some(frame)) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).now_or_never() {
        passed.extend_from_slice(&frame.expect("no error").into_data().expect("data"));
    }
    passed
}

#[test]
fn small_frames_pass_and_a_large_one_waits_until_the_gate_opens_whatever_the_chunks() {
    let bytes = [
        frame(100),
        frame(FREE_FRAME_BYTES),
        frame(FREE_FRAME_BYTES + 1),
        frame(16),
        frame(50_000),
    ]
    .concat();
    for chunk in [1, 3, 5, 4096, 16_384, 1_000_000] {
        let (mut body, gate) = gated(&bytes, chunk);
        let mut passed = passes(&mut body);
        assert_eq!(passed.len(), 100 + FREE_FRAME_BYTES + 4, "chunk {chunk}");
        let asked = gate.asked().now_or_never();
        assert_eq!(asked, Some(FREE_FRAME_BYTES + 1));
        assert!(passes(&mut body).is_empty(), "still closed");
        gate.open();
        passed.extend(passes(&mut body));
        assert_eq!(gate.asked().now_or_never(), Some(50_000));
        gate.open();
        passed.extend(passes(&mut body));
        assert_eq!(gate.asked().now_or_never(), None);
        assert!(passed == bytes, "chunk {chunk}");
    }
}

#[test]
fn a_length_that_cannot_be_is_an_error_and_asks_for_no_room() {
    for length in [0, 15, u32::MAX] {
        let (mut body, gate) = gated(&length.to_be_bytes(), 4);
        let polled = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never();
        assert!(matches!(polled, Some(Some(Err(_)))), "{length}");
        assert_eq!(gate.asked().now_or_never(), None);
    }
}
