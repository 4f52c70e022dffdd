use kinesis_core::{Clock, Rand};

use super::*;
use crate::lease::LeaseSettings;
use crate::lease::pulse::{Farewell, Pulse};
use crate::lease::stats::CPU;
use crate::lease::tests::rig::Rig;

/// Gives these readings, one after the other, and then fails.
struct Told {
    name: &'static str,
    range: u8,
    readings: Vec<Reading>,
}

#[derive(Clone, Copy)]
enum Reading {
    Is(f64),
    Fails,
    Panics,
    Hangs,
}

use Reading::{Fails, Hangs, Is, Panics};

#[async_trait]
impl WorkerMetric for Told {
    fn short_name(&self) -> &str {
        self.name
    }

    fn max_utilization(&self) -> u8 {
        self.range
    }

    async fn capture(&mut self) -> Result<f64, BoxError> {
        if self.readings.is_empty() {
            return Err("nothing left".into());
        }
        match self.readings.remove(0) {
            Is(value) => Ok(value),
            Fails => Err("the pool is closed".into()),
            Panics => panic!("on purpose"),
            Hangs => std::future::pending().await,
        }
    }
}

fn told(name: &'static str, range: u8, readings: &[Reading]) -> Box<dyn WorkerMetric> {
    Box::new(Told {
        name,
        range,
        readings: readings.to_vec(),
    })
}

fn refusal(metrics: Vec<Box<dyn WorkerMetric>>) -> String {
    let error = Meters::new(metrics).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    error.to_string()
}

#[test]
fn metrics_that_a_row_cannot_hold_are_refused_by_name_and_bound() {
    for name in ["", "T", "THROUGHPUT", "a name of more than 32 characters"] {
        let text = refusal(vec![told(name, 100, &[])]);
        assert!(text.contains("1 to 32") && text.contains(name), "{text}");
    }
    for range in [0, 101] {
        let text = refusal(vec![told("M", range, &[])]);
        assert!(
            text.contains("1 to 100") && text.contains("\"M\""),
            "{text}"
        );
    }
    let text = refusal(vec![
        told("M", 1, &[]),
        told(CPU, 1, &[]),
        told("M", 2, &[]),
    ]);
    assert!(text.contains("\"M\"") && text.contains("once"), "{text}");
    let names = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let text = refusal(names.map(|name| told(name, 1, &[])).into());
    assert!(text.contains("at most 8"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn each_reading_stands_in_the_row_with_its_range_and_one_that_failed_as_such() {
    let nan = f64::NAN;
    let readings = [Is(12.5), Is(nan), Is(-0.1), Is(100.1), Fails, Panics, Hangs];
    let mut meters = Meters::new(vec![
        told("M", 80, &readings),
        told("NI", 100, &[Is(0.0), Is(100.0)]),
    ])
    .expect("valid");
    let mut stats = WorkerStats::new("a", 0);
    for reading in 0..readings.len() {
        meters.capture(Duration::from_secs(1), &mut stats).await;
        assert_eq!(stats.is_failing(), reading > 0, "reading {reading}");
    }
    assert_eq!(
        stats.values["M"],
        [12.5, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]
    );
    assert_eq!(stats.values["NI"][..3], [0.0, 100.0, -1.0]);
    assert_eq!((stats.ranges["M"], stats.ranges["NI"]), (80, 100));
}

#[tokio::test(start_paused = true)]
async fn a_metric_that_never_gave_a_reading_is_not_in_the_row() {
    let mut meters =
        Meters::new(vec![told("M", 80, &[Fails, Panics, Is(3.0), Fails])]).expect("valid");
    let mut stats = WorkerStats::new("a", 0);
    for _ in 0..2 {
        meters.capture(Duration::from_secs(1), &mut stats).await;
        assert_eq!(stats, WorkerStats::new("a", 0));
        assert!(meters.all[0].mute, "it is said once");
    }
    for values in [vec![3.0], vec![3.0, -1.0]] {
        meters.capture(Duration::from_secs(1), &mut stats).await;
        assert_eq!(stats.values["M"], values);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_metric_never_answers_leads_on_and_writes_its_row() {
    let rig = Rig::new(1).await;
    let table = rig.table().await;
    let (settings, farewell) = (LeaseSettings::default(), Farewell::default());
    let hang = [Is(7.0), Hangs, Hangs, Hangs, Hangs, Hangs];
    let meters = Meters::new(vec![told("M", 80, &hang)]).expect("valid");
    let clock = Clock::system();
    let (pulse, view) = Pulse::new(
        &crate::lease::gauges::Labels::new("billing", "me"),
        rig.table().await,
        &settings,
        meters,
        farewell.clone(),
        clock.clone(),
        Rand::seeded(1),
    );
    let running = tokio::spawn(pulse.run());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut reports = BTreeSet::new();
    for _ in 0..1_200 {
        assert!(view.borrow().leads(clock.now()));
        let rows = table.scan(true).await.expect("scans").stats;
        reports.extend(
            rows.iter()
                .map(|row| (row.updated_at, row.values["M"].len())),
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(reports.len() >= 4, "{reports:?}");
    farewell.gone.cancel();
    running.await.expect("no panic").expect("in order");
}
