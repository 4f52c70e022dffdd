//! Days of traffic in milliseconds, against rules written once more and plainly.

use kinesis_core::Rand;
use kinesis_core::limits::MIB;
use proptest::prelude::*;

use super::*;
use crate::stream::change::{Change, Warming};
use crate::stream::tests::new_stream;
use crate::stream::{Mode, NewStream, Stream};

const NOW_MS: u64 = 1_795_399_200_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const M: u64 = MIB as u64;

/// A stream whose shards are only indices.
struct Shards {
    demand: Demand,
    open: Vec<u32>,
    next: u32,
    now_ms: u64,
}

impl Shards {
    fn new(count: u32) -> Self {
        Self {
            demand: Demand::start(count, NOW_MS),
            open: (0..count).collect(),
            next: count,
            now_ms: NOW_MS,
        }
    }

    /// Writes for a minute, at this rate to every shard.
    fn minute(&mut self, bytes_per_second: u64) {
        for shard in self.open.clone() {
            self.write(shard, 60 * bytes_per_second);
        }
        self.now_ms += MINUTE_MS;
    }

    fn write(&mut self, shard: u32, bytes: u64) {
        let open = self.open.len() as u32;
        self.demand.observe(open, shard, bytes, 1, self.now_ms);
    }

    fn look(&mut self) -> Option<Plan> {
        let plan = self
            .demand
            .plan(&self.open, 0, ON_DEMAND_SHARDS_MAX, self.now_ms);
        if let Some(plan) = &plan {
            self.carry_out(plan);
        }
        plan
    }

    fn carry_out(&mut self, plan: &Plan) {
        match plan {
            Plan::Split(split) => {
                for (shard, pieces) in split {
                    self.open.retain(|open| open != shard);
                    self.open.extend(self.next..self.next + pieces);
                    self.next += pieces;
                }
            }
            Plan::Merge(target) => {
                self.open = (self.next..self.next + target).collect();
                self.next += target;
            }
        }
        self.demand.scaled(self.now_ms);
    }
}

#[test]
fn a_shard_that_takes_more_than_half_is_split_after_its_minute() {
    let mut shards = Shards::new(4);
    shards.minute(M / 2);
    assert_eq!(shards.look(), None, "half is not more than half");
    shards.minute(M / 2 + 1);
    let all = vec![(0, 2), (1, 2), (2, 2), (3, 2)];
    assert_eq!(shards.look(), Some(Plan::Split(all)));
    assert_eq!(shards.open.len(), 8);
}

#[test]
fn only_the_hot_shard_is_split_into_as_many_pieces_as_it_needs() {
    let mut shards = Shards::new(4);
    shards.write(2, 60 * M * 3 / 2);
    shards.now_ms += MINUTE_MS;
    assert_eq!(shards.look(), Some(Plan::Split(vec![(2, 4)])));
}

#[test]
fn records_count_as_bytes_do() {
    let mut shards = Shards::new(4);
    shards.demand.observe(4, 1, 0, 60 * 500 + 1, NOW_MS);
    shards.now_ms += MINUTE_MS;
    assert_eq!(shards.look(), Some(Plan::Split(vec![(1, 2)])));
}

#[test]
fn a_quarter_of_an_hour_lies_between_two_scalings() {
    let mut shards = Shards::new(4);
    shards.minute(M);
    assert!(shards.look().is_some());
    for _ in 0..14 {
        shards.minute(M);
        assert_eq!(shards.look(), None);
    }
    shards.minute(M);
    assert!(shards.look().is_some());
    assert_eq!(shards.open.len(), 16);
}

#[test]
fn the_highest_rate_is_held_for_thirty_days_and_then_given_up() {
    let mut shards = Shards::new(4);
    shards.minute(M);
    shards.look();
    assert_eq!(shards.open.len(), 8);
    let peak_ms = shards.now_ms;
    while shards.now_ms < peak_ms + 30 * DAY_MS - 8 * HOUR_MS {
        shards.now_ms += 7 * HOUR_MS;
        shards.write(shards.open[0], 1);
        assert_eq!(
            shards.look(),
            None,
            "after {} h",
            (shards.now_ms - peak_ms) / HOUR_MS
        );
    }
    shards.now_ms = peak_ms + 30 * DAY_MS + HOUR_MS;
    assert_eq!(shards.look(), Some(Plan::Merge(4)));
    shards.now_ms += 60 * DAY_MS;
    assert_eq!(shards.look(), None, "four are the least");
}

