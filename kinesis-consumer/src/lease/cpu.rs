//! How busy this worker's CPUs are, as the KCL measures it: of its container if it is in one with
//! control groups (version 2 or 1), else of the whole machine from `/proc/stat`.
//!
//! A reading is three small files at most, each read up to a bound, once per report of the worker's
//! metrics; the value is the average since the reading before it. Where nothing can be read (another
//! system than Linux) there is no value, and the worker is weighed by what its shards deliver.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use kinesis_core::Clock;
use tokio::time::Instant;

use super::stats::CPU;
use super::worker_metric::WorkerMetric;
use crate::error::BoxError;

/// Bytes read of one file. Source: none; the first line of `/proc/stat` is about 100 bytes.
const FILE_BYTES_MAX: u64 = 4_096;

/// CPUs that a list of them may name, so that a broken one does not go on for ever.
/// Source: Linux, `CONFIG_NR_CPUS` at most.
const CPUS_MAX: u64 = 8_192;

/// The [`WorkerMetric`] of a worker that is given no other: the use of its CPUs, in percent of those it
/// has. In a container with control groups (version 2 or 1) those are what its quota or its set of CPUs
/// allows, elsewhere the whole machine's by `/proc/stat`.
///
/// Where none of that can be read, as on another system than Linux, no reading succeeds. The first is 0,
/// as in the KCL; each later one is the average since the one before.
#[derive(Debug)]
pub struct CpuMetric {
    root: PathBuf,
    max_utilization: u8,
    clock: Clock,
    last: Option<Reading>,
}

/// CPU time used and passed, both since some point in the past.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reading {
    used: f64,
    available: Available,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Available {
    /// This many CPUs from then on.
    Since(Instant, f64),
    /// This much time, told by the system itself.
    Time(f64),
}

impl Default for CpuMetric {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl WorkerMetric for CpuMetric {
    fn short_name(&self) -> &str {
        CPU
    }

    fn max_utilization(&self) -> u8 {
        self.max_utilization
    }

    async fn capture(&mut self) -> Result<f64, BoxError> {
        let percent = self.percent(self.clock.now());
        percent.ok_or_else(|| "this system does not tell of its CPUs".into())
    }
}

impl CpuMetric {
    /// The CPUs of this system, which may be used whole.
    pub fn new() -> Self {
        Self::at(Path::new("/"))
    }

    /// The most that they are to be used, in percent, 1 to 100: see
    /// [`WorkerMetric::max_utilization`].
    #[must_use]
    pub fn with_max_utilization(mut self, percent: u8) -> Self {
        self.max_utilization = percent;
        self
    }

    fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            max_utilization: 100,
            clock: Clock::system(),
            last: None,
        }
    }

    /// Percent of the CPU time there was since the last call; 0 in the first, as in the KCL. `None`
    /// where there is nothing to read.
    fn percent(&mut self, now: Instant) -> Option<f64> {
        let reading = self
            .control_group_2(now)
            .or_else(|| self.control_group_1(now))
            .or_else(|| self.machine())?;
        let last = self.last.replace(reading);
        let Some(last) = last else {
            return Some(0.0);
        };
        let available = match (last.available, reading.available) {
            (Available::Since(from, cpus), Available::Since(to, _)) => {
                to.saturating_duration_since(from).as_secs_f64() * cpus
            }
            (Available::Time(from), Available::Time(to)) => to - from,
            _ => 0.0,
        };
        if available <= 0.0 {
            return Some(0.0);
        }
        let percent = (reading.used - last.used) / available * 100.0;
        Some(percent.clamp(0.0, 100.0))
    }

    fn control_group_2(&self, now: Instant) -> Option<Reading> {
        let stat = self.read("sys/fs/cgroup/cpu.stat").ok()?;
        let micros: f64 = stat
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "))?
            .trim()
            .parse()
            .ok()?;
        let max = self.read("sys/fs/cgroup/cpu.max").ok()?;
        let (quota, period) = max.trim().split_once(' ')?;
        let cpus = if quota == "max" {
            count(&self.read("sys/fs/cgroup/cpuset.cpus.effective").ok()?)?
        } else {
            quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?
        };
        Some(Reading {
            used: micros / 1e6,
            available: Available::Since(now, cpus),
        })
    }

    fn control_group_1(&self, now: Instant) -> Option<Reading> {
        let number = |file: &str| -> Option<f64> { self.read(file).ok()?.trim().parse().ok() };
        let nanos = number("sys/fs/cgroup/cpu/cpuacct.usage")?;
        let quota = number("sys/fs/cgroup/cpu/cpu.cfs_quota_us")?;
        let cpus = if quota < 0.0 {
            count(
                &self
                    .read("sys/fs/cgroup/cpuset/cpuset.effective_cpus")
                    .ok()?,
            )?
        } else {
            quota / number("sys/fs/cgroup/cpu/cpu.cfs_period_us")?
        };
        Some(Reading {
            used: nanos / 1e9,
            available: Available::Since(now, cpus),
        })
    }

    /// `cpu  user nice system idle iowait …`, in ticks.
    fn machine(&self) -> Option<Reading> {
        let stat = self.read("proc/stat").ok()?;
        let mut ticks = stat.lines().next()?.split_ascii_whitespace();
        if ticks.next() != Some("cpu") {
            return None;
        }
        let ticks: Vec<f64> = ticks
            .take(5)
            .map(|ticks| ticks.parse().ok())
            .collect::<Option<_>>()?;
        let [user, nice, system, idle, wait] = ticks[..] else {
            return None;
        };
        let busy = user + nice + system + wait;
        Some(Reading {
            used: busy,
            available: Available::Time(busy + idle),
        })
    }

    fn read(&self, file: &str) -> io::Result<String> {
        let mut text = String::new();
        let file = File::open(self.root.join(file))?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    }
}

