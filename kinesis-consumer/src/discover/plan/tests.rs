use kinesis_core::HashKeyRange;
use proptest::prelude::*;

use super::*;

/// `(index, parents, open)`; ranges do not matter for the plan.
fn shards(list: &[(u64, &[u64], bool)]) -> ShardMap {
    list.iter()
        .map(|(index, parents, open)| Shard {
            id: ShardId::from_index(*index),
            range: HashKeyRange::FULL,
            parent: parents.first().map(|p| ShardId::from_index(*p)),
            adjacent_parent: parents.get(1).map(|p| ShardId::from_index(*p)),
            starting_sequence_number: "1".parse().expect("a number"),
            ending_sequence_number: (!open).then(|| "2".parse().expect("a number")),
        })
        .collect()
}

fn lease(index: u64, checkpoint: Position) -> Lease {
    Lease::new(ShardId::from_index(index), checkpoint)
}

fn missing(shards: &ShardMap, leases: &[Lease], initial: InitialPosition) -> Vec<(u64, Position)> {
    let known = Known {
        leases,
        unreadable: &[],
        beside_kcl: false,
    };
    missing_leases(shards, known, initial, NOW)
        .into_iter()
        .map(|lease| (lease.shard_id.index().expect("an index"), lease.checkpoint))
        .collect()
}

/// A time of the wall clock, in milliseconds.
const NOW: u64 = 1_767_225_600_000;

const START: InitialPosition = InitialPosition::TrimHorizon;

/// 0 and 1 open at first; 0 was split into 2 and 3; 1 and 3 were merged into 4.
fn resharded() -> ShardMap {
    shards(&[
        (0, &[], false),
        (1, &[], false),
        (2, &[0], true),
        (3, &[0], false),
        (4, &[1, 3], true),
    ])
}

#[test]
fn an_empty_table_gets_the_oldest_shards_for_trim_horizon() {
    let horizon = Position::TrimHorizon;
    assert_eq!(
        missing(&resharded(), &[], START),
        [(0, horizon.clone()), (1, horizon)]
    );
}

#[test]
fn an_empty_table_gets_the_open_shards_for_latest() {
    let found = missing(&resharded(), &[], InitialPosition::Latest);
    assert_eq!(found, [(2, Position::Latest), (4, Position::Latest)]);
}

#[test]
fn an_empty_table_gets_the_oldest_shards_at_the_timestamp() {
    let found = missing(&resharded(), &[], InitialPosition::AtTimestamp(5));
    assert_eq!(
        found,
        [(0, Position::AtTimestamp), (1, Position::AtTimestamp)]
    );
}

#[test]
fn shards_to_come_are_left_to_the_end_of_their_parents() {
    let leases = [lease(0, Position::Latest), lease(1, Position::Latest)];
    for initial in [START, InitialPosition::Latest] {
        assert_eq!(missing(&resharded(), &leases, initial), []);
    }
}

#[test]
fn a_child_that_its_parent_did_not_create_is_created_from_its_beginning() {
    let leases = [
        lease(0, Position::ShardEnd),
        lease(1, Position::TrimHorizon),
        lease(3, Position::ShardEnd),
    ];
    let found = missing(&resharded(), &leases, InitialPosition::Latest);
    assert_eq!(found, [(2, Position::TrimHorizon)]);
}

#[test]
fn a_merged_shard_waits_for_a_parent_that_has_no_lease_yet() {
    let leases = [
        lease(0, Position::TrimHorizon),
        lease(1, Position::ShardEnd),
    ];
    assert_eq!(
        missing(&resharded(), &leases, START),
        [],
        "3 comes from 0, and 4 from 3"
    );
    let leases = [lease(2, Position::Latest), lease(1, Position::ShardEnd)];
    let found = missing(&resharded(), &leases, InitialPosition::Latest);
    assert_eq!(
        found,
        [(4, Position::TrimHorizon)],
        "3 was closed before the application started"
    );
}

#[test]
fn finished_shards_do_not_come_back() {
    let leases = [lease(2, Position::TrimHorizon), lease(4, Position::Latest)];
    for initial in [
        START,
        InitialPosition::Latest,
        InitialPosition::AtTimestamp(1),
    ] {
        assert_eq!(missing(&resharded(), &leases, initial), []);
    }
}

#[test]
fn a_first_start_that_broke_off_is_completed_at_the_initial_position() {
    let map = shards(&[(0, &[], true), (1, &[], true)]);
    let leases = [lease(0, Position::Latest)];
    for (initial, position) in [
        (START, Position::TrimHorizon),
        (InitialPosition::Latest, Position::Latest),
    ] {
        assert_eq!(missing(&map, &leases, initial), [(1, position)]);
    }
}

