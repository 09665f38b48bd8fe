use futures::future::join_all;

use super::*;
use crate::catalog::db::tests::{World, worlds};

const LEASE: Duration = Duration::from_secs(30);

impl World {
    fn workers(&self) -> Workers {
        Workers::new(&self.catalog)
    }

    /// A worker that offers itself at a port of its own.
    async fn offer(&self, port: u16) -> WorkerId {
        self.offer_for(port, None).await
    }

    /// A worker in place of another one.
    async fn offer_for(&self, port: u16, replaces: Option<WorkerId>) -> WorkerId {
        let offer = Offer {
            id: WorkerId::new(self.clock.now()),
            url: format!("http://worker.example:{port}"),
            token: format!("token of {port}"),
            build: "build-1".to_owned(),
            replaces,
        };
        self.workers().register(&offer).await.expect("registered");
        // The order in which workers became free is the order of their ports.
        self.clock.advance(Duration::from_millis(1));
        offer.id
    }

    async fn lease(&self, owner: &str, project: &str, count: usize) -> Vec<WorkerId> {
        let project = project.parse().expect("a name");
        let wanted = Wanted {
            owner,
            project: &project,
            build: "build-1",
            count,
            until: self.clock.now().plus(LEASE),
        };
        let leased = self.workers().lease(&wanted).await.expect("an answer");
        leased.into_iter().map(|leased| leased.id).collect()
    }

    async fn standing(&self, id: &WorkerId) -> Standing {
        let standing = self.workers().renew(id).await.expect("an answer");
        standing.expect("a worker that is registered")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_has_one_lease_at_a_time_however_many_gateways_want_it() {
    for world in worlds().await {
        for port in 1..=4 {
            world.offer(port).await;
        }

        let names: Vec<String> = (0..8).map(|n| format!("gateway-{n}")).collect();
        let leases = join_all(names.iter().map(|owner| world.lease(owner, "acme", 1))).await;

        let mut taken: Vec<WorkerId> = leases.into_iter().flatten().collect();
        let count = taken.len();
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), count, "somebody else's worker was leased");
        // One who found a worker taken under its eyes may ask again.
        let left = world.lease("gateway-late", "acme", 4 - count).await;
        assert_eq!(left.len(), 4 - count);
        assert_eq!(world.lease("gateway-later", "acme", 1).await, []);
        world.close().await;
    }
}

#[tokio::test]
async fn a_lease_is_all_the_workers_that_are_wanted_or_none() {
    for world in worlds().await {
        world.offer(1).await;
        world.offer(2).await;

        assert_eq!(world.lease("gateway-1", "acme", 3).await, []);
        assert_eq!(world.lease("gateway-2", "acme", 2).await.len(), 2);
        world.close().await;
    }
}

#[tokio::test]
async fn a_worker_that_is_given_back_is_its_projects_and_nobody_elses() {
    for world in worlds().await {
        let worker = world.offer(1).await;
        assert_eq!(world.lease("gateway-1", "acme", 1).await, std::slice::from_ref(&worker));

        world
            .workers()
            .give_back(&worker, "gateway-1")
            .await
            .expect("given back");

        // Another gateway has it for the same project.
        assert_eq!(world.lease("gateway-2", "acme", 1).await, std::slice::from_ref(&worker));
        world
            .workers()
            .give_back(&worker, "gateway-2")
            .await
            .expect("given back");
        // For another project it is ended, and whoever waits finds the one that is started in its place.
        assert_eq!(world.lease("gateway-1", "other", 1).await, []);
        assert_eq!(world.standing(&worker).await.state, WorkerState::Spent);
        world.workers().ended(&worker, Ending::Stopped).await.expect("ended");
        let next = world.offer(1).await;
        assert_eq!(world.lease("gateway-1", "other", 1).await, [next]);
        world.close().await;
    }
}

