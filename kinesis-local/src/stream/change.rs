//! A change of a stream's settings: made by an operation, kept in the log, made again by a recovery.
//!
//! Promises: a change carries everything that it depends on but the time, which comes with it; so
//! the same changes in the same order lead to the same stream. The operations check a change
//! before they make it; what does not fit all the same is refused and changes nothing.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::channel::change::ChannelChange;
use super::demand::Demand;
use super::distribution::Distribution;
use super::monitoring::Metrics;
use super::queue::change::QueueChange;
use super::scale::Step;
use super::warm::Warm;
use super::{Mode, Stream, policy};

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
    /// UpdateStreamMode; to on-demand also with a warm throughput.
    Mode {
        mode: Mode,
        warm: Option<Warming>,
    },
    /// UpdateStreamWarmThroughput.
    Warm(Warming),
    /// An on-demand stream follows its traffic.
    Demand {
        steps: Vec<Step>,
    },
    /// The key that is applied; empty: encryption is stopped.
    Encryption {
        key: String,
    },
    /// All metrics that there are now.
    Monitoring(Metrics),
    RecordSize {
        max_bytes: u32,
    },
    Distribution(Distribution),
    /// A queue, by the part of its id that is its own.
    Queue {
        id: u64,
        change: QueueChange,
    },
    /// The same of a channel.
    Channel {
        id: u64,
        change: ChannelChange,
    },
    /// A resource policy; `None`: it is taken away.
    Policy {
        holder: Holder,
        document: Option<String>,
    },
}

/// A warm throughput, and the steps to the shards that it takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Warming {
    pub(crate) target_mibps: u32,
    pub(crate) steps: Vec<Step>,
}

/// What of a stream has a resource policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Holder {
    Stream,
    /// By name.
    Consumer(String),
    /// By the part of its id that is its own.
    Queue(u64),
}

impl Holder {
    /// What its policies may name.
    pub(crate) fn kind(&self) -> policy::Kind {
        match self {
            Self::Stream => policy::Kind::Stream,
            Self::Consumer(_) => policy::Kind::Consumer,
            Self::Queue(_) => policy::Kind::Queue,
        }
    }
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
                self.reshard(steps, at_ms)?;
                self.scaled.note(at_ms);
            }
            Change::Demand { steps } => {
                self.end_minute_in_demand(at_ms);
                self.reshard(steps, at_ms)?;
                self.demand().scaled(at_ms);
            }
            Change::Mode { mode, warm } => {
                self.mode = *mode;
                self.demand = Mutex::new(Demand::start(self.open_shards(), at_ms));
                self.warm = None;
                if *mode == Mode::Provisioned {
                    self.distribution = Distribution::default();
                }
                if let Some(warm) = warm {
                    self.keep_warm(warm, at_ms)?;
                }
                self.mode_switched.note(at_ms);
                self.updated_ms = Some(at_ms);
            }
            Change::Warm(warm) => {
                self.end_minute_in_demand(at_ms);
                if self.holds_warm(warm.target_mibps) {
                    self.demand().release(at_ms);
                }
                self.keep_warm(warm, at_ms)?;
                self.updated_ms = Some(at_ms);
            }
            Change::Encryption { key } => {
                let key = Some(key.as_str()).filter(|key| !key.is_empty());
                self.encryption.apply(key.map(Into::into), at_ms);
                self.updated_ms = Some(at_ms);
            }
            Change::Monitoring(metrics) => self.metrics = *metrics,
            Change::RecordSize { max_bytes } => self.record_max_bytes = *max_bytes,
            Change::Distribution(distribution) => self.distribution = *distribution,
            Change::Queue { id, change } => self.apply_to_queue(*id, change, at_ms)?,
            Change::Policy { holder, document } => self.set_policy(holder, document.clone())?,
            Change::Channel { id, change } => self.apply_to_channel(*id, change, at_ms)?,
        }
        Ok(())
    }

    fn reshard(&mut self, steps: &[Step], at_ms: u64) -> Result<(), &'static str> {
        self.take(steps, at_ms)
            .map_err(|_| "the shards cannot be split and merged like this")?;
        self.updated_ms = Some(at_ms);
        Ok(())
    }

    /// Who plans a change has done this already; a recovery makes the change without the plan.
    fn end_minute_in_demand(&self, at_ms: u64) {
        self.demand().end_minute(self.open_shards(), at_ms);
    }

    fn keep_warm(&mut self, warm: &Warming, at_ms: u64) -> Result<(), &'static str> {
        if !warm.steps.is_empty() {
            self.reshard(&warm.steps, at_ms)?;
            self.demand().scaled(at_ms);
        }
        self.warm = Some(Warm {
            target_mibps: warm.target_mibps,
            since_ms: at_ms,
        });
        Ok(())
    }

    fn set_policy(
        &mut self,
        holder: &Holder,
        document: Option<String>,
    ) -> Result<(), &'static str> {
        match holder {
            Holder::Stream => self.policy = document,
            Holder::Consumer(name) => {
                self.consumers.get_mut(name).ok_or(NO_CONSUMER)?.policy = document;
            }
            Holder::Queue(id) => {
                self.queue(*id).ok_or("a queue was not created")?.policy = document
            }
        }
        Ok(())
    }

    /// The resource policy of the stream or of something of it.
    pub(crate) fn policy(&self, holder: &Holder) -> Option<String> {
        match holder {
            Holder::Stream => self.policy.clone(),
            Holder::Consumer(name) => self.consumers.get(name)?.policy.clone(),
            Holder::Queue(id) => self.queue(*id)?.policy.clone(),
        }
    }

    /// The tags of what can have a policy.
    pub(crate) fn tags_of(&self, holder: &Holder) -> Tags {
        let tags = match holder {
            Holder::Stream => Some(self.tags.clone()),
            Holder::Consumer(name) => {
                let consumer = self.consumers.get(name);
                consumer.map(|consumer| consumer.tags.clone())
            }
            Holder::Queue(id) => self.queue(*id).map(|queue| queue.tags.clone()),
        };
        tags.unwrap_or_default()
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
