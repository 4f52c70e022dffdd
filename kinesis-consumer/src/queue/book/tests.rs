use kinesis_core::Clock;

use super::*;

const VISIBILITY: Duration = Duration::from_secs(30);
const AFTER: Duration = Duration::from_millis(100);

fn handles(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn ten_acknowledgements_go_at_once_and_the_rest_after_a_moment() {
    let now = Clock::default().now();
    let mut book = Book::new(VISIBILITY, AFTER);
    for handle in handles(0..12) {
        let id = book.received(handle, 1, now);
        book.done(id, now);
    }
    assert_eq!(book.tell(now), Some(Tell::Acknowledge(handles(0..10))));
    assert_eq!(book.tell(now), None);
    let next = book.next(now).expect("two wait");
    assert_eq!(next - now, AFTER);
    assert_eq!(book.tell(next), Some(Tell::Acknowledge(handles(10..12))));
    assert!(book.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_hidden_again_when_half_of_its_time_is_over() {
    let now = Clock::default().now();
    let mut book = Book::new(VISIBILITY, AFTER);
    let first = book.received("a".into(), 1, now);
    book.received("b".into(), 1, now + Duration::from_secs(5));
    let next = book.next(now).expect("it is held");
    assert_eq!(next - now, VISIBILITY / 2);
    assert_eq!(book.tell(next), Some(Tell::Extend(vec![("a".into(), 30)])));
    assert_eq!(book.tell(next), None);
    book.done(first, next);
    assert_eq!(book.next(next), Some(next + AFTER));
    assert_eq!(book.held(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_record_is_acknowledged_or_given_back_and_not_both() {
    let now = Clock::default().now();
    let mut book = Book::new(VISIBILITY, AFTER);
    let first = book.received("a".into(), 1, now);
    book.received("b".into(), 1, now);
    book.give_back(first, Duration::from_secs(4), now);
    book.done(first, now);
    book.give_back_all(now);
    let both = vec![("a".to_owned(), 4), ("b".to_owned(), 0)];
    assert_eq!(book.tell(now), Some(Tell::Hide(both)));
    assert!(book.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_longer_held_is_not_hidden_again_by_an_extension_that_failed() {
    let begun = Clock::default().now();
    let mut book = Book::new(VISIBILITY, AFTER);
    let first = book.received("a".into(), 1, begun);
    book.received("b".into(), 1, begun);
    let now = book.next(begun).expect("they are held");
    let extended = book.tell(now).expect("both are due");
    let entries = vec![("a".to_owned(), 30), ("b".to_owned(), 30)];
    assert_eq!(extended, Tell::Extend(entries));
    book.give_back(first, Duration::from_secs(2), now);
    let again = now + Duration::from_secs(1);
    let all = extended.handles();
    book.answered(extended, &all, now, again);
    let back = Tell::Hide(vec![("a".to_owned(), 2)]);
    assert_eq!(book.tell(now), Some(back));
    assert_eq!(book.next(now), Some(again));
    let held = Tell::Extend(vec![("b".to_owned(), 30)]);
    assert_eq!(book.tell(again), Some(held));
    assert_eq!(book.tell(again), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_during_an_extension_is_told_of_once_that_is_answered() {
    let begun = Clock::default().now();
    let mut book = Book::new(VISIBILITY, AFTER);
    let first = book.received("a".into(), 1, begun);
    book.received("b".into(), 1, begun);
    let now = book.next(begun).expect("they are held");
    let extended = book.tell(now).expect("both are due");
    book.give_back(first, Duration::from_secs(2), now);
    book.give_back_all(now);
    assert_eq!(book.tell(now), None, "the extension might come later");
    assert_eq!(book.next(now), None);
    assert!(!book.is_empty());
    book.answered(extended, &BTreeSet::new(), now, now);
    let both = vec![("a".to_owned(), 2), ("b".to_owned(), 0)];
    assert_eq!(book.tell(now), Some(Tell::Hide(both)));
    assert!(book.is_empty());
}

#[tokio::test(start_paused = true)]
async fn full_requests_that_failed_wait_out_their_pause_and_count_as_backlog() {
    let now = Clock::default().now();
    let mut book = Book::new(VISIBILITY, AFTER);
    for handle in handles(0..25) {
        let id = book.received(handle, 1, now);
        book.done(id, now);
    }
    let again = now + Duration::from_secs(5);
    let told = book.tell(now).expect("a full request");
    let all = told.handles();
    book.answered(told, &all, now, again);
    assert_eq!(book.backlog(), 25 - 9);
    assert_eq!(book.tell(now), None);
    assert_eq!(book.next(now), Some(again));
    assert!(book.tell(again).is_some());
    assert_eq!(book.backlog(), 15 - 9);
}

#[tokio::test(start_paused = true)]
async fn of_a_request_only_what_failed_is_told_again_and_until_then_something_is_failing() {
    let begun = Clock::default().now();
    let mut book = Book::new(VISIBILITY, AFTER);
    for handle in handles(0..3) {
        book.received(handle, 1, begun);
    }
    let now = book.next(begun).expect("they are held");
    let again = now + Duration::from_secs(1);
    let failed = BTreeSet::from(["1".to_owned()]);
    let alone = |told: Tell| assert_eq!(told.handles(), failed);
    let none = BTreeSet::new();

    let told = book.tell(now).expect("extensions");
    book.answered(told, &failed, now, again);
    assert!(book.is_failing());
    assert_eq!(book.next(now), Some(again));
    let told = book.tell(again).expect("one is left");
    alone(told.clone());
    book.answered(told, &none, again, again);
    assert!(!book.is_failing());

    for id in 0..3 {
        book.done(id, now);
    }
    let told = book.tell(now + AFTER).expect("acknowledgements");
    book.answered(told, &failed, now, again);
    assert!(book.is_failing());
    assert_eq!(book.tell(now + AFTER), None);
    let told = book.tell(again).expect("one is left");
    alone(told.clone());
    book.answered(told, &none, again, again);
    assert!(!book.is_failing());
    assert!(book.is_empty());

    for handle in handles(0..3) {
        let id = book.received(handle, 1, now);
        book.give_back(id, Duration::ZERO, now);
    }
    let told = book.tell(now).expect("given back");
    book.answered(told, &failed, now, again);
    assert!(book.is_failing());
    alone(book.tell(again).expect("one is left"));
}

#[tokio::test(start_paused = true)]
async fn something_is_failing_though_another_request_was_answered_since() {
    let now = Clock::default().now();
    let mut book = Book::new(VISIBILITY, AFTER);
    for handle in handles(0..20) {
        let id = book.received(handle, 1, now);
        book.done(id, now);
    }
    let first = book.tell(now).expect("a full request");
    let second = book.tell(now).expect("another");
    let (all, none) = (first.handles(), BTreeSet::new());
    let again = now + Duration::from_secs(1);
    book.answered(first, &all, now, again);
    book.answered(second, &none, now, now);
    assert!(book.is_failing());
    let first = book.tell(again).expect("it is told again");
    assert!(book.is_failing(), "it may fail again");
    book.answered(first, &none, again, again);
    assert!(!book.is_failing());
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_failed_is_nobodys_trouble_once_its_record_is_done() {
    let begun = Clock::default().now();
    let mut book = Book::new(VISIBILITY, AFTER);
    let id = book.received("a".into(), 1, begun);
    let now = book.next(begun).expect("it is held");
    let told = book.tell(now).expect("an extension");
    let all = told.handles();
    book.answered(told, &all, now, now + Duration::from_secs(1));
    assert!(book.is_failing());
    book.done(id, now);
    assert!(!book.is_failing());
}
