//! The sink task: one transaction a put, with the consumed offsets in it; fast first, carefully if a row is wrong.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::batch;
use super::config::{ExactlyOnce, InsertMode, SinkConfig};
use super::destination;
use super::fields;
use super::known_plans::{KnownPlans, Wanted};
use super::offsets::{NextOffsets, OffsetStore};
use super::plan::WritePlan;
use super::put_error::PutError;
use super::unwrap::{Action, Unwrapped, Unwrapper};
use super::work::{self, Item};
use super::write::{Writer, error_of};
use crate::api::{Error, ErrorKind, Rejected, Result, SinkContext, SinkRecord, SinkTask, TopicPartition};
use crate::data::Schema;
use crate::jdbc::connection_keys::Connector;
use crate::jdbc::retry::Backoff;
use crate::postgres::catalog;
use crate::postgres::connection::Session;
use crate::postgres::failure::{self, Cause};

/// How a batch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Care {
    /// All at once.
    Fast,
    /// So that a bad row fails alone.
    Isolate,
    /// So, with constraints checked at once that the table defers to the commit.
    Immediate,
}

/// A running sink task.
pub(super) struct JdbcSinkTask {
    connector: Connector,
    config: SinkConfig,
    context: SinkContext,
    session: Option<Session>,
    unwrapper: Unwrapper,
    plans: KnownPlans,
    offsets: Option<OffsetStore>,
    /// A transaction whose rejected records the worker has yet to deal with: it commits with the next call, so that a
    /// task that fails over them leaves nothing half written.
    pending: bool,
    backoff: Backoff,
    statement_failures: u32,
    /// What the status says while all is well: that records may come twice.
    standing: Option<String>,
    told_redelivered: bool,
    told_skipped: bool,
    careful: bool,
    buffer: Vec<u8>,
}

impl JdbcSinkTask {
    /// Connects and prepares the table of offsets.
    pub(super) async fn open(config: SinkConfig, connector: Connector, context: SinkContext) -> Result<Self> {
        let session = connector.open().await?;
        let offsets = (config.exactly_once != ExactlyOnce::Disabled)
            .then(|| OffsetStore::new(&config.offsets_table, context.group.clone()));
        let first = Duration::from_millis(100).min(config.retry_backoff);
        let mut task = Self {
            connector,
            backoff: Backoff::new(first, config.retry_backoff),
            config,
            context,
            session: Some(session),
            unwrapper: Unwrapper::default(),
            plans: KnownPlans::default(),
            offsets,
            pending: false,
            statement_failures: 0,
            standing: None,
            told_redelivered: false,
            told_skipped: false,
            careful: false,
            buffer: Vec::new(),
        };
        task.prepare_offsets().await?;
        Ok(task)
    }

    async fn prepare_offsets(&mut self) -> Result<()> {
        let (Some(store), Some(session)) = (&self.offsets, &mut self.session) else { return Ok(()) };
        let Err(error) = store.create(session).await else { return Ok(()) };
        let attempt = format!("could not create the offsets table {}", store.table());
        if failure::cause(&error) == Cause::Outage || self.config.exactly_once == ExactlyOnce::Required {
            return Err(failure::to_error(error, &attempt));
        }
        let message = format!(
            "records may be written twice after a failure: {attempt} ({}); grant CREATE, create it by hand, or set \
             sink.exactly.once=disabled to accept it",
            failure::text(&error)
        );
        tracing::warn!(connector = %self.context.connector, "{message}");
        self.context.health.degraded(message.clone());
        self.standing = Some(message);
        self.offsets = None;
        Ok(())
    }

    async fn session(&mut self) -> Result<&mut Session> {
        match &mut self.session {
            Some(session) => Ok(session),
            none => Ok(none.insert(self.connector.connect().await?)),
        }
    }

    /// Commits what an earlier put left open.
    async fn finish_pending(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.pending) {
            return Ok(());
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        if let Err(error) = session.run("COMMIT").await {
            self.session = None;
            let away = failure::cause(&error) == Cause::Outage;
            let what = if away { "went away before it committed" } else { "refused to commit" };
            return Err(Error::fatal(format!(
                "the database {what} a batch with rejected records: restart the task, it resumes before that batch"
            ))
            .caused_by(error));
        }
        Ok(())
    }