fn since(index: u64, checkpoint: Position, starts_at_millis: u64) -> Lease {
    Lease {
        starts_at_millis: Some(starts_at_millis),
        ..lease(index, checkpoint)
    }
}

fn read_to(index: u64) -> Lease {
    let sequence_number = "7".parse().expect("a number");
    let position = Position::At {
        sequence_number,
        sub_sequence: 0,
    };
    lease(index, position)
}

/// Position and instant of the leases that are missing.
fn starts(shards: &ShardMap, leases: &[Lease], initial: InitialPosition) -> Vec<(u64, Start)> {
    let known = Known {
        leases,
        unreadable: &[],
        beside_kcl: false,
    };
    let start = |lease: Lease| Start {
        position: lease.checkpoint,
        millis: lease.starts_at_millis,
    };
    missing_leases(shards, known, initial, NOW)
        .into_iter()
        .map(|lease| (lease.shard_id.index().expect("an index"), start(lease)))
        .collect()
}

/// What is left of a stream whose application stood still: all shards from 0 to 8 have gone.
fn long_after() -> ShardMap {
    shards(&[(9, &[5], false), (10, &[9], true), (11, &[6], true)])
}

#[test]
fn an_application_that_stood_still_while_its_shards_went_skips_nothing_that_is_kept() {
    for initial in [InitialPosition::Latest, InitialPosition::AtTimestamp(NOW)] {
        let found = starts(&long_after(), &[read_to(0), read_to(1)], initial);
        assert_eq!(found, [(9, Start::BEGINNING), (11, Start::BEGINNING)]);

        let began = NOW - 1_000_000;
        let unread = since(0, Position::AtTimestamp, began);
        let found = starts(&long_after(), std::slice::from_ref(&unread), initial);
        assert_eq!(found, [(9, Start::at(began)), (11, Start::at(began))]);
        let found = starts(&long_after(), &[unread, read_to(1)], initial);
        assert_eq!(found, [(9, Start::BEGINNING), (11, Start::BEGINNING)]);
    }
}

#[test]
fn where_a_worker_s_clock_said_when_it_began_a_minute_more_is_read() {
    let began = NOW - 1_000_000;
    let moved = Lease {
        starts_at_millis: Some(began),
        ..read_to(0)
    };
    let found = starts(&long_after(), &[moved], InitialPosition::Latest);
    let start = Start::at(began - 60_000);
    assert_eq!(found, [(9, start.clone()), (11, start)]);
}

#[test]
fn a_first_start_that_broke_off_is_completed_as_of_its_instant() {
    let map = shards(&[(0, &[], true), (1, &[], true), (2, &[], false)]);
    let began = NOW - 1_000;
    let newest = |millis| Start {
        position: Position::Latest,
        millis: Some(millis),
    };
    let found = starts(&map, &[], InitialPosition::Latest);
    assert_eq!(found, [(0, newest(NOW)), (1, newest(NOW))]);
    let leases = [since(0, Position::Latest, began)];
    let found = starts(&map, &leases, InitialPosition::Latest);
    assert_eq!(found, [(1, newest(began)), (2, Start::at(began - 60_000))]);
    let leases = [since(0, Position::AtTimestamp, began)];
    let found = starts(&map, &leases, InitialPosition::AtTimestamp(NOW));
    assert_eq!(found, [(1, Start::at(began)), (2, Start::at(began))]);
}

#[test]
fn children_that_were_read_meanwhile_do_not_hide_when_the_application_began() {
    // The first start broke off before 2; 0 was read to its end since, and its child from the beginning.
    let map = shards(&[(0, &[], false), (2, &[], false), (3, &[0], true)]);
    let child = |checkpoint| Lease {
        parents: BTreeSet::from([ShardId::from_index(0)]),
        ..checkpoint
    };
    for read in [lease(3, Position::TrimHorizon), read_to(3)] {
        let leases = [since(0, Position::ShardEnd, NOW), child(read.clone())];
        let initial = InitialPosition::AtTimestamp(NOW);
        let found = starts(&map, &leases, initial);
        assert_eq!(found, [(2, Start::at(NOW))]);
        // Nobody knows of one whose parent is gone.
        let found = starts(&map, &leases[1..], initial);
        assert_eq!(found, [(2, Start::BEGINNING)]);
    }
}