#[test]
fn what_is_kept_warm_is_not_merged() {
    let mut demand = Demand::start(16, NOW_MS);
    let open: Vec<u32> = (0..16).collect();
    let later = NOW_MS + 31 * DAY_MS;
    assert_eq!(demand.plan(&open, 9, ON_DEMAND_SHARDS_MAX, later), None);
    assert_eq!(
        demand.plan(&open, 8, ON_DEMAND_SHARDS_MAX, later),
        Some(Plan::Merge(8))
    );
}

#[test]
fn excess_capacity_that_is_released_leaves_what_the_last_hours_needed() {
    let mut shards = Shards::new(4);
    shards.minute(M);
    shards.look();
    shards.now_ms += 3 * HOUR_MS;
    shards.minute(M / 8);
    assert_eq!(shards.demand.needed_lately(8, shards.now_ms), 2);
    shards.demand.release(shards.now_ms);
    assert_eq!(shards.demand.held(shards.now_ms), 2);
}

#[test]
fn a_stream_has_no_more_shards_than_the_service_gives_it() {
    let mut shards = Shards::new(ON_DEMAND_SHARDS_MAX - 3);
    shards.write(0, 60 * 4 * M); // eight pieces
    shards.write(1, 60 * M);
    shards.now_ms += MINUTE_MS;
    assert_eq!(shards.look(), Some(Plan::Split(vec![(1, 2)])));
}

#[test]
fn traffic_gets_a_stream_what_its_region_gives_and_no_more() {
    for (region, most) in [
        ("us-east-1", 10_240),
        ("us-west-2", 10_240),
        ("eu-west-1", 10_240),
        ("eu-central-1", 200),
        ("local", 200),
    ] {
        assert_eq!(shards_max(region), most, "{region}");
        let open: Vec<u32> = (0..most - 3).collect();
        let mut demand = Demand::start(most - 3, NOW_MS);
        demand.observe(most - 3, 0, 60 * 4 * M, 1, NOW_MS); // eight pieces
        demand.observe(most - 3, 1, 60 * M, 1, NOW_MS);
        let plan = demand.plan(&open, 0, most, NOW_MS + MINUTE_MS);
        assert_eq!(plan, Some(Plan::Split(vec![(1, 2)])), "{region}");
        let plan = demand.plan(&open, 0, most - 3, NOW_MS + MINUTE_MS);
        assert_eq!(plan, None, "{region}: it has what there is");
    }
}

/// The rules once more: everything that was written is kept, and looked through at every question.
#[derive(Default)]
struct Model {
    /// When, to which shard, bytes, records, and how many shards were open.
    written: Vec<(u64, u32, u64, u64, u32)>,
    scaled_ms: Option<u64>,
    started: (u64, u32),
}

impl Model {
    /// What each shard took in `minute`, in halves of what a shard can take.
    fn loads(&self, minute: u64) -> (BTreeMap<u32, (f64, f64)>, u32) {
        let mut loads: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
        let mut open = 0;
        for (at_ms, shard, bytes, records, there) in &self.written {
            if at_ms / MINUTE_MS == minute {
                let load = loads.entry(*shard).or_default();
                load.0 += *bytes as f64 / 60.0 / (M as f64 / 2.0);
                load.1 += *records as f64 / 60.0 / 500.0;
                open = *there;
            }
        }
        (loads, open)
    }

    fn needed(&self, minute: u64) -> u32 {
        let (loads, open) = self.loads(minute);
        let bytes: f64 = loads.values().map(|load| load.0).sum();
        let records: f64 = loads.values().map(|load| load.1).sum();
        let even = bytes.max(records).ceil() as u32;
        let busy = loads.values().any(|load| load.0.max(load.1) > 0.5);
        let more: u32 = loads.values().map(|load| pieces(*load) - 1).sum();
        if busy { even.max(open + more) } else { even }
    }

