//! Attempts to write a put, each in one transaction with the consumed offsets in it: the straight way first, then as a
//! whole, then carefully if a row is wrong.

use std::sync::Arc;

use super::batch;
use super::config::InsertMode;
use super::destination;
use super::fields;
use super::known_plans::Wanted;
use super::offsets::NextOffsets;
use super::plan::WritePlan;
use super::put_error::PutError;
use super::stream::{Alike, Unfit, Walk};
use super::task::JdbcSinkTask;
use super::unwrap::{Action, Unwrapped};
use super::work::{self, Item};
use super::write::{Writer, error_of};
use crate::api::{Error, ErrorKind, Rejected, Result, SinkRecord, SinkRecords, TopicPartition};
use crate::data::Schema;
use crate::postgres::catalog;
use crate::postgres::failure::{self, Cause};

/// So many puts are not tried the straight way after one that was not fit for it.
const DETOUR: u32 = 64;

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

impl JdbcSinkTask {
    /// Writes a put, as carefully as it takes.
    pub(super) async fn put_all(&mut self, records: &mut dyn SinkRecords) -> Result<Vec<Rejected>, PutError> {
        let mut care = if self.careful { Care::Isolate } else { Care::Fast };
        let mut races = 0;
        self.detour = self.detour.saturating_sub(1);
        while care == Care::Fast && self.config.streams() && self.detour == 0 {
            let error = match self.stream(records).await {
                Ok(Ok(rejected)) => return Ok(rejected),
                Ok(Err(Unfit)) => {
                    self.roll_back(false).await;
                    self.detour = DETOUR;
                    break;
                }
                Err(error) => error,
            };
            care = self.after(error, care, &mut races).await?;
        }
        let all = records.all().await?;
        let next: NextOffsets = records.ends().iter().cloned().collect();
        let rows = self.unwrapper.unwrap(&self.config, &all);
        loop {
            self.session().await?;
            match self.transaction(&rows, next.clone(), care).await {
                Ok(Some(rejected)) => return Ok(rejected),
                Ok(None) => {
                    self.roll_back(false).await;
                    care = Care::Isolate;
                }
                Err(error) => care = self.after(error, care, &mut races).await?,
            }
        }
    }

    /// Gives up an attempt; how careful the next one is to be, if there is one.
    async fn after(&mut self, error: PutError, care: Care, races: &mut u32) -> Result<Care, PutError> {
        self.roll_back(error.is_outage()).await;
        match error {
            error if error.is_schema_race() && *races < 3 => {
                *races += 1;
                Ok(care)
            }
            PutError::Sql(error) if failure::cause(&error) == Cause::Data && care < Care::Immediate => {
                tracing::debug!(error = %failure::text(&error), "a row was refused: the batch is written carefully");
                Ok(if care == Care::Fast { Care::Isolate } else { Care::Immediate })
            }
            // A single value may be what the statement could not work with.
            PutError::Sql(error) if failure::cause(&error) == Cause::Statement && care == Care::Fast => {
                Ok(Care::Isolate)
            }
            error => Err(error),
        }
    }

    /// One attempt the straight way.
    async fn stream(&mut self, records: &mut dyn SinkRecords) -> Result<Result<Vec<Rejected>, Unfit>, PutError> {
        self.session().await?;
        records.rewind();
        // What has to be asked for the first records is asked before a transaction is open.
        records.advance().await?;
        let mut next: NextOffsets = records.ends().iter().cloned().collect();
        let stored = self.begin(&next).await?;
        next.retain(|partition, offset| stored.get(partition).is_none_or(|stored| stored < offset));
        let mut walk = Walk::new(records, stored);
        while let Some(record) = walk.next().await? {
            let Ok(alike) = Alike::of(&self.config, record) else { return Ok(Err(Unfit)) };
            if alike.is_odd(record) {
                return Ok(Err(Unfit));
            }
            if batch::admit(&self.config, record, Action::Write).is_err() {
                return Ok(Err(Unfit));
            }
            let Ok(plan) = self.plan_or_why(record, Action::Write, None).await? else { return Ok(Err(Unfit)) };
            let Some(session) = &mut self.session else { return Err(Error::retriable("no connection").into()) };
            let insert = self.config.insert_mode == InsertMode::Insert;
            let written = match (insert && plan.direct, insert || plan.exact_keys) {
                (true, _) => walk.copy(session, &plan, &alike, &mut self.buffer).await?,
                (false, true) => walk.stage(session, &plan, &alike, &self.config).await?,
                // Which rows share a key only the server knows, by their numbers.
                (false, false) => Err(Unfit),
            };
            if written.is_err() {
                return Ok(Err(Unfit));
            }
        }
        let Walk { rejected, skipped, .. } = walk;
        self.tell_skipped(skipped);
        if !rejected.is_empty()
            && let Some(session) = &mut self.session
        {
            // Now, not at the commit, which may come when rejected records were dealt with already.
            session.run("SET CONSTRAINTS ALL IMMEDIATE").await?;
        }
        self.end(&next, rejected.is_empty()).await?;
        Ok(Ok(rejected))
    }

    /// Stores the offsets and commits, or leaves the commit to the next call.
    async fn end(&mut self, next: &NextOffsets, commit: bool) -> Result<(), PutError> {
        let mut end = self.offsets.as_ref().map(|store| store.store(next)).unwrap_or_default();
        if commit {
            // In one trip to the server.
            end = if end.is_empty() { "COMMIT".to_owned() } else { format!("{end}; COMMIT") };
        }
        if let Some(session) = &mut self.session
            && !end.is_empty()
        {
            session.run(end).await?;
        }
        self.pending = !commit;
        Ok(())
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
    async fn transaction(
        &mut self,
        rows: &Unwrapped<'_>,
        mut next: NextOffsets,
        care: Care,
    ) -> Result<Option<Vec<Rejected>>, PutError> {
        let records = &*rows.records;
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
            of_values: Vec::new(),
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
        self.end(&next, rejected.is_empty()).await?;
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
                _ => self.plan_or_why(record, action, table).await?,
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

    /// The record's plan, or why the record is refused.
    async fn plan_or_why(
        &mut self,
        record: &SinkRecord,
        action: Action,
        table: Option<&Arc<str>>,
    ) -> Result<std::result::Result<Arc<WritePlan>, String>, PutError> {
        match self.plan_of(record, action, table).await {
            Ok(plan) => Ok(Ok(plan)),
            Err(error) if error.kind() == ErrorKind::Data || self.gives_up_on(&error) => Ok(Err(error.to_string())),
            Err(error) => Err(error.into()),
        }
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
                Error::data(format!("the record names the table \"{table}\", which is no [[catalog.]schema.]table"))
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
}
