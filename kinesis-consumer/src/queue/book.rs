//! Which received records are held, and what is to be told to the queue about them and when, without
//! any I/O.
//!
//! Invariants:
//! - A record that is held has its visibility extended before it ends, half of it beforehand.
//! - A record is told of once: acknowledged, or made visible, never both. It is not extended once it
//!   is no longer held, also not where an extension failed before. One that is given back while an
//!   extension of it is under way is told of only after that was answered: carried out in the other
//!   order, the extension would hide it again.
//! - What failed waits out its pause, however much waits with it, and alone where the rest of its
//!   request was done.
//! - What is told goes in requests of at most [`ENTRIES_MAX`]; a full one at once, others after
//!   `acknowledge_after`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// Entries of one request. Source: API model.
pub(super) const ENTRIES_MAX: usize = 10;

/// What is told to the queue in one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Tell {
    Acknowledge(Vec<String>),
    /// Handles that are still held, and for how many seconds from now each stays hidden.
    Extend(Vec<(String, u64)>),
    /// Handles given back, and for how many seconds from now each is hidden.
    Hide(Vec<(String, u64)>),
}

impl Tell {
    /// The handles of its entries.
    pub(super) fn handles(&self) -> BTreeSet<String> {
        match self {
            Self::Acknowledge(handles) => handles.iter().cloned().collect(),
            Self::Extend(entries) | Self::Hide(entries) => {
                entries.iter().map(|(handle, _)| handle.clone()).collect()
            }
        }
    }
}

/// The records that this consumer holds.
#[derive(Debug)]
pub(super) struct Book {
    visibility: Duration,
    acknowledge_after: Duration,
    held: BTreeMap<u64, Held>,
    next_id: u64,
    done: Waiting<String>,
    hide: Waiting<(String, u64)>,
    /// Given back while an extension was under way, and the seconds they are to be hidden for.
    behind: BTreeMap<String, u64>,
    /// Handles no longer held that the queue could not be told of, and not since; also while that is tried
    /// again.
    failed: BTreeSet<String>,
}

#[derive(Debug)]
struct Held {
    handle: String,
    /// Of the payload.
    bytes: usize,
    extend_at: Instant,
    /// An extension is under way.
    extending: bool,
    /// The last extension failed, so that it may become visible to others.
    failing: bool,
}

/// Entries that wait to be told, and since when.
#[derive(Debug)]
struct Waiting<T> {
    entries: Vec<T>,
    due: Option<Instant>,
    /// The pause after a failure.
    not_before: Option<Instant>,
}

impl<T> Waiting<T> {
    const fn new() -> Self {
        Self {
            entries: Vec::new(),
            due: None,
            not_before: None,
        }
    }

    fn push(&mut self, entry: T, due: Instant) {
        self.entries.push(entry);
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
    }

    /// Of what was told, puts back what failed; nothing is due before `at` then.
    fn answered(&mut self, failed: Vec<T>, at: Instant) {
        if !failed.is_empty() {
            self.not_before = self.not_before.max(Some(at));
        }
        for entry in failed {
            self.push(entry, at);
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.when(now).is_some_and(|due| due <= now)
    }

    /// When something is due; `now` for a full request, unless a pause is on.
    fn when(&self, now: Instant) -> Option<Instant> {
        let full = self.entries.len() >= ENTRIES_MAX;
        let due = if full { Some(now) } else { self.due }?;
        Some(self.not_before.map_or(due, |pause| due.max(pause)))
    }

    /// Entries beyond those that wait to fill a request.
    fn backlog(&self) -> usize {
        self.entries.len().saturating_sub(ENTRIES_MAX - 1)
    }

    fn take(&mut self) -> Vec<T> {
        let rest = self.entries.split_off(self.entries.len().min(ENTRIES_MAX));
        if rest.is_empty() {
            self.due = None;
        }
        std::mem::replace(&mut self.entries, rest)
    }
}

impl Book {
    pub(super) fn new(visibility: Duration, acknowledge_after: Duration) -> Self {
        Self {
            visibility,
            acknowledge_after,
            held: BTreeMap::new(),
            next_id: 0,
            done: Waiting::new(),
            hide: Waiting::new(),
            behind: BTreeMap::new(),
            failed: BTreeSet::new(),
        }
    }

    /// A record was received, by a request that was sent at `asked`; its number here. Its timeout counts
    /// from then: what came after the half of it is extended at once.
    pub(super) fn received(&mut self, handle: String, bytes: usize, asked: Instant) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let extend_at = asked + self.visibility / 2;
        let held = Held {
            handle,
            bytes,
            extend_at,
            extending: false,
            failing: false,
        };
        self.held.insert(id, held);
        id
    }

    /// Its handler is done with it.
    pub(super) fn done(&mut self, id: u64, now: Instant) {
        if let Some(held) = self.held.remove(&id) {
            self.done.push(held.handle, now + self.acknowledge_after);
        }
    }

