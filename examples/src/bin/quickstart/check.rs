//! The proof: every stored object read back, every flight in it accounted for.

use std::collections::BTreeMap;

use examples::arrivals::Arrivals;
use examples::bucket;
use examples::flights::NumberedFlight;
use kinesis_consumer::BoxError;

use crate::place::{BUCKET, Place};
use crate::tally::Tally;

/// What is in the bucket.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Shards that the stream has now, without those that were split.
    pub(crate) shards: usize,
    /// Objects in the bucket.
    pub(crate) objects: usize,
    /// The flights of every run, in the order of shards and positions.
    pub(crate) runs: BTreeMap<u32, Arrivals>,
    /// Sum of the delays in minutes and number of flights, by origin, each flight of any run once.
    pub(crate) delays: BTreeMap<String, (i64, u32)>,
    /// Flights of runs that had ended without a fault, and were processed again by this one.
    pub(crate) processed_again: u64,
    /// Flights of runs that were cut short, processed by this one.
    pub(crate) caught_up: u64,
}

/// Reads the bucket. Shards come before those they were split into and objects in the order of
/// their positions, so an airport's flights have to come in order here as well.
pub(crate) async fn read_back(place: &Place, tally: &Tally) -> Result<Stored, BoxError> {
    let mut stored = Stored {
        shards: place.open_shards().await?,
        ..Stored::default()
    };
    for object in bucket::read(&place.s3, BUCKET, "").await? {
        stored.objects += 1;
        for line in object.content.lines() {
            let flight: NumberedFlight = serde_json::from_str(line)?;
            if stored.runs.entry(flight.run).or_default().see(&flight) {
                let (minutes, flights) = stored.delays.entry(flight.flight.origin).or_default();
                *minutes += i64::from(flight.flight.delay);
                *flights += 1;
            }
        }
    }
    for (run, flights) in &tally.processed().earlier {
        match place.has_finished(*run) {
            true => stored.processed_again += flights,
            false => stored.caught_up += flights,
        }
    }
    Ok(stored)
}
