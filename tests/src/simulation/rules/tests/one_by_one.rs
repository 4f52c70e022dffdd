//! Records that are gone through one by one.

use super::*;

/// As [`three`], of two keys: 1 and 3 are of one.
fn two_keys(each: ForEach) -> Truth {
    let shard = ShardId::from_index(SHARD);
    let keys = [(1, "a"), (2, "b"), (3, "a")];
    Truth {
        records: keys.map(|(n, key)| written(&shard, n, key)).to_vec(),
        each: Some(each),
        ..three()
    }
}

fn takes(instance: &Instance, number: u64) -> Event {
    Event::Takes {
        instance: instance.clone(),
        position: at(number),
    }
}

fn is_over(instance: &Instance, number: u64, ending: Ending) -> Event {
    Event::Handled {
        instance: instance.clone(),
        position: at(number),
        ending,
    }
}

/// The rules that a call with all three records breaks in which this happens.
fn one_by_one(each: ForEach, events: &[(char, u64)], checkpoint: u64) -> Vec<Rule> {
    let a = instance(0, "a");
    let mut history = taken(&a);
    let mut call = vec![enters(&a, Call::Process)];
    call.extend((1..=3).map(|number| given(&a, number)));
    call.extend(events.iter().map(|(what, number)| match what {
        '+' => takes(&a, *number),
        '.' => is_over(&a, *number, Ending::Done),
        _ => is_over(&a, *number, Ending::Failed),
    }));
    call.push(row(2, "a", at(checkpoint)));
    history.push(call);
    broken(two_keys(each), history)
}

#[test]
fn records_that_are_taken_one_by_one_out_of_turn_are_found() {
    let each = ForEach {
        concurrency: 2,
        ..ForEach::default()
    };
    let any_order = ForEach {
        order_per_key: false,
        ..each.clone()
    };
    let turns = [('+', 1), ('+', 2), ('.', 2), ('.', 1), ('+', 3), ('.', 3)];
    assert_eq!(one_by_one(each.clone(), &turns, 3), NOTHING);
    let early = [('+', 1), ('+', 3), ('.', 3), ('.', 1)];
    assert_eq!(one_by_one(each.clone(), &early, 1), [Rule::Order]);
    assert_eq!(one_by_one(any_order.clone(), &early, 1), NOTHING);
    let failed = [('+', 1), ('-', 1), ('+', 1), ('.', 1), ('+', 3), ('.', 3)];
    assert_eq!(one_by_one(each.clone(), &failed, 1), NOTHING, "failed");
    let again = [('+', 1), ('.', 1), ('+', 1)];
    assert_eq!(one_by_one(each.clone(), &again, 1), [Rule::Order], "again");
    let crowd = [('+', 1), ('+', 2), ('+', 3), ('.', 1)];
    assert_eq!(one_by_one(any_order, &crowd, 1), [Rule::Order], "a crowd");
    let gap = [('+', 1), ('+', 2), ('.', 2)];
    assert_eq!(one_by_one(each, &gap, 2), [Rule::Lost], "a gap");
}

#[test]
fn a_record_that_is_taken_outside_of_a_call_is_found() {
    let a = instance(0, "a");
    let mut history = taken(&a);
    history.push(batch(&a, &[1], Ending::Dropped));
    history.push(vec![takes(&a, 1)]);
    assert_eq!(
        broken(two_keys(ForEach::default()), history),
        [Rule::TwoOwners]
    );
}

#[test]
fn in_quiet_what_was_handled_in_a_row_does_not_come_again_after_an_orderly_end() {
    let (a, b) = (instance(0, "a"), instance(1, "b"));
    let followed = |ending, from: Position| {
        let mut history = taken(&a);
        let mut call = vec![Event::Quiet, enters(&a, Call::Process)];
        call.extend((1..=3).map(|number| given(&a, number)));
        for number in [1, 2] {
            call.extend([takes(&a, number), is_over(&a, number, Ending::Done)]);
        }
        call.push(leaves(&a, Call::Process, ending));
        call.push(enters(&a, Call::Shutdown));
        call.push(leaves(&a, Call::Shutdown, Ending::Done));
        call.push(row(2, "b", from.clone()));
        history.extend([call, begins(&b, from)]);
        broken(two_keys(ForEach::default()), history)
    };
    assert_eq!(followed(Ending::Failed, at(2)), NOTHING);
    assert_eq!(followed(Ending::Failed, at(1)), [Rule::Twice]);
    assert_eq!(followed(Ending::Dropped, at(1)), NOTHING);
}

#[test]
fn a_record_does_not_wait_for_one_from_before_the_start() {
    let a = instance(0, "a");
    let stands = |counter, position| {
        let mut event = row(counter, "a", position);
        if let Event::Row { row, .. } = &mut event {
            row.starts_at = Some(START_MS + 2_000);
        }
        event
    };
    let start = Position::AtTimestamp;
    let mut call = vec![enters(&a, Call::Process), given(&a, 2), given(&a, 3)];
    for number in [3, 2] {
        call.extend([takes(&a, number), is_over(&a, number, Ending::Done)]);
    }
    call.extend([leaves(&a, Call::Process, Ending::Done), stands(2, at(3))]);
    let history = [
        vec![up("a"), led("a"), stands(1, start.clone())],
        begins(&a, start),
        call,
    ];
    let truth = Truth {
        initial: InitialPosition::AtTimestamp(START_MS + 2_000),
        ..two_keys(ForEach::default())
    };
    assert_eq!(broken(truth, history), NOTHING);
}
