//! The time that the benches go by.

use std::sync::LazyLock;
use std::time::Duration;

use kinesis_core::Clock;

/// How long this thread has run on a processor, so that other programs on the machine do not count
/// as ours; the time since the first call where Linux does not tell.
pub(crate) fn on_cpu() -> Duration {
    static START: LazyLock<(Clock, tokio::time::Instant)> = LazyLock::new(|| {
        let clock = Clock::system();
        let now = clock.now();
        (clock, now)
    });
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = stat.and_then(|stat| stat.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.0.now() - START.1, Duration::from_nanos)
}
