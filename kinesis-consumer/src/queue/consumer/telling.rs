//! Telling the queue what the book says: the requests, and what comes of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::{Instant, timeout};
use tracing::{debug, error, warn};

use super::{CALL_AGAIN, Told, Work};
use crate::error::{Error, ErrorKind};
use crate::metrics;
use crate::queue::book::Tell;
use crate::queue::client::Entry;

/// Failures up to which the wait for an extension grows, because half a timeout is left for it.
/// Source: none, reasonable default; 1.6 s.
const EXTEND_ATTEMPTS_MAX: u32 = 3;

/// The part of the visibility timeout after which telling the queue something is given up and tried
/// again: an extension begins when half of it is left.
/// Source: none, reasonable default: half of what is left, and no longer than the client waits.
const TELL_PART: u32 = 4;

/// Requests that tell the queue something, under way at once. Source: none, reasonable default.
pub(super) const TELLS_AT_ONCE: usize = 8;

impl Work {
    /// Starts the requests that are due.
    pub(super) fn tell(&mut self, now: Instant) {
        if self.stop_by.is_some() && self.running.is_empty() {
            self.book.hurry(now);
        }
        while self.telling.len() < TELLS_AT_ONCE
            && let Some(tell) = self.book.tell(now)
        {
            let (client, arn) = (
                self.consumer.client.clone(),
                Arc::clone(&self.consumer.queue_arn),
            );
            let lane = self.consumer.settings.lane;
            let within = self.consumer.settings.visibility_timeout / TELL_PART;
            self.telling.push(Box::pin(async move {
                let answer = async {
                    match &tell {
                        Tell::Acknowledge(handles) => client.acknowledge(&arn, lane, handles).await,
                        Tell::Extend(handles) | Tell::Hide(handles) => {
                            client.hide(&arn, lane, handles).await
                        }
                    }
                };
                let answer = match timeout(within, answer).await {
                    Ok(answer) => answer,
                    Err(elapsed) => {
                        let text = format!("telling queue {arn} took longer than {within:?}");
                        Err(Error::new(ErrorKind::Unavailable, text).with_source(elapsed))
                    }
                };
                (tell, answer)
            }));
        }
    }

    /// Takes in what came of one.
    pub(super) fn told(&mut self, (tell, answer): Told) {
        let now = self.consumer.clock.now();
        let (failed, failures) = match answer {
            Ok(entries) => self.entries_told(&tell, &entries),
            Err(error) => self.not_told(&tell, error, now),
        };
        for settled in tell.handles().difference(&failed) {
            self.trouble.settled(settled);
        }
        let mut at = now;
        if !failed.is_empty() {
            let urgent = matches!(tell, Tell::Extend(_));
            let most = if urgent {
                EXTEND_ATTEMPTS_MAX
            } else {
                u32::MAX
            };
            at += CALL_AGAIN.delay(failures.min(most), &self.consumer.rand);
        }
        self.book.answered(tell, &failed, now, at);
    }

    /// The handles of entries that are to be told again, and how often at most one of them was before.
    fn entries_told(&mut self, tell: &Tell, entries: &[Entry]) -> (BTreeSet<String>, u32) {
        self.trouble.answered(tell);
        let refused = entries
            .iter()
            .filter_map(|entry| Some((entry, entry.kind()?)));
        let (again, refused): (Vec<_>, Vec<_>) = refused.partition(|&(_, kind)| may_be_told(kind));
        if matches!(tell, Tell::Acknowledge(_)) {
            let done = entries.len() - refused.len() - again.len();
            let queue = Arc::clone(&self.consumer.queue_arn);
            ::metrics::counter!(metrics::QUEUE_RECORDS_ACKNOWLEDGED, "queue" => queue)
                .increment(done as u64);
        }
        // One that was acknowledged meanwhile needs no extension.
        let is_news = |entry: &Entry| match tell {
            Tell::Extend(_) => self.book.holds(&entry.receipt_handle),
            Tell::Acknowledge(_) | Tell::Hide(_) => true,
        };
        if let Some((entry, _)) = refused.iter().find(|(entry, _)| is_news(entry)) {
            warn!(
                refused = refused.len(),
                code = entry.refusal,
                "The queue refused receipt handles; their records may come again."
            );
        }
        let (mut handles, mut most) = (BTreeSet::new(), 0);
        for (entry, _) in again {
            let (handle, code) = (&entry.receipt_handle, &entry.refusal);
            match self.trouble.refused(handle) {
                None => {
                    error!(
                        code,
                        "The queue refuses a receipt handle for good; its record comes again."
                    );
                    continue;
                }
                Some(before) => {
                    most = most.max(before);
                    if before == 0 {
                        warn!(
                            code,
                            "The queue did not do all it was told; that is tried again."
                        );
                    } else {
                        debug!(before, code, "The queue refuses a receipt handle again.");
                    }
                }
            }
            handles.insert(handle.clone());
        }
        (handles, most)
    }

    /// The handles that are to be told again after a failure of the whole request, and how many failed
    /// before.
    fn not_told(&mut self, tell: &Tell, error: Error, now: Instant) -> (BTreeSet<String>, u32) {
        if !may_be_told(error.kind()) {
            error!(%error, "The queue cannot be told of records; they come again.");
            return (BTreeSet::new(), 0);
        }
        let failed = self.trouble.failed(tell, error.kind(), now);
        let seconds = failed.lasts.as_secs();
        if !failed.say {
            debug!(%error, seconds, "The queue could not be told; it is tried again.");
        } else if error.kind().is_retryable() {
            warn!(
                %error, seconds,
                "The queue could not be told of records: it is asked for no more until it can."
            );
        } else {
            error!(
                %error, seconds,
                "The queue cannot be told of records: it is asked for no more until it can."
            );
        }
        if failed.give_up && self.failure.is_none() {
            error!(%error, seconds, "That was denied for too long: the consumer of the queue stops.");
            self.failure = Some(error);
            self.stop();
        }
        (tell.handles(), failed.failures)
    }
}

/// Whether what failed so is to be told again, since it may be put right, as a policy or a credential that
/// has expired: not what the service finds wrong, as a handle of a record that was delivered again, and
/// not where queue or record is gone.
fn may_be_told(kind: ErrorKind) -> bool {
    kind.may_be_put_right() && kind != ErrorKind::NotFound
}
