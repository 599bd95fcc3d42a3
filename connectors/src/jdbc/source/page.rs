//! One page: a short transaction that locks, describes and copies. Batches go out when they are full; the last one after
//! the commit, so that nothing is held open while the worker is slow. Rows are decoded where the worker uses them.

use std::sync::Arc;

use futures_util::TryStreamExt;

use super::batches::{Batches, Size};
use super::config::{Mode, SourceConfig};
use super::places::{Found, NoPlace, NotId, Places};
use super::progress::Progress;
use super::reader::Target;
use super::shape::{self, Shape};
use super::sql::{self, Bound, Paging};
use crate::api::{Error, ErrorKind, Position, Rows, SourceBatch, SourceRecords};
use crate::data::Value;
use crate::postgres::catalog::Column;
use crate::postgres::connection::{Session, within};
use crate::postgres::copy_decode::{BadStream, Fields, TupleReader};
use crate::postgres::failure;
use crate::postgres::field_decoder::{FieldDecoder, FieldError};

/// Without statistics the server expects few rows of any range, and would collect and sort all that are left for each page.
const ALONG_THE_INDEX: &str = "SET LOCAL enable_bitmapscan = off; ";

/// Bytes of a batch that goes beyond its limits to keep rows of one offset together.
const MOST_TIED: usize = 8 << 20;

/// Why a page ended early.
#[derive(Debug)]
pub(super) enum PageError {
    /// The worker takes no more batches.
    Closed,
    /// The database is away, or a row can't be handed over.
    Failed(Error),
    /// This table can't be read as it is now, others may be.
    Table(Error),
}

impl PageError {
    /// An error about a table: what passes is an outage.
    pub(super) fn of_table(error: Error) -> Self {
        if error.kind() == ErrorKind::Retriable { Self::Failed(error) } else { Self::Table(error) }
    }
}

impl From<sqlx::Error> for PageError {
    fn from(error: sqlx::Error) -> Self {
        Self::of_table(failure::to_error(error, "could not read from the database"))
    }
}

impl From<BadStream> for PageError {
    fn from(error: BadStream) -> Self {
        Self::Failed(Error::retriable("could not read from the database").caused_by(error))
    }
}

/// The size of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// Reads one page and advances the target's progress by what was handed over.
pub(super) async fn read(
    session: &mut Session,
    target: &mut Target,
    config: &SourceConfig,
    bound: Bound,
    paging: Paging,
    limits: Limits,
    batches: &Batches,
) -> Result<Size, PageError> {
    let lock = target.shape.as_ref().map_or_else(String::new, |shape| shape.statement.lock());
    let along = if matches!(paging, Paging::Keyset(_)) { ALONG_THE_INDEX } else { "" };
    session.run(format!("BEGIN ISOLATION LEVEL {}; {along}{lock}", config.isolation)).await?;
    let patience = session.patience;
    let columns = within(patience, shape::columns(session, &target.relation)).await?;
    let shape = match target.shape.take() {
        Some(shape) if shape.columns == columns => shape,
        old => {
            tracing::info!(table = %target.label, "columns changed: how they are read is planned anew");
            let table = |columns: &[Column]| columns.first().map(|column| column.relation);
            let other = old.is_some_and(|old| table(&old.columns) != table(&columns));
            let planned = shape::plan(session, &target.relation, columns, config).await;
            let shape = planned.map_err(PageError::of_table)?;
            if other && bound.id.is_some() {
                // Another table goes by the name now, and nobody has waited for its writers yet.
                target.shape = Some(shape);
                session.run("COMMIT").await?;
                return Ok(Size::default());
            }
            shape
        }
    };
    let shape = &*target.shape.insert(shape);
    let copy = format!("COPY ({}) TO STDOUT (FORMAT binary)", shape.statement.page(target.progress, bound, paging));
    let mut collector = Collector {
        shape,
        config,
        partition: &target.partition,
        topic: &target.topic,
        label: &target.label,
        data: Vec::new(),
        rows: 0,
        last: target.progress,
        safe: target.progress,
        settled: Size::default(),
        reached: target.progress,
        total: Size::default(),
    };
    let copied = collector.copy_out(session, &copy, limits, batches).await;
    let copied = match copied {
        Ok(()) => session.run("COMMIT").await.map(drop).map_err(PageError::from),
        failed => failed,
    };
    let rest = match &copied {
        Ok(()) => Some(collector.take(true)),
        Err(PageError::Closed) => None,
        // After an outage the same rows come again.
        Err(PageError::Failed(error)) if error.kind() == ErrorKind::Retriable => None,
        Err(_) => Some(collector.take_settled()),
    };
    if let Some((batch, size, reached)) = rest.filter(|(_, size, _)| size.rows > 0) {
        batches.send(batch, size).await.map_err(|_| PageError::Closed)?;
        collector.reached = reached;
    }
    // What was handed over stays behind us, even if the page failed.
    let (reached, total) = (collector.reached, collector.total);
    target.progress = reached;
    copied.map(|()| total)
}

