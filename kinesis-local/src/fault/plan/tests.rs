use super::*;

fn read(json: &str) -> Result<FaultPlan, String> {
    let plan: FaultPlan = serde_json::from_str(json).map_err(|error| error.to_string())?;
    plan.validate().map_err(|error| error.to_string())?;
    Ok(plan)
}

#[test]
fn a_plan_is_written_as_it_is_read() {
    let plan = FaultPlan::seeded(7)
        .rule(
            FaultRule::new(FaultEffect::error("InternalFailure"))
                .name("broken")
                .service(FaultService::DynamoDb)
                .operation("UpdateItem")
                .stream("leases")
                .access_key("AKIA")
                .user_agent("java")
                .between_ms(5, 10)
                .skip(1)
                .every(3)
                .rate(0.5)
                .times(9),
        )
        .rule(FaultRule::new(FaultEffect::fail_entries(0.25, "InternalFailure")).shard("shardId-1"))
        .rule(FaultRule::new(FaultEffect::DropRequest))
        .rule(FaultRule::new(FaultEffect::DropResponse))
        .rule(FaultRule::new(FaultEffect::ExpiredIterator))
        .rule(FaultRule::new(FaultEffect::cut_after_events(2, 10)))
        .rule(FaultRule::new(FaultEffect::silent_after_events(0)))
        .rule(FaultRule::new(FaultEffect::latency_between_ms(5, 50)));
    let written = serde_json::to_string(&plan).unwrap();
    assert_eq!(read(&written).unwrap(), plan, "{written}");
}

#[test]
fn the_least_that_a_rule_says_is_its_effect() {
    let plan = read(r#"{"rules":[{"effect":"drop_response"}]}"#).unwrap();
    let expected = FaultPlan::seeded(0).rule(FaultRule::new(FaultEffect::DropResponse));
    assert_eq!(plan, expected);
    let table = read(r#"{"rules":[{"table":"leases","effect":"drop_request"}]}"#).unwrap();
    assert_eq!(table.rules[0].stream.as_deref(), Some("leases"));
}

#[test]
fn what_is_wrong_with_a_plan_is_told_by_rule_and_field() {
    let cases = [
        (
            r#"{"rules":[{"effect":"drop_response","rate":1.5}]}"#,
            "rules[0].rate",
        ),
        (
            r#"{"rules":[{"effect":"drop_response","rate":-1}]}"#,
            "rules[0].rate",
        ),
        (
            r#"{"rules":[{"effect":"drop_response","every":0}]}"#,
            "rules[0].every",
        ),
        (
            r#"{"rules":[{"effect":"drop_response","from_ms":9,"until_ms":8}]}"#,
            "rules[0].until_ms",
        ),
        (
            r#"{"rules":[{"effect":{"error":{"code":""}}}]}"#,
            "rules[0].effect.error.code",
        ),
        (
            r#"{"rules":[{"effect":{"error":{"code":"a\"b"}}}]}"#,
            "rules[0].effect.error.code",
        ),
        (
            r#"{"rules":[{"effect":{"error":{"code":"A","status":200}}}]}"#,
            "rules[0].effect.error.status",
        ),
        (
            r#"{"rules":[{"effect":{"fail_entries":{"rate":2}}}]}"#,
            "rules[0].effect.fail_entries.rate",
        ),
        (
            r#"{"rules":[{"effect":{"latency":{"min_ms":2,"max_ms":1}}}]}"#,
            "rules[0].effect.latency",
        ),
        (
            r#"{"rules":[{"effect":{"latency":{"min_ms":0,"max_ms":3600001}}}]}"#,
            "rules[0].effect.latency",
        ),
        (r#"{"rules":[{"efect":"drop_response"}]}"#, "efect"),
        (r#"{"rules":[{"effect":"drop"}]}"#, "drop_response"),
        (r#"{"rules":[{"operations":["PutRecord"]}]}"#, "effect"),
    ];
    for (json, named) in cases {
        let error = read(json).unwrap_err();
        assert!(error.contains(named), "{json}: {error}");
    }
    let long = FaultRule::new(FaultEffect::DropRequest).stream("s".repeat(1025));
    let error = FaultPlan::default().rule(long).validate().unwrap_err();
    assert!(error.to_string().contains("rules[0].stream"), "{error}");
    let many = FaultPlan {
        seed: 0,
        rules: vec![FaultRule::new(FaultEffect::DropRequest); FAULT_RULES_MAX + 1],
    };
    assert!(
        many.validate()
            .unwrap_err()
            .to_string()
            .contains("at most 256")
    );
}
