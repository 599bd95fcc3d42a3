//! Drives the JDBC connectors as the worker does: configs, tasks, offsets, records.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use towline_connectors::api::{
    ConsumerGroup, Health, MadeRecords, OffsetReader, Origin, Position, Props, Record, Rejected, Result, SinkConnector,
    SinkContext, SinkRecord, SinkRecords, SinkTask, SourceBatch, SourceConnector, SourceContext, SourceRecords,
    SourceTask, TopicPartition,
};
use towline_connectors::data::{Datum, Field, Schema, Value};
use towline_connectors::jdbc::{JdbcSinkConnector, JdbcSourceConnector};

use crate::postgres_server::Database;

/// How long a condition may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A config for a database.
pub(crate) fn props(database: &Database, entries: &[(&str, &str)]) -> Props {
    let mut props: Props = [
        ("connection.url", database.jdbc_url().as_str()),
        ("connection.user", "postgres"),
        ("connection.password", "sesame"),
        ("connection.attempts", "1"),
        ("poll.interval.ms", "10"),
        ("retry.backoff.ms", "10"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    props.extend(entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    props
}

/// Stored offsets in memory.
#[derive(Debug, Default)]
pub(crate) struct Offsets(pub(crate) Vec<(Position, Position)>);

#[async_trait]
impl OffsetReader for Offsets {
    async fn offsets(&self, partitions: &[Position]) -> Result<Vec<Option<Position>>> {
        Ok(partitions
            .iter()
            .map(|wanted| {
                self.0.iter().rev().find(|(partition, _)| partition == wanted).map(|(_, offset)| offset.clone())
            })
            .collect())
    }
}

/// A record that a source gave, by itself.
#[derive(Debug, Clone)]
pub(crate) struct SourceRecord {
    pub(crate) record: Record,
    pub(crate) partition: Arc<Position>,
    /// Where to resume after it: on the last of a batch.
    pub(crate) offset: Option<Position>,
}

/// The records of batches, each by itself.
pub(crate) fn flat(batches: Vec<SourceBatch>) -> Vec<SourceRecord> {
    let mut all = Vec::new();
    for mut batch in batches.into_iter().filter(|batch| !batch.is_announcement()) {
        let records = std::mem::replace(&mut batch.records, SourceRecords::Made(Vec::new()));
        let records = records.into_made().unwrap();
        all.extend(records.into_iter().map(|record| SourceRecord {
            record: batch.record(record),
            partition: Arc::clone(&batch.source_partition),
            offset: None,
        }));
        if let Some(last) = all.last_mut() {
            last.offset = batch.source_offset;
        }
    }
    all
}

/// A running source with one task.
pub(crate) struct Source {
    pub(crate) task: Box<dyn SourceTask>,
    pub(crate) health: Health,
    /// The last offset that came with a record.
    pub(crate) stored: Vec<(Position, Position)>,
}

impl Source {
    pub(crate) async fn open(props: &Props, stored: Vec<(Position, Position)>) -> Result<Self> {
        let health = Health::default();
        let mut plans = JdbcSourceConnector.plan(props, 1, &health).await?;
        assert_eq!(plans.len(), 1, "{:?}", health.message());
        let context = SourceContext {
            connector: "source".into(),
            task: 0,
            offsets: Arc::new(Offsets(stored.clone())),
            stop: CancellationToken::new(),
            health: health.clone(),
        };
        let task = JdbcSourceConnector.open(&plans.remove(0), context).await?;
        Ok(Self { task, health, stored })
    }

    /// Polls until this many records came.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<SourceRecord> {
        let deadline = Instant::now() + DEADLINE;
        let mut records = Vec::new();
        while records.len() < count {
            assert!(
                Instant::now() < deadline,
                "{} of {count} records came; {:?}",
                records.len(),
                self.health.message()
            );
            records.extend(flat(self.task.poll().await.unwrap()));
        }
        for record in &records {
            if let Some(offset) = &record.offset {
                self.stored.push(((*record.partition).clone(), offset.clone()));
            }
        }
        records
    }
}

/// Records in small pieces, as a worker gives them.
struct Pieces<'a> {
    records: &'a [SinkRecord],
    ends: MadeRecords<'a>,
    at: Range<usize>,
}

#[async_trait]
impl SinkRecords for Pieces<'_> {
    fn ends(&self) -> &[(TopicPartition, i64)] {
        self.ends.ends()
    }

    async fn advance(&mut self) -> Result<bool> {
        self.at = self.at.end..self.records.len().min(self.at.end + 7);
        Ok(!self.at.is_empty())
    }

    fn piece(&self) -> &[SinkRecord] {
        &self.records[self.at.clone()]
    }

    fn take_piece(&mut self) -> Vec<SinkRecord> {
        let piece = self.piece().to_vec();
        self.at.start = self.at.end;
        piece
    }

    fn rewind(&mut self) {
        self.at = 0..0;
    }
}