    async fn put_all(&mut self, records: &[SinkRecord]) -> Result<Vec<Rejected>, PutError> {
        let mut care = if self.careful { Care::Isolate } else { Care::Fast };
        let mut races = 0;
        let rows = self.unwrapper.unwrap(&self.config, records);
        loop {
            self.session().await?;
            let error = match self.transaction(&rows, care).await {
                Ok(Some(rejected)) => return Ok(rejected),
                Ok(None) => {
                    self.roll_back(false).await;
                    care = Care::Isolate;
                    continue;
                }
                Err(error) => error,
            };
            self.roll_back(error.is_outage()).await;
            match error {
                error if error.is_schema_race() && races < 3 => races += 1,
                PutError::Sql(error) if failure::cause(&error) == Cause::Data && care < Care::Immediate => {
                    tracing::debug!(error = %failure::text(&error), "a row was refused: the batch is written carefully");
                    care = if care == Care::Fast { Care::Isolate } else { Care::Immediate };
                }
                error => return Err(error),
            }
        }
    }

    async fn roll_back(&mut self, outage: bool) {
        if let Some(session) = &mut self.session
            && session.run("ROLLBACK").await.is_err()
        {
            self.session = None;
        }
        if outage {
            self.session = None;
        }
        // Tables and columns made in the transaction are gone, and the plans that count on them.
        self.plans.clear();
        if let Some(store) = &mut self.offsets {
            store.forget();
        }
    }

    /// One attempt; `None` if a row was refused that stands for others, which only a careful attempt keeps.
    async fn transaction(&mut self, rows: &Unwrapped<'_>, care: Care) -> Result<Option<Vec<Rejected>>, PutError> {
        let records = &*rows.records;
        let mut next = batch::next_offsets(records);
        let stored = self.begin(&next).await?;
        // Another task may have gone further: what it wrote stays, and its offset too.
        next.retain(|partition, offset| stored.get(partition).is_none_or(|stored| stored < offset));
        let (items, rejected) = self.plan_items(rows, &stored).await?;
        let (wanted, unplanned) = (items.len(), rejected.len());
        let runs = work::arrange(items, self.config.insert_mode, records, care > Care::Fast);
        let reduced = runs.iter().map(|run| run.rows.len()).sum::<usize>() < wanted;
        let Some(session) = &mut self.session else { return Err(Error::retriable("no connection").into()) };
        if care == Care::Immediate {
            session.run("SET CONSTRAINTS ALL IMMEDIATE").await?;
        }
        let mut writer = Writer {
            session,
            config: &self.config,
            records,
            used: Vec::new(),
            rejected,
            explained: 0,
            redelivered: 0,
            buffer: std::mem::take(&mut self.buffer),
        };
        if care > Care::Fast {
            writer.write_carefully(&runs).await?;
        } else {
            for run in &runs {
                writer.write(run).await?;
            }
        }
        if care == Care::Fast && reduced && writer.rejected.len() > unplanned {
            self.buffer = writer.buffer;
            return Ok(None);
        }
        if care == Care::Isolate || (care == Care::Fast && !writer.rejected.is_empty()) {
            // Now, not at the commit, which may come when rejected records were dealt with already.
            writer.session.run("SET CONSTRAINTS ALL IMMEDIATE").await?;
        }
        let Writer { mut rejected, redelivered, buffer, .. } = writer;
        self.buffer = buffer;
        let mut end = self.offsets.as_ref().map(|store| store.store(&next)).unwrap_or_default();
        if rejected.is_empty() {
            // In one trip to the server.
            end = if end.is_empty() { "COMMIT".to_owned() } else { format!("{end}; COMMIT") };
        }
        if let Some(session) = &mut self.session
            && !end.is_empty()
        {
            session.run(end).await?;
        }
        self.pending = !rejected.is_empty();
        self.careful = redelivered > 0;
        self.tell_redelivered(redelivered);
        rejected.sort_by_key(|rejected| rejected.index);
        Ok(Some(rejected))
    }

    /// Opens the transaction and locks the offsets.
    async fn begin(&mut self, next: &NextOffsets) -> Result<NextOffsets, PutError> {
        let Some(session) = &mut self.session else { return Err(Error::retriable("no connection").into()) };
        let Some(store) = &mut self.offsets else {
            session.run("BEGIN").await?;
            return Ok(NextOffsets::new());
        };
        let partitions: Vec<TopicPartition> = next.keys().cloned().collect();
        store.register(session, &partitions).await?;
        Ok(store.begin(session, &partitions).await?)
    }

