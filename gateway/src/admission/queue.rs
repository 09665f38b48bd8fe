//! Who is next: the order of queries that wait for a worker, with no clock and no tasks of its own.
//!
//! Between projects the order is that of weighted fair queueing: a worker goes to the project that holds the fewest for its
//! weight, and among those to the one that had the least time on workers for its weight (Demers, Keshav and Shenker, 1989).
//! Time counts while somebody waits: who works in an empty house takes nothing from anybody.
//! Within a project the shortest go first, and age: a query is due when it came plus the time it is expected to take, so one
//! of ten seconds lets those pass that come within ten seconds, and no others.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

use wasmhouse_storage::ids::ProjectId;

/// How many may run and wait.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Workers there are.
    pub(crate) workers: usize,
    /// Workers that one project may hold.
    pub(crate) workers_of_project: usize,
    /// Queries that may wait.
    pub(crate) waiting: usize,
    /// Queries of one project that may wait.
    pub(crate) waiting_of_project: usize,
    /// How much a project gets beside another; 1 for those that are not named.
    pub(crate) weights: BTreeMap<ProjectId, NonZeroU32>,
}

/// What happens to a query that comes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It has a worker.
    Runs,
    /// It waits, under this number.
    Waits(u64),
    /// Too many wait.
    Full(Full),
}

/// Whose queries are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Everybody's.
    House,
    /// The project's own.
    Project,
}

/// The workers that are held and the queries that wait for one. Times are counted from any one moment.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    free: usize,
    waiting: usize,
    /// Since when somebody has been waiting without a break.
    busy_since: Option<Duration>,
    next_number: u64,
    lanes: HashMap<ProjectId, Lane>,
    /// The time on workers, for its weight, of the project that was last served; one that comes starts with it, so nobody
    /// saves up.
    served: f64,
}

/// One project.
#[derive(Debug, Default)]
struct Lane {
    weight: f64,
    held: usize,
    /// Seconds on workers, for its weight: what has been, and what is expected of those that run.
    served: f64,
    /// By when they are due.
    waiting: BTreeMap<(Duration, u64), Duration>,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            free: limits.workers,
            limits,
            waiting: 0,
            busy_since: None,
            next_number: 0,
            lanes: HashMap::new(),
            served: 0.0,
        }
    }

    /// A query comes that is expected to take so long.
    pub(super) fn arrive(&mut self, project: &ProjectId, now: Duration, expected: Duration) -> Arrival {
        if self.take(project, expected) {
            return Arrival::Runs;
        }
        if let Some(full) = self.full_for(project) {
            return Arrival::Full(full);
        }
        let number = self.next_number;
        self.next_number += 1;
        self.waiting += 1;
        self.busy_since.get_or_insert(now);
        self.lane(project).waiting.insert((now + expected, number), expected);
        Arrival::Waits(number)
    }

    /// Why one more query of this project could not wait, if it had to.
    pub(super) fn full_for(&self, project: &ProjectId) -> Option<Full> {
        let of_project = self.lanes.get(project).map_or(0, |lane| lane.waiting.len());
        if self.waiting >= self.limits.waiting {
            return Some(Full::House);
        }
        (of_project >= self.limits.waiting_of_project).then_some(Full::Project)
    }

    /// A worker for this project, if there is one that nobody waits for.
    pub(super) fn take(&mut self, project: &ProjectId, expected: Duration) -> bool {
        let has_room = self.has_room(project);
        if has_room {
            self.serve(project, expected);
            self.even_out();
        }
        has_room
    }

    /// Whether a query of this project would run at once.
    pub(super) fn has_room(&self, project: &ProjectId) -> bool {
        let of_project = self.limits.workers_of_project;
        let may = |lane: &Lane| lane.held < of_project;
        // A free worker that others wait for is one that they may not have.
        self.free > 0
            && self.lanes.get(project).is_none_or(may)
            && !self.lanes.values().any(|lane| may(lane) && !lane.waiting.is_empty())
    }

    /// A worker is held no more that was held since `from`, and expected to be for so long.
    pub(super) fn give_back(&mut self, project: &ProjectId, expected: Duration, from: Duration, now: Duration) {
        self.free += 1;
        let while_others_waited = self
            .busy_since
            .map_or(Duration::ZERO, |since| now.saturating_sub(since.max(from)));
        let served = self.served;
        let lane = self.lane(project);
        lane.held -= 1;
        let more = (while_others_waited.as_secs_f64() - expected.as_secs_f64()) / lane.weight;
        // Nobody saves up what was only expected.
        lane.served = (lane.served + more).max(served);
        self.even_out();
    }

    /// While nobody waits, nobody is before anybody.
    fn even_out(&mut self) {
        if self.waiting == 0 {
            self.busy_since = None;
            self.served = self
                .lanes
                .values()
                .fold(self.served, |most, lane| most.max(lane.served));
            for lane in self.lanes.values_mut() {
                lane.served = self.served;
            }
        }
        let served = self.served;
        self.lanes
            .retain(|_, lane| lane.held > 0 || !lane.waiting.is_empty() || lane.served > served);
    }

    /// The query that is next has a worker now: its number, its project and the time it is expected to take.
    pub(super) fn next(&mut self) -> Option<(u64, ProjectId, Duration)> {
        if self.free == 0 {
            return None;
        }
        let of_project = self.limits.workers_of_project;
        let ready = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.held < of_project && !lane.waiting.is_empty());
        let share = |lane: &Lane| lane.held as f64 / lane.weight;
        let (project, _) = ready.min_by(|(_, a), (_, b)| {
            let by_workers = share(a).total_cmp(&share(b));
            let by_time = by_workers.then(a.served.total_cmp(&b.served));
            by_time.then_with(|| a.waiting.keys().next().cmp(&b.waiting.keys().next()))
        })?;
        let project = project.clone();
        let ((_, number), expected) = self.lane(&project).waiting.pop_first()?;
        self.waiting -= 1;
        self.serve(&project, expected);
        self.even_out();
        Some((number, project, expected))
    }

    /// A query waits no more, and not because it was its turn.
    pub(super) fn leave(&mut self, project: &ProjectId, number: u64) {
        let lane = self.lane(project);
        let before = lane.waiting.len();
        lane.waiting.retain(|(_, waits), _| *waits != number);
        let left = before - lane.waiting.len();
        self.waiting -= left;
        self.even_out();
    }

    /// Nobody waits any more.
    pub(super) fn clear(&mut self) {
        self.waiting = 0;
        self.lanes.values_mut().for_each(|lane| lane.waiting.clear());
        self.even_out();
    }

    fn serve(&mut self, project: &ProjectId, expected: Duration) {
        self.free -= 1;
        let lane = self.lane(project);
        lane.held += 1;
        let before = lane.served;
        lane.served += expected.as_secs_f64() / lane.weight;
        self.served = self.served.max(before);
    }

    fn lane(&mut self, project: &ProjectId) -> &mut Lane {
        let weight = self.limits.weights.get(project).map_or(1, |weight| weight.get());
        let served = self.served;
        self.lanes.entry(project.clone()).or_insert_with(|| Lane {
            weight: f64::from(weight),
            served,
            ..Lane::default()
        })
    }
}