/// A sink task that takes records that are at hand.
pub(crate) struct Task(Box<dyn SinkTask>);

impl Task {
    pub(crate) async fn put(&mut self, records: &[SinkRecord]) -> Result<Vec<Rejected>> {
        self.0.put(&mut Pieces { records, ends: MadeRecords::new(records), at: 0..0 }).await
    }

    pub(crate) async fn close(self) {
        self.0.close().await;
    }
}

impl Deref for Task {
    type Target = Box<dyn SinkTask>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Task {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// A running sink task.
pub(crate) struct Sink {
    pub(crate) task: Task,
    pub(crate) health: Health,
    next: i64,
}

impl Sink {
    pub(crate) async fn open(props: &Props) -> Result<Self> {
        Self::of(&JdbcSinkConnector::CONFLUENT, props).await
    }

    pub(crate) async fn of(connector: &JdbcSinkConnector, props: &Props) -> Result<Self> {
        let health = Health::default();
        let context = SinkContext {
            connector: "sink".into(),
            task: 0,
            // As each connector has a group of its own.
            group: ConsumerGroup {
                cluster: "k".into(),
                name: format!("connect-{}", props.get("table.name.format").map_or("sink", String::as_str)).into(),
            },
            stop: CancellationToken::new(),
            health: health.clone(),
        };
        Ok(Self { task: Task(connector.open(props, context).await?), health, next: 0 })
    }

    /// Writes records at the next offsets of partition 0.
    pub(crate) async fn put(&mut self, records: &[SourceRecord]) -> Result<Vec<Rejected>> {
        let consumed = consumed(records, self.next);
        let rejected = self.task.put(&consumed).await?;
        self.next += i64::try_from(records.len()).unwrap();
        Ok(rejected)
    }
}

/// Records as a consumer would get them, from an offset on.
pub(crate) fn consumed(records: &[SourceRecord], from: i64) -> Vec<SinkRecord> {
    records
        .iter()
        .zip(from..)
        .map(|(record, offset)| SinkRecord {
            record: record.record.clone(),
            origin: Origin { topic: Arc::clone(&record.record.topic), partition: 0, offset },
        })
        .collect()
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        tokio::task::yield_now().await;
    }
}

/// A record of topic `t` at an offset of partition 0.
pub(crate) fn at(offset: i64, key: Datum, value: Datum) -> SinkRecord {
    let mut record = Record::of_value("t".into(), value);
    record.key = key;
    SinkRecord { record, origin: Origin { topic: "t".into(), partition: 0, offset } }
}

/// A struct of fields, each with its schema and value.
pub(crate) fn structure(fields: Vec<(&str, Schema, Value)>) -> Datum {
    let schema = fields.iter().map(|(name, schema, _)| Field::new(*name, Arc::new(schema.clone()))).collect();
    let values = fields.into_iter().map(|(_, _, value)| value).collect();
    Datum::new(Arc::new(Schema::structure(schema)), Value::Struct(values))
}

/// An object of JSON without schemas.
pub(crate) fn object(entries: Vec<(&str, Value)>) -> Datum {
    Datum::schemaless(map(entries))
}

/// A map with text keys.
pub(crate) fn map(entries: Vec<(&str, Value)>) -> Value {
    Value::Map(entries.into_iter().map(|(name, value)| (Value::from(name), value)).collect())
}
