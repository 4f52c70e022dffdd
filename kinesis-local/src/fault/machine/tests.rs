use super::super::plan::FaultService;
use super::*;

fn call(operation: &str) -> Call {
    Call {
        service: Some(FaultService::Kinesis),
        operation: operation.to_owned(),
        ..Call::default()
    }
}

fn machine(plan: FaultPlan) -> (Machine, Instant) {
    let now = kinesis_core::Clock::system().now();
    (Machine::new(plan, now), now)
}

/// Which of so many calls of an operation are refused, as `x` and `-`.
fn refused(rule: FaultRule, calls: usize) -> String {
    let (mut machine, now) = machine(FaultPlan::seeded(3).rule(rule));
    let mut refused = String::new();
    for _ in 0..calls {
        let effects = machine.decide(&call("PutRecord"), now);
        refused.push(if effects.refusal.is_some() { 'x' } else { '-' });
    }
    refused
}

fn error() -> FaultRule {
    FaultRule::new(FaultEffect::error("InternalFailure"))
}

#[test]
fn the_same_seed_and_calls_have_the_same_effects_and_another_seed_has_others() {
    let run = |seed| {
        let plan = FaultPlan::seeded(seed)
            .rule(error().rate(0.5))
            .rule(FaultRule::new(FaultEffect::latency_between_ms(0, 1000)).rate(0.5))
            .rule(FaultRule::new(FaultEffect::fail_entries(
                0.5,
                "InternalFailure",
            )));
        let (mut machine, now) = machine(plan);
        let mut told = String::new();
        for number in 0..50 {
            let operation = ["PutRecords", "GetRecords"][number % 2];
            let effects = machine.decide(&call(operation), now);
            told.push_str(&format!("{:?} {:?}", effects.refusal, effects.after));
            for _ in 0..3 {
                told.push_str(&format!(
                    "{:?}",
                    effects
                        .entries
                        .next("shardId-000000000000", "s", "000000000000")
                ));
            }
        }
        told
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_rule_behind_it_does_not_change_what_a_rule_does() {
    let run = |more: Option<FaultRule>| {
        let mut plan =
            FaultPlan::seeded(9).rule(FaultRule::new(FaultEffect::DropRequest).rate(0.5));
        plan.rules.extend(more);
        let (mut machine, now) = machine(plan);
        let mut lost = Vec::new();
        for _ in 0..50 {
            lost.push(machine.decide(&call("PutRecord"), now).request_lost);
        }
        lost
    };
    assert_eq!(run(None), run(Some(error().rate(0.5))));
}

#[test]
fn calls_are_taken_by_number() {
    assert_eq!(refused(error().times(2), 6), "xx----");
    assert_eq!(refused(error().skip(2), 6), "--xxxx");
    assert_eq!(refused(error().every(3), 7), "x--x--x");
    assert_eq!(refused(error().skip(1).every(2).times(2), 8), "-x-x----");
    assert_eq!(refused(error().rate(0.0), 5), "-----");
    let some = refused(error().rate(0.3), 1000).matches('x').count();
    assert!(
        (250..350).contains(&some),
        "{some} of 1,000 at a rate of 0.3"
    );
    let few = refused(error().rate(0.5).times(3), 100);
    assert_eq!(few.matches('x').count(), 3, "{few}");
}

#[test]
fn a_rule_holds_in_its_window_alone() {
    let (mut machine, now) = machine(FaultPlan::default().rule(error().between_ms(100, 200)));
    for (at, expected) in [
        (0, false),
        (99, false),
        (100, true),
        (199, true),
        (200, false),
    ] {
        let effects = machine.decide(&call("PutRecord"), now + Duration::from_millis(at));
        assert_eq!(effects.refusal.is_some(), expected, "after {at} ms");
    }
    assert_eq!(machine.counts()[0].matched, 2);
}

#[test]
fn only_calls_that_are_all_that_a_rule_says_are_taken() {
    let full = Call {
        service: Some(FaultService::Kinesis),
        operation: "GetRecords".to_owned(),
        streams: vec!["s".to_owned()],
        shards: vec!["shardId-000000000001".to_owned()],
        access_key: Some("AKID".to_owned()),
        user_agents: vec!["aws-sdk-rust/1".to_owned(), "app/worker".to_owned()],
        ..Call::default()
    };
    let rule = error()
        .service(FaultService::Kinesis)
        .operation("GetRecords")
        .operation("PutRecord")
        .stream("s")
        .shard("shardId-000000000001")
        .access_key("AKID")
        .user_agent("worker");
    let takes = |call: &Call| {
        let (mut machine, now) = machine(FaultPlan::default().rule(rule.clone()));
        machine.decide(call, now).refusal.is_some()
    };
    assert!(takes(&full));
    let others: [fn(&mut Call); 8] = [
        |call| call.service = Some(FaultService::S3),
        |call| call.operation = "ListShards".to_owned(),
        |call| call.streams = vec!["t".to_owned()],
        |call| call.streams.clear(),
        |call| call.shards.clear(),
        |call| call.access_key = Some("OTHER".to_owned()),
        |call| call.user_agents.clear(),
        |call| call.user_agents = vec!["other".to_owned()],
    ];
    for (number, change) in others.iter().enumerate() {
        let mut other = full.clone();
        change(&mut other);
        assert!(!takes(&other), "change {number}");
    }
}

#[test]
fn the_effects_of_all_rules_add_up_and_the_first_error_counts() {
    let latency = || FaultRule::new(FaultEffect::latency_ms(100));
    let plan = FaultPlan::default()
        .rule(latency())
        .rule(FaultRule::new(FaultEffect::latency_before_ms(7)))
        .rule(FaultRule::new(FaultEffect::error("First")))
        .rule(FaultRule::new(FaultEffect::error("Second")))
        .rule(latency())
        .rule(FaultRule::new(FaultEffect::DropResponse))
        .rule(FaultRule::new(FaultEffect::cut_after_events(2, 3)));
    let (mut machine, now) = machine(plan);
    let effects = machine.decide(&call("PutRecord"), now);
    assert_eq!(effects.after, Duration::from_millis(200));
    assert_eq!(effects.before, Duration::from_millis(7));
    let refusal = effects.refusal.unwrap();
    assert_eq!((refusal.status.as_u16(), &*refusal.code), (400, "First"));
    assert_eq!((&*refusal.rule, refusal.message), ("rule 2", None));
    assert!(effects.response_lost && !effects.request_lost);
    assert_eq!(
        effects.cut.map(|cut| (cut.events, cut.bytes)),
        Some((Some(2), 3))
    );
}

#[test]
fn entries_fail_by_shard_and_rate_and_are_counted() {
    let rule = FaultRule::new(FaultEffect::fail_entries(1.0, "InternalFailure")).shard("1");
    let (mut machine, now) = machine(FaultPlan::default().rule(rule));
    let effects = machine.decide(&call("PutRecords"), now);
    let next = |effects: &Effects, shard: &str| effects.entries.next(shard, "s", "000000000000");
    assert!(next(&effects, "shardId-000000000000").is_none());
    let refused = next(&effects, "shardId-000000000001").unwrap();
    assert_eq!(refused.code, "InternalFailure");
    assert_eq!(refused.message.unwrap(), "Internal service failure.");
    let other = machine.decide(&call("PutRecord"), now);
    assert!(next(&other, "shardId-000000000001").is_none());
    let counts = machine.counts();
    assert_eq!(
        (counts[0].matched, counts[0].fired, counts[0].entries),
        (1, 1, 1)
    );
}

#[test]
fn a_rule_meets_its_stream_and_shard_among_those_of_a_call_however_it_spells_them() {
    let merge = Call {
        streams: vec!["a".to_owned(), "b".to_owned()],
        shards: vec![
            "shardId-000000000001".to_owned(),
            "shardId-000000000002".to_owned(),
        ],
        ..call("MergeShards")
    };
    for (rule, met) in [
        (error().stream("a"), true),
        (error().stream("b").shard("2"), true),
        (error().shard("shardId-1"), true),
        (error().shard("shardId-000000000001"), true),
        (error().stream("c"), false),
        (error().shard("3"), false),
        (error().stream("c").shard("1"), false),
    ] {
        let (mut machine, now) = machine(FaultPlan::default().rule(rule.clone()));
        let effects = machine.decide(&merge, now);
        assert_eq!(effects.refusal.is_some(), met, "{rule:?}");
    }
}
