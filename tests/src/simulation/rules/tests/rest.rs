//! Whether the fleet is at rest.

use super::*;

#[test]
fn a_fleet_that_is_not_at_rest_is_told_from_one_that_is() {
    let a = instance(0, "a");
    let rest = |last: Vec<Event>| {
        let mut history = taken(&a);
        history.push(batch(&a, &[1, 2, 3], Ending::Done));
        history.push(last);
        unrest(three(), history)
    };
    let start = Position::TrimHorizon;
    assert_eq!(rest(Vec::new()), None);
    holds(
        rest(vec![down("a"), up("b"), led("b")]),
        "no living worker owns",
    );
    holds(
        rest(vec![row(2, "b", start.clone()), up("b")]),
        "and works on it",
    );
    holds(rest(vec![led("b")]), "no living worker leads");
    let mut handoff = row(2, "a", start);
    if let Event::Row { row, .. } = &mut handoff {
        row.checkpoint_owner = Some("a".to_owned());
    }
    holds(rest(vec![handoff]), "in a handoff");
    let mut history = taken(&a);
    history.push(batch(&a, &[1, 2], Ending::Done));
    holds(unrest(three(), history), "1 records");
    holds(unrest(split(), []), "is closed and not");
    let what = "a reason".to_owned();
    assert_eq!(
        broken(three(), [vec![Event::Unrest { what }]]),
        [Rule::Stuck]
    );
}

#[test]
fn shards_that_are_shared_out_unevenly_are_not_at_rest() {
    let shared = |by_number: bool, second: &str| {
        let start = Position::TrimHorizon;
        let mut history = vec![vec![
            up("a"),
            up("b"),
            led("a"),
            row_of(0, 1, "a", Position::ShardEnd),
        ]];
        for (number, owner) in [(1, "a"), (2, second)] {
            history.push(vec![row_of(number, 1, owner, start.clone())]);
            history.push(begins(
                &of_shard(number as usize, owner, number),
                start.clone(),
            ));
        }
        unrest(
            Truth {
                by_number,
                ..split()
            },
            history,
        )
    };
    assert_eq!(shared(true, "b"), None);
    holds(shared(true, "a"), "unevenly");
    assert_eq!(shared(false, "a"), None);
}