#[tokio::test]
async fn no_more_idle_workers_make_room_than_are_missing() {
    for world in worlds().await {
        let workers = [world.offer(1).await, world.offer(2).await, world.offer(3).await];
        assert_eq!(world.lease("gateway-1", "acme", 3).await.len(), 3);
        for worker in &workers {
            world
                .workers()
                .give_back(worker, "gateway-1")
                .await
                .expect("given back");
        }

        // However often one asks while the new worker starts.
        for _ in 0..3 {
            assert_eq!(world.lease("gateway-1", "other", 1).await, []);
        }

        let mut spent = Vec::new();
        for worker in &workers {
            if world.standing(worker).await.state == WorkerState::Spent {
                spent.push(worker.clone());
            }
        }
        let [spent] = spent.as_slice() else {
            panic!("{spent:?} make room for one");
        };
        // Nor while its place is empty.
        world.workers().ended(spent, Ending::Stopped).await.expect("ended");
        assert_eq!(world.lease("gateway-1", "other", 1).await, []);
        let next = world.offer_for(9, Some(spent.clone())).await;
        assert_eq!(world.lease("gateway-1", "other", 1).await, [next]);
        for worker in workers.iter().filter(|worker| *worker != spent) {
            assert_eq!(world.standing(worker).await.state, WorkerState::Ready);
        }
        world.close().await;
    }
}

#[tokio::test]
async fn silent_draining_spent_and_foreign_workers_are_never_leased() {
    for world in worlds().await {
        let workers = world.workers();
        let silent = world.offer(1).await;
        world.clock.advance(ALIVE_FOR);
        let [draining, spent] = [world.offer(2).await, world.offer(3).await];
        workers.drain(&draining).await.expect("draining");
        assert!(workers.retire(&spent).await.expect("an answer"));
        let foreign = Offer {
            id: WorkerId::new(world.clock.now()),
            url: "http://worker.example:4".to_owned(),
            token: "token".to_owned(),
            build: "build-2".to_owned(),
            replaces: None,
        };
        workers.register(&foreign).await.expect("registered");

        assert_eq!(world.lease("gateway-1", "acme", 1).await, []);
        // One that is heard of again may be leased again.
        world.standing(&silent).await;
        assert_eq!(world.lease("gateway-1", "acme", 1).await, [silent]);
        world.close().await;
    }
}

#[tokio::test]
async fn a_gateway_that_renews_its_leases_is_heard_of_by_the_hosts() {
    for world in worlds().await {
        let worker = world.offer(1).await;
        world.lease("gateway-1", "acme", 1).await;
        let workers = world.workers();
        let first = world.standing(&worker).await.leased_until;

        world.clock.advance(LEASE);
        let (held, until) = ([worker.clone()], world.clock.now().plus(LEASE));
        let renewed = workers.renew_leases("gateway-2", &held, until).await;
        assert_eq!(renewed.expect("an answer"), 0);
        assert_eq!(world.standing(&worker).await.leased_until, first);
        let renewed = workers.renew_leases("gateway-1", &held, until).await;
        assert_eq!(renewed.expect("an answer"), 1);
        assert_eq!(world.standing(&worker).await.leased_until, Some(until));
        assert!(!workers.retire(&worker).await.expect("an answer"), "it is leased");
        world.close().await;
    }
}

#[tokio::test]
async fn a_crew_is_what_is_free_and_ends_nobody_elses_workers() {
    for world in worlds().await {
        let workers = [world.offer(1).await, world.offer(2).await];
        let [of_other] = world.lease("gateway-1", "other", 1).await.try_into().expect("one");
        world
            .workers()
            .give_back(&of_other, "gateway-1")
            .await
            .expect("given back");
        let acme = "acme".parse().expect("a name");
        let wanted = Wanted {
            owner: "gateway-2",
            project: &acme,
            build: "build-1",
            count: 5,
            until: world.clock.now().plus(LEASE),
        };

        let leased = async |spare| {
            let leased = world.workers().lease_free(&wanted, spare).await;
            leased.expect("an answer").len()
        };
        assert_eq!(leased(2).await, 0, "both are left for whoever comes next");
        assert_eq!(leased(1).await, 1);

        for worker in &workers {
            assert_eq!(world.standing(worker).await.state, WorkerState::Ready);
        }
        // A gateway that stops leaves nothing leased.
        assert_eq!(world.workers().spend_all("gateway-2").await.expect("spent"), 1);
        world.close().await;
    }
}

