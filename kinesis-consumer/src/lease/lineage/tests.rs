use super::*;

fn lease(index: u64, parents: &[u64], children: &[u64], checkpoint: Position) -> Lease {
    Lease {
        parents: parents.iter().map(|p| ShardId::from_index(*p)).collect(),
        children: children.iter().map(|c| ShardId::from_index(*c)).collect(),
        ..Lease::new(ShardId::from_index(index), checkpoint)
    }
}

fn read() -> Position {
    Position::parse("100", 0).expect("a sequence number")
}

#[test]
fn a_child_waits_until_every_parent_has_ended() {
    let child = lease(2, &[0, 1], &[], Position::TrimHorizon);
    let cases = [
        (read(), read(), true),
        (Position::ShardEnd, read(), true),
        (Position::ShardEnd, Position::TrimHorizon, true),
        (Position::ShardEnd, Position::ShardEnd, false),
    ];
    for (first, second, blocked) in cases {
        let parents = [lease(0, &[], &[2], first), lease(1, &[], &[2], second)];
        let lineage = Lineage::new(&parents, []);
        assert_eq!(lineage.is_blocked(&child), blocked, "{parents:?}");
    }
}

#[test]
fn a_parent_without_a_row_does_not_block_but_is_to_be_looked_up() {
    let child = lease(2, &[0, 1], &[], Position::TrimHorizon);
    let parent = [lease(0, &[], &[2], Position::ShardEnd)];
    let lineage = Lineage::new(&parent, []);
    let missing = vec![ShardId::from_index(1)];
    assert_eq!(lineage.parents(&child), Parents::Ended { missing });
}

#[test]
fn a_parent_that_cannot_be_read_blocks() {
    let child = lease(2, &[0], &[], Position::TrimHorizon);
    let unreadable = [ShardId::from_index(0)];
    assert!(Lineage::new([], &unreadable).is_blocked(&child));
}

#[test]
fn a_finished_lease_goes_when_all_children_moved_on_and_no_parent_is_left() {
    let ended = || lease(1, &[0], &[2, 3], Position::ShardEnd);
    let child = |index, checkpoint| lease(index, &[1], &[], checkpoint);
    let may_delete = |others: &[Lease]| {
        let mut rows = others.to_vec();
        rows.push(ended());
        Lineage::new(&rows, []).may_delete(&ended())
    };
    assert!(may_delete(&[
        child(2, read()),
        child(3, Position::ShardEnd)
    ]));
    assert!(!may_delete(&[child(2, read())]), "a child is missing");
    for started in [
        Position::TrimHorizon,
        Position::AtTimestamp,
        Position::Latest,
    ] {
        assert!(
            !may_delete(&[child(2, read()), child(3, started)]),
            "a child did not move on"
        );
    }
    let parent = lease(0, &[], &[1], Position::ShardEnd);
    assert!(
        !may_delete(&[parent, child(2, read()), child(3, read())]),
        "a parent is left"
    );
}

#[test]
fn a_lease_whose_children_are_unknown_or_that_is_not_finished_stays() {
    let unknown = lease(1, &[], &[], Position::ShardEnd);
    let open = lease(1, &[], &[2], read());
    let child = lease(2, &[1], &[], read());
    let rows = [child];
    let lineage = Lineage::new(&rows, []);
    assert!(!lineage.may_delete(&unknown));
    assert!(!lineage.may_delete(&open));
}

#[test]
fn an_end_without_children_is_one_once_no_parent_is_left() {
    let ended = |parents: &[u64], children: &[u64]| lease(1, parents, children, Position::ShardEnd);
    let parent = [lease(0, &[], &[1], Position::ShardEnd)];
    let alone = Lineage::default();
    assert!(alone.is_childless_end(&ended(&[0], &[])));
    assert!(!alone.is_childless_end(&ended(&[], &[2])));
    assert!(!alone.is_childless_end(&lease(1, &[], &[], read())));
    assert!(!Lineage::new(&parent, []).is_childless_end(&ended(&[0], &[])));
}