    fn plan(&self, open: &[u32], now_ms: u64) -> Option<Plan> {
        let quiet = |at_ms: u64| now_ms - at_ms >= 15 * MINUTE_MS;
        if !self.scaled_ms.is_none_or(quiet) {
            return None;
        }
        let past = self.written.iter().map(|(at_ms, ..)| at_ms / MINUTE_MS);
        let mut past: Vec<u64> = past.filter(|minute| *minute < now_ms / MINUTE_MS).collect();
        past.dedup();
        let mut hot: BTreeMap<u32, u32> = BTreeMap::new();
        let since = self.scaled_ms.unwrap_or_default() / MINUTE_MS;
        for minute in past.iter().filter(|minute| **minute >= since) {
            for (shard, load) in self.loads(*minute).0 {
                if pieces(load) > 1 && open.contains(&shard) {
                    let most = hot.entry(shard).or_default();
                    *most = pieces(load).max(*most);
                }
            }
        }
        if !hot.is_empty() {
            return Some(Plan::Split(hot.into_iter().collect()));
        }
        let held = |at_ms: u64| (at_ms / HOUR_MS + 1) * HOUR_MS + 30 * DAY_MS > now_ms;
        let started = Some(self.started.1).filter(|_| held(self.started.0));
        let kept = past.into_iter().filter(|minute| held(minute * MINUTE_MS));
        let most = kept.map(|minute| self.needed(minute)).chain(started).max();
        let target = most.unwrap_or_default().max(4);
        (target * 2 <= open.len() as u32).then_some(Plan::Merge(target))
    }

    fn scaled(&mut self, now_ms: u64) {
        self.scaled_ms = Some(now_ms);
        let minute = now_ms / MINUTE_MS;
        self.written
            .retain(|(at_ms, ..)| at_ms / MINUTE_MS != minute);
    }
}

fn pieces(load: (f64, f64)) -> u32 {
    let mut pieces = 1;
    while f64::from(pieces) < load.0.max(load.1) {
        pieces *= 2;
    }
    pieces
}

