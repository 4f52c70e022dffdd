//! A change of a stream's settings: made by an operation, kept in the log, made again by a recovery.
//!
//! Promises: a change carries everything that it depends on but the time, which comes with it; so
//! the same changes in the same order lead to the same stream. The operations check a change
//! before they make it; what does not fit all the same is refused and changes nothing.

use std::collections::BTreeMap;

use super::scale::Step;
use super::{Mode, Stream};

/// Tags by key.
pub(crate) type Tags = BTreeMap<String, String>;

/// What changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// Tags of the stream, or of one of its consumers: some are set, then some removed.
    Tags {
        consumer: Option<String>,
        set: Tags,
        removed: Vec<String>,
    },
    /// How long records are kept; what was expired before stays so.
    Retention {
        hours: u32,
    },
    /// UpdateShardCount.
    Scale {
        steps: Vec<Step>,
    },
    Mode(Mode),
}

impl Stream {
    /// Makes the change; the error says why it does not fit.
    pub(crate) fn apply(&mut self, change: &Change, at_ms: u64) -> Result<(), &'static str> {
        match change {
            Change::Tags {
                consumer,
                set,
                removed,
            } => {
                let tags = self.tags_mut(consumer.as_deref())?;
                tags.extend(set.clone());
                tags.retain(|key, _| !removed.contains(key));
            }
            Change::Retention { hours } => {
                self.kept_from_ms = self.horizon_ms(at_ms);
                self.retention_hours = *hours;
            }
            Change::Scale { steps } => {
                self.take(steps, at_ms)
                    .map_err(|_| "the shards cannot be split and merged like this")?;
                self.scaled.note(at_ms);
                self.updated_ms = Some(at_ms);
            }
            Change::Mode(mode) => {
                self.mode = *mode;
                self.mode_switched.note(at_ms);
                self.updated_ms = Some(at_ms);
            }
        }
        Ok(())
    }

    fn tags_mut(&mut self, consumer: Option<&str>) -> Result<&mut Tags, &'static str> {
        match consumer {
            None => Ok(&mut self.tags),
            Some(name) => self
                .consumers
                .get_mut(name)
                .map(|consumer| &mut consumer.tags)
                .ok_or(NO_CONSUMER),
        }
    }
}

const NO_CONSUMER: &str = "a consumer was not registered";
