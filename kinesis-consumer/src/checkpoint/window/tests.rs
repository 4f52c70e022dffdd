//! The bounds of a checkpoint.

use proptest::prelude::*;

use super::*;

fn at(sequence: u64, sub: u64) -> Position {
    Position::at(sequence.to_string().parse().expect("digits"), sub)
}

fn window(last: Position, delivered: Position) -> Window {
    let mut window = Window::new(last);
    window.deliver(delivered);
    window.settle();
    window
}

#[test]
fn a_checkpoint_lies_behind_the_last_one_and_up_to_what_was_delivered() {
    let window = window(at(10, 2), at(20, 5));
    assert_eq!(window.up_to(&at(10, 3)), Ok(Move::To(at(10, 3))));
    assert_eq!(window.up_to(&at(15, 900)), Ok(Move::To(at(15, 900))));
    assert_eq!(window.up_to(&at(20, 5)), Ok(Move::To(at(20, 5))));
    assert!(matches!(
        window.up_to(&at(20, 6)),
        Err(OutOfBounds::Beyond { .. })
    ));
    assert!(matches!(
        window.up_to(&at(21, 0)),
        Err(OutOfBounds::Beyond { .. })
    ));
}

#[test]
fn at_the_last_checkpoint_and_before_it_there_is_nothing_to_write() {
    let window = window(at(10, 2), at(10, 2));
    for position in [at(10, 2), at(10, 1), at(9, 9)] {
        assert_eq!(window.up_to(&position), Ok(Move::Nothing), "{position}");
    }
    assert_eq!(window.everything(window.delivery()), Move::Nothing);
}

#[test]
fn sentinels_are_no_checkpoints_and_the_end_only_when_the_shard_ended() {
    let mut window = window(Position::TrimHorizon, at(5, 0));
    for sentinel in [Position::Latest, Position::AtTimestamp] {
        assert_eq!(window.up_to(&sentinel), Err(OutOfBounds::Sentinel));
    }
    assert_eq!(
        window.up_to(&Position::ShardEnd),
        Err(OutOfBounds::NotEnded)
    );
    window.end(Vec::new());
    assert_eq!(window.up_to(&Position::ShardEnd), Ok(Move::End(Vec::new())));
    assert_eq!(window.everything(window.delivery()), Move::End(Vec::new()));
    window.stored(Position::ShardEnd);
    assert_eq!(window.everything(window.delivery()), Move::Nothing);
}

#[test]
fn a_failed_batch_cannot_be_checkpointed_until_it_is_delivered_again() {
    let mut window = window(Position::TrimHorizon, at(5, 0));
    window.deliver(at(9, 0));
    assert_eq!(
        window.everything(window.delivery()),
        Move::To(at(9, 0)),
        "the batch in hand may be checkpointed by its processor"
    );
    window.withdraw();
    assert_eq!(window.everything(window.delivery()), Move::To(at(5, 0)));
    assert!(matches!(
        window.up_to(&at(6, 0)),
        Err(OutOfBounds::Beyond { .. })
    ));
    window.deliver(at(9, 0));
    assert_eq!(window.everything(window.delivery()), Move::To(at(9, 0)));
}

#[test]
fn a_checkpoint_inside_of_a_batch_that_failed_afterwards_stays() {
    let mut window = window(Position::TrimHorizon, at(5, 0));
    window.deliver(at(9, 0));
    window.stored(at(7, 0));
    window.withdraw();
    assert_eq!(window.everything(window.delivery()), Move::Nothing);
    assert_eq!(window.last(), &at(7, 0));
}

#[test]
fn what_an_older_delivery_calls_everything_ends_before_what_is_in_hand() {
    let mut window = window(Position::TrimHorizon, at(5, 0));
    let older = window.delivery();
    assert_eq!(window.everything(older), Move::To(at(5, 0)));
    window.deliver(at(9, 0));
    assert_eq!(window.everything(older), Move::To(at(5, 0)));
    assert_eq!(
        window.everything(window.delivery()),
        Move::To(at(9, 0)),
        "its own"
    );
    window.stored(at(7, 0));
    assert_eq!(window.everything(older), Move::Nothing);
    assert_eq!(window.furthest(older), &at(7, 0));
    window.settle();
    assert_eq!(window.everything(older), Move::To(at(9, 0)));
}

#[test]
fn a_delivery_that_is_delivered_again_is_another() {
    let mut window = window(Position::TrimHorizon, at(5, 0));
    window.deliver(at(9, 0));
    let failed = window.delivery();
    window.withdraw();
    window.deliver(at(9, 0));
    assert_eq!(window.everything(failed), Move::To(at(5, 0)));
}

#[test]
fn what_an_older_delivery_calls_everything_is_not_the_end_of_the_shard() {
    let mut window = window(Position::TrimHorizon, at(5, 0));
    let older = window.delivery();
    window.end(Vec::new());
    assert_eq!(window.everything(older), Move::To(at(5, 0)));
    assert_eq!(window.everything(window.delivery()), Move::End(Vec::new()));
}

#[test]
fn what_is_settled_in_the_middle_of_what_is_in_hand_is_as_far_as_it_goes_once_that_is_withdrawn() {
    let mut window = window(at(1, 0), at(5, 0));
    window.deliver(at(9, 0));
    window.deliver(at(14, 0));
    window.settle_to(&at(11, 2));
    window.settle_to(&at(10, 0));
    let newest = window.delivery();
    assert_eq!(window.everything(newest), Move::To(at(14, 0)));
    assert_eq!(window.everything(NO_DELIVERY), Move::To(at(11, 2)));
    window.withdraw();
    assert_eq!(window.everything(newest), Move::To(at(11, 2)));
}

proptest! {
    /// Whatever is delivered, fails and is checkpointed: the checkpoint only grows, and never
    /// passes the end of a batch that is not in hand and did not succeed.
    #[test]
    fn a_checkpoint_never_goes_backwards_nor_past_an_unsettled_batch(
        steps in prop::collection::vec((0_u8..4, 0_u64..60, 0_u64..3), 1..60)
    ) {
        let mut window = Window::new(Position::TrimHorizon);
        let mut settled = Position::TrimHorizon;
        let mut in_hand: Option<Position> = None;
        for (step, sequence, sub) in steps {
            let before = window.last().clone();
            match step {
                0 if in_hand.is_none() => {
                    let end = at(sequence, sub).max(settled.clone()).max(before.clone());
                    window.deliver(end.clone());
                    in_hand = Some(end);
                }
                1 => if let Some(end) = in_hand.take() {
                    window.settle();
                    settled = end;
                },
                2 => if in_hand.take().is_some() {
                    window.withdraw();
                },
                _ => if let Ok(Move::To(to)) = window.up_to(&at(sequence, sub)) {
                    let most = in_hand.clone().unwrap_or(settled.clone());
                    prop_assert!(to <= most, "{to:?} is beyond {most:?}");
                    window.stored(to);
                },
            }
            prop_assert!(*window.last() >= before);
        }
    }
}