    /// It is to be received again, after `pause`.
    pub(super) fn give_back(&mut self, id: u64, pause: Duration, now: Instant) {
        if let Some(held) = self.held.remove(&id) {
            self.hide(held, pause.as_secs(), now);
        }
    }

    fn hide(&mut self, held: Held, seconds: u64, now: Instant) {
        if held.extending {
            self.behind.insert(held.handle, seconds);
        } else {
            self.hide.push((held.handle, seconds), now);
        }
    }

    /// Everything that is held is to be received again, now.
    pub(super) fn give_back_all(&mut self, now: Instant) {
        for (_, held) in std::mem::take(&mut self.held) {
            self.hide(held, 0, now);
        }
    }

    /// What to tell now; to be asked until there is nothing.
    pub(super) fn tell(&mut self, now: Instant) -> Option<Tell> {
        let visibility = self.visibility;
        let ending = self.held.values_mut().filter(|held| held.extend_at <= now);
        let extended = ending.take(ENTRIES_MAX).map(|held| {
            held.extend_at = now + visibility / 2;
            held.extending = true;
            (held.handle.clone(), visibility.as_secs())
        });
        let extended: Vec<_> = extended.collect();
        if !extended.is_empty() {
            return Some(Tell::Extend(extended));
        }
        if self.hide.is_due(now) {
            return Some(Tell::Hide(self.hide.take()));
        }
        self.done
            .is_due(now)
            .then(|| Tell::Acknowledge(self.done.take()))
    }

    /// A request was answered, or failed: those of its handles that are in `failed` are to be told of
    /// again at `at`, and the others never.
    pub(super) fn answered(
        &mut self,
        tell: Tell,
        failed: &BTreeSet<String>,
        now: Instant,
        at: Instant,
    ) {
        match tell {
            Tell::Acknowledge(mut handles) => {
                for handle in &handles {
                    self.note(handle, failed);
                }
                handles.retain(|handle| failed.contains(handle));
                self.done.answered(handles, at);
            }
            Tell::Hide(mut entries) => {
                for (handle, _) in &entries {
                    self.note(handle, failed);
                }
                entries.retain(|(handle, _)| failed.contains(handle));
                self.hide.answered(entries, at);
            }
            Tell::Extend(entries) => self.extended(&entries, failed, now, at),
        }
    }

    fn note(&mut self, handle: &str, failed: &BTreeSet<String>) {
        if failed.contains(handle) {
            self.failed.insert(handle.to_owned());
        } else {
            self.failed.remove(handle);
        }
    }

    fn extended(
        &mut self,
        entries: &[(String, u64)],
        failed: &BTreeSet<String>,
        now: Instant,
        at: Instant,
    ) {
        let answered: BTreeSet<_> = entries.iter().map(|(handle, _)| handle).collect();
        let held = self.held.values_mut();
        for held in held.filter(|held| answered.contains(&held.handle)) {
            held.extending = false;
            held.failing = failed.contains(&held.handle);
            if held.failing {
                held.extend_at = at;
            }
        }
        for handle in answered {
            if let Some((handle, seconds)) = self.behind.remove_entry(handle) {
                self.hide.push((handle, seconds), now);
            }
        }
    }

    /// When something has to be told, if nothing happens before.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let extend = self.held.values().map(|held| held.extend_at).min();
        let waiting = [extend, self.done.when(now), self.hide.when(now)];
        waiting.into_iter().flatten().min()
    }

    /// Records that no handler has any more and that the queue could not be told of yet, beyond those
    /// that wait to fill a request.
    pub(super) fn backlog(&self) -> usize {
        self.done.backlog() + self.hide.backlog() + self.behind.len()
    }

    /// Whether the queue could not be told of something, and not since either, whatever else it was told:
    /// records that were handled, or still are, may come again.
    pub(super) fn is_failing(&self) -> bool {
        !self.failed.is_empty() || self.held.values().any(|held| held.failing)
    }

    /// Whether the record with this handle is in the hands of a handler.
    pub(super) fn holds(&self, handle: &str) -> bool {
        self.held.values().any(|held| held.handle == handle)
    }

    /// Records in the hands of handlers.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Payload bytes in the hands of handlers.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.values().map(|held| held.bytes).sum()
    }

    /// Whether nothing is held and nothing waits to be told.
    pub(super) fn is_empty(&self) -> bool {
        let waiting = self.done.entries.len() + self.hide.entries.len() + self.behind.len();
        self.held.is_empty() && waiting == 0
    }

    /// Tells what waits without waiting for more.
    pub(super) fn hurry(&mut self, now: Instant) {
        if !self.done.entries.is_empty() {
            self.done.due = Some(now);
        }
    }
}

#[cfg(test)]
mod tests;
