//! On which connection a subscription is: not more on one than any server of HTTP/2 takes.
//!
//! ```text
//! everything else ─▶ the client's own connection
//! subscriptions   ─▶ 1: a hundred │ 2: a hundred │ 3: …       the first with a free seat
//! ```
//! An HTTP/2 connection carries only so many requests at once; the next one waits, without a sign,
//! for one of them to end, and a subscription ends after five minutes. The SDK's HTTP client makes one
//! connection to a host and no other beside it. But it keeps its connections apart by the time-outs
//! that they are made with, so a connection of its own takes a connect time-out of its own: a
//! millisecond more for each. Over HTTP/1.1, and with an HTTP client that does not look at time-outs,
//! this changes nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_types::timeout::TimeoutConfig;

/// Subscriptions on one connection. Source: RFC 9113 §6.5.2, which wants servers to take no fewer.
const SUBSCRIPTIONS_MAX: usize = 100;

/// Source: the SDK's default connect time-out.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3_100);

/// The connections of a worker's subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// How many subscriptions are on each.
    taken: Mutex<Vec<usize>>,
}

impl Connections {
    /// A place on the first connection that has one. It is free again when the seat is dropped.
    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = taken.iter().position(|taken| *taken < SUBSCRIPTIONS_MAX);
        let connection = free.unwrap_or(taken.len());
        match taken.get_mut(connection) {
            Some(taken) => *taken += 1,
            None => taken.push(1),
        }
        Seat {
            connections: Arc::clone(self),
            connection,
        }
    }
}

/// The place of one subscription.
#[derive(Debug)]
pub(crate) struct Seat {
    connections: Arc<Connections>,
    connection: usize,
}

impl Seat {
    /// The client's time-outs, but for what leads the call to this seat's connection.
    pub(crate) fn timeouts(&self, of_client: Option<&TimeoutConfig>) -> TimeoutConfig {
        let of_client = of_client.cloned();
        let timeouts = of_client.unwrap_or_else(|| TimeoutConfig::builder().build());
        let connect = timeouts.connect_timeout().unwrap_or(CONNECT_TIMEOUT);
        let number = u32::try_from(self.connection).unwrap_or(u32::MAX);
        let more = Duration::from_millis(1).saturating_mul(number.saturating_add(1));
        let own = timeouts.to_builder();
        own.connect_timeout(connect.saturating_add(more)).build()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let taken = self.connections.taken.lock();
        let mut taken = taken.unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = taken.get_mut(self.connection) {
            *taken -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn numbers(seats: &[Seat]) -> BTreeMap<usize, usize> {
        seats.iter().fold(BTreeMap::new(), |mut on, seat| {
            *on.entry(seat.connection).or_default() += 1;
            on
        })
    }

    #[test]
    fn no_connection_has_more_subscriptions_than_servers_take() {
        let connections = Arc::new(Connections::default());
        let mut seats: Vec<Seat> = (0..250).map(|_| connections.seat()).collect();
        assert_eq!(numbers(&seats), [(0, 100), (1, 100), (2, 50)].into());
        seats.drain(..30);
        seats.extend((0..40).map(|_| connections.seat()));
        assert_eq!(numbers(&seats), [(0, 100), (1, 100), (2, 60)].into());
    }

    #[test]
    fn each_connection_has_a_time_out_of_its_own_and_none_has_the_clients() {
        let connections = Arc::new(Connections::default());
        let seats: Vec<Seat> = (0..=SUBSCRIPTIONS_MAX)
            .map(|_| connections.seat())
            .collect();
        let client = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(1))
            .read_timeout(Duration::from_secs(9))
            .build();
        let connect = |seat: &Seat| seat.timeouts(Some(&client)).connect_timeout();
        assert_eq!(connect(&seats[0]), Some(Duration::from_millis(1_001)));
        assert_eq!(connect(&seats[100]), Some(Duration::from_millis(1_002)));
        let whole = seats[0].timeouts(Some(&client));
        assert_eq!(whole.read_timeout(), client.read_timeout());
        let unset = seats[0].timeouts(None);
        assert_eq!(unset.connect_timeout(), Some(Duration::from_millis(3_101)));
    }
}
