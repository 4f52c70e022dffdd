//! The tasks of HTTP/2's streams: each can be cut without its connection.

use std::future::Future;

use hyper::rt::Executor;
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    /// Cancelled: the stream that the present task answers is reset.
    static CUT: CancellationToken;
}

/// Runs them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let cut = CancellationToken::new();
        tokio::spawn(CUT.scope(cut.clone(), async move {
            drop(cut.run_until_cancelled(stream).await);
        }));
    }
}

/// What resets the stream that the present task answers; `None`: it answers none, as with HTTP/1.1.
pub(super) fn cut() -> Option<CancellationToken> {
    CUT.try_with(CancellationToken::clone).ok()
}
