//! 20,000 real flights, and flights numbered so that loss, repetition and disorder show.
//!
//! See `data/README.md` for their source and licence.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};

/// The flights as gzip-compressed NDJSON.
const FLIGHTS: &[u8] = include_bytes!("../data/flights-20k.ndjson.gz");

/// One domestic flight in the United States in early 2001.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Flight {
    /// Scheduled departure, local time: `YYYY/MM/DD HH:MM`.
    pub date: String,
    /// Arrival delay in minutes; negative when early.
    pub delay: i32,
    /// Distance in miles.
    pub distance: u32,
    /// IATA code of the airport it left.
    pub origin: String,
    /// IATA code of the airport it was bound for.
    pub destination: String,
}

/// All 20,000 flights in the order of their departure.
///
/// # Panics
/// When the data compiled into this library is damaged.
#[must_use]
pub fn load() -> Vec<Flight> {
    BufReader::new(GzDecoder::new(FLIGHTS))
        .lines()
        .map(|line| {
            let line = line.expect("the embedded flights can be decompressed");
            serde_json::from_str(&line).expect("every line of the embedded flights is a flight")
        })
        .collect()
}

/// A flight as it is sent: numbered, so that a reader of the stream or of the stored objects can
/// tell what is missing, what came twice, and what came out of order.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NumberedFlight {
    /// Which run sent it; from 1.
    pub run: u32,
    /// Its number within the run; from 0.
    pub id: u32,
    /// Its number among the run's flights from the same origin; from 0. Records of one key keep
    /// their order, and the origin is the key.
    pub nth: u32,
    /// The flight.
    #[serde(flatten)]
    pub flight: Flight,
}

/// The first `count` flights of a run; more than there are begin again at the first.
///
/// # Panics
/// When `count` exceeds `u32::MAX`.
#[must_use]
pub fn numbered(run: u32, count: usize) -> Vec<NumberedFlight> {
    let flights = load();
    let mut next_by_origin = HashMap::<String, u32>::new();
    flights
        .into_iter()
        .cycle()
        .take(count)
        .enumerate()
        .map(|(id, flight)| {
            let next = next_by_origin.entry(flight.origin.clone()).or_default();
            let nth = *next;
            *next += 1;
            NumberedFlight {
                run,
                id: u32::try_from(id).expect("a run has fewer than 2^32 flights"),
                nth,
                flight,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_20_000_flights_in_the_order_of_their_departure() {
        let flights = load();
        assert_eq!(flights.len(), 20_000);
        assert!(flights.is_sorted_by_key(|flight| &flight.date));
        assert_eq!((flights[0].origin.as_str(), flights[0].delay), ("DTW", 66));
    }

    #[test]
    fn flights_are_numbered_in_all_and_per_origin() {
        let flights = numbered(3, 20_001);
        assert_eq!(
            flights[20_000].flight, flights[0].flight,
            "from the start again"
        );
        assert_eq!((flights[20_000].run, flights[20_000].id), (3, 20_000));
        let from_detroit = flights
            .iter()
            .filter(|flight| flight.flight.origin == "DTW");
        assert!(from_detroit.zip(0..).all(|(flight, nth)| flight.nth == nth));
    }

    #[test]
    fn a_numbered_flight_is_one_flat_object() {
        let json = serde_json::to_string(&numbered(1, 1)[0]).unwrap();
        assert_eq!(
            json,
            "{\"run\":1,\"id\":0,\"nth\":0,\"date\":\"2001/01/01 00:47\",\"delay\":66,\
             \"distance\":1750,\"origin\":\"DTW\",\"destination\":\"LAS\"}"
        );
    }
}
