//! Checkpoints in two phases.

use super::*;

fn pending(position: u64, state: &str) -> Pending {
    Pending {
        position: at(position),
        state: state.to_owned(),
    }
}

fn prepares(instance: &Instance, pending: Pending) -> Event {
    let instance = instance.clone();
    Event::Prepares { instance, pending }
}

fn told(instance: &Instance, checkpoint: u64, pending: Option<Pending>) -> Event {
    Event::Told {
        instance: instance.clone(),
        checkpoint: Some(at(checkpoint)),
        pending,
    }
}

fn with(mut event: Event, stands: Pending) -> Event {
    if let Event::Row { row, .. } = &mut event {
        row.pending = Some(stands);
    }
    event
}

/// The rules that a history breaks in which `a` was done with all records and checkpointed the first,
/// prepared 2 and then 3, and this follows.
fn after(events: impl FnOnce(&Instance) -> Vec<Event>) -> Vec<Rule> {
    let a = instance(0, "a");
    let mut history = taken(&a);
    history.push(batch(&a, &[1, 2, 3], Ending::Done));
    history.push(vec![
        row(2, "a", at(1)),
        prepares(&a, pending(2, "first")),
        prepares(&a, pending(3, "second")),
    ]);
    history.push(events(&a));
    broken(three(), history)
}

#[test]
fn what_is_pending_has_been_prepared_stands_until_a_checkpoint_and_is_ahead_of_it() {
    let stands =
        |counter, position, state| with(row(counter, "a", at(1)), pending(position, state));
    let first = || stands(3, 2, "first");
    assert_eq!(after(|_| vec![first(), stands(4, 3, "second")]), NOTHING);
    assert_eq!(after(|_| vec![first(), row(4, "a", at(2))]), NOTHING);
    assert_eq!(
        after(|_| vec![stands(3, 3, "first")]),
        [Rule::Pending],
        "elsewhere"
    );
    assert_eq!(
        after(|_| vec![stands(3, 2, "third")]),
        [Rule::Pending],
        "never prepared"
    );
    assert_eq!(
        after(|_| vec![first(), row(4, "a", at(1))]),
        [Rule::Pending],
        "lost"
    );
    assert_eq!(
        after(|_| vec![stands(3, 3, "second"), stands(4, 2, "first")]),
        [Rule::Pending],
        "the older one again"
    );
    let left = |checkpoint| with(row(4, "a", at(checkpoint)), pending(2, "first"));
    assert_eq!(after(|_| vec![first(), left(2)]), [Rule::Pending], "behind");
    let second = with(row(4, "a", at(2)), pending(3, "second"));
    let new = || vec![first(), second];
    assert_eq!(after(|_| new()), [Rule::Pending], "left by a checkpoint");
}

#[test]
fn a_processor_is_told_of_just_what_is_pending() {
    let begins_with = |told: Option<Pending>| {
        let b = instance(1, "b");
        let mut events = begins(&b, at(1));
        if let Event::Begins { pending, .. } = &mut events[1] {
            *pending = told;
        }
        let stands = with(row(3, "b", at(1)), pending(2, "first"));
        after(|_| [vec![stands], events].concat())
    };
    assert_eq!(begins_with(Some(pending(2, "first"))), NOTHING);
    assert_eq!(begins_with(None), [Rule::Pending]);
    assert_eq!(begins_with(Some(pending(2, "second"))), [Rule::Pending]);
}

#[test]
fn what_a_processor_is_told_to_be_stored_is() {
    let stands = || with(row(3, "a", at(1)), pending(2, "first"));
    let of = |checkpoint, prepared| after(|a| vec![stands(), told(a, checkpoint, prepared)]);
    assert_eq!(of(1, None), NOTHING);
    assert_eq!(of(1, Some(pending(2, "first"))), NOTHING);
    assert_eq!(of(2, None), [Rule::Unsaid]);
    assert_eq!(of(1, Some(pending(3, "second"))), [Rule::Unsaid]);
}

#[test]
fn a_processor_is_not_held_to_what_an_operator_did_to_its_lease() {
    let stands = || with(row(3, "a", at(1)), pending(2, "first"));
    let removed = || {
        let (lease, by_hand) = (ShardId::from_index(SHARD), true);
        Event::RowDeleted { lease, by_hand }
    };
    let late = after(|a| vec![stands(), removed(), told(a, 1, None)]);
    assert_eq!(late, NOTHING, "it may not know yet");
    let again = |checkpoint| {
        let b = instance(1, "b");
        let mut events = vec![stands(), removed(), row(0, "b", Position::TrimHorizon)];
        events.extend(begins(&b, Position::TrimHorizon));
        events.extend(batch(&b, &[1, 2, 3], Ending::Done));
        events.push(row(1, "b", at(1)));
        events.push(told(&b, checkpoint, None));
        after(|_| events)
    };
    assert_eq!(again(1), NOTHING);
    assert_eq!(again(2), [Rule::Unsaid], "the next one is");
    // What was prepared is gone with the row, and by nobody else.
    let made = with(row(0, "b", Position::TrimHorizon), pending(2, "first"));
    assert_eq!(after(|_| vec![stands(), removed(), made]), [Rule::Pending]);
}

#[test]
fn a_checkpoint_in_the_middle_of_a_batch_passes_what_is_before_it_alone() {
    let a = instance(0, "a");
    let asks_at = |position: u64, checkpoint: u64| {
        let mut history = taken(&a);
        let asks = Event::Asks {
            instance: a.clone(),
            position: Some(at(position)),
        };
        let mut call = vec![enters(&a, Call::Process)];
        call.extend((1..=3).map(|number| given(&a, number)));
        call.extend([asks, row(2, "a", at(checkpoint))]);
        history.push(call);
        broken(three(), history)
    };
    assert_eq!(asks_at(2, 2), NOTHING);
    assert_eq!(asks_at(2, 3), [Rule::Lost]);
}
