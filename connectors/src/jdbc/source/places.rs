//! Where a row stands among all rows of its table: what its offset columns say, read from the row as it was copied.

use super::config::Mode;
use super::progress::Progress;
use crate::postgres::copy_decode::Fields;
use crate::postgres::field_decoder::{raw_date, raw_timestamp};
use crate::postgres::numeric::{NotDecimal, RawNumeric};
use crate::postgres::temporal::Zone;
use crate::postgres::type_map::PgType;

/// An instant and a wall clock, in microseconds since 1970.
type Moment = (i64, Option<i64>);

/// The places of the offset columns among those that are selected.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) mode: Mode,
    pub(super) zone: Zone,
    /// The place of the incrementing column and its type.
    pub(super) id: Option<(usize, PgType)>,
    /// For each selected column, if it is a timestamp column: its rank in COALESCE's order, and its type.
    pub(super) ranks: Vec<Option<(usize, PgType)>>,
    /// The place after the last offset column.
    pub(super) end: usize,
}

/// What the offset columns of a row hold.
#[derive(Debug)]
pub(super) struct Found {
    id: Result<i64, NotId>,
    moment: Option<Moment>,
}

/// Why a row stands nowhere.
#[derive(Debug, Clone, Copy)]
pub(super) enum NoPlace {
    /// Its id is none.
    Id(NotId),
    /// It has no finite timestamp.
    Moment,
}

impl Places {
    /// Looks into the offset columns, and no further.
    pub(super) fn find(&self, row: &mut Fields) -> Found {
        let mut id = Err(NotId::Null);
        let mut moment: Option<(usize, Option<Moment>)> = None;
        for at in 0..self.end {
            let Some(place) = row.next_field() else { continue };
            let field = &row.bytes()[place];
            if let Some((column, kind)) = self.id
                && column == at
            {
                id = raw_id(field, kind);
            }
            // Of several timestamp columns the first that is not null in COALESCE's order counts, not in the table's.
            if let Some((rank, kind)) = self.ranks[at]
                && moment.is_none_or(|(best, _)| rank < best)
            {
                moment = Some((rank, self.moment(kind, field)));
            }
        }
        Found { id, moment: moment.and_then(|(_, moment)| moment) }
    }

    /// Where a row stands, behind `last`.
    pub(super) fn progress(&self, found: Found, last: Progress) -> Result<Progress, NoPlace> {
        let mut next = last;
        if self.mode.has_incrementing() {
            next.id = Some(found.id.map_err(NoPlace::Id)?);
        }
        if self.mode.has_timestamp() {
            let (micros, wall) = found.moment.ok_or(NoPlace::Moment)?;
            next.wall = wall;
            next.micros = Some(micros);
        }
        Ok(next)
    }

    /// The moment that a timestamp column says, as an instant and, without a zone, as its wall clock; `None` if it is
    /// infinite.
    fn moment(&self, kind: PgType, field: &[u8]) -> Option<Moment> {
        let shown = if kind == PgType::Date { raw_date(field) } else { raw_timestamp(field) }?;
        Some(match kind {
            PgType::TimestampTz => (shown, None),
            _ => (self.zone.to_instant_not_after(shown), Some(shown)),
        })
    }
}

/// Why a value is no id.
#[derive(Debug, Clone, Copy)]
pub(super) enum NotId {
    /// Null.
    Null,
    /// Digits behind the point.
    Fraction,
    /// Beyond 64 bits.
    TooLarge,
    /// NaN or infinite.
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
