//! Builds the consumer of a queue, and checks what it is given.

use std::fmt;

use kinesis_core::{Clock, Rand};

use super::{Handler, QueueConsumer};
use crate::error::{Error, ErrorKind};
use crate::queue::client::QueueClient;
use crate::queue::settings::{Lane, QueueSettings};

/// Builds a [`QueueConsumer`].
pub struct QueueConsumerBuilder {
    queue_arn: String,
    client: QueueClient,
    handler: Handler,
    settings: QueueSettings,
    clock: Clock,
    rand: Option<Rand>,
}

impl QueueConsumerBuilder {
    pub(super) fn new(queue_arn: String, client: QueueClient, handler: Handler) -> Self {
        Self {
            queue_arn,
            client,
            handler,
            settings: QueueSettings::default(),
            clock: Clock::default(),
            rand: None,
        }
    }

    /// How the consumer behaves.
    #[must_use]
    pub fn settings(mut self, settings: QueueSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Which records are received; as in the settings.
    #[must_use]
    pub fn lane(mut self, lane: Lane) -> Self {
        self.settings.lane = lane;
        self
    }

    /// The clock. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The source of chance. Default: seeded by the system.
    #[must_use]
    pub fn rand(mut self, rand: Rand) -> Self {
        self.rand = Some(rand);
        self
    }

    /// Checks everything that was given.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] that names the field and the bound.
    pub fn build(self) -> Result<QueueConsumer, Error> {
        self.settings.validate()?;
        if !(self.queue_arn.starts_with("arn:") && self.queue_arn.contains(":queue/")) {
            let text = format!(
                "queue_arn must be the ARN of a queue, not {:?}",
                self.queue_arn
            );
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        Ok(QueueConsumer {
            queue_arn: self.queue_arn.into(),
            client: self.client,
            handler: self.handler,
            settings: self.settings,
            clock: self.clock,
            rand: self.rand.unwrap_or_else(Rand::from_entropy),
        })
    }
}

impl fmt::Debug for QueueConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueConsumer")
            .field("queue_arn", &self.queue_arn)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for QueueConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueConsumerBuilder")
            .field("queue_arn", &self.queue_arn)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
