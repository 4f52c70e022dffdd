//! Builds the consumer of streams, and checks what it is given.

use std::fmt;
use std::sync::Arc;

use kinesis_core::{Clock, Rand};

use super::Consumer;
use crate::dead_letter::DeadLetters;
use crate::error::{Error, ErrorKind};
use crate::events::Hub;
use crate::lease::worker_metric::Meters;
use crate::lease::{LeaseStore, TABLE_NAME_CHARS, WorkerMetric};
use crate::processor::RecordProcessorFactory;
use crate::settings::{OnFailure, Retrieval, Settings, check_name};
use crate::stream::Sources;

/// Builds a [`Consumer`].
pub struct ConsumerBuilder {
    application: String,
    sources: Sources,
    kinesis: aws_sdk_kinesis::Client,
    leases: LeaseStore,
    factory: Arc<dyn RecordProcessorFactory>,
    worker_id: Option<String>,
    settings: Settings,
    dead_letters: Option<Arc<dyn DeadLetters>>,
    worker_metrics: Option<Vec<Box<dyn WorkerMetric>>>,
    clock: Clock,
    rand: Option<Rand>,
}

impl ConsumerBuilder {
    pub(super) fn new(
        application: String,
        sources: Sources,
        kinesis: aws_sdk_kinesis::Client,
        leases: LeaseStore,
        factory: Arc<dyn RecordProcessorFactory>,
    ) -> Self {
        Self {
            application,
            sources,
            kinesis,
            leases,
            factory,
            worker_id: None,
            settings: Settings::default(),
            dead_letters: None,
            worker_metrics: None,
            clock: Clock::default(),
            rand: None,
        }
    }

    /// The name of this worker in the lease table; must differ between workers that run, those of a KCL
    /// too. Default: a random UUID.
    ///
    /// A name that outlives the process, such as a pod's, gains nothing: a process that takes the place of
    /// one that died waits for `failover_time`, as any other, since that one may still run. Only of a KCL's
    /// process there is no telling: stop that one before this starts under its name, or both read its shards
    /// until the next renewal of the other is refused, some 3 s.
    #[must_use]
    pub fn worker_id(mut self, worker_id: impl Into<String>) -> Self {
        self.worker_id = Some(worker_id.into());
        self
    }

    /// How the consumer behaves.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Where records go that cannot be processed. Goes with, and only with,
    /// [`OnFailure::DeadLetter`] in the settings.
    #[must_use]
    pub fn dead_letters(mut self, destination: impl DeadLetters + 'static) -> Self {
        self.dead_letters = Some(Arc::new(destination));
        self
    }

    /// What this worker tells the leader of how busy it is, in place of the use of its CPUs: the KCL's
    /// `workerMetricList`. All workers of a fleet are to measure the same. Not used where
    /// [`disable_worker_metrics`](crate::LeaseSettings::disable_worker_metrics) is set.
    ///
    /// ```no_run
    /// # use kinesis_consumer::{ConsumerBuilder, CpuMetric, WorkerMetric};
    /// # fn with(builder: ConsumerBuilder, network_in: impl WorkerMetric + 'static) -> ConsumerBuilder {
    /// let cpu = CpuMetric::new().with_max_utilization(80);
    /// builder.worker_metrics(vec![Box::new(cpu), Box::new(network_in)])
    /// # }
    /// ```
    #[must_use]
    pub fn worker_metrics(mut self, metrics: Vec<Box<dyn WorkerMetric>>) -> Self {
        self.worker_metrics = Some(metrics);
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
    pub fn build(self) -> Result<Consumer, Error> {
        self.settings.validate()?;
        // It is the table's, unless that has one of its own.
        check_name("application", &self.application, TABLE_NAME_CHARS)?;
        self.settings.lease.table.check_apart(&self.application)?;
        if let Sources::One(stream) = &self.sources {
            stream.validate()?;
        }
        if let Retrieval::FanOut(fan_out) = &self.settings.retrieval {
            fan_out.fits(&self.sources, &self.application)?;
        }
        let needed = matches!(self.settings.on_failure, OnFailure::DeadLetter { .. });
        if needed != self.dead_letters.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "setting on_failure must be dead_letter where dead_letters is given to the builder, and only there",
            ));
        }
        let meters = match self.worker_metrics {
            Some(metrics) => Meters::new(metrics)?,
            None => Meters::of_cpu(),
        };
        let meters = match self.settings.lease.disable_worker_metrics {
            true => Meters::default(),
            false => meters,
        };
        let rand = self.rand.unwrap_or_else(Rand::from_entropy);
        let worker_id = self.worker_id.unwrap_or_else(|| rand.uuid());
        if worker_id.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "worker_id must not be empty",
            ));
        }
        if crate::lease::is_reserved(&worker_id) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "worker_id must not be {worker_id:?}, which the lease table has for something else: the \
                     key of another row, or the owner of a lease that is nobody's"
                ),
            ));
        }
        Ok(Consumer {
            application: self.application,
            worker_id,
            kinesis: self.kinesis,
            leases: self.leases,
            factory: self.factory,
            sources: self.sources,
            settings: Arc::new(self.settings),
            dead_letters: self.dead_letters,
            meters,
            clock: self.clock,
            rand,
            events: Hub::default(),
        })
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("application", &self.application)
            .field("sources", &self.sources)
            .field("worker_id", &self.worker_id)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("application", &self.application)
            .field("sources", &self.sources)
            .field("worker_id", &self.worker_id)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