    /// How the records are written that the target has not consumed yet.
    async fn plan_items(
        &mut self,
        rows: &Unwrapped<'_>,
        stored: &NextOffsets,
    ) -> Result<(Vec<Item>, Vec<Rejected>), PutError> {
        let records = &*rows.records;
        let mut rejected = Vec::new();
        let mut items: Vec<Item> = Vec::with_capacity(records.len());
        let mut skipped = 0_u64;
        let mut last: Option<(usize, Action, std::result::Result<Arc<WritePlan>, String>)> = None;
        let mut below: Option<(&SinkRecord, i64)> = None;
        for (index, record) in records.iter().enumerate() {
            let start = match below {
                Some((before, start)) if batch::same_partition(before, record) => start,
                _ => stored.get(&batch::partition_of(record)).copied().unwrap_or(-1),
            };
            below = Some((record, start));
            if record.origin.offset < start {
                skipped += 1;
                continue;
            }
            let admitted = rows.action(index).and_then(|action| match action {
                Action::Pass => Ok(action),
                action => batch::admit(&self.config, record, action).map(|()| action),
            });
            let action = match admitted {
                Ok(Action::Pass) => continue,
                Ok(action) => action,
                Err(why) => {
                    rejected.push(Rejected { index, error: error_of(record, "", &why) });
                    continue;
                }
            };
            let table = rows.table(index);
            if action == Action::Truncate && !self.finds_table(&record.record.topic, table).await? {
                continue;
            }
            let alike = |before: usize| rows.table(before) == table && batch::same_schemas(&records[before], record);
            let planned = match last.take() {
                Some((before, same, planned)) if same == action && alike(before) => planned,
                _ => match self.plan_of(record, action, table).await {
                    Ok(plan) => Ok(plan),
                    Err(error) if error.kind() == ErrorKind::Data || self.gives_up_on(&error) => Err(error.to_string()),
                    Err(error) => return Err(error.into()),
                },
            };
            let (_, _, planned) = last.insert((index, action, planned));
            let plan = match planned {
                Ok(plan) => Arc::clone(plan),
                Err(why) => {
                    rejected.push(Rejected { index, error: error_of(record, "", why) });
                    continue;
                }
            };
            items.push(Item { index, plan, action });
        }
        self.tell_skipped(skipped);
        Ok((items, rejected))
    }

    async fn plan_of(
        &mut self,
        record: &SinkRecord,
        action: Action,
        table: Option<&Arc<str>>,
    ) -> Result<Arc<WritePlan>> {
        let value = record.record.value.schema.as_ref().filter(|_| action == Action::Write);
        let topic = &record.record.topic;
        let keyed = action == Action::Delete || (self.config.pk_mode.needs_key() && action == Action::Write);
        let key = record.record.key.schema.as_ref().filter(|_| keyed);
        let wanted = Wanted { topic, table, key, value };
        if let Some(plan) = self.plans.find(&wanted) {
            return Ok(plan);
        }
        let plan = self.new_plan(topic, table, key, value).await?;
        self.plans.keep(&wanted, &plan);
        Ok(plan)
    }

    async fn new_plan(
        &mut self,
        topic: &str,
        table: Option<&Arc<str>>,
        key: Option<&Arc<Schema>>,
        value: Option<&Arc<Schema>>,
    ) -> Result<Arc<WritePlan>> {
        let name = self.table_name(topic, table)?;
        let fields = match (key, value) {
            // A truncation has neither.
            (None, None) => Vec::new(),
            (key, value) => fields::plan(&self.config, topic, key, value)?,
        };
        let Some(session) = &mut self.session else { return Err(Error::retriable("no connection")) };
        let table = destination::fitting_table(session, &self.config, &name, &fields).await?;
        let plan = WritePlan::new(&self.config, &table, &fields);
        if self.config.insert_mode == InsertMode::Upsert && value.is_some() {
            plan.check_conflict_target(&self.config, &table)?;
        }
        Ok(Arc::new(plan))
    }

    /// A table that does not fit was waited for long enough: the records that need it are refused.
    fn gives_up_on(&self, error: &Error) -> bool {
        destination::is_unfit(error) && self.statement_failures >= self.config.max_retries
    }

    fn table_name(&self, topic: &str, table: Option<&Arc<str>>) -> Result<String> {
        match table {
            Some(table) => destination::sql_name(&self.config, table).ok_or_else(|| {
                Error::data(format!("the record names the table \"{table}\", a part of which is empty"))
            }),
            None => destination::table_for(&self.config, topic),
        }
    }

