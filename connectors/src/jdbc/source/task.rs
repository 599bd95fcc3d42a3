//! The source task: starts the reader and hands its batches to the worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::batches::{self, Received};
use super::config::{InitialTimestamp, Mode, SourceConfig};
use super::prepare;
use super::progress::{self, Progress};
use super::reader::{self, Reader, Target};
use super::shape::Relation;
use super::tables;
use super::trouble::{self, Notes};
use crate::api::{Error, Position, Props, Result, SourceBatch, SourceContext, SourceTask};
use crate::jdbc::connection_keys::Connector;

/// How long a poll waits before it answers that there is nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// A running source task.
pub(super) struct JdbcSourceTask {
    batches: Received,
    /// Rows that a poll hands over, about.
    rows: usize,
    stop: CancellationToken,
    connector: Connector,
    /// The server's process that reads for us.
    process: Arc<AtomicI32>,
    reader: AbortOnDropHandle<()>,
}

impl JdbcSourceTask {
    /// Connects, checks the tables, finds the offsets and starts to read.
    pub(super) async fn open(props: &Props, connector: Connector, context: SourceContext) -> Result<Self> {
        let config = SourceConfig::read(props)?;
        let mut session = connector.open().await?;
        let initial = match config.initial_timestamp {
            InitialTimestamp::At(millis) => millis.saturating_mul(1000),
            InitialTimestamp::Now => reader::clock(&mut session)
                .await
                .map_err(|error| crate::postgres::failure::to_error(error, "could not read the database's clock"))?,
        };
        let mut targets = targets(props, &config)?;
        if targets.len() > 1 {
            let limited = trouble::limit_locks(&mut session).await;
            limited.map_err(|error| crate::postgres::failure::to_error(error, "could not set up the session"))?;
        }
        let fresh = !resume(&mut targets, &config, initial, &context).await?;
        let prepared = prepare::prepare_all(&mut session, &mut targets, &config).await;
        let mut troubles = prepared.map_err(|(at, error)| error_at_start(error, &targets[at].label, &connector))?;
        // Tables that are left out here are tried again, and told, by the reader.
        if let Some(place) = trouble::decisive(&troubles, targets.len(), fresh) {
            let (at, error) = troubles.swap_remove(place);
            return Err(error_at_start(error, &targets[at].label, &connector));
        }
        let (sender, batches) = batches::queue();
        let rows = config.batch_rows.unwrap_or(reader::BATCH_ROWS);
        let stop = context.stop.child_token();
        let process = Arc::new(AtomicI32::new(session.process));
        let reader = Reader {
            connector: connector.clone(),
            process: Arc::clone(&process),
            config: Arc::new(config),
            notes: Notes::new(context.health),
            stop: stop.clone(),
            session: Some(session),
            targets,
            batches: sender,
        };
        let reader = AbortOnDropHandle::new(tokio::spawn(reader.run()));
        Ok(Self { batches, rows, stop, connector, process, reader })
    }
}

#[async_trait]
impl SourceTask for JdbcSourceTask {
    async fn poll(&mut self) -> Result<Vec<SourceBatch>> {
        match tokio::time::timeout(PATIENCE, self.batches.next(self.rows)).await {
            Ok(Some(batches)) => batches,
            Ok(None) => Err(Error::fatal("the reader of the source task has ended")),
            Err(_) => Ok(Vec::new()),
        }
    }

    async fn close(self: Box<Self>) {
        self.stop.cancel();
        let Self { batches, reader, connector, process, .. } = *self;
        // A reader that waits for room in the queue ends with it; one in a long query is cut off, here and on the server.
        drop(batches);
        if tokio::time::timeout(PATIENCE, reader).await.is_err()
            && let Ok(Ok(mut session)) = tokio::time::timeout(PATIENCE, connector.connect()).await
        {
            if let Err(error) = session.end_other(process.load(Ordering::Relaxed)).await {
                tracing::warn!(error = %error, "a query of the stopped task may run on in the server");
            }
            session.close().await;
        }
    }
}

fn targets(props: &Props, config: &SourceConfig) -> Result<Vec<Target>> {
    if let Some(query) = &config.query {
        let relation = Relation::Query(query.clone());
        let partition = progress::query_partition();
        return Ok(vec![Target::new(relation, partition, config.topic_prefix.clone(), Progress::default())]);
    }
    let tables = tables::tables_of(props);
    if tables.is_empty() {
        return Err(Error::config(
            "no table is assigned to this task: name tables as schema.table in table.whitelist or table.include.list",
        ));
    }
    Ok(tables
        .into_iter()
        .map(|table| {
            let topic = format!("{}{}", config.topic_prefix, table.name);
            let partition = match config.mode {
                Mode::Bulk => progress::old_table_partition(&table.name),
                _ => progress::table_partition(&table.dotted()),
            };
            Target::new(Relation::Table(table), partition, topic, Progress::default())
        })
        .collect())
}

/// Sets each target's progress from the stored offsets: the current form first, then that of old versions. Answers
/// whether there are any.
async fn resume(targets: &mut [Target], config: &SourceConfig, initial: i64, context: &SourceContext) -> Result<bool> {
    if config.mode == Mode::Bulk {
        return Ok(false);
    }
    let old = |target: &Target| match &target.relation {
        Relation::Table(table) => progress::old_table_partition(&table.name),
        Relation::Query(_) => progress::query_partition(),
    };
    let wanted: Vec<Position> =
        targets.iter().map(|target| (*target.partition).clone()).chain(targets.iter().map(old)).collect();
    let stored = context.offsets.offsets(&wanted).await?;
    let count = targets.len();
    for (at, target) in targets.iter_mut().enumerate() {
        let found = stored.get(at).cloned().flatten().or_else(|| stored.get(count + at).cloned().flatten());
        let found = found.as_ref().map(Progress::from_position).unwrap_or_default();
        target.progress = Progress {
            id: config.mode.has_incrementing().then(|| found.id.unwrap_or(config.initial_id)),
            micros: config.mode.has_timestamp().then(|| found.micros.unwrap_or(initial)),
            wall: None,
        };
    }
    Ok(stored.iter().any(Option::is_some))
}

fn error_at_start(error: Error, label: &str, connector: &Connector) -> Error {
    let place = connector.settings.place();
    let message = format!("could not start reading {label} from {place}: {error}");
    Error::new(error.kind(), error.class(), message).caused_by(error)
}
