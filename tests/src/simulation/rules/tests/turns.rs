//! Whose turn a shard is.

use super::*;

#[test]
fn two_processors_of_a_shard_at_work_are_found() {
    let (a, b) = (instance(0, "a"), instance(1, "b"));
    let start = Position::TrimHorizon;
    // b begins while a is in a call.
    let mut history = taken(&a);
    history.push(vec![enters(&a, Call::Process), row(2, "b", start.clone())]);
    history.push(begins(&b, start.clone()));
    assert_eq!(broken(three(), history), [Rule::TwoOwners]);
    // a is called again though b has begun.
    let mut history = taken(&a);
    history.push(vec![row(2, "b", start.clone())]);
    history.push(begins(&b, start.clone()));
    history.push(batch(&a, &[1], Ending::Done));
    assert_eq!(broken(three(), history), [Rule::TwoOwners]);
    // What is said of the loss is no work.
    let mut history = taken(&a);
    history.push(vec![row(2, "b", start.clone())]);
    history.push(begins(&b, start));
    let lost = Call::LeaseLost;
    history.push(vec![
        enters(&a, lost),
        enters(&b, Call::Process),
        leaves(&a, lost, Ending::Done),
    ]);
    history.push(vec![leaves(&b, Call::Process, Ending::Failed)]);
    assert_eq!(broken(three(), history), NOTHING);
}

#[test]
fn a_child_that_begins_before_its_parents_end_is_found() {
    let (parent, child) = (of_shard(0, "a", 0), of_shard(1, "a", 1));
    let start = Position::TrimHorizon;
    let begun = |ended: bool| {
        let mut history = vec![
            vec![row_of(0, 1, "a", start.clone())],
            begins(&parent, start.clone()),
        ];
        if ended {
            history.push(vec![row_of(0, 2, "a", Position::ShardEnd)]);
        }
        history.push(vec![row_of(1, 1, "a", start.clone())]);
        history.push(begins(&child, start.clone()));
        broken(split(), history)
    };
    assert_eq!(begun(false), [Rule::Parents]);
    assert_eq!(begun(true), NOTHING);
}