#[test]
fn beside_a_kcl_that_has_no_instant_of_its_own_no_lease_is_made_at_one() {
    let started = |shards: &ShardMap, leases: &[Lease], initial| {
        let known = Known {
            leases,
            unreadable: &[],
            beside_kcl: true,
        };
        let missing = missing_leases(shards, known, initial, NOW);
        let start = |lease: &Lease| (lease.checkpoint.clone(), lease.starts_at_millis);
        missing.iter().map(start).collect::<Vec<_>>()
    };
    let began = NOW - 1_000_000;
    let beginning = (Position::TrimHorizon, Some(began - CLOCK_MARGIN_MILLIS));
    let moved = [Lease {
        starts_at_millis: Some(began),
        ..read_to(0)
    }];
    let found = started(&long_after(), &moved, InitialPosition::Latest);
    assert_eq!(found, [beginning.clone(), beginning.clone()]);
    // Closed during a first start.
    let map = shards(&[(0, &[], true), (1, &[], true), (2, &[], false)]);
    let leases = [since(0, Position::Latest, began)];
    let found = started(&map, &leases, InitialPosition::Latest);
    assert_eq!(found, [(Position::Latest, Some(began)), beginning]);
    // The rest of a repair that broke off is made as its first part was, and skips nothing.
    let split = shards(&[
        (0, &[], false),
        (1, &[0], true),
        (2, &[0], true),
        (3, &[], false),
    ]);
    let first = [
        since(1, Position::Latest, began),
        since(3, Position::TrimHorizon, began - CLOCK_MARGIN_MILLIS),
    ];
    let found = started(&split, &first, InitialPosition::Latest);
    let earlier = began - 2 * CLOCK_MARGIN_MILLIS;
    assert_eq!(found, [(Position::TrimHorizon, Some(earlier))]);
    // Where the application begins at an instant, a KCL does too.
    let leases = [since(0, Position::AtTimestamp, began)];
    let found = started(&map, &leases, InitialPosition::AtTimestamp(NOW));
    assert_eq!(
        found,
        [
            (Position::AtTimestamp, Some(began)),
            (Position::AtTimestamp, Some(began))
        ]
    );
}

#[test]
fn a_child_starts_at_the_instant_of_its_parents_only_if_nothing_of_them_was_read() {
    let later = InitialPosition::AtTimestamp(NOW);
    let unread = since(0, Position::AtTimestamp, 5);
    assert_eq!(Start::of_child([&unread], later), Start::at(5));
    assert_eq!(Start::of_child([&unread], START), Start::at(5));
    assert_eq!(Start::of_child([&read_to(0)], later), Start::BEGINNING);
    let earlier = since(1, Position::AtTimestamp, 3);
    assert_eq!(Start::of_child([&unread, &earlier], later), Start::at(3));
    let both = [&unread, &read_to(1)];
    assert_eq!(Start::of_child(both, later), Start::BEGINNING);
    let ended = since(1, Position::ShardEnd, 5);
    assert_eq!(Start::of_child([&unread, &ended], later), Start::BEGINNING);
    let of_kcl = lease(0, Position::AtTimestamp);
    assert_eq!(Start::of_child([&of_kcl], later), Start::at(NOW));
    let of_latest = since(0, Position::Latest, 5);
    assert_eq!(Start::of_child([&of_latest], later), Start::BEGINNING);
}

#[test]
fn a_row_that_cannot_be_read_is_not_created_again_nor_are_its_children() {
    let unreadable = [ShardId::from_index(0), ShardId::from_index(1)];
    let known = Known {
        leases: &[],
        unreadable: &unreadable,
        beside_kcl: false,
    };
    assert_eq!(missing_leases(&resharded(), known, START, NOW), []);
}

#[test]
fn new_leases_carry_lineage_and_range() {
    let known = Known {
        leases: &[],
        unreadable: &[],
        beside_kcl: false,
    };
    let found = missing_leases(&resharded(), known, InitialPosition::Latest, NOW);
    let parents = BTreeSet::from([ShardId::from_index(1), ShardId::from_index(3)]);
    assert_eq!(found[1].parents, parents);
    assert_eq!(found[1].range, Some(HashKeyRange::FULL));
}

