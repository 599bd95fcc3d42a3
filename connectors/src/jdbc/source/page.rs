//! One page: a short transaction that locks, describes and copies. Batches go out when they are full; the last one after
//! the commit, so that nothing is held open while the worker is slow. Rows are decoded where the worker uses them.

use std::sync::Arc;

use futures_util::TryStreamExt;

use super::batches::{Batches, Size};
use super::config::{Mode, SourceConfig};
use super::progress::Progress;
use super::reader::Target;
use super::shape::{self, Shape};
use super::sql::{self, Bound, Paging};
use crate::api::{Error, ErrorKind, Rows, SourceBatch, SourceRecords};
use crate::data::Value;
use crate::postgres::catalog::Column;
use crate::postgres::connection::{Session, within};
use crate::postgres::copy_decode::{BadStream, Fields, TupleReader};
use crate::postgres::failure;
use crate::postgres::field_decoder::{FieldDecoder, FieldError, raw_date, raw_timestamp};
use crate::postgres::numeric::{NotDecimal, RawNumeric};
use crate::postgres::type_map::PgType;

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
    session.run(format!("BEGIN ISOLATION LEVEL {}; {lock}", config.isolation)).await?;
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
    let limit = config.max_value_bytes.unwrap_or_default();
    PageError::Failed(Error::fatal(format!(
        "a row of {label} has {found}, above max.value.bytes={limit}: nothing of it was read. To move it raise that, \
         producer.override.max.request.size and the topic's max.message.bytes; else leave the row or the column out with a \
         query"
    )))
}

/// An instant and a wall clock, in microseconds since 1970.
type Moment = (i64, Option<i64>);

/// A batch, its size, and where to resume after it.
type Full = (SourceBatch, Size, Progress);

/// Gathers rows into batches and knows which offset is safe.
struct Collector<'a> {
    shape: &'a Shape,
    config: &'a SourceConfig,
    partition: &'a Arc<crate::api::Position>,
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
        let mut id = None;
        let mut moment: Option<(usize, Option<Moment>)> = None;
        // Only the offset columns are looked into here.
        for at in 0..self.shape.offsets_end {
            let Some(place) = row.next_field() else { continue };
            let field = &row.bytes()[place];
            if let Some((column, kind)) = self.shape.id
                && column == at
            {
                id = Some(raw_id(field, kind));
            }
            // Of several timestamp columns the first that is not null in COALESCE's order counts, not in the table's.
            if let Some((rank, kind)) = self.shape.ranks[at]
                && moment.is_none_or(|(best, _)| rank < best)
            {
                moment = Some((rank, self.moment(kind, field)));
            }
        }
        let next = match self.place(id.unwrap_or(Err(NotId::Null)), moment.and_then(|(_, moment)| moment)) {
            Ok(next) => next,
            Err(error) => {
                // Where this row would stand, none of those before it does.
                (self.safe, self.settled) = (self.last, self.gathered());
                return Err(error);
            }
        };
        let full = (self.rows >= limits.rows || self.data.len() >= limits.bytes).then(|| self.take(next != self.last));
        if next != self.last {
            self.settled = self.gathered();
            self.safe = self.last;
            self.last = next;
        }
        self.data.extend_from_slice(row.bytes());
        self.rows += 1;
        Ok(full)
    }

    /// The moment that a timestamp column says, as an instant and, without a zone, as its wall clock; `None` if it is
    /// infinite.
    fn moment(&self, kind: PgType, field: &[u8]) -> Option<Moment> {
        let shown = if kind == PgType::Date { raw_date(field) } else { raw_timestamp(field) }?;
        Some(match kind {
            PgType::TimestampTz => (shown, None),
            _ => (self.config.decode.zone.to_instant_not_after(shown), Some(shown)),
        })
    }

    fn gathered(&self) -> Size {
        Size { rows: self.rows, bytes: self.data.len() }
    }

    /// Where a row stands.
    fn place(&self, id: Result<i64, NotId>, moment: Option<Moment>) -> Result<Progress, Error> {
        let mut next = self.last;
        if self.config.mode.has_incrementing() {
            next.id = Some(id.map_err(|why| self.refuse_id(why))?);
        }
        if self.config.mode.has_timestamp() {
            let (micros, wall) =
                moment.ok_or_else(|| Error::fatal(format!("no finite timestamp in a row of {}", self.label)))?;
            next.wall = wall;
            next.micros = Some(micros);
        }
        Ok(next)
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
            decoders: Arc::clone(&self.shape.decoders),
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

/// Why a value is no id.
#[derive(Debug, Clone, Copy)]
enum NotId {
    Null,
    Fraction,
    TooLarge,
    NoNumber,
}

fn raw_id(field: &[u8], kind: PgType) -> Result<i64, NotId> {
    let whole = |number: Option<i64>| number.ok_or(NotId::NoNumber);
    match kind {
        PgType::Int2 => whole(field.try_into().ok().map(|bytes| i64::from(i16::from_be_bytes(bytes)))),
        PgType::Int4 => whole(field.try_into().ok().map(|bytes| i64::from(i32::from_be_bytes(bytes)))),
        PgType::Oid => whole(field.try_into().ok().map(|bytes| i64::from(u32::from_be_bytes(bytes)))),
        PgType::Numeric(_) => match RawNumeric::parse(field).ok_or(NotId::NoNumber)?.to_i128(0) {
            Ok(number) => number.and_then(|number| number.try_into().ok()).ok_or(NotId::TooLarge),
            Err(NotDecimal::Inexact) => Err(NotId::Fraction),
            Err(NotDecimal::NaN | NotDecimal::Infinite) => Err(NotId::NoNumber),
        },
        _ => whole(field.try_into().ok().map(i64::from_be_bytes)),
    }
}
