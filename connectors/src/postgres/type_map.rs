//! PostgreSQL's types, and the Connect schema that each is read as: the table of the JDBC source connector, including
//! its oddities, so that topics and registries see the same schemas.

use std::sync::Arc;

use crate::data::{self, Schema, Type};

/// A PostgreSQL type as far as reading and writing differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PgType {
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `oid`
    Oid,
    /// `numeric`, with precision and scale if declared.
    Numeric(Option<(i32, i32)>),
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `money`
    Money,
    /// `boolean`
    Bool,
    /// `bit(n)`
    Bit(i32),
    /// Anything that travels as plain text: `text`, `varchar`, `char(n)`, `name`, enums, `xml`.
    Text,
    /// `citext`: text to write, but skipped when read, as the original does.
    Citext,
    /// `"char"`
    Char,
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `time`
    Time,
    /// `timetz`
    TimeTz,
    /// `timestamp`
    Timestamp,
    /// `timestamptz`
    TimestampTz,
    /// `uuid`
    Uuid,
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
    /// `hstore`: as [`Self::Other`], but maps have a text of their own.
    Hstore,
    /// `point`: as [`Self::Other`], but Debezium's points have a text of their own.
    Point,
    /// An array of anything: as [`Self::Other`], but told from vectors, which are written differently.
    Array,
    /// Any other type: skipped when read, written through its text.
    Other,
}

impl PgType {
    /// From the oid, name and modifier of a base type.
    pub fn of(oid: u32, name: &str, is_enum: bool, modifier: i32) -> Self {
        match oid {
            16 => Self::Bool,
            17 => Self::Bytea,
            18 => Self::Char,
            19 | 25 | 142 | 1042 | 1043 => Self::Text,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            26 => Self::Oid,
            114 => Self::Json,
            600 => Self::Point,
            700 => Self::Float4,
            701 => Self::Float8,
            790 => Self::Money,
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::TimestampTz,
            1266 => Self::TimeTz,
            1560 => Self::Bit(if modifier > 0 { modifier } else { 1 }),
            1700 => Self::Numeric(numeric_modifier(modifier)),
            2950 => Self::Uuid,
            3802 => Self::Jsonb,
            _ if is_enum => Self::Text,
            _ if name == "citext" => Self::Citext,
            _ if name == "hstore" => Self::Hstore,
            // Every array type is named so, unless a user took the name first.
            _ if name.starts_with('_') => Self::Array,
            _ => Self::Other,
        }
    }

    /// About how many bytes a value has in the server's binary form; `None` if the type sets no bound.
    pub fn width(self) -> Option<usize> {
        Some(match self {
            Self::Bool | Self::Char => 1,
            Self::Int2 => 2,
            Self::Int4 | Self::Oid | Self::Float4 | Self::Date => 4,
            Self::Int8 | Self::Float8 | Self::Money | Self::Time | Self::Timestamp | Self::TimestampTz => 8,
            Self::TimeTz => 12,
            Self::Uuid | Self::Point => 16,
            Self::Numeric(Some((precision, _))) => 8 + usize::try_from(precision).ok()? / 2,
            _ => return None,
        })
    }
}

/// Precision and scale of a numeric's modifier; the scale may be negative since PostgreSQL 15.
fn numeric_modifier(modifier: i32) -> Option<(i32, i32)> {
    let packed = modifier - 4;
    (modifier >= 4).then(|| ((packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 1024) - 1024))
}

/// The value of `numeric.mapping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NumericMapping {
    /// Always Decimal.
    #[default]
    None,
    /// Whole numbers of known precision as integers.
    PrecisionOnly,
    /// Integers, or doubles up to 18 digits.
    BestFit,
    /// Integers, or doubles whenever there is a fraction.
    BestFitEagerDouble,
}

impl NumericMapping {
    /// From the keys `numeric.mapping` and `numeric.precision.mapping`.
    pub fn from_text(mapping: Option<&str>, deprecated: bool) -> Self {
        match mapping.map(str::to_ascii_lowercase).as_deref() {
            Some("precision_only") => Self::PrecisionOnly,
            Some("best_fit") => Self::BestFit,
            Some("best_fit_eager_double") => Self::BestFitEagerDouble,
            None | Some("") if deprecated => Self::PrecisionOnly,
            _ => Self::None,
        }
    }
}

/// The value of `timestamp.granularity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Granularity {
    /// Connect's Timestamp: milliseconds.
    #[default]
    ConnectLogical,
    /// INT64 of microseconds.
    MicrosLong,
    /// Text of microseconds.
    MicrosString,
    /// ISO text with six digits of fraction.
    MicrosIso,
    /// INT64 of nanoseconds.
    NanosLong,
    /// Text of nanoseconds.
    NanosString,
    /// ISO text with nine digits of fraction.
    NanosIso,
}

impl Granularity {
    /// The key's values, in the order of the variants.
    pub const NAMES: &'static [&'static str] = &[
        "connect_logical",
        "micros_long",
        "micros_string",
        "micros_iso_datetime_string",
        "nanos_long",
        "nanos_string",
        "nanos_iso_datetime_string",
    ];

    /// From the key's value.
    pub fn from_text(text: &str) -> Self {
        const ALL: [Granularity; 7] = [
            Granularity::ConnectLogical,
            Granularity::MicrosLong,
            Granularity::MicrosString,
            Granularity::MicrosIso,
            Granularity::NanosLong,
            Granularity::NanosString,
            Granularity::NanosIso,
        ];
        let place = Self::NAMES.iter().position(|name| name.eq_ignore_ascii_case(text)).unwrap_or(0);
        ALL[place.min(6)]
    }

    fn schema(self) -> Schema {
        match self {
            Self::ConnectLogical => data::timestamp(),
            Self::MicrosLong | Self::NanosLong => Schema::new(Type::Int64),
            _ => Schema::new(Type::String),
        }
    }
}

