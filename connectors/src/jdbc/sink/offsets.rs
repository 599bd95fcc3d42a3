//! Exactly once: the offsets that this task has consumed, kept in a table of the target and changed in the transaction
//! that writes the rows. The rows of that table are locked first, and records below the stored offset are skipped, so
//! that two tasks that both believe to own a partition can't write a record twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::{Executor, Row};

use crate::api::{ConsumerGroup, TopicPartition};
use crate::postgres::connection::{Session, within};
use crate::postgres::quote::{bigint, identifier, literal, split_name};

/// Offsets of one consumer group in one table.
#[derive(Debug)]
pub(super) struct OffsetStore {
    table: String,
    group: ConsumerGroup,
    /// Partitions whose rows are known to exist.
    known: Vec<TopicPartition>,
}

/// The next offset by partition.
pub(super) type NextOffsets = BTreeMap<TopicPartition, i64>;

impl OffsetStore {
    /// For a table name, which may be qualified, and a group.
    pub(super) fn new(table: &str, group: ConsumerGroup) -> Self {
        let table = split_name(table).iter().map(|part| identifier(part)).collect::<Vec<_>>().join(".");
        Self { table, group, known: Vec::new() }
    }

    /// The SQL name of the table.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// Creates the table unless it is there.
    pub(super) async fn create(&self, session: &mut Session) -> Result<(), sqlx::Error> {
        if self.exists(session).await? {
            return Ok(());
        }
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {} (cluster_id text NOT NULL, consumer_group text NOT NULL, topic text NOT NULL, partition int4 NOT NULL, \
             next_offset int8 NOT NULL, updated_at timestamptz NOT NULL DEFAULT now(), \
             PRIMARY KEY (cluster_id, consumer_group, topic, partition))",
            self.table
        );
        match session.run(sql).await {
            // Another task was faster.
            Err(error) if crate::postgres::failure::is(&error, "23505") => Ok(()),
            other => other.map(|_| ()),
        }
    }

    async fn exists(&self, session: &mut Session) -> Result<bool, sqlx::Error> {
        let query = sqlx::query_scalar("SELECT pg_catalog.to_regclass($1) IS NOT NULL").bind(&self.table);
        within(session.patience, query.fetch_one(&mut session.connection)).await
    }

    /// Makes sure that each partition has a row to lock. Outside of a transaction, so that tasks don't wait for each
    /// other here.
    pub(super) async fn register(
        &mut self,
        session: &mut Session,
        partitions: &[TopicPartition],
    ) -> Result<(), sqlx::Error> {
        let new: Vec<&TopicPartition> = partitions.iter().filter(|partition| !self.known.contains(partition)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO {} (cluster_id, consumer_group, topic, partition, next_offset) SELECT $4, $1, p.t, p.n, -1 \
             FROM unnest($2::text[], $3::int4[]) p(t, n) ORDER BY 3, 4 ON CONFLICT DO NOTHING",
            self.table
        );
        let topics: Vec<&str> = new.iter().map(|partition| &*partition.topic).collect();
        let numbers: Vec<i32> = new.iter().map(|partition| partition.partition).collect();
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&*self.group.name).bind(&topics).bind(&numbers);
        let query = query.bind(&*self.group.cluster);
        within(session.patience, query.execute(&mut session.connection)).await?;
        let new: Vec<TopicPartition> = new.into_iter().cloned().collect();
        self.known.extend(new);
        Ok(())
    }

    /// The stored offsets of these partitions.
    async fn stored(&self, session: &mut Session, partitions: &[TopicPartition]) -> Result<NextOffsets, sqlx::Error> {
        read(session, self.select(partitions)).await
    }

    /// Begins a transaction and locks the offsets of these partitions, in one trip to the server.
    pub(super) async fn begin(
        &self,
        session: &mut Session,
        partitions: &[TopicPartition],
    ) -> Result<NextOffsets, sqlx::Error> {
        if partitions.is_empty() {
            session.run("BEGIN").await?;
            return Ok(NextOffsets::new());
        }
        let stored = read(session, format!("BEGIN; {} FOR UPDATE", self.select(partitions))).await?;
        if stored.len() != partitions.len() {
            // Someone deleted the rows to start anew; without them the records could be written twice.
            return Err(sqlx::Error::Protocol("the rows of the offsets table were deleted meanwhile".to_owned()));
        }
        Ok(stored)
    }

    fn select(&self, partitions: &[TopicPartition]) -> String {
        let list = |one: &TopicPartition| format!("({}, {})", literal(&one.topic), one.partition);
        format!(
            "SELECT topic, partition, next_offset FROM {} WHERE consumer_group = {} AND cluster_id = {} AND \
             (topic, partition) IN ({}) ORDER BY topic, partition",
            self.table,
            literal(&self.group.name),
            literal(&self.group.cluster),
            partitions.iter().map(list).collect::<Vec<_>>().join(", ")
        )
    }

    /// The statement that stores offsets of rows that are there; empty if there are none to store.
    pub(super) fn store(&self, next: &NextOffsets) -> String {
        if next.is_empty() {
            return String::new();
        }
        let value = |(at, offset): (&TopicPartition, &i64)| {
            format!("({}, {}, {})", literal(&at.topic), at.partition, bigint(*offset))
        };
        format!(
            "UPDATE {} o SET next_offset = p.o, updated_at = now() FROM (VALUES {}) p(t, n, o) WHERE \
             o.consumer_group = {} AND o.cluster_id = {} AND o.topic = p.t AND o.partition = p.n",
            self.table,
            next.iter().map(value).collect::<Vec<_>>().join(", "),
            literal(&self.group.name),
            literal(&self.group.cluster)
        )
    }

    /// Where to read on in partitions that were just assigned, each given with the end of its log. A stored offset beyond
    /// that end is of an earlier topic of the same name: it is forgotten, or the new topic's records would be skipped.
    pub(super) async fn resume(
        &mut self,
        session: &mut Session,
        assigned: &[(TopicPartition, i64)],
    ) -> Result<Vec<(TopicPartition, i64)>, sqlx::Error> {
        self.forget();
        let partitions: Vec<TopicPartition> = assigned.iter().map(|(partition, _)| partition.clone()).collect();
        self.register(session, &partitions).await?;
        let mut stored = self.stored(session, &partitions).await?;
        let mut stale = NextOffsets::new();
        for (partition, end) in assigned {
            if let Some(offset) = stored.get(partition).filter(|offset| *offset > end) {
                tracing::warn!(
                    topic = %partition.topic, partition = partition.partition, offset, end,
                    "the stored offset lies beyond the end of the log: the topic was made anew and is read from the group's offset"
                );
                stored.remove(partition);
                stale.insert(partition.clone(), -1);
            }
        }
        if !stale.is_empty() {
            session.run(self.store(&stale)).await?;
        }
        Ok(stored.into_iter().filter(|(_, offset)| *offset >= 0).collect())
    }

    /// Sets stored offsets as a user wants them, `None` for one forgets it, for all forgets all; whether any is stored.
    pub(super) async fn alter(
        &mut self,
        session: &mut Session,
        offsets: Option<&[(TopicPartition, Option<i64>)]>,
    ) -> Result<bool, sqlx::Error> {
        if !self.exists(session).await? {
            return Ok(false);
        }
        let Some(offsets) = offsets else {
            let sql = format!("DELETE FROM {} WHERE consumer_group = $1 AND cluster_id = $2", self.table);
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&*self.group.name).bind(&*self.group.cluster);
            let deleted = within(session.patience, query.execute(&mut session.connection)).await?;
            return Ok(deleted.rows_affected() > 0);
        };
        // A stored -1 means that nothing is known: the group's offset counts, which is altered beside this.
        let next: NextOffsets = offsets.iter().map(|(at, offset)| (at.clone(), offset.unwrap_or(-1))).collect();
        let partitions: Vec<TopicPartition> = next.keys().cloned().collect();
        self.forget();
        self.register(session, &partitions).await?;
        if !next.is_empty() {
            session.run(self.store(&next)).await?;
        }
        Ok(true)
    }

    /// Forgets which rows exist, after an error.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }
}

/// The offsets that the last statement answers.
async fn read(session: &mut Session, sql: String) -> Result<NextOffsets, sqlx::Error> {
    let patience = session.patience;
    let rows = within(patience, session.connection.fetch_all(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)))).await?;
    rows.iter()
        .map(|row| {
            let topic = Arc::from(row.try_get::<&str, _>(0)?);
            Ok((TopicPartition { topic, partition: row.try_get(1)? }, row.try_get(2)?))
        })
        .collect()
}
