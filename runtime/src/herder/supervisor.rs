//! One connector's life: what the config topic wants of it becomes a plan, task configs and running tasks.
//!
//! What is to be done is decided in [`super::decision`]; this carries it out.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use towline_connectors::api::{Error, Health, Props, Result};

use super::decision::{Action, Done, decide};
use super::planner::{Planned, Planner};
use super::{Shared, find_connector};
use crate::config_providers;
use crate::store::{ConnectorState, State, Status, TargetState};
use crate::task::TaskContext;

/// What a supervisor can be asked.
#[derive(Debug)]
struct Restart {
    connector: bool,
    tasks: Vec<usize>,
    done: Option<oneshot::Sender<()>>,
}

/// Speaks to a supervisor.
#[derive(Debug, Clone)]
pub(super) struct SupervisorHandle {
    desired: Arc<watch::Sender<Option<Arc<ConnectorState>>>>,
    restarts: mpsc::Sender<Restart>,
    notes: Arc<Mutex<HashMap<usize, Health>>>,
    health: Health,
    ended: CancellationToken,
}

impl SupervisorHandle {
    /// Says what is wanted now; `None` ends the connector.
    pub(super) fn set_desired(&self, state: Option<Arc<ConnectorState>>) {
        self.desired.send_replace(state);
    }

    /// Waits until the connector has ended.
    pub(super) async fn ended(&self, patience: Duration) {
        let _ = tokio::time::timeout(patience, self.ended.cancelled()).await;
    }

    /// Restarts the connector or tasks and waits until that is done.
    pub(super) async fn restart(&self, connector: bool, tasks: &[usize]) {
        let (done, wait) = oneshot::channel();
        let request = Restart { connector, tasks: tasks.to_vec(), done: Some(done) };
        if self.restarts.send(request).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// Asks for a restart without waiting for it.
    pub(super) async fn request_restart(&self, connector: bool, tasks: &[usize]) {
        let _ = self.restarts.send(Restart { connector, tasks: tasks.to_vec(), done: None }).await;
    }

    /// What tasks say of their retries.
    pub(super) fn notes(&self) -> HashMap<usize, String> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().filter_map(|(task, health)| Some((*task, health.message()?))).collect()
    }

    /// What the connector says of its retries.
    pub(super) fn connector_note(&self) -> Option<String> {
        self.health.message()
    }
}

/// A running or ended task.
struct TaskSlot {
    stop: CancellationToken,
    paused: watch::Sender<bool>,
    handle: Option<JoinHandle<()>>,
    run: u64,
}

struct Exit {
    task: usize,
    run: u64,
    outcome: Result<()>,
}

struct Supervisor {
    shared: Arc<Shared>,
    name: Arc<str>,
    desired: watch::Receiver<Option<Arc<ConnectorState>>>,
    restarts: mpsc::Receiver<Restart>,
    notes: Arc<Mutex<HashMap<usize, Health>>>,
    health: Health,
    done: Done,
    /// The config that the running tasks were started with.
    running_config: Props,
    paused: bool,
    tasks: Vec<TaskSlot>,
    exits: (mpsc::Sender<Exit>, mpsc::Receiver<Exit>),
    runs: u64,
    plans: (mpsc::Sender<Planned>, mpsc::Receiver<Planned>),
    planning: Option<AbortHandle>,
}

/// Starts a supervisor.
pub(super) fn spawn(
    shared: Arc<Shared>,
    name: &str,
    state: Arc<ConnectorState>,
    before: Option<SupervisorHandle>,
) -> SupervisorHandle {
    let (desired, desired_now) = watch::channel(Some(state));
    let (restarts, restart_requests) = mpsc::channel(8);
    let handle = SupervisorHandle {
        desired: Arc::new(desired),
        restarts,
        notes: Arc::default(),
        health: Health::default(),
        ended: CancellationToken::new(),
    };
    let supervisor = Supervisor {
        name: Arc::from(name),
        desired: desired_now,
        restarts: restart_requests,
        notes: handle.notes.clone(),
        health: handle.health.clone(),
        done: Done::default(),
        running_config: Props::new(),
        paused: false,
        tasks: Vec::new(),
        exits: mpsc::channel(64),
        runs: 0,
        plans: mpsc::channel(4),
        planning: None,
        shared: shared.clone(),
    };
    let ended = handle.ended.clone();
    shared.tracker.spawn(async move {
        if let Some(before) = before {
            before.ended.cancelled().await;
        }
        supervisor.run().await;
        ended.cancel();
    });
    handle
}