/// How many CPUs a list like `0-3,8` names; `None` for none or what is no list.
fn count(list: &str) -> Option<f64> {
    let mut cpus = 0;
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        cpus += last.checked_sub(first)? + 1;
        if cpus > CPUS_MAX {
            return None;
        }
    }
    Some(cpus as f64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    fn put(root: &TempDir, file: &str, text: &str) {
        let path = root.path().join(file);
        let folder = path.parent().expect("a folder");
        std::fs::create_dir_all(folder).expect("can be made");
        std::fs::write(path, text).expect("can be written");
    }

    fn root() -> TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn a_container_of_version_2_is_measured_against_its_quota() {
        let (root, now) = (root(), Clock::system().now());
        put(&root, "sys/fs/cgroup/cpu.max", "150000 100000\n");
        put(
            &root,
            "sys/fs/cgroup/cpu.stat",
            "usage_usec 5000000\nuser_usec 1\n",
        );
        let mut meter = CpuMetric::at(root.path());
        assert_eq!(meter.percent(now), Some(0.0));
        put(&root, "sys/fs/cgroup/cpu.stat", "usage_usec 20000000\n");
        // 15 s of CPU in 20 s of 1.5 CPUs.
        assert_eq!(meter.percent(now + Duration::from_secs(20)), Some(50.0));
    }

    #[test]
    fn a_container_without_a_quota_has_the_cpus_of_its_set() {
        let (root, now) = (root(), Clock::system().now());
        put(&root, "sys/fs/cgroup/cpu.max", "max 100000\n");
        put(&root, "sys/fs/cgroup/cpuset.cpus.effective", "0-2,7\n");
        put(&root, "sys/fs/cgroup/cpu.stat", "usage_usec 0\n");
        let mut meter = CpuMetric::at(root.path());
        meter.percent(now);
        put(&root, "sys/fs/cgroup/cpu.stat", "usage_usec 10000000\n");
        assert_eq!(meter.percent(now + Duration::from_secs(10)), Some(25.0));
    }

    #[test]
    fn a_container_of_version_1_is_measured_too() {
        let (root, now) = (root(), Clock::system().now());
        put(&root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
        put(&root, "sys/fs/cgroup/cpuset/cpuset.effective_cpus", "0-1\n");
        put(&root, "sys/fs/cgroup/cpu/cpuacct.usage", "0\n");
        let mut meter = CpuMetric::at(root.path());
        meter.percent(now);
        put(&root, "sys/fs/cgroup/cpu/cpuacct.usage", "5000000000\n");
        assert_eq!(meter.percent(now + Duration::from_secs(10)), Some(25.0));
    }

    #[test]
    fn a_machine_without_containers_is_measured_by_its_own_ticks() {
        let (root, now) = (root(), Clock::system().now());
        put(&root, "proc/stat", "cpu  100 0 100 700 100 9 9 9\ncpu0 1\n");
        let mut meter = CpuMetric::at(root.path());
        assert_eq!(meter.percent(now), Some(0.0));
        put(&root, "proc/stat", "cpu  200 0 100 900 200 9 9 9\n");
        assert_eq!(meter.percent(now), Some(50.0));
    }

    #[test]
    fn what_cannot_be_read_is_no_value() {
        let (root, now) = (root(), Clock::system().now());
        assert_eq!(CpuMetric::at(root.path()).percent(now), None);
        put(&root, "proc/stat", "cpu nonsense\n");
        assert_eq!(CpuMetric::at(root.path()).percent(now), None);
    }

    /// Seconds of CPU since some point in the past.
    #[cfg(target_os = "linux")]
    fn seconds(reading: Reading) -> f64 {
        match reading.available {
            Available::Since(..) => reading.used,
            // Ticks. Source: Linux, `USER_HZ`.
            Available::Time(_) => reading.used / 100.0,
        }
    }

    /// How long this thread has run on a processor.
    #[cfg(target_os = "linux")]
    fn ran() -> f64 {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
        let nanos = stat.split(' ').next().expect("a number");
        nanos.parse::<f64>().expect("a number") / 1e9
    }

    /// Others share the machine, so an idle reading may be as high as a busy one; but none is lower than
    /// what this thread alone uses.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_this_thread_really_uses_is_in_what_this_system_tells() {
        let mut metric = CpuMetric::new();
        let first = metric.capture().await.expect("this system tells");
        assert_eq!(first, 0.0);
        let before = metric.last.expect("a reading");
        let (ran_before, began) = (
            ran(),
            std::time::Duration::from_millis(Clock::system().epoch_millis()),
        );
        let mut sum = 0_u64;
        while ran() - ran_before < 0.5 {
            for number in 0..100_000_u64 {
                sum = std::hint::black_box(sum.wrapping_add(number * number));
            }
        }
        // Less than lies between the two readings, whatever holds this thread up.
        let took = Duration::from_millis(Clock::system().epoch_millis()).saturating_sub(began);
        let percent = metric.capture().await.expect("this system tells");
        let used = seconds(metric.last.expect("a reading")) - seconds(before);
        assert!(used >= 0.4, "{used} s used, of which this thread had 0.5");
        assert!(
            (0.0..=100.0).contains(&percent) && percent > 0.0,
            "{percent}"
        );
        // Not busier than if all of it had been used.
        let cpus = used / took.as_secs_f64() / percent * 100.0;
        assert!(
            cpus >= 0.5,
            "{percent} % for {used} s in {took:?} is of {cpus} CPUs"
        );
    }
}
