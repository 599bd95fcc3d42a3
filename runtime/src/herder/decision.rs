//! What a supervisor does next: a pure function of what is wanted and what was done.

use crate::store::{ConnectorState, State, TargetState};

/// What the supervisor has done so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    /// The config version whose plan was made or is being made.
    pub(super) planned: Option<i64>,
    /// The version of the task configs that run.
    pub(super) running: Option<i64>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Forget the plan that is being made.
    DropPlan,
    /// Make a plan from the config.
    Plan,
    /// End all tasks and forget their statuses.
    EndTasks,
    /// End what runs, if anything, and start the stored task configs.
    RunTasks,
    /// Pause or resume the running tasks.
    Pause(bool),
    /// Write the connector's state.
    Report(State),
}

/// What follows from what is wanted and what was done.
pub(super) fn decide(wanted: &ConnectorState, done: Done) -> Vec<Action> {
    let mut actions = Vec::new();
    let stale = done.running != Some(wanted.tasks_version) && !(done.running.is_none() && wanted.tasks.is_empty());
    match wanted.target {
        TargetState::Stopped => actions.extend([Action::DropPlan, Action::EndTasks, Action::Report(State::Stopped)]),
        TargetState::Paused => {
            actions.extend([Action::DropPlan, Action::Pause(true), Action::Report(State::Paused)]);
            if stale {
                actions.push(Action::RunTasks);
            }
        }
        TargetState::Started => {
            actions.push(Action::Pause(false));
            if done.planned != Some(wanted.config_version) {
                actions.extend([Action::DropPlan, Action::Plan]);
            }
            if stale {
                actions.push(Action::RunTasks);
            }
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use towline_connectors::api::Props;

    use super::*;

    fn wanted(target: TargetState, config_version: i64, tasks: usize, tasks_version: i64) -> ConnectorState {
        ConnectorState { target, config_version, tasks: vec![Props::new(); tasks], tasks_version, ..Default::default() }
    }

    #[test]
    fn a_new_connector_is_planned_and_its_tasks_run_when_they_are_written() {
        let new = wanted(TargetState::Started, 5, 0, 0);
        assert_eq!(decide(&new, Done::default()), [Action::Pause(false), Action::DropPlan, Action::Plan]);
        let done = Done { planned: Some(5), running: None };
        let written = wanted(TargetState::Started, 5, 2, 7);
        assert_eq!(decide(&written, done), [Action::Pause(false), Action::RunTasks]);
        assert_eq!(decide(&written, Done { running: Some(7), ..done }), [Action::Pause(false)]);
    }

    #[test]
    fn a_restarted_worker_runs_stored_tasks_while_it_plans() {
        let stored = wanted(TargetState::Started, 5, 2, 7);
        let actions = decide(&stored, Done::default());
        assert_eq!(actions, [Action::Pause(false), Action::DropPlan, Action::Plan, Action::RunTasks]);
    }

    #[test]
    fn a_stopped_connector_has_no_tasks_and_a_paused_one_keeps_them() {
        let done = Done { planned: Some(5), running: Some(7) };
        let stopped = decide(&wanted(TargetState::Stopped, 5, 0, 8), done);
        assert_eq!(stopped, [Action::DropPlan, Action::EndTasks, Action::Report(State::Stopped)]);
        let paused = decide(&wanted(TargetState::Paused, 5, 2, 7), done);
        assert_eq!(paused, [Action::DropPlan, Action::Pause(true), Action::Report(State::Paused)]);
    }
}