#[tokio::test]
async fn a_gateway_learns_how_its_worker_ended() {
    for world in worlds().await {
        let workers = world.workers();
        let worker = world.offer(1).await;
        world.lease("gateway-1", "acme", 1).await;
        workers.spend(&worker, "gateway-1").await.expect("spent");
        assert_eq!(workers.ending(&worker).await.expect("an answer"), None);

        workers.ended(&worker, Ending::OutOfMemory).await.expect("ended");
        // The first word counts.
        workers.ended(&worker, Ending::Stopped).await.expect("ended");

        assert_eq!(
            workers.ending(&worker).await.expect("an answer"),
            Some(Ending::OutOfMemory)
        );
        assert_eq!(workers.renew(&worker).await.expect("an answer"), None);
        world.close().await;
    }
}

#[tokio::test]
async fn a_new_worker_at_an_address_means_that_the_old_one_is_lost() {
    for world in worlds().await {
        let old = world.offer(1).await;
        world.lease("gateway-1", "acme", 1).await;
        let new = world.offer(1).await;

        let workers = world.workers();
        assert_eq!(workers.ending(&old).await.expect("an answer"), Some(Ending::Lost));
        // What its gateway says of the old one does not touch the new one.
        workers.give_back(&old, "gateway-1").await.expect("given back");
        assert_eq!(world.lease("gateway-1", "acme", 2).await, []);
        assert_eq!(world.lease("gateway-1", "acme", 1).await, [new]);

        // One that somebody has is not forgotten, however long it is silent.
        world.clock.advance(REMEMBERED_FOR + ALIVE_FOR + Duration::from_secs(1));
        assert_eq!(workers.forget().await.expect("forgotten"), 1);
        world.close().await;
    }
}

#[tokio::test]
async fn as_many_workers_are_wanted_as_are_missed_or_were_needed_lately() {
    const IDLE: Duration = Duration::from_secs(60);
    for world in worlds().await {
        let workers = world.workers();
        let wanted = async || workers.need(IDLE).await.expect("two numbers").wanted;
        assert_eq!(wanted().await, 0);
        workers.demand("gateway-1", "build-1", 2).await.expect("said");
        workers.demand("gateway-2", "build-1", 3).await.expect("said");
        workers.demand("gateway-2", "build-1", 1).await.expect("said again");
        assert_eq!(wanted().await, 3);

        // Two of them are there, and are not wanted twice.
        let first = world.offer(1).await;
        let other = world.offer(2).await;
        assert_eq!(wanted().await, 3);
        assert_eq!(world.lease("gateway-1", "acme", 2).await.len(), 2);
        workers.demand("gateway-1", "build-1", 0).await.expect("said");
        assert_eq!(wanted().await, 3);

        // What is idle for one project is not there for another.
        workers.give_back(&first, "gateway-1").await.expect("given back");
        assert_eq!(wanted().await, 3);
        workers.demand("gateway-2", "build-1", 0).await.expect("said");
        assert_eq!(wanted().await, 2);
        assert_eq!(workers.need(IDLE).await.expect("two numbers").taken, 2);

        // Nor is one of this build there for a gateway of the next.
        let third = world.offer(3).await;
        assert_eq!(wanted().await, 3);
        workers.demand("gateway-9", "build-2", 1).await.expect("said");
        assert_eq!(wanted().await, 4);
        workers.demand("gateway-9", "build-2", 0).await.expect("said");
        workers.ended(&third, Ending::Stopped).await.expect("ended");
        assert_eq!(wanted().await, 2);

        // One that is about to be started again is as good as there.
        let [second] = world.lease("gateway-1", "acme", 1).await.try_into().expect("one");
        workers.spend(&second, "gateway-1").await.expect("spent");
        assert_eq!(wanted().await, 2);
        workers.demand("gateway-2", "build-1", 1).await.expect("said");
        assert_eq!(wanted().await, 2);

        // One that was told to go is not there for long, whatever it still does.
        workers.drain(&other).await.expect("drained");
        assert_eq!(wanted().await, 1);

        // A gateway that is gone misses nothing, and an idle worker is not wanted for ever.
        workers.demand("gateway-3", "build-1", 5).await.expect("said");
        world.clock.advance(IDLE);
        world.standing(&first).await;
        assert_eq!(wanted().await, 0);
        world.close().await;
    }
}