#[test]
fn only_unfinished_leases_with_a_range_cover_the_key_space() {
    let part = |index: u64, range: HashKeyRange, checkpoint| Lease {
        range: Some(range),
        ..lease(index, checkpoint)
    };
    let [low, high] = HashKeyRange::FULL.split_even(2)[..] else {
        panic!("two")
    };
    let one = part(0, low, Position::TrimHorizon);
    let two = part(1, high, Position::Latest);
    assert!(covers_key_space([&one, &two]));
    assert!(covers_key_space([
        &two,
        &one,
        &part(2, low, Position::Latest)
    ]));
    assert!(!covers_key_space([&one]));
    assert!(!covers_key_space([&two]));
    assert!(!covers_key_space([
        &one,
        &part(1, high, Position::ShardEnd)
    ]));
    assert!(!covers_key_space([&one, &lease(1, Position::Latest)]));
    assert!(!covers_key_space([]));
}

/// A random history of splits and merges: `(parents, open)` by shard.
fn history() -> impl Strategy<Value = Vec<(Vec<u64>, bool)>> {
    let start = 1u64..4;
    let steps = proptest::collection::vec((any::<bool>(), any::<u64>(), any::<u64>()), 0..12);
    (start, steps).prop_map(|(start, steps)| {
        let mut shards: Vec<(Vec<u64>, bool)> = (0..start).map(|_| (vec![], true)).collect();
        for (split, first, second) in steps {
            let open: Vec<u64> = (0..shards.len() as u64)
                .filter(|i| shards[*i as usize].1)
                .collect();
            let one = open[(first % open.len() as u64) as usize];
            let other = open[(second % open.len() as u64) as usize];
            shards[one as usize].1 = false;
            if split || one == other {
                shards.extend([(vec![one], true), (vec![one], true)]);
            } else {
                shards[other as usize].1 = false;
                shards.push((vec![one, other], true));
            }
        }
        shards
    })
}

proptest! {
    /// Reads shards in any allowed order, loses rows on the way that a crash or clean-up may take,
    /// syncs in between, and comes to read every shard exactly once, parents first.
    #[test]
    fn with_syncs_at_any_moment_every_shard_is_read_once_and_after_its_parents(
        history in history(),
        choices in proptest::collection::vec((any::<u64>(), any::<bool>()), 200),
    ) {
        let list: Vec<_> = history.iter().enumerate().map(|(i, (p, o))| (i as u64, &p[..], *o)).collect();
        let map = shards(&list);
        let mut rows: BTreeMap<ShardId, Lease> = BTreeMap::new();
        let mut read = Vec::new();
        for (choice, sync) in choices {
            if sync || rows.is_empty() {
                let leases: Vec<_> = rows.values().cloned().collect();
                let known = Known { leases: &leases, unreadable: &[], beside_kcl: false };
                for lease in missing_leases(&map, known, START, NOW) {
                    rows.insert(lease.shard_id.clone(), lease);
                }
            }
            let ready: Vec<ShardId> = rows.values()
                .filter(|row| !row.is_ended())
                .filter(|row| map.get(&row.shard_id).is_some_and(|shard| !shard.is_open()))
                .filter(|row| row.parents.iter().all(|p| rows.get(p).is_none_or(Lease::is_ended)))
                .map(|row| row.shard_id.clone())
                .collect();
            if ready.is_empty() {
                continue;
            }
            let id = ready[(choice % ready.len() as u64) as usize].clone();
            let both_known = |child: &&Shard| child.parents().all(|p| rows.contains_key(p));
            let children: Vec<_> = map.children(&id).filter(both_known).collect();
            for child in children {
                let fresh = lease_of(child, Start::BEGINNING);
                rows.entry(child.id.clone()).or_insert(fresh);
            }
            let shard = map.get(&id).expect("listed");
            prop_assert!(shard.parents().all(|parent| read.contains(parent)), "{id} before a parent");
            prop_assert!(!read.contains(&id), "{id} twice");
            read.push(id.clone());
            rows.get_mut(&id).expect("a row").checkpoint = Position::ShardEnd;
            // Clean-up: a finished row without parents, whose children all have rows.
            let gone: Vec<ShardId> = rows.values()
                .filter(|row| row.is_ended() && !row.parents.iter().any(|p| rows.contains_key(p)))
                .filter(|row| map.children(&row.shard_id).all(|child| rows.contains_key(&child.id)))
                .map(|row| row.shard_id.clone())
                .collect();
            if sync {
                for id in gone {
                    rows.remove(&id);
                }
            }
        }
        let closed = map.shards().filter(|shard| !shard.is_open()).count();
        prop_assert_eq!(read.len(), closed);
        for shard in map.open() {
            prop_assert!(rows.contains_key(&shard.id), "no lease for open shard {}", shard.id);
        }
    }
}
