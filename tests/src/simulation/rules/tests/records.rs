//! What processors are given, and what they are done with.

use super::*;

#[test]
fn a_checkpoint_behind_a_record_that_nobody_is_done_with_loses_it() {
    let a = instance(0, "a");
    for (ending, asked) in [(Ending::Failed, false), (Ending::Dropped, false)] {
        let mut history = taken(&a);
        history.push(batch(&a, &[1], ending));
        history.push(vec![row(2, "a", at(1))]);
        assert_eq!(broken(three(), history), [Rule::Lost], "{ending:?} {asked}");
    }
    // A processor that asked for the checkpoint was done, whatever became of its call.
    let mut history = taken(&a);
    history.push(vec![enters(&a, Call::Process), given(&a, 1), asks(&a)]);
    history.push(vec![
        leaves(&a, Call::Process, Ending::Dropped),
        row(2, "a", at(1)),
    ]);
    assert_eq!(broken(three(), history), NOTHING);
    // A dead letter is no loss.
    let mut history = taken(&a);
    history.push(batch(&a, &[1], Ending::Failed));
    let buried = Event::Buried {
        shard: a.shard.clone(),
        position: at(1),
    };
    history.push(vec![buried, row(2, "a", at(1))]);
    assert_eq!(broken(three(), history), NOTHING);
    // The end of a shard is behind all of it.
    let mut history = taken(&a);
    history.push(batch(&a, &[1, 2], Ending::Done));
    history.push(vec![row(2, "a", Position::ShardEnd)]);
    assert_eq!(broken(three(), history), [Rule::Lost]);
}

#[test]
fn a_batch_behind_one_that_failed_and_is_not_dealt_with_is_found() {
    let a = instance(0, "a");
    let behind = |between: Vec<Event>| {
        let mut history = taken(&a);
        history.push(batch(&a, &[1, 2], Ending::Failed));
        history.push(between);
        history.push(batch(&a, &[3], Ending::Done));
        broken(three(), history)
    };
    let letter = |number| Event::Buried {
        shard: a.shard.clone(),
        position: at(number),
    };
    assert_eq!(behind(Vec::new()), [Rule::Order]);
    assert_eq!(behind(vec![letter(1)]), [Rule::Order]);
    assert_eq!(behind(vec![letter(1), letter(2)]), NOTHING);
    assert_eq!(behind(batch(&a, &[1, 2], Ending::Done)), NOTHING);
}

#[test]
fn records_out_of_their_order_are_found() {
    let a = instance(0, "a");
    let cases: [(&[&[u64]], &str); 5] = [
        (&[&[2]], "the first is left out"),
        (&[&[1, 3]], "one in the middle is left out"),
        (&[&[1], &[3]], "one between batches is left out"),
        (&[&[1, 2], &[2, 3]], "one that was processed comes again"),
        (&[&[1, 2, 1]], "one comes back in its batch"),
    ];
    for (batches, what) in cases {
        let mut history = taken(&a);
        history.extend(
            batches
                .iter()
                .map(|numbers| batch(&a, numbers, Ending::Done)),
        );
        assert_eq!(broken(three(), history), [Rule::Order], "{what}");
    }
    let mut history = taken(&a);
    history.push(batch(&a, &[1, 2, 3, 4], Ending::Done));
    assert_eq!(broken(three(), history), [Rule::Order], "never written");
    let mut history = taken(&a);
    history.extend([
        vec![row(2, "b", Position::TrimHorizon)],
        begins(&instance(1, "b"), at(1)),
    ]);
    assert_eq!(broken(three(), history), [Rule::Order], "begins elsewhere");
    let history = vec![batch(&a, &[1], Ending::Done)];
    assert_eq!(broken(three(), history), [Rule::Order], "never began");
}
