//! One worker of the fleet: the real consumer, in this runtime, behind a network of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_kinesis::config::retry::{RetryPartition, TokenBucket};
use kinesis_consumer::{Consumer, ErrorKind, OnFailure, Settings, StreamSource, Streams};
use kinesis_core::{Clock, Rand};
use kinesis_local::KinesisLocal;
use tokio_util::sync::CancellationToken;

use super::busy::Busy;
use super::log::{Event, Log};
use super::network::Network;
use super::processor::{Graveyard, Processors};
use super::time::Signing;
use crate::world::{APPLICATION, STREAM};

/// What a worker is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) local: KinesisLocal,
    pub(super) network: Network,
    /// What it reads, where that is several streams.
    pub(super) streams: Option<Streams>,
    pub(super) settings: Settings,
    pub(super) processors: Processors,
    pub(super) graveyard: Graveyard,
    pub(super) clock: Clock,
    pub(super) rand: Rand,
    pub(super) log: Log,
}

/// A worker that runs, or did.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) name: Arc<str>,
    pub(super) network: Network,
    log: Log,
    streams: Option<Streams>,
    stop: CancellationToken,
    gone: Arc<AtomicBool>,
}

impl Worker {
    /// Starts one.
    pub(super) fn start(parts: Parts) -> Self {
        let Parts {
            local,
            network,
            streams,
            settings,
            processors,
            graveyard,
            clock,
            rand,
            log,
        } = parts;
        let name = Arc::clone(&processors.worker);
        let config = local
            .sdk_config()
            .into_builder()
            .http_client(network.clone())
            .time_source(Signing::by(clock.clone()))
            .build();
        // The quota of retries that an SDK keeps for its process is by default one for all clients.
        let quota = || {
            let bucket = TokenBucket::default();
            RetryPartition::custom("worker")
                .token_bucket(bucket)
                .build()
        };
        let kinesis = aws_sdk_kinesis::config::Builder::from(&config).retry_partition(quota());
        let dynamodb = aws_sdk_dynamodb::config::Builder::from(&config).retry_partition(quota());
        let dead_letters = matches!(settings.on_failure, OnFailure::DeadLetter { .. });
        let kinesis = aws_sdk_kinesis::Client::from_conf(kinesis.build());
        let dynamodb = aws_sdk_dynamodb::Client::from_conf(dynamodb.build());
        let consumer = match &streams {
            Some(streams) => {
                Consumer::multi_stream(APPLICATION, streams, kinesis, dynamodb, processors)
            }
            None => Consumer::builder(APPLICATION, STREAM, kinesis, dynamodb, processors),
        };
        let mut consumer = consumer
            .worker_id(&*name)
            .worker_metrics(vec![Box::new(Busy::of(&name, &log, rand.fork()))])
            .settings(settings)
            .clock(clock)
            .rand(rand);
        if dead_letters {
            consumer = consumer.dead_letters(graveyard);
        }
        let consumer = consumer.build().expect("the settings are valid");
        log.push(Event::Up {
            worker: Arc::clone(&name),
        });
        let stop = CancellationToken::new();
        let process = tokio::spawn(network.process(consumer.run(stop.clone())));
        network.belongs_to(process.abort_handle());
        let gone = Arc::new(AtomicBool::new(false));
        tokio::spawn({
            let (worker, gone, log) = (Arc::clone(&name), Arc::clone(&gone), log.clone());
            async move {
                match process.await {
                    Ok(Ok(())) => log.push(Event::Down {
                        worker,
                        crashed: false,
                    }),
                    // It was asked to, and nobody answered what it gave back.
                    Ok(Err(error)) if error.kind() == ErrorKind::StopTimedOut => {
                        log.push(Event::Down {
                            worker,
                            crashed: false,
                        });
                    }
                    // Told where it was killed.
                    Err(killed) if killed.is_cancelled() => {}
                    other => log.push(Event::Broke {
                        worker,
                        what: format!("{other:?}"),
                    }),
                }
                gone.store(true, Ordering::Relaxed);
            }
        });
        Self {
            name,
            network,
            log,
            streams,
            stop,
            gone,
        }
    }

    /// From now on it is to read this stream too, or not, where it reads several.
    pub(super) fn reads(&self, stream: &str, reads: bool) {
        let Some(streams) = &self.streams else { return };
        if reads {
            // It may be there already.
            drop(streams.add(StreamSource::new(stream)));
        } else {
            streams.remove(stream);
        }
    }

    /// Asks it to stop in order.
    pub(super) fn stop(&self) {
        if !self.leaves() && !self.is_gone() {
            let worker = Arc::clone(&self.name);
            self.log.push(Event::Asked { worker });
        }
        self.stop.cancel();
    }

    /// Whether it was asked to stop.
    pub(super) fn leaves(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Whether its process is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed) || self.network.is_dead()
    }
}
