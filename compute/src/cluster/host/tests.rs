use std::path::PathBuf;

use url::Url;
use wasmhouse_storage::bucket::BucketConfig;

use super::*;
use crate::worker::WorkerLog;

const IDLE: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(30);

fn now() -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000)
}

fn config() -> HostConfig {
    HostConfig {
        process: ProcessConfig {
            certificates: None,
            program: PathBuf::new(),
            environment: Vec::new(),
            bucket: BucketConfig {
                url: Url::parse("file:///nowhere/").expect("a URL"),
                options: Default::default(),
            },
            memory_bytes: 0,
            process_bytes: 0,
            spill_bytes: 0,
            spill_dir: PathBuf::new(),
            threads: 1,
            log: WorkerLog {
                json: false,
                level: "info".to_owned(),
            },
        },
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        advertised: "worker-1".to_owned(),
        idle: IDLE,
        lease: LEASE,
    }
}

fn verdict_of(standing: &Standing, silence: Duration, is_draining: bool) -> Verdict {
    verdict(Some(standing), silence, &config(), now(), is_draining)
}

/// A worker that has had a query a moment ago.
fn free() -> Standing {
    Standing {
        state: WorkerState::Ready,
        project: Some("acme".parse().expect("a name")),
        is_leased: false,
        leased_until: None,
        free_since: now(),
    }
}

fn leased(until: Timestamp) -> Standing {
    Standing {
        is_leased: true,
        leased_until: Some(until),
        ..free()
    }
}

#[test]
fn a_worker_stays_while_its_gateway_is_heard_of_however_long_its_query_takes() {
    // Whatever the gateway's clock says.
    let long_ago = Standing {
        free_since: now().minus(IDLE * 100),
        ..leased(now().minus(IDLE * 100))
    };
    assert_eq!(verdict_of(&long_ago, LEASE, false), Verdict::Stays);
    assert_eq!(verdict_of(&long_ago, LEASE * 2, false), Verdict::Goes);
}

#[test]
fn a_worker_that_is_spent_goes_and_so_does_one_that_nobody_knows() {
    let spent = Standing {
        state: WorkerState::Spent,
        ..free()
    };
    assert_eq!(verdict_of(&spent, Duration::ZERO, false), Verdict::Goes);
    assert_eq!(
        verdict(None, Duration::ZERO, &config(), now(), false),
        Verdict::IsUnknown
    );
}

#[test]
fn a_worker_that_has_nothing_to_do_forgets_its_project_after_a_while() {
    let idle = Standing {
        free_since: now().minus(IDLE),
        ..free()
    };
    let of_nobody = Standing {
        project: None,
        ..idle.clone()
    };
    assert_eq!(verdict_of(&free(), Duration::ZERO, false), Verdict::Stays);
    assert_eq!(verdict_of(&idle, Duration::ZERO, false), Verdict::IsIdle);
    assert_eq!(verdict_of(&of_nobody, Duration::ZERO, false), Verdict::Stays);
}

#[test]
fn a_worker_that_drains_goes_when_its_query_has_ended() {
    let draining = |standing: Standing| Standing {
        state: WorkerState::Draining,
        ..standing
    };
    // It is said until it is known.
    assert_eq!(verdict_of(&leased(now()), Duration::ZERO, true), Verdict::Drains);
    assert_eq!(
        verdict_of(&draining(leased(now())), Duration::ZERO, true),
        Verdict::Stays
    );
    assert_eq!(verdict_of(&draining(free()), Duration::ZERO, true), Verdict::Goes);
    // One of which the catalog does not know yet that it drains may be leased at this moment.
    assert_eq!(verdict_of(&free(), Duration::ZERO, true), Verdict::IsIdle);
}

#[test]
fn a_gateway_is_silent_while_its_word_is_the_same_and_the_catalog_answers() {
    let mut watch = Watch::default();
    let began = Instant::now();
    let after = |leases: u32| began + LEASE * leases;
    let (first, second) = (leased(now()), leased(now().plus(LEASE)));

    assert_eq!(watch.sees(after(0), Some(&first)), Duration::ZERO);
    assert_eq!(watch.sees(after(1), Some(&first)), LEASE);
    assert_eq!(watch.sees(after(2), Some(&second)), Duration::ZERO);
    assert_eq!(watch.sees(after(5), Some(&second)), LEASE * 3);
    // A worker that is free has no gateway.
    assert_eq!(watch.sees(after(9), Some(&free())), Duration::ZERO);
}

#[test]
fn nobody_is_silent_while_the_catalog_is_away() {
    let mut watch = Watch::default();
    let began = Instant::now();
    let after = |leases: u32| began + LEASE * leases;
    let word = leased(now());
    watch.sees(began, Some(&word));

    assert_eq!(watch.sees_nothing(after(1), false, LEASE), Verdict::Stays);
    assert_eq!(watch.sees_nothing(after(9), false, LEASE), Verdict::Stays);
    // One that drains does not wait for ever for somebody to say that it is free.
    assert_eq!(watch.sees_nothing(after(9), true, LEASE), Verdict::Goes);
    // A gateway has its time again.
    assert_eq!(watch.sees(after(10), Some(&word)), Duration::ZERO);
    assert_eq!(watch.sees(after(11), Some(&word)), LEASE);
}
