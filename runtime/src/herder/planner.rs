//! Makes a connector's plan: the configs of its tasks. Retries while something outside is away, and plans again whenever
//! the connector says that the plan is stale.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use towline_connectors::api::{Connector, Error, ErrorKind, Health, Props, Result};

use crate::store::ConnectorState;

/// The outcome of planning.
pub(super) struct Planned {
    pub(super) version: i64,
    pub(super) plan: Result<Vec<Props>>,
}

/// Makes the plan, and again whenever it is stale.
pub(super) struct Planner {
    pub(super) connector: Connector,
    pub(super) resolved: Props,
    pub(super) state: Arc<ConnectorState>,
    pub(super) name: Arc<str>,
    pub(super) health: Health,
    pub(super) plans: mpsc::Sender<Planned>,
}

impl Planner {
    /// Runs until nobody listens.
    pub(super) async fn run(self) {
        loop {
            let plan = self.plan().await;
            let current = plan.as_ref().ok().cloned();
            let version = self.state.config_version;
            let plan = plan.map(|tasks| tasks.into_iter().map(|task| self.stored(task)).collect());
            if self.plans.send(Planned { version, plan }).await.is_err() {
                return;
            }
            match (current, self.connector) {
                (Some(tasks), Connector::Source(source)) => source.replan(&self.resolved, &tasks).await,
                _ => return,
            }
        }
    }

    async fn plan(&self) -> Result<Vec<Props>> {
        let max: usize = self.resolved.get("tasks.max").and_then(|text| text.trim().parse().ok()).unwrap_or(1);
        let Connector::Source(source) = self.connector else {
            return Ok(vec![self.resolved.clone(); max]);
        };
        let mut wait = Duration::from_millis(250);
        let mut said = None;
        loop {
            match source.plan(&self.resolved, max, &self.health).await {
                Ok(tasks) if tasks.len() > max => {
                    let message = format!(
                        "The connector {} has generated {} tasks, which is greater than {max}, the maximum number of \
                         tasks it is configured to create. Raise tasks.max, or report this as a bug of the connector.",
                        self.name,
                        tasks.len()
                    );
                    if self.resolved.get("tasks.max.enforce").is_some_and(|text| text.trim() == "false") {
                        tracing::warn!(connector = %self.name, "{message}");
                        return Ok(tasks);
                    }
                    return Err(Error::fatal(message));
                }
                Ok(tasks) => {
                    // What the connector itself says of its plan stays.
                    if said.is_some() && self.health.message() == said {
                        self.health.recovered();
                    }
                    return Ok(tasks);
                }
                Err(error) if error.kind() == ErrorKind::Retriable => {
                    tracing::warn!(connector = %self.name, %error, ?wait, "planning tasks failed, retrying");
                    said = Some(format!("planning tasks failed, retrying: {error}"));
                    self.health.degraded(said.clone().unwrap_or_default());
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(10));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A task config as it is stored: values that came from a placeholder are the placeholder again.
    fn stored(&self, mut task: Props) -> Props {
        for (key, value) in &mut task {
            if let (Some(given), Some(resolved)) = (self.state.config.get(key), self.resolved.get(key))
                && resolved == value
            {
                value.clone_from(given);
            }
        }
        let class = match self.connector {
            Connector::Source(_) => "Source",
            Connector::Sink(_) => "Sink",
        };
        let name = self.connector.spec().class;
        let base = name.strip_suffix("Connector").unwrap_or(name);
        let base = base.strip_suffix(class).unwrap_or(base);
        task.insert("task.class".to_owned(), format!("{base}{class}Task"));
        task
    }
}