enum Event {
    Stop,
    Desired,
    Restart(Restart),
    Exit(Exit),
    Planned(Planned),
}

impl Supervisor {
    async fn run(mut self) {
        loop {
            let Some(wanted) = self.desired.borrow_and_update().clone() else {
                self.drop_plan();
                self.end_tasks().await;
                self.log_failure("forgetting its status", self.shared.stores.status.delete(&self.name).await);
                return;
            };
            self.reconcile(&wanted).await;
            let event = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => Event::Stop,
                changed = self.desired.changed() => if changed.is_ok() { Event::Desired } else { Event::Stop },
                Some(restart) = self.restarts.recv() => Event::Restart(restart),
                Some(exit) = self.exits.1.recv() => Event::Exit(exit),
                Some(planned) = self.plans.1.recv() => Event::Planned(planned),
            };
            match event {
                Event::Stop => return self.shut_down().await,
                Event::Desired => {}
                Event::Restart(restart) => self.restart(&wanted, restart).await,
                Event::Exit(exit) => self.task_ended(exit).await,
                Event::Planned(planned) => self.take_plan(&wanted, planned).await,
            }
        }
    }

    async fn reconcile(&mut self, wanted: &Arc<ConnectorState>) {
        for action in decide(wanted, self.done) {
            match action {
                Action::DropPlan => self.drop_plan(),
                Action::Plan => self.start_plan(wanted).await,
                Action::EndTasks => {
                    self.end_tasks().await;
                    for (task, _) in self.shared.stores.status.tasks(&self.name) {
                        let forgotten = self.shared.stores.status.put_task(&self.name, task, None).await;
                        self.log_failure("forgetting a task's status", forgotten);
                    }
                    self.done.running = Some(wanted.tasks_version);
                    if !wanted.tasks.is_empty() {
                        // A plan that was being written when the stop came.
                        let written = self.shared.stores.configs.put_tasks(&self.name, &[]).await;
                        self.log_failure("writing its empty task list", written);
                    }
                }
                Action::RunTasks => self.run_tasks(wanted).await,
                Action::Pause(paused) => {
                    let resumed = self.paused && !paused;
                    self.paused = paused;
                    for slot in &self.tasks {
                        slot.paused.send_if_modified(|now| std::mem::replace(now, paused) != paused);
                    }
                    if resumed && self.done.planned.is_some() {
                        self.report(State::Running, None).await;
                    }
                }
                Action::Report(state) => self.report(state, None).await,
            }
        }
    }

    /// Writes the connector's state unless it is written already.
    async fn report(&self, state: State, trace: Option<String>) {
        let status = Status { state, trace, worker_id: self.shared.worker_id.to_string() };
        if self.shared.stores.status.connector(&self.name).as_ref() != Some(&status) {
            let written = self.shared.stores.status.put_connector(&self.name, Some(&status)).await;
            self.log_failure("writing its status", written);
        }
    }

    fn log_failure(&self, what: &str, outcome: Result<()>) {
        if let Err(error) = outcome {
            tracing::error!(connector = %self.name, %error, "{what} failed");
        }
    }

    fn drop_plan(&mut self) {
        if let Some(planning) = self.planning.take() {
            planning.abort();
        }
        self.done.planned = None;
        self.health.recovered();
        while self.plans.1.try_recv().is_ok() {}
    }

    async fn start_plan(&mut self, wanted: &Arc<ConnectorState>) {
        self.done.planned = Some(wanted.config_version);
        let resolved = match config_providers::resolve(&wanted.config, &self.shared.config) {
            Ok(resolved) => resolved,
            Err(error) => return self.connector_failed(&error).await,
        };
        let class = resolved.get("connector.class").map_or("", String::as_str);
        let Some(connector) = find_connector(class) else {
            let error = Error::fatal(format!(
                "Failed to find any class that implements Connector and which name matches {class}"
            ));
            return self.connector_failed(&error).await;
        };
        self.report(State::Running, None).await;
        let planner = Planner {
            connector,
            resolved,
            state: wanted.clone(),
            name: self.name.clone(),
            health: self.health.clone(),
            plans: self.plans.0.clone(),
        };
        self.planning = Some(self.shared.tracker.spawn(planner.run()).abort_handle());
    }

    async fn connector_failed(&self, error: &Error) {
        tracing::error!(connector = %self.name, %error, "connector failed");
        self.health.recovered();
        self.report(State::Failed, Some(error.trace())).await;
    }

    async fn take_plan(&mut self, wanted: &ConnectorState, planned: Planned) {
        if self.done.planned != Some(planned.version) || wanted.target != TargetState::Started {
            return;
        }
        let tasks = match planned.plan {
            Ok(tasks) => tasks,
            Err(error) => return self.connector_failed(&error).await,
        };
        let changed = tasks != wanted.tasks || (!self.tasks.is_empty() && self.running_config != wanted.config);
        if changed {
            // The records come back through the config topic as a new version of the tasks.
            let written = self.shared.stores.configs.put_tasks(&self.name, &tasks).await;
            self.log_failure("writing its task configs", written);
        }
    }

    async fn run_tasks(&mut self, wanted: &Arc<ConnectorState>) {
        self.end_tasks().await;
        for (task, _) in self.shared.stores.status.tasks(&self.name) {
            if task >= wanted.tasks.len() {
                let forgotten = self.shared.stores.status.put_task(&self.name, task, None).await;
                self.log_failure("forgetting a task's status", forgotten);
            }
        }
        self.running_config = wanted.config.clone();
        self.done.running = Some(wanted.tasks_version);
        for task in 0..wanted.tasks.len() {
            let slot = self.start_task(wanted, task).await;
            self.tasks.push(slot);
        }
    }

    async fn start_task(&mut self, wanted: &ConnectorState, task: usize) -> TaskSlot {
        self.runs += 1;
        let run = self.runs;
        let stop = self.shared.stop.child_token();
        let (paused, paused_now) = watch::channel(self.paused);
        let health = Health::default();
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).insert(task, health.clone());
        let mut slot = TaskSlot { stop: stop.clone(), paused, handle: None, run };
        let prepared = config_providers::resolve(&wanted.tasks[task], &self.shared.config)
            .and_then(|props| Ok((props, config_providers::resolve(&wanted.config, &self.shared.config)?)));
        let connector = find_connector(wanted.config.get("connector.class").map_or("", String::as_str));
        let (Ok((props, connector_props)), Some(connector)) = (prepared, connector) else {
            let error = Error::config("the task's config cannot be resolved; see the connector's status");
            self.task_ended(Exit { task, run, outcome: Err(error) }).await;
            return slot;
        };
        let context = TaskContext {
            connector: self.name.clone(),
            task,
            props,
            connector_props,
            worker: self.shared.config.clone(),
            worker_id: self.shared.worker_id.clone(),
            cluster_id: self.shared.cluster_id.clone(),
            kafka: self.shared.kafka.clone(),
            stores: self.shared.stores.clone(),
            stop,
            paused: paused_now,
            health,
        };
        let exits = self.exits.0.clone();
        slot.handle = Some(self.shared.tracker.spawn(async move {
            let ran = AssertUnwindSafe(context.run(connector)).catch_unwind().await;
            let outcome = ran.unwrap_or_else(|_| {
                Err(Error::fatal("the task panicked; this is a bug, please report it with the log"))
            });
            let _ = exits.send(Exit { task, run, outcome }).await;
        }));
        slot
    }

    /// Stops all tasks within the worker's graceful time.
    async fn end_tasks(&mut self) {
        for slot in &self.tasks {
            slot.stop.cancel();
        }
        let deadline = tokio::time::Instant::now() + self.shared.config.millis("task.shutdown.graceful.timeout.ms");
        for (task, mut slot) in std::mem::take(&mut self.tasks).into_iter().enumerate() {
            let Some(handle) = &mut slot.handle else { continue };
            // The task may be waiting to tell of its end: take it in meanwhile.
            loop {
                tokio::select! {
                    _ = &mut *handle => break,
                    Some(exit) = self.exits.1.recv() => self.end_of_stopping(&exit),
                    () = tokio::time::sleep_until(deadline) => {
                        tracing::warn!(connector = %self.name, task, "task did not stop in time and is cut off");
                        handle.abort();
                        break;
                    }
                }
            }
        }
        while let Ok(exit) = self.exits.1.try_recv() {
            self.end_of_stopping(&exit);
        }
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn end_of_stopping(&self, exit: &Exit) {
        if let Err(error) = &exit.outcome {
            tracing::warn!(connector = %self.name, task = exit.task, %error, "task ended with an error while stopping");
        }
    }

    async fn task_ended(&mut self, exit: Exit) {
        let current = self.tasks.get(exit.task).is_none_or(|slot| slot.run == exit.run);
        let stopped = self.tasks.get(exit.task).is_none_or(|slot| slot.stop.is_cancelled());
        let error = match exit.outcome {
            Ok(()) if stopped => return,
            Ok(()) => Error::fatal("the task ended by itself; restart it, and please report this with the log"),
            Err(error) => error,
        };
        if !current {
            return;
        }
        tracing::error!(connector = %self.name, task = exit.task, trace = %error.trace().trim_end(), "task failed");
        // It retries nothing any more.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).remove(&exit.task);
        let status =
            Status { state: State::Failed, trace: Some(error.trace()), worker_id: self.shared.worker_id.to_string() };
        let written = self.shared.stores.status.put_task(&self.name, exit.task, Some(&status)).await;
        self.log_failure("writing a task's status", written);
    }

    async fn restart(&mut self, wanted: &Arc<ConnectorState>, restart: Restart) {
        for task in restart.tasks {
            if task >= self.tasks.len() || task >= wanted.tasks.len() {
                continue;
            }
            let status = Status { state: State::Restarting, trace: None, worker_id: self.shared.worker_id.to_string() };
            let written = self.shared.stores.status.put_task(&self.name, task, Some(&status)).await;
            self.log_failure("writing a task's status", written);
            self.tasks[task].stop.cancel();
            if let Some(handle) = self.tasks[task].handle.take() {
                let patience = self.shared.config.millis("task.shutdown.graceful.timeout.ms");
                let abort = handle.abort_handle();
                if tokio::time::timeout(patience, handle).await.is_err() {
                    abort.abort();
                }
            }
            self.tasks[task].run = self.runs + 1;
            let slot = self.start_task(wanted, task).await;
            self.tasks[task] = slot;
        }
        if restart.connector {
            self.drop_plan();
            if wanted.target == TargetState::Started {
                self.start_plan(wanted).await;
            }
        }
        if let Some(done) = restart.done {
            let _ = done.send(());
        }
    }

    /// The worker stops: tasks end, and their statuses say that nobody runs them now.
    async fn shut_down(mut self) {
        self.drop_plan();
        let tasks = self.tasks.len();
        self.end_tasks().await;
        let unassigned =
            |trace| Status { state: State::Unassigned, trace, worker_id: self.shared.worker_id.to_string() };
        for task in 0..tasks {
            let written = self.shared.stores.status.put_task(&self.name, task, Some(&unassigned(None))).await;
            self.log_failure("writing a task's status", written);
        }
        let written = self.shared.stores.status.put_connector(&self.name, Some(&unassigned(None))).await;
        self.log_failure("writing its status", written);
    }
}
