//! What became of a plan when it ran: its stages, what each operator did in them, and how evenly their tasks shared the work.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::AddAssign;
use std::sync::Arc;

use datafusion::physical_plan::metrics::{Metric, MetricValue};
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion_distributed::{
    DISTRIBUTED_DATAFUSION_TASK_ID_LABEL, DistributedExec, NetworkBoundary, NetworkBoundaryExt,
};
use serde::{Deserialize, Serialize};

/// Operators that a profile shows at most. A plan of more branches is more than anybody reads.
const OPERATORS: usize = 500;

/// Characters of an operator's detail that are kept.
const DETAIL_CHARS: usize = 300;

/// How a query ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The head's stage, whose rows are the query's, and then those that others read.
    pub stages: Vec<Stage>,
    /// Operators that are not shown, because there are too many.
    pub left_out: usize,
    /// Whether every task has said what it counted. If not, the numbers are those of the head alone.
    pub is_complete: bool,
}

/// A part of the plan that ran in as many tasks, each over a share of the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// 0 is the head's.
    pub stage: usize,
    /// How many tasks.
    pub tasks: usize,
    /// The operator whose rows leave the stage, and after each operator those that it reads. A list, since a tree may be
    /// deeper than readers of JSON go.
    pub operators: Vec<Operator>,
}

/// What one operator did, in all tasks of its stage together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operator {
    /// The place in the list of the operator that reads its rows. None for the first.
    pub parent: Option<usize>,
    /// What it is, in the words of the engine.
    pub name: String,
    /// What it is told to do, in a line as `explain` shows it.
    pub detail: String,
    /// What it counted of what every operator counts.
    #[serde(flatten)]
    pub totals: Totals,
    /// Rows of its busiest task, in multiples of the mean; 1 is even. None with one task, and without rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skew: Option<f64>,
    /// Rows and time of each task, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskShare>,
    /// The stage whose rows it reads from other workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads_stage: Option<usize>,
    /// What else it counted, by the engine's names. What is zero is left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, u64>,
    /// What else it measured, in microseconds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub times_us: BTreeMap<String, u64>,
}

/// What every operator counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Rows that came out of it.
    pub rows: u64,
    /// Their bytes in memory.
    pub bytes: u64,
    /// Time that it worked, in microseconds of all threads together, without the time of those below it.
    pub time_us: u64,
    /// Bytes that it fetched from storage.
    pub bytes_read: u64,
    /// Bytes that it wrote to disk because memory was short.
    pub bytes_spilled: u64,
    /// Bytes that came to it from other workers.
    pub bytes_shuffled: u64,
}

/// What one task of a stage did of an operator's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskShare {
    /// Its number.
    pub task: u64,
    /// Rows that came out.
    pub rows: u64,
    /// Time that it worked, in microseconds.
    pub time_us: u64,
}

impl Profile {
    /// The profile of a plan that has run, whose operators carry the metrics of each task, and what all of them counted, shown
    /// or not.
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>) -> (Self, Totals) {
        let head = match plan.is::<DistributedExec>() {
            true => plan.children().first().map_or(plan, |head| *head),
            false => plan,
        };
        let mut drawing = Drawing {
            stages: VecDeque::from([(0, 1, Arc::clone(head))]),
            seen: HashSet::from([0]),
            room: OPERATORS,
            left_out: 0,
            totals: Totals::default(),
        };
        let mut stages = Vec::new();
        while let Some((stage, tasks, plan)) = drawing.stages.pop_front() {
            let mut operators = Vec::new();
            drawing.draw(&plan, tasks, None, &mut operators);
            stages.push(Stage {
                stage,
                tasks,
                operators,
            });
        }
        let profile = Self {
            stages,
            left_out: drawing.left_out,
            is_complete: true,
        };
        (profile, drawing.totals)
    }
}

/// A profile that is being drawn.
struct Drawing {
    /// Stages to come: number, tasks, plan.
    stages: VecDeque<(usize, usize, Arc<dyn ExecutionPlan>)>,
    seen: HashSet<usize>,
    room: usize,
    left_out: usize,
    totals: Totals,
}

