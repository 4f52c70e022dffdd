//! Where shards stop at what fails.

use super::*;

/// As [`three`], where a shard stops at the second failure.
fn stopping() -> Truth {
    Truth {
        stops_after: Some(2),
        ..three()
    }
}

/// A processor that failed with the first record so, and was then called.
fn failed(endings: &[Ending], then: Vec<Event>) -> Vec<Vec<Event>> {
    let a = instance(0, "a");
    let mut history = taken(&a);
    history.extend(endings.iter().map(|ending| batch(&a, &[1], *ending)));
    history.push(then);
    history
}

#[test]
fn a_processor_that_is_called_though_its_shard_stopped_is_found() {
    let a = instance(0, "a");
    let goes_on =
        |truth, endings: &[Ending]| broken(truth, failed(endings, batch(&a, &[1], Ending::Done)));
    assert_eq!(goes_on(stopping(), &[Ending::Failed]), NOTHING);
    assert_eq!(goes_on(stopping(), &[Ending::Dropped; 2]), NOTHING);
    assert_eq!(goes_on(stopping(), &[Ending::Failed; 2]), [Rule::Stopped]);
    assert_eq!(goes_on(stopping(), &[Ending::Poison]), [Rule::Stopped]);
    assert_eq!(
        goes_on(three(), &[Ending::Poison]),
        NOTHING,
        "no such fleet"
    );
    let last = vec![
        enters(&a, Call::Shutdown),
        leaves(&a, Call::Shutdown, Ending::Done),
    ];
    assert_eq!(broken(stopping(), failed(&[Ending::Poison], last)), NOTHING);
}

#[test]
fn the_failures_of_each_batch_are_counted_by_themselves() {
    let a = instance(0, "a");
    let mut history = failed(&[Ending::Failed, Ending::Done], Vec::new());
    history.extend([
        batch(&a, &[2], Ending::Failed),
        batch(&a, &[2], Ending::Done),
        batch(&a, &[3], Ending::Failed),
        batch(&a, &[3], Ending::Done),
    ]);
    assert_eq!(broken(stopping(), history), NOTHING);
}

#[test]
fn a_fleet_is_at_rest_beside_a_shard_that_stopped_until_that_is_mended() {
    let a = instance(0, "a");
    let shut = vec![
        enters(&a, Call::Shutdown),
        leaves(&a, Call::Shutdown, Ending::Done),
    ];
    let told = || failed(&[Ending::Poison], shut.clone());
    assert_eq!(unrest(stopping(), told()), None);
    let untold = failed(&[Ending::Poison], Vec::new());
    holds(unrest(stopping(), untold), "records");
    let mut mended = told();
    mended.push(vec![Event::Mended]);
    holds(unrest(stopping(), mended), "records");
    // Nor where nobody has it any more.
    let mut gone = told();
    gone.push(vec![down("a")]);
    holds(unrest(stopping(), gone), "no living worker owns");
}
