//! Applications that start at an instant.

use super::*;

/// As [`three`], of an application that starts so.
fn from(initial: InitialPosition) -> Truth {
    Truth { initial, ..three() }
}

/// A lease at its beginning, with the instant that is stored with it, in seconds since the run began.
fn made(shard: u64, position: Position, seconds: Option<u64>) -> Event {
    let mut event = row_of(shard, 1, "a", position);
    if let Event::Row { row, .. } = &mut event {
        row.starts_at = seconds.map(|seconds| START_MS + 1_000 * seconds);
    }
    event
}

/// The rules that a history breaks in which the worker comes after half a minute and this happens after
/// three quarters of one.
fn late(truth: Truth, events: impl IntoIterator<Item = Vec<Event>>) -> Vec<Rule> {
    let mut checker = Checker::new(truth);
    let mut see = |at: u64, event: Event| {
        let at = Duration::from_secs(at);
        checker.see(&Entry { at, event });
    };
    see(30, up("a"));
    for event in events.into_iter().flatten() {
        see(45, event);
    }
    let rules = checker.violations().iter();
    rules.map(|violation| violation.rule).collect()
}

#[test]
fn the_newest_record_is_that_of_the_time_when_the_application_came() {
    let newest = |seconds| {
        let made = made(SHARD, Position::Latest, seconds);
        late(from(InitialPosition::Latest), [vec![made]])
    };
    assert_eq!(newest(Some(29)), NOTHING);
    assert_eq!(newest(Some(45)), NOTHING);
    assert_eq!(newest(Some(46)), [Rule::Start], "in the future");
    assert_eq!(newest(Some(9)), [Rule::Start], "long before");
    assert_eq!(newest(None), [Rule::Start], "each its own");
}

#[test]
fn all_leases_of_an_application_start_at_one_instant() {
    let [left, right] = [1, 2].map(ShardId::from_index);
    let truth = |initial| Truth {
        parents: BTreeMap::from([(left.clone(), Vec::new()), (right.clone(), Vec::new())]),
        open: BTreeSet::from([left.clone(), right.clone()]),
        initial,
        ..split()
    };
    let newest = |seconds| made(1, Position::Latest, Some(seconds));
    let second = |position, seconds| {
        let leases = vec![newest(40), made(2, position, seconds)];
        late(truth(InitialPosition::Latest), [leases])
    };
    assert_eq!(second(Position::Latest, Some(40)), NOTHING);
    assert_eq!(second(Position::Latest, Some(41)), [Rule::Start]);
    assert_eq!(second(Position::AtTimestamp, Some(40)), NOTHING);
    assert_eq!(second(Position::AtTimestamp, Some(41)), [Rule::Start]);
    assert_eq!(second(Position::TrimHorizon, None), [Rule::Start]);
    let changed = vec![newest(40), newest(39)];
    let changed = late(truth(InitialPosition::Latest), [changed]);
    assert_eq!(changed, [Rule::Start]);
    let asked = InitialPosition::AtTimestamp(START_MS + 20_000);
    for (seconds, expected) in [(20, vec![]), (21, vec![Rule::Start])] {
        let made = made(1, Position::AtTimestamp, Some(seconds));
        assert_eq!(late(truth(asked), [vec![made]]), expected, "{seconds}");
    }
}

#[test]
fn what_came_since_the_start_is_needed_and_nothing_before_it() {
    let a = instance(0, "a");
    // Record n came after n seconds.
    let initial = InitialPosition::AtTimestamp(START_MS + 2_000);
    let given = |numbers: &[u64], checkpoint: u64| {
        let start = Position::AtTimestamp;
        let history = [
            vec![made(SHARD, start.clone(), Some(2)), led("a")],
            begins(&a, start),
            batch(&a, numbers, Ending::Done),
            vec![{
                let mut event = made(SHARD, at(checkpoint), Some(2));
                if let Event::Row { row, .. } = &mut event {
                    row.counter = 2;
                }
                event
            }],
        ];
        let rest = unrest(
            from(initial),
            [vec![up("a")]].into_iter().chain(history.clone()),
        );
        (late(from(initial), history), rest.is_none())
    };
    assert_eq!(given(&[2, 3], 3), (vec![], true));
    assert_eq!(given(&[2], 2), (vec![], false), "one is left");
    assert_eq!(given(&[3], 3).0, [Rule::Order, Rule::Lost], "one is missed");
    assert_eq!(given(&[1, 2, 3], 3).0, [Rule::Start], "one is too early");
}