/// What it means that the server ended a COPY.
fn unread(error: sqlx::Error, label: &str, config: &SourceConfig) -> PageError {
    if !config.suffix.is_empty() && failure::is(&error, "42601") {
        let message = format!(
            "could not read {label}: {}. query.suffix=\"{}\" stands at the very end of the statement, behind its own WHERE and \
             ORDER BY: set conditions in a query instead, as query=SELECT * FROM {label} WHERE ...",
            failure::text(&error),
            config.suffix
        );
        return PageError::Table(Error::fatal(message).caused_by(error));
    }
    let found = error.as_database_error().filter(|_| failure::is(&error, "22P02"));
    let Some(found) = found.and_then(|answer| sql::too_large(answer.message())) else { return error.into() };
    let limit = config.value_limit.map_or(0, |limit| limit.bytes);
    PageError::Failed(Error::fatal(format!(
        "a row of {label} has {found}, above max.value.bytes={limit}: nothing of it was read. To move it raise that, \
         producer.override.max.request.size and the topic's max.message.bytes; else leave the row or the column out with a \
         query"
    )))
}

/// A batch, its size, and where to resume after it.
type Full = (SourceBatch, Size, Progress);

/// Gathers rows into batches and knows which offset is safe.
struct Collector<'a> {
    shape: &'a Shape,
    config: &'a SourceConfig,
    partition: &'a Arc<Position>,
    topic: &'a Arc<str>,
    label: &'a str,
    /// The fields of the batch's rows.
    data: Vec<u8>,
    rows: usize,
    /// Where the last row stands; rows after it may stand there too.
    last: Progress,
    /// Where the last row before those stands: what is behind is complete.
    safe: Progress,
    /// The batch's rows up to there.
    settled: Size,
    /// Where to resume after what was handed over.
    reached: Progress,
    /// What the page has had so far.
    total: Size,
}