impl Drawing {
    /// Draws a plan and those below it, as long as there is room; all are counted.
    fn draw(
        &mut self,
        plan: &Arc<dyn ExecutionPlan>,
        tasks: usize,
        parent: Option<usize>,
        operators: &mut Vec<Operator>,
    ) {
        let mut counts = Counts::default();
        for metric in plan.metrics().iter().flat_map(|metrics| metrics.iter()) {
            counts.add(metric);
        }
        let mut operator = counts.into_operator(tasks);
        self.totals += operator.totals;
        let boundary = plan.as_network_boundary();
        if let Some(input) = boundary.map(NetworkBoundary::input_stage) {
            operator.reads_stage = Some(input.num());
            if let Some(plan) = input.local_plan()
                && self.seen.insert(input.num())
            {
                self.stages
                    .push_back((input.num(), input.task_count(), Arc::clone(plan)));
            }
        }
        let mut place = parent;
        match self.room {
            0 => self.left_out += 1,
            _ => {
                self.room -= 1;
                let line = displayable(plan.as_ref()).one_line().to_string();
                operator.parent = parent;
                operator.name = plan.name().to_owned();
                operator.detail = line.trim_end().chars().take(DETAIL_CHARS).collect();
                place = Some(operators.len());
                operators.push(operator);
            }
        }
        if boundary.is_none() {
            for child in plan.children() {
                self.draw(child, tasks, place, operators);
            }
        }
    }
}

impl Totals {
    /// What the operators of a plan counted so far, down to where it reads from other workers.
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        let mut counts = Counts::default();
        for metric in plan.metrics().iter().flat_map(|metrics| metrics.iter()) {
            counts.add(metric);
        }
        let mut totals = counts.operator.totals;
        if plan.as_network_boundary().is_none() {
            plan.children()
                .into_iter()
                .map(Self::of)
                .for_each(|below| totals += below);
        }
        totals
    }

    /// Of each count the larger.
    pub(crate) fn max_of_each(self, other: Self) -> Self {
        Self {
            rows: self.rows.max(other.rows),
            bytes: self.bytes.max(other.bytes),
            time_us: self.time_us.max(other.time_us),
            bytes_read: self.bytes_read.max(other.bytes_read),
            bytes_spilled: self.bytes_spilled.max(other.bytes_spilled),
            bytes_shuffled: self.bytes_shuffled.max(other.bytes_shuffled),
        }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.time_us += other.time_us;
        self.bytes_read += other.bytes_read;
        self.bytes_spilled += other.bytes_spilled;
        self.bytes_shuffled += other.bytes_shuffled;
    }
}

/// The metrics of an operator, added up.
#[derive(Default)]
struct Counts {
    operator: Operator,
    time_ns: u64,
    times_ns: BTreeMap<String, u64>,
    /// Rows and nanoseconds by task.
    tasks: BTreeMap<u64, (u64, u64)>,
}

impl Counts {
    fn add(&mut self, metric: &Metric) {
        let value = metric.value();
        let number = value.as_usize() as u64;
        let task = metric
            .labels()
            .iter()
            .find(|label| label.name() == DISTRIBUTED_DATAFUSION_TASK_ID_LABEL)
            .and_then(|label| label.value().parse().ok());
        let share = self.tasks.entry(task.unwrap_or(0)).or_default();
        match value {
            MetricValue::OutputRows(_) => {
                self.operator.totals.rows += number;
                share.0 += number;
            }
            MetricValue::ElapsedCompute(_) => {
                self.time_ns += number;
                share.1 += number;
            }
            MetricValue::OutputBytes(_) => self.operator.totals.bytes += number,
            MetricValue::SpilledBytes(_) => self.operator.totals.bytes_spilled += number,
            MetricValue::Count { name, .. } if name == "bytes_scanned" => self.operator.totals.bytes_read += number,
            MetricValue::Custom { name, .. } if name == "bytes_transferred" => {
                self.operator.totals.bytes_shuffled += number
            }
            MetricValue::Time { name, .. } => *self.times_ns.entry(name.to_string()).or_default() += number,
            MetricValue::SpillCount(_)
            | MetricValue::SpilledRows(_)
            | MetricValue::Count { .. }
            | MetricValue::Gauge { .. }
            | MetricValue::PeakMemoryUsage { .. }
                if number > 0 =>
            {
                *self.operator.counters.entry(value.name().to_owned()).or_default() += number;
            }
            // Moments, ratios and what is only for the eye.
            _ => {}
        }
    }