/// Months of a stream's life: quiet days, steady hours, bursts, and single hot shards.
fn live(seed: u64) {
    let rand = Rand::seeded(seed);
    let below = |end: u64| rand.next_u64() % end;
    let mut shards = Shards::new(1 + below(8) as u32);
    let mut model = Model {
        started: (NOW_MS, shards.open.len() as u32),
        ..Model::default()
    };
    for step in 0..120 {
        match below(8) {
            0 => shards.now_ms += below(20) * DAY_MS,
            1 => shards.now_ms += below(48) * HOUR_MS,
            _ => shards.now_ms += below(3 * MINUTE_MS),
        }
        let rate = [M / 64, M / 8, M / 3, M, 3 * M][below(5) as usize];
        let only = (below(3) == 0).then(|| shards.open[below(shards.open.len() as u64) as usize]);
        for shard in shards.open.clone() {
            if only.is_some_and(|only| only != shard) || shards.open.len() > 64 {
                continue;
            }
            let (bytes, records) = (below(60 * rate), below(60 * rate / 1024));
            let open = shards.open.len() as u32;
            shards
                .demand
                .observe(open, shard, bytes, records, shards.now_ms);
            model
                .written
                .push((shards.now_ms, shard, bytes, records, open));
        }
        shards.now_ms += below(2 * MINUTE_MS);
        let before = shards.open.clone();
        let expected = model.plan(&before, shards.now_ms);
        let plan = shards.look();
        assert_eq!(
            plan, expected,
            "seed {seed}, step {step}, shards {before:?}"
        );
        if plan.is_some() {
            model.scaled(shards.now_ms);
        }
        assert!(
            shards.demand.hours.len() <= 30 * 24 + 2,
            "seed {seed}, step {step}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn months_of_traffic_lead_to_the_shards_that_the_plain_rules_want(seed in any::<u64>()) {
        live(seed);
    }

    #[test]
    fn there_is_room_for_double_the_highest_rate_of_thirty_days(
        rates in prop::collection::vec(0..3 * M, 1..20),
        pauses in prop::collection::vec(1u64..12, 20),
    ) {
        let mut shards = Shards::new(4);
        let mut peaks: Vec<(u64, u64)> = Vec::new();
        for (rate, days) in rates.iter().zip(pauses) {
            // A minute at this rate over the whole stream, evenly.
            let each = rate / shards.open.len() as u64;
            let began_ms = shards.now_ms;
            let written = each * shards.open.len() as u64;
            shards.minute(each);
            shards.look();
            shards.now_ms += SCALING_EVERY_MS; // it may have been scaled just before
            shards.look();
            peaks.push((began_ms, written));
            let held = peaks.iter().filter(|(at_ms, _)| shards.now_ms - at_ms < 30 * DAY_MS);
            let peak = held.map(|(_, rate)| *rate).max().unwrap();
            prop_assert!(shards.open.len() as u64 * M >= 2 * peak);
            prop_assert!(shards.open.len() >= 4);
            shards.now_ms += days * DAY_MS;
            shards.look();
        }
    }
}

/// What a log holds of a stream's life.
enum Logged {
    Written(u32, usize, usize),
    Changed(Change),
}

fn on_demand_stream() -> Stream {
    Stream::create(&NewStream {
        mode: Mode::OnDemand,
        ..new_stream("s", 4)
    })
}

/// Weeks of a stream that is also looked at when nobody writes, and once more as a log tells it.
fn live_and_recover(seed: u64) {
    let rand = Rand::seeded(seed);
    let below = |end: u64| rand.next_u64() % end;
    let mut stream = on_demand_stream();
    let mut log: Vec<(u64, Logged)> = Vec::new();
    let mut now_ms = NOW_MS;
    for _ in 0..60 {
        now_ms += [MINUTE_MS, 20 * MINUTE_MS, HOUR_MS, DAY_MS][below(4) as usize];
        let change = match below(6) {
            0 => {
                let target_mibps = below(24) as u32;
                let steps = stream.steps_to_warm(target_mibps, now_ms);
                Some(Change::Warm(Warming {
                    target_mibps,
                    steps,
                }))
            }
            1 | 2 => {
                let steps = stream.steps_in_demand(0, ON_DEMAND_SHARDS_MAX, now_ms);
                steps.map(|steps| Change::Demand { steps })
            }
            _ => {
                for shard in stream.open.clone() {
                    let (bytes, records) = (below(80 * M) as usize, below(60_000) as usize);
                    stream.observe(shard, bytes, records, now_ms);
                    log.push((now_ms, Logged::Written(shard, bytes, records)));
                }
                None
            }
        };
        if let Some(change) = change {
            stream.apply(&change, now_ms).unwrap();
            log.push((now_ms, Logged::Changed(change)));
        }
        if stream.open.len() > 200 {
            break; // enough
        }
    }
    let mut recovered = on_demand_stream();
    for (at_ms, logged) in log {
        match logged {
            Logged::Written(shard, bytes, records) => {
                recovered.observe(shard, bytes, records, at_ms);
            }
            Logged::Changed(change) => recovered.apply(&change, at_ms).unwrap(),
        }
    }
    assert_eq!(recovered.warm, stream.warm, "seed {seed}");
    for hour in 0..40 * 24 {
        assert_eq!(recovered.open, stream.open, "seed {seed}, hour {hour}");
        let steps = stream.steps_in_demand(0, ON_DEMAND_SHARDS_MAX, now_ms);
        let again = recovered.steps_in_demand(0, ON_DEMAND_SHARDS_MAX, now_ms);
        assert_eq!(again, steps, "seed {seed}, hour {hour}");
        if let Some(steps) = steps {
            let change = Change::Demand { steps };
            stream.apply(&change, now_ms).unwrap();
            recovered.apply(&change, now_ms).unwrap();
        }
        now_ms += HOUR_MS;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_recovered_stream_scales_as_the_one_that_lived(seed in any::<u64>()) {
        live_and_recover(seed);
    }
}
