//! What this process has used so far, as Linux tells it.

use std::fs;

/// Ticks of a second in `/proc`. Source: Linux, `USER_HZ`.
const TICKS_PER_S: f64 = 100.0;
/// Source: Linux counts memory in KiB there.
const KIB: f64 = 1024.0;
const MB: f64 = 1e6;

/// What this process has used; `None` where Linux does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time of all threads in user and kernel mode, in seconds.
    pub(crate) cpu_s: Option<f64>,
    /// Memory that was resident at most, in MB.
    pub(crate) rss_mb: Option<f64>,
    pub(crate) threads: Option<f64>,
}

impl Usage {
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            cpu_s: cpu_s(&stat),
            rss_mb: number(&status, "VmHWM:").map(|kib| kib * KIB / MB),
            threads: number(&status, "Threads:"),
        }
    }

    /// Processor seconds since `before`.
    pub(crate) fn cpu_s_since(&self, before: &Self) -> Option<f64> {
        Some(self.cpu_s? - before.cpu_s?)
    }
}

/// The fields 14 and 15; the second is a name in parentheses that may hold anything.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_S)
}

fn number(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_whatever_the_program_is_called() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 99 1 2";
        assert_eq!(cpu_s(stat), Some(3.0));
        let status = "Name:\tload\nVmHWM:\t    2048 kB\nThreads:\t5\n";
        assert_eq!(number(status, "VmHWM:"), Some(2048.0));
        assert_eq!(number(status, "Threads:"), Some(5.0));
        assert_eq!(number(status, "VmSwap:"), None);
    }
}