    fn into_operator(self, tasks: usize) -> Operator {
        let Self {
            mut operator,
            time_ns,
            times_ns,
            tasks: shares,
        } = self;
        operator.totals.time_us = time_ns / 1_000;
        operator.times_us = times_ns
            .into_iter()
            .map(|(name, ns)| (name, ns / 1_000))
            .filter(|(_, us)| *us > 0)
            .collect();
        if tasks > 1 {
            let most = shares.values().map(|(rows, _)| *rows).max().unwrap_or(0);
            let mean = operator.totals.rows as f64 / tasks as f64;
            operator.skew = (mean > 0.0).then(|| (most as f64 / mean * 100.0).round() / 100.0);
            operator.tasks = shares
                .into_iter()
                .map(|(task, (rows, ns))| TaskShare {
                    task,
                    rows,
                    time_us: ns / 1_000,
                })
                .collect();
        }
        operator
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Schema;
    use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
    use datafusion::physical_plan::collect;
    use datafusion::physical_plan::empty::EmptyExec;
    use datafusion::physical_plan::metrics::{Count, Label};
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn profile_of(sql: &str) -> (Profile, Totals) {
        let session = SessionContext::new();
        let rows = session.sql(sql).await.expect("a statement");
        let plan = rows.create_physical_plan().await.expect("a plan");
        collect(Arc::clone(&plan), session.task_ctx()).await.expect("rows");
        Profile::of(&plan)
    }

    #[tokio::test]
    async fn every_operator_of_a_plan_says_how_many_rows_it_had() {
        let (profile, totals) = profile_of("select sum(value) from generate_series(1, 1000) where value % 2 = 0").await;

        let [stage] = profile.stages.as_slice() else {
            panic!("one worker, one stage: {profile:?}")
        };
        let [first, rest @ ..] = stage.operators.as_slice() else {
            panic!("a plan has an operator: {profile:?}")
        };
        assert_eq!((stage.stage, stage.tasks, first.parent), (0, 1, None));
        assert_eq!((first.totals.rows, first.skew, first.tasks.len()), (1, None, 0));
        assert!(rest.iter().all(|operator| operator.parent.is_some()), "{rest:?}");
        let filter = rest.iter().find(|operator| operator.name == "FilterExec");
        assert_eq!(filter.map(|filter| filter.totals.rows), Some(500));
        let shown: u64 = stage.operators.iter().map(|operator| operator.totals.rows).sum();
        assert_eq!(totals.rows, shown);
    }

    #[tokio::test]
    async fn a_plan_of_too_many_operators_says_how_many_are_left_out_and_counts_them_all() {
        let branches = vec!["select value from generate_series(1, 2) where value > 0"; 400].join(" union all ");
        let (profile, totals) = profile_of(&branches).await;

        let shown: Vec<&Operator> = profile.stages.iter().flat_map(|stage| &stage.operators).collect();
        assert_eq!(shown.len(), OPERATORS);
        assert!(profile.left_out > 0);
        let rows_shown: u64 = shown.iter().map(|operator| operator.totals.rows).sum();
        assert!(totals.rows > rows_shown, "{} {rows_shown}", totals.rows);
    }

    #[test]
    fn a_deep_plan_is_read_again_as_it_was_written() {
        let mut plan: Arc<dyn ExecutionPlan> = Arc::new(EmptyExec::new(Arc::new(Schema::empty())));
        for _ in 0..200 {
            plan = Arc::new(CoalescePartitionsExec::new(plan));
        }
        let (profile, _) = Profile::of(&plan);

        assert_eq!(profile.stages[0].operators.len(), 201);
        let written = serde_json::to_string(&profile).expect("JSON");
        assert_eq!(serde_json::from_str::<Profile>(&written).expect("the same"), profile);
    }

    #[test]
    fn tasks_that_share_the_work_unevenly_are_told() {
        let mut counts = Counts::default();
        for (task, rows) in [("0", 900), ("1", 100)] {
            let count = Count::new();
            count.add(rows);
            let label = Label::new(DISTRIBUTED_DATAFUSION_TASK_ID_LABEL, task);
            counts.add(&Metric::new_with_labels(
                MetricValue::OutputRows(count),
                None,
                vec![label],
            ));
        }

        let operator = counts.into_operator(2);

        assert_eq!((operator.totals.rows, operator.skew), (1000, Some(1.8)));
        let rows: Vec<(u64, u64)> = operator.tasks.iter().map(|share| (share.task, share.rows)).collect();
        assert_eq!(rows, [(0, 900), (1, 100)]);
    }
}
