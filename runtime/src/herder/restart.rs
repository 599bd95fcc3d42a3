//! Status and restart of connectors and tasks (KIP-745).

use super::{Herder, Refusal};
use crate::store::{State, Status};

/// A connector's status with its tasks'.
#[derive(Debug, Clone)]
pub struct ConnectorStatus {
    /// The connector's own.
    pub connector: Status,
    /// The tasks', by number.
    pub tasks: Vec<(usize, Status)>,
}

impl Herder {
    /// The status of a connector and its tasks.
    ///
    /// # Errors
    /// 404 before the first status is written.
    pub fn status(&self, name: &str) -> Result<ConnectorStatus, Refusal> {
        let found = self.shared.stores.configs.connector(name).and_then(|_| self.shared.stores.status.connector(name));
        let connector = found.ok_or_else(|| Refusal::new(404, format!("No status found for connector {name}")))?;
        Ok(ConnectorStatus { connector, tasks: self.shared.stores.status.tasks(name) })
    }

    /// Restarts the connector itself; answers once that is done.
    ///
    /// # Errors
    /// 404 if there is none of that name.
    pub async fn restart_connector(&self, name: &str) -> Result<(), Refusal> {
        let supervisor = self.supervisor(name);
        let supervisor = supervisor.ok_or_else(|| Refusal::new(404, format!("Unknown connector: {name}")))?;
        supervisor.restart(true, &[]).await;
        Ok(())
    }

    /// Restarts a task.
    ///
    /// # Errors
    /// 404 if there is none of that number.
    pub async fn restart_task(&self, name: &str, task: usize) -> Result<(), Refusal> {
        let unknown = || Refusal::new(404, format!("Unknown connector: {name}"));
        let supervisor = self.supervisor(name).ok_or_else(unknown)?;
        let state = self.shared.stores.configs.connector(name).ok_or_else(unknown)?;
        if task >= state.tasks.len() {
            return Err(Refusal::new(404, format!("Unknown task: {name}-{task}")));
        }
        supervisor.restart(false, &[task]).await;
        Ok(())
    }

    /// Restarts the connector and, if asked, its tasks; only those that FAILED, if asked. Answers at once with the
    /// status in which everything selected is RESTARTING.
    ///
    /// # Errors
    /// 404 if there is none of that name, or it has no status.
    pub async fn restart(&self, name: &str, tasks: bool, only_failed: bool) -> Result<ConnectorStatus, Refusal> {
        let supervisor = self.supervisor(name);
        let supervisor = supervisor.ok_or_else(|| Refusal::new(404, format!("Unknown connector: {name}")))?;
        let status = self.status(name);
        let mut status = status.map_err(|_| Refusal::new(404, format!("Status for connector {name} not found")))?;
        let selected = |state: State| !only_failed || state == State::Failed;
        let connector = selected(status.connector.state);
        if connector {
            status.connector.state = State::Restarting;
        }
        let mut numbers = Vec::new();
        for (number, task) in &mut status.tasks {
            if tasks && selected(task.state) {
                task.state = State::Restarting;
                numbers.push(*number);
            }
        }
        supervisor.request_restart(connector, &numbers).await;
        Ok(status)
    }
}
