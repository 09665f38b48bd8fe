use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use wasmhouse_storage::ids::ProjectId;

use super::queue::{Arrival, Queue};
use super::{Admission, Limits};
use crate::error::Error;

const NOW: Duration = Duration::ZERO;

fn project(name: &str) -> ProjectId {
    name.parse().expect("a name")
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn limits(workers: usize) -> Limits {
    Limits {
        workers,
        workers_of_project: workers,
        waiting: 1000,
        waiting_of_project: 1000,
        weights: BTreeMap::new(),
    }
}

fn wait(queue: &mut Queue, name: &str, now: Duration, expected: Duration) -> u64 {
    match queue.arrive(&project(name), now, expected) {
        Arrival::Waits(number) => number,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_project_with_a_long_queue_is_not_before_one_that_comes_later() {
    let mut queue = Queue::new(limits(1));
    assert_eq!(queue.arrive(&project("heavy"), NOW, seconds(10)), Arrival::Runs);
    for _ in 0..200 {
        wait(&mut queue, "heavy", NOW, seconds(10));
    }
    let small = wait(&mut queue, "light", seconds(1), seconds(1));
    assert_eq!(queue.next(), None, "every worker is held");

    queue.give_back(&project("heavy"), seconds(10), NOW, seconds(10));

    assert_eq!(queue.next(), Some((small, project("light"), seconds(1))));
}

#[test]
fn the_shortest_of_a_project_go_first_and_none_waits_for_ever() {
    let mut queue = Queue::new(limits(1));
    let shop = project("shop");
    assert_eq!(queue.arrive(&shop, NOW, seconds(1)), Arrival::Runs);
    let long = wait(&mut queue, "shop", NOW, seconds(5));

    let mut order = Vec::new();
    for now in 1..9 {
        let short = wait(&mut queue, "shop", seconds(now), seconds(1));
        queue.give_back(&shop, seconds(1), NOW, seconds(1));
        let (next, ..) = queue.next().expect("somebody waits");
        order.push(match next {
            next if next == long => "long",
            next if next == short => "the one that has just come",
            _ => "one that has waited",
        });
    }

    let jumps = ["the one that has just come"; 3];
    assert_eq!(order[..3], jumps, "{order:?}");
    assert_eq!(
        order[3], "long",
        "after nearly the time that it takes itself: {order:?}"
    );
}

#[test]
fn a_project_of_three_times_the_weight_gets_three_times_the_workers() {
    let mut limits = limits(8);
    limits.weights = BTreeMap::from([(project("big"), NonZeroU32::new(3).expect("not zero"))]);
    let mut queue = Queue::new(limits);
    for _ in 0..8 {
        assert_eq!(queue.arrive(&project("other"), NOW, seconds(1)), Arrival::Runs);
    }
    for _ in 0..20 {
        wait(&mut queue, "big", NOW, seconds(1));
        wait(&mut queue, "small", NOW, seconds(1));
    }

    let mut served = BTreeMap::new();
    for _ in 0..8 {
        queue.give_back(&project("other"), seconds(1), NOW, seconds(1));
        let (_, next, _) = queue.next().expect("somebody waits");
        *served.entry(next).or_insert(0) += 1;
    }

    assert_eq!(served, BTreeMap::from([(project("big"), 6), (project("small"), 2)]));
}

#[test]
fn one_worker_is_shared_by_time_and_not_by_queries() {
    let mut queue = Queue::new(limits(1));
    assert_eq!(queue.arrive(&project("other"), NOW, seconds(1)), Arrival::Runs);
    for _ in 0..100 {
        wait(&mut queue, "long", NOW, seconds(1));
        wait(&mut queue, "short", NOW, seconds(1));
    }

    let mut time = BTreeMap::new();
    let mut last = (project("other"), seconds(1));
    for _ in 0..44 {
        queue.give_back(&last.0, seconds(1), NOW, last.1);
        let (_, next, _) = queue.next().expect("somebody waits");
        let took = seconds(if next == project("long") { 10 } else { 1 });
        *time.entry(next.clone()).or_insert(NOW) += took;
        last = (next, took);
    }

    let (long, short) = (time[&project("long")], time[&project("short")]);
    assert!(long.abs_diff(short) <= seconds(10), "{long:?} and {short:?}");
}

#[test]
fn a_project_holds_no_more_workers_than_its_own_however_many_are_free() {
    let mut queue = Queue::new(Limits {
        workers_of_project: 2,
        ..limits(3)
    });
    let shop = project("shop");
    assert_eq!(queue.arrive(&shop, NOW, seconds(1)), Arrival::Runs);
    assert!(queue.take(&shop, seconds(1)));
    wait(&mut queue, "shop", NOW, seconds(1));

    assert_eq!(queue.next(), None);
    assert!(!queue.has_room(&shop) && queue.has_room(&project("other")));
    assert_eq!(queue.arrive(&project("other"), NOW, seconds(1)), Arrival::Runs);
}

#[test]
fn a_full_queue_of_one_project_leaves_room_for_another() {
    let mut queue = Queue::new(Limits {
        waiting: 4,
        waiting_of_project: 2,
        ..limits(1)
    });
    assert_eq!(queue.arrive(&project("a"), NOW, seconds(1)), Arrival::Runs);

    for (name, waits) in [("a", 2), ("b", 2), ("c", 0)] {
        for _ in 0..waits {
            wait(&mut queue, name, NOW, seconds(1));
        }
        let one_more = queue.arrive(&project(name), NOW, seconds(1));
        assert!(matches!(one_more, Arrival::Full(_)), "{name}: {one_more:?}");
    }
}

#[test]
fn who_was_away_has_saved_nothing_up() {
    let mut queue = Queue::new(limits(1));
    let busy = project("busy");
    assert_eq!(queue.arrive(&busy, NOW, seconds(1)), Arrival::Runs);
    for _ in 0..50 {
        wait(&mut queue, "busy", NOW, seconds(1));
    }
    for _ in 0..20 {
        queue.give_back(&busy, seconds(1), NOW, seconds(1));
        assert!(queue.next().is_some());
    }
    for _ in 0..50 {
        wait(&mut queue, "new", NOW, seconds(1));
    }

    let mut order = Vec::new();
    let mut last = busy;
    for _ in 0..10 {
        queue.give_back(&last, seconds(1), NOW, seconds(1));
        last = queue.next().expect("somebody waits").1;
        order.push(last.to_string());
    }

    let of_new = order.iter().filter(|name| *name == "new").count();
    assert!((4..=6).contains(&of_new), "{order:?}");
}

/// Who is called when these wait, ten queries each, and each is held for a second.
fn order_of(queue: &mut Queue, holds: &str, names: &[&str], from: Duration) -> Vec<String> {
    for name in names {
        for _ in 0..10 {
            wait(queue, name, from, seconds(1));
        }
    }
    let mut last = project(holds);
    let mut order = Vec::new();
    for second in 0..10 {
        let began = from + seconds(second);
        queue.give_back(&last, seconds(1), began, began + seconds(1));
        last = queue.next().expect("somebody waits").1;
        order.push(last.to_string());
    }
    order
}

fn count(order: &[String], name: &str) -> usize {
    order.iter().filter(|next| *next == name).count()
}

#[test]
fn who_worked_in_an_empty_house_owes_nobody_for_it() {
    let mut queue = Queue::new(limits(1));
    let long = project("long");
    assert_eq!(queue.arrive(&long, NOW, seconds(1)), Arrival::Runs);
    queue.give_back(&long, seconds(1), NOW, seconds(3600));
    assert_eq!(queue.arrive(&project("new"), seconds(3600), seconds(1)), Arrival::Runs);

    let order = order_of(&mut queue, "new", &["long", "new"], seconds(3600));

    assert_eq!(count(&order, "long"), 5, "{order:?}");
}

#[test]
fn only_the_time_counts_in_which_others_waited() {
    let mut queue = Queue::new(limits(1));
    let long = project("long");
    assert_eq!(queue.arrive(&long, NOW, seconds(1)), Arrival::Runs);
    wait(&mut queue, "new", seconds(3598), seconds(1));
    queue.give_back(&long, seconds(1), NOW, seconds(3600));
    assert!(queue.next().is_some());

    let order = order_of(&mut queue, "new", &["long", "new"], seconds(3600));

    assert!((4..=5).contains(&count(&order, "long")), "{order:?}");
}

#[test]
fn who_was_expected_to_take_long_and_did_not_has_saved_nothing_up() {
    let mut queue = Queue::new(limits(1));
    let quick = project("quick");
    assert_eq!(queue.arrive(&quick, NOW, seconds(3600)), Arrival::Runs);
    wait(&mut queue, "other", NOW, seconds(1));
    queue.give_back(&quick, seconds(3600), NOW, seconds(1));
    assert!(queue.next().is_some());

    let order = order_of(&mut queue, "other", &["quick", "other"], seconds(1));

    assert!((4..=6).contains(&count(&order, "quick")), "{order:?}");
}

#[test]
fn who_leaves_the_queue_is_not_called() {
    let mut queue = Queue::new(limits(1));
    let shop = project("shop");
    assert_eq!(queue.arrive(&shop, NOW, seconds(1)), Arrival::Runs);
    let first = wait(&mut queue, "shop", NOW, seconds(1));
    let second = wait(&mut queue, "shop", NOW, seconds(1));

    queue.leave(&shop, first);
    queue.give_back(&shop, seconds(1), NOW, seconds(1));

    assert_eq!(queue.next().map(|(number, ..)| number), Some(second));
    queue.give_back(&shop, seconds(1), NOW, seconds(1));
    assert_eq!(queue.next(), None);
    assert!(queue.has_room(&shop));
}

#[tokio::test]
async fn a_place_goes_to_the_next_who_still_waits() {
    let admission = Admission::new(limits(1), seconds(600));
    let shop = project("shop");
    let first = admission.enter(&shop, seconds(1)).await.expect("a free place");
    let mut gives_up = Box::pin(admission.enter(&shop, seconds(1)));
    let mut stays = Box::pin(admission.enter(&shop, seconds(2)));
    assert!(futures::poll!(gives_up.as_mut()).is_pending());
    assert!(futures::poll!(stays.as_mut()).is_pending());

    // It has been called and does not know yet.
    drop(first);
    drop(gives_up);
    let second = stays.await.expect("its turn");

    assert!(!admission.has_room(&shop));
    drop(second);
    assert!(admission.has_room(&shop));
}

#[tokio::test]
async fn who_has_no_patience_left_is_told_that_all_are_busy() {
    let admission = Admission::new(limits(1), Duration::ZERO);
    let shop = project("shop");
    let held = admission.enter(&shop, seconds(1)).await.expect("a free place");

    assert!(matches!(admission.enter(&shop, seconds(1)).await, Err(Error::Busy(_))));
    drop(held);

    assert!(admission.enter(&shop, seconds(1)).await.is_ok());
}

#[tokio::test]
async fn nobody_waits_when_the_house_closes() {
    let admission = Admission::new(limits(1), seconds(600));
    let shop = project("shop");
    let held = admission.enter(&shop, seconds(1)).await.expect("a free place");
    let mut waits = Box::pin(admission.enter(&shop, seconds(1)));
    assert!(futures::poll!(waits.as_mut()).is_pending());

    admission.close();

    assert!(matches!(waits.await, Err(Error::Closing)));
    drop(held);
    assert!(matches!(admission.enter(&shop, seconds(1)).await, Err(Error::Closing)));
    assert!(admission.enter_now(&shop, seconds(1)).is_none());
}

#[tokio::test]
async fn a_house_may_close_on_a_long_queue() {
    const WAITING: usize = 50_000;
    let admission = Admission::new(
        Limits {
            waiting: WAITING,
            waiting_of_project: WAITING,
            ..limits(1)
        },
        seconds(600),
    );
    let shop = project("shop");
    let held = admission.enter(&shop, seconds(1)).await.expect("a free place");
    let mut waiting: Vec<_> = (0..WAITING)
        .map(|_| Box::pin(admission.enter(&shop, seconds(1))))
        .collect();
    for one in &mut waiting {
        assert!(futures::poll!(one.as_mut()).is_pending());
    }
    assert!(matches!(admission.refuse_if_full(&shop), Err(Error::Busy(_))));

    admission.close();
    drop(held);

    assert!(matches!(admission.refuse_if_full(&shop), Err(Error::Closing)));
    for one in waiting {
        assert!(matches!(one.await, Err(Error::Closing)));
    }
}