    /// A table that is not there is empty already.
    async fn finds_table(&mut self, topic: &str, table: Option<&Arc<str>>) -> Result<bool, PutError> {
        // What is wrong with a name is said of the record that it is planned for.
        let Ok(name) = self.table_name(topic, table) else { return Ok(true) };
        let Some(session) = &mut self.session else { return Err(Error::retriable("no connection").into()) };
        Ok(catalog::find_table(session, &name).await?.is_some())
    }

    fn tell_redelivered(&mut self, count: u64) {
        if count > 0 && !std::mem::replace(&mut self.told_redelivered, true) {
            tracing::info!(
                connector = %self.context.connector, task = self.context.task, count,
                "records whose rows the table has already, the same in every column, are taken as redelivered"
            );
        }
    }

    fn tell_skipped(&mut self, count: u64) {
        if count > 0 && !std::mem::replace(&mut self.told_skipped, true) {
            tracing::warn!(
                connector = %self.context.connector, task = self.context.task, count, table = %self.config.offsets_table,
                "records below the offset that the target has stored are skipped; delete the group's rows from the \
                 table to read a topic again, or if it was created anew"
            );
        }
    }

    /// Decides how the worker goes on after a failed put.
    fn failed(&mut self, error: PutError) -> Error {
        let race = error.is_schema_race();
        let error = match error {
            PutError::Sql(error) => {
                let outage = failure::cause(&error) == Cause::Outage;
                let error =
                    failure::to_error(error, &format!("could not write to {}", self.connector.settings.place()));
                if outage { error } else { self.count(error) }
            }
            PutError::Own(error) if race || destination::is_unfit(&error) => self.count(error),
            PutError::Own(error) => error,
        };
        let pause = self.backoff.next_pause();
        if error.kind() == ErrorKind::Retriable {
            tracing::warn!(connector = %self.context.connector, error = %error, ?pause, "writing is retried");
            self.context.health.degraded(error.to_string());
        }
        error
    }

    fn count(&mut self, error: Error) -> Error {
        self.statement_failures += 1;
        if self.statement_failures <= self.config.max_retries {
            return Error::retriable(error.to_string()).caused_by(error);
        }
        let message = format!("{error}; given up after max.retries={} retries", self.config.max_retries);
        Error::new(ErrorKind::Fatal, error.class(), message).caused_by(error)
    }

    fn succeeded(&mut self) {
        self.statement_failures = 0;
        if self.backoff.failed() == 0 {
            return;
        }
        self.backoff.reset();
        tracing::info!(connector = %self.context.connector, "writing goes on");
        match &self.standing {
            Some(standing) => self.context.health.degraded(standing.clone()),
            None => self.context.health.recovered(),
        }
    }

    /// After a failure: wait a while before the next attempt.
    async fn wait(&mut self) -> Result<()> {
        if self.backoff.failed() == 0 {
            return Ok(());
        }
        let pause = self.backoff.clone().next_pause();
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.context.stop.cancelled() => Err(Error::retriable("the task is stopping")),
        }
    }
}

#[async_trait]
impl SinkTask for JdbcSinkTask {
    async fn assigned(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<Vec<(TopicPartition, i64)>> {
        self.finish_pending().await?;
        if self.offsets.is_none() || partitions.is_empty() {
            return Ok(Vec::new());
        }
        self.session().await?;
        let (Some(store), Some(session)) = (&mut self.offsets, &mut self.session) else { return Ok(Vec::new()) };
        match store.resume(session, partitions).await {
            Ok(stored) => Ok(stored),
            Err(error) => {
                let attempt = format!("could not read the offsets table {}", store.table());
                self.session = None;
                Err(failure::to_error(error, &attempt))
            }
        }
    }

    async fn put(&mut self, records: &[SinkRecord]) -> Result<Vec<Rejected>> {
        self.finish_pending().await?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.wait().await?;
        match self.put_all(records).await {
            Ok(rejected) => {
                self.succeeded();
                Ok(rejected)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn flush(&mut self) -> Result<()> {
        self.finish_pending().await
    }

    async fn close(self: Box<Self>) {
        if let Some(session) = self.session {
            // What is pending was not dealt with: it is rolled back and comes again.
            session.close().await;
        }
    }
}