#[test]
fn the_beginning_of_a_child_is_not_before_the_start() {
    // The parent was read, the child begins at its beginning, and has one record of so many seconds.
    let given = |initial: InitialPosition, parent_leased: bool, second: u64| {
        let child = ShardId::from_index(1);
        let truth = Truth {
            records: vec![written(&child, second, "k")],
            initial,
            ..split()
        };
        let start = match initial {
            InitialPosition::Latest => Position::Latest,
            _ => Position::AtTimestamp,
        };
        let a = of_shard(0, "a", 1);
        let read = vec![made(0, start.clone(), Some(40)), {
            let mut event = made(0, Position::ShardEnd, Some(40));
            if let Event::Row { row, .. } = &mut event {
                row.counter = 2;
            }
            event
        }];
        let sibling = vec![made(2, start, Some(40))];
        let before = if parent_leased { read } else { sibling };
        let record = given(&a, second);
        let history = [
            before,
            vec![made(1, Position::TrimHorizon, None)],
            begins(&a, Position::TrimHorizon),
            vec![enters(&a, Call::Process), record],
        ];
        late(truth, history)
    };
    let newest = InitialPosition::Latest;
    assert_eq!(given(newest, true, 20), NOTHING);
    assert_eq!(given(newest, true, 19), [Rule::Start], "too early");
    assert_eq!(given(newest, false, 42), [Rule::Start], "of nobody");
    let instant = InitialPosition::AtTimestamp(START_MS + 40_000);
    assert_eq!(given(instant, true, 40), NOTHING);
    assert_eq!(given(instant, true, 39), [Rule::Start], "too early");
}

#[test]
fn a_lease_that_an_operator_sets_may_start_at_another_instant() {
    let at_newest = |seconds| made(SHARD, Position::Latest, Some(seconds));
    let set = |by_hand: bool| {
        let deed: Arc<str> = "operator 1".into();
        let mut written = at_newest(43);
        if let Event::Row { row, .. } = &mut written {
            row.owner = None;
        }
        let Event::Row { row, .. } = &written else {
            unreachable!("it is a row");
        };
        let to = row.start();
        let mut history = vec![at_newest(40)];
        if by_hand {
            let lease = ShardId::from_index(SHARD);
            history.push(Event::Resets {
                deed: Arc::clone(&deed),
                to,
            });
            history.push(Event::Reset { lease, deed });
        }
        history.push(written);
        late(from(InitialPosition::Latest), [history])
    };
    assert_eq!(set(true), NOTHING);
    assert_eq!(set(false), [Rule::Start]);
}

#[test]
fn a_closed_shard_from_before_the_newest_record_needs_no_lease() {
    let children = |initial| {
        let start = match initial {
            InitialPosition::Latest => Position::Latest,
            _ => Position::TrimHorizon,
        };
        let instant = (initial == InitialPosition::Latest).then_some(40);
        let truth = Truth { initial, ..split() };
        let [left, right] = [1, 2].map(|shard| of_shard(shard as usize, "a", shard));
        late(
            truth,
            [
                vec![
                    made(1, start.clone(), instant),
                    made(2, start.clone(), instant),
                ],
                begins(&left, start.clone()),
                begins(&right, start),
            ],
        )
    };
    assert_eq!(children(InitialPosition::Latest), NOTHING);
    let early = [Rule::Parents, Rule::Parents];
    assert_eq!(children(InitialPosition::TrimHorizon), early);
    // It has a lease after all.
    let child = of_shard(1, "a", 1);
    let history = [
        vec![made(1, Position::Latest, Some(40))],
        begins(&child, Position::Latest),
        vec![made(0, Position::AtTimestamp, Some(40))],
    ];
    let truth = Truth {
        initial: InitialPosition::Latest,
        ..split()
    };
    assert_eq!(late(truth, history), [Rule::Parents]);
}

#[test]
fn what_a_closed_shard_holds_from_before_the_first_lease_is_not_needed() {
    let left = |arrived: u64| {
        let parent = ShardId::from_index(0);
        let record = Written {
            arrived: START_MS + arrived,
            ..written(&parent, 1, "k")
        };
        let truth = Truth {
            records: vec![record],
            initial: InitialPosition::Latest,
            ..split()
        };
        let mut checker = Checker::new(truth);
        let at = Duration::from_millis(45_700);
        for event in [up("a"), made(1, Position::Latest, Some(45))] {
            checker.see(&Entry { at, event });
        }
        checker.unrest().filter(|what| what.contains("records"))
    };
    // The instant is that of a whole second, the lease is made later.
    assert_eq!(left(45_600), None);
    holds(left(45_800), "1 records");
}