/// What a numeric is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumericForm {
    /// Decimal of this scale.
    Decimal(i32),
    /// An integer of this kind.
    Integer(Type),
    /// FLOAT64.
    Double,
}

/// The scale that an unconstrained numeric gets.
pub const UNCONSTRAINED_SCALE: i32 = 127;

/// How a numeric column is read.
pub fn numeric_form(declared: Option<(i32, i32)>, mapping: NumericMapping) -> NumericForm {
    let Some((precision, scale)) = declared else {
        // The original answers INT8 here, which truncates or fails: every SUM and AVG is such a column.
        return match mapping {
            NumericMapping::BestFit | NumericMapping::BestFitEagerDouble => NumericForm::Double,
            _ => NumericForm::Decimal(UNCONSTRAINED_SCALE),
        };
    };
    if mapping == NumericMapping::None {
        return NumericForm::Decimal(scale);
    }
    if scale == 0 {
        return match precision {
            ..=2 => NumericForm::Integer(Type::Int8),
            3..=4 => NumericForm::Integer(Type::Int16),
            5..=9 => NumericForm::Integer(Type::Int32),
            10..=18 => NumericForm::Integer(Type::Int64),
            _ => NumericForm::Decimal(0),
        };
    }
    match mapping {
        NumericMapping::BestFit if precision <= 18 => NumericForm::Double,
        NumericMapping::BestFitEagerDouble => NumericForm::Double,
        _ => NumericForm::Decimal(scale),
    }
}

/// The schema that a column is read as; `None` if the original drops columns of this type.
pub fn connect_schema(
    kind: PgType,
    optional: bool,
    mapping: NumericMapping,
    granularity: Granularity,
) -> Option<Arc<Schema>> {
    let schema = match kind {
        PgType::Int2 => Schema::new(Type::Int16),
        PgType::Int4 => Schema::new(Type::Int32),
        PgType::Int8 | PgType::Oid => Schema::new(Type::Int64),
        PgType::Numeric(declared) => match numeric_form(declared, mapping) {
            NumericForm::Decimal(scale) => data::decimal(scale).with_parameter(
                "connect.decimal.precision",
                declared.map_or(0, |(precision, _)| precision).to_string(),
            ),
            NumericForm::Integer(kind) => Schema::new(kind),
            NumericForm::Double => Schema::new(Type::Float64),
        },
        PgType::Float4 => Schema::new(Type::Float32),
        PgType::Float8 | PgType::Money => Schema::new(Type::Float64),
        PgType::Bool | PgType::Bit(1) => Schema::new(Type::Boolean),
        PgType::Bit(..=8) => Schema::new(Type::Int8),
        PgType::Bit(_) | PgType::Bytea => Schema::new(Type::Bytes),
        PgType::Text | PgType::Char | PgType::Uuid | PgType::Json | PgType::Jsonb => Schema::new(Type::String),
        PgType::Date => data::date(),
        PgType::Time | PgType::TimeTz => data::time(),
        PgType::Timestamp | PgType::TimestampTz => granularity.schema(),
        PgType::Citext | PgType::Hstore | PgType::Point | PgType::Array | PgType::Other => return None,
    };
    Some(Arc::new(schema.with_optional(optional)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_types_bound_their_values() {
        assert_eq!(PgType::TimeTz.width(), Some(12));
        assert_eq!(PgType::Numeric(Some((12, 2))).width(), Some(14));
        assert_eq!([PgType::Numeric(None), PgType::Text, PgType::Array].map(PgType::width), [None; 3]);
    }

    #[test]
    fn numeric_table_of_the_original() {
        use NumericForm::{Decimal, Double, Integer};
        use NumericMapping as M;
        type Row = (Option<(i32, i32)>, [NumericForm; 4]);
        let rows: [Row; 6] = [
            (Some((2, 0)), [Decimal(0), Integer(Type::Int8), Integer(Type::Int8), Integer(Type::Int8)]),
            (Some((18, 0)), [Decimal(0), Integer(Type::Int64), Integer(Type::Int64), Integer(Type::Int64)]),
            (Some((19, 0)), [Decimal(0); 4]),
            (Some((10, 2)), [Decimal(2), Decimal(2), Double, Double]),
            (Some((20, 2)), [Decimal(2), Decimal(2), Decimal(2), Double]),
            (None, [Decimal(127), Decimal(127), Double, Double]),
        ];
        for (declared, expected) in rows {
            let found =
                [M::None, M::PrecisionOnly, M::BestFit, M::BestFitEagerDouble].map(|m| numeric_form(declared, m));
            assert_eq!(found, expected, "{declared:?}");
        }
        assert_eq!(numeric_modifier((12 << 16 | 2) + 4), Some((12, 2)));
        assert_eq!(numeric_modifier((5 << 16 | (-2 & 0x7ff)) + 4), Some((5, -2)));
        assert_eq!(numeric_modifier(-1), None);
    }
}