impl Collector<'_> {
    /// Reads what a COPY gives and hands over the batches that it fills.
    async fn copy_out(
        &mut self,
        session: &mut Session,
        copy: &str,
        limits: Limits,
        batches: &Batches,
    ) -> Result<(), PageError> {
        let (label, config) = (self.label, self.config);
        let read_error = |error| unread(error, label, config);
        let patience = session.patience;
        let mut chunks = within(patience, session.connection.copy_out_raw(copy)).await.map_err(read_error)?;
        let mut tuples = TupleReader::default();
        while let Some(chunk) = within(patience, chunks.try_next()).await.map_err(read_error)? {
            tuples.push(chunk);
            while let Some(tuple) = tuples.next_tuple(self.shape.decoders.len())? {
                self.total.rows += 1;
                self.total.bytes += tuple.len();
                if let Some((batch, size, reached)) = self.add(tuple, limits).map_err(PageError::Failed)? {
                    batches.send(batch, size).await.map_err(|_| PageError::Closed)?;
                    self.reached = reached;
                }
            }
        }
        Ok(())
    }

    /// Adds a row; answers the rows before it if they fill a batch. Only the next row tells whether the last one's
    /// offset is complete.
    fn add(&mut self, mut row: Fields, limits: Limits) -> Result<Option<Full>, Error> {
        let next = match self.place(self.shape.places.find(&mut row)) {
            Ok(next) => next,
            Err((no, error)) => {
                // Where this row would stand, none of those before it does; but behind an id no row without one is looked
                // for at the same time.
                if !matches!(no, NoPlace::Id(NotId::Null)) {
                    (self.safe, self.settled) = (self.last, self.gathered());
                }
                return Err(error);
            }
        };
        // Rows that share an offset stay together: what is cut between them comes again after a crash.
        let tied = next == self.last && self.config.mode != Mode::Bulk && self.data.len() < MOST_TIED;
        let full = self.rows >= limits.rows || self.data.len() >= limits.bytes;
        let full = (full && !tied).then(|| self.take(next != self.last));
        if next != self.last {
            self.settled = self.gathered();
            self.safe = self.last;
            self.last = next;
        }
        self.data.extend_from_slice(row.bytes());
        self.rows += 1;
        Ok(full)
    }

    fn gathered(&self) -> Size {
        Size { rows: self.rows, bytes: self.data.len() }
    }

    /// Where a row stands.
    fn place(&self, found: Found) -> Result<Progress, (NoPlace, Error)> {
        let places = &self.shape.places;
        places.progress(found, self.last).map_err(|no| match no {
            NoPlace::Id(why) => (no, self.refuse_id(why)),
            NoPlace::Moment => (no, Error::fatal(format!("no finite timestamp in a row of {}", self.label))),
        })
    }

    #[cold]
    fn refuse_id(&self, why: NotId) -> Error {
        let what = match why {
            NotId::Null => "null",
            NotId::Fraction => "a number with a fraction",
            NotId::TooLarge => "a number beyond 64 bits",
            NotId::NoNumber => "NaN or infinity",
        };
        let column = self.shape.statement.incrementing.as_ref().map_or("", |column| column.name.as_str());
        let behind = self.last.id.map_or_else(String::new, |id| format!(" in the first row behind id {id}"));
        Error::fatal(format!(
            "the incrementing column \"{column}\" of {} holds {what}{behind}, which no offset can say: a whole number up to \
             {} is needed. Correct the row, or leave it out with a query; the rows before it were handed over",
            self.label,
            i64::MAX
        ))
    }

    /// The rows that stand before the last place, with where to resume: more rows may stand at the last one.
    fn take_settled(&mut self) -> Full {
        self.rows = self.settled.rows;
        self.data.truncate(self.settled.bytes);
        self.take(false)
    }

    /// The batch so far, with where to resume: at the last row if no more rows stand there, as at the end of a page.
    fn take(&mut self, complete: bool) -> Full {
        let reached = if complete { self.last } else { self.safe };
        self.settled = Size::default();
        let size = Size { rows: std::mem::take(&mut self.rows), bytes: self.data.len() };
        let data = std::mem::replace(&mut self.data, Vec::with_capacity(size.bytes));
        let rows = CopiedRows {
            fields: Fields::new(data.into()),
            left: size.rows,
            rows: size.rows,
            decoders: Arc::clone(&self.shape.decoders),
            places: Arc::clone(&self.shape.places),
            label: self.label.to_owned(),
        };
        let batch = SourceBatch {
            topic: Arc::clone(self.topic),
            key_schema: None,
            value_schema: Some(Arc::clone(&self.shape.schema)),
            records: SourceRecords::Rows(Box::new(rows)),
            source_partition: Arc::clone(self.partition),
            source_offset: if self.config.mode == Mode::Bulk { None } else { reached.to_position() },
        };
        (batch, size, reached)
    }
}

/// Rows as the server copied them out.
#[derive(Debug)]
struct CopiedRows {
    fields: Fields,
    left: usize,
    rows: usize,
    places: Arc<Places>,
    decoders: Arc<[(Arc<str>, FieldDecoder)]>,
    label: String,
}

impl Rows for CopiedRows {
    fn next(&mut self, values: &mut Vec<Value>) -> Result<bool, Error> {
        if self.left == 0 {
            for (name, decoder) in &*self.decoders {
                if let Some(bent) = decoder.bent() {
                    tracing::warn!(table = %self.label, column = %name, "{bent}");
                }
            }
            return Ok(false);
        }
        self.left -= 1;
        for (name, decoder) in &*self.decoders {
            match self.fields.next_field() {
                None => values.push(Value::Null),
                Some(place) => {
                    let decoded = decoder.decode_into(self.fields.bytes(), place, values);
                    decoded.map_err(|error| refuse(&self.label, name, &error))?;
                }
            }
        }
        Ok(true)
    }

    fn reached(&self) -> Option<Position> {
        // The row in error was taken: those before it are walked through again.
        let before = (self.rows - self.left).checked_sub(1).filter(|before| *before > 0)?;
        let mut fields = Fields::new(self.fields.bytes().clone());
        let mut next = || {
            let found = self.places.find(&mut fields);
            for _ in self.places.end..self.decoders.len() {
                fields.next_field();
            }
            self.places.progress(found, Progress::default()).ok()
        };
        let mut last = None;
        for _ in 0..before {
            last = Some(next()?);
        }
        // More rows at the same place would come again with the row in error.
        last.filter(|last| next() != Some(*last))?.to_position()
    }
}

#[cold]
fn refuse(label: &str, column: &str, error: &FieldError) -> Error {
    match error {
        FieldError::Shape => {
            Error::fatal(format!("could not read column \"{column}\" of {label}: it is not of the planned type"))
        }
        FieldError::Unsupported(what) => Error::data(format!(
            "could not convert column \"{column}\" of {label}: {what} has no form in Kafka Connect; type.mapping=exact may \
             carry it as text"
        )),
    }
}
