//! Values as text that is the same on both sides where the values are: the pure part of `verify`, SQL from columns.

use super::super::failure::{Failure, Outcome};

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: String,
    /// Its type as SQL.
    pub(super) sql_type: String,
    /// What is compared by.
    pub(super) kind: Kind,
}

/// Types that need care when compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Numeric,
    Float4,
    Float8,
    Timestamp,
    TimestampTz,
    Date,
    Json,
    Other,
}

impl Kind {
    /// The kind of a type by its name in `pg_type`.
    pub(super) fn of(type_name: &str) -> Self {
        match type_name {
            "int2" | "int4" | "int8" => Self::Integer,
            "numeric" => Self::Numeric,
            "float4" => Self::Float4,
            "float8" => Self::Float8,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::TimestampTz,
            "date" => Self::Date,
            "json" | "jsonb" => Self::Json,
            _ => Self::Other,
        }
    }

    fn is_time(self) -> bool {
        matches!(self, Self::Timestamp | Self::TimestampTz | Self::Date)
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Numeric | Self::Float4 | Self::Float8)
    }
}

/// A column that both sides have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Compared {
    /// Its name.
    pub(super) name: String,
    source: Column,
    target: Column,
}

impl Compared {
    fn on(&self, target: bool) -> &Column {
        if target { &self.target } else { &self.source }
    }

    /// Holds times with a fraction of a second.
    pub(super) fn is_time(&self) -> bool {
        let (a, b) = (self.source.kind, self.target.kind);
        a.is_time() && b.is_time() && !(a == Kind::Date && b == Kind::Date)
    }

    /// Whole numbers on both sides, which sort alike everywhere.
    pub(super) fn is_integer(&self) -> bool {
        self.source.kind == Kind::Integer && self.target.kind == Kind::Integer
    }

    /// The column's type as SQL.
    pub(super) fn sql_type(&self, target: bool) -> &str {
        &self.on(target).sql_type
    }

    /// The column's name as SQL.
    pub(super) fn quoted(&self, target: bool) -> String {
        quote(&self.on(target).name)
    }

    /// SQL for the value's canonical text.
    pub(super) fn text(&self, target: bool, truncated: bool) -> String {
        let column = self.quoted(target);
        let (own, a, b) = (self.on(target).kind, self.source.kind, self.target.kind);
        let either = |kind: Kind| a == kind || b == kind;
        if self.is_time() {
            let time = match own {
                Kind::TimestampTz => format!("({column} AT TIME ZONE 'UTC')"),
                Kind::Date => format!("{column}::timestamp"),
                _ => column,
            };
            return if truncated {
                format!("date_trunc('milliseconds', {time})::text")
            } else {
                format!("{time}::text")
            };
        }
        if a.is_number() && b.is_number() {
            // The lesser precision of the two is what can be the same.
            if either(Kind::Float4) {
                return format!("{column}::float4::text");
            }
            if either(Kind::Float8) {
                return format!("{column}::float8::text");
            }
            if either(Kind::Numeric) {
                return format!("trim_scale({column}::numeric)::text");
            }
        }
        if either(Kind::Json) {
            return format!("{column}::jsonb::text");
        }
        format!("{column}::text")
    }
}

/// An SQL identifier.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// SQL for a whole row's canonical text. A row value quotes its parts, so that no two rows share a text.
pub(super) fn row_text(columns: &[Compared], target: bool, truncated: bool) -> String {
    let texts: Vec<String> = columns.iter().map(|column| column.text(target, truncated)).collect();
    format!("ROW({})::text", texts.join(", "))
}

/// Columns that one side lacks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// How many the target lacks.
    pub(super) in_target: usize,
    /// What to tell.
    pub(super) notes: Vec<String>,
}

/// The columns to compare: those named, else all that both sides have.
pub(super) fn pair_columns(
    source: &[Column],
    target: &[Column],
    named: &[String],
) -> Outcome<(Vec<Compared>, Missing)> {
    let find = |columns: &[Column], name: &str| columns.iter().find(|column| column.name == name).cloned();
    let pair = |name: &str| Some((find(source, name)?, find(target, name)?));
    let mut compared = Vec::new();
    let mut missing = Missing::default();
    if named.is_empty() {
        for column in source {
            match pair(&column.name) {
                Some((source, target)) => compared.push(Compared { name: column.name.clone(), source, target }),
                None => {
                    missing.in_target += 1;
                    missing.notes.push(format!("column {}: only in the source", column.name));
                }
            }
        }
        let extra = target.iter().filter(|column| find(source, &column.name).is_none());
        missing.notes.extend(extra.map(|c| format!("column {}: only in the target, not compared", c.name)));
    }
    for name in named.iter().map(|name| name.trim()) {
        let Some((source, target)) = pair(name) else {
            let side = if find(source, name).is_none() { "source" } else { "target" };
            return Err(Failure::new(format!("--columns names {name}, which the {side} table does not have")));
        };
        compared.push(Compared { name: name.to_owned(), source, target });
    }
    if compared.is_empty() {
        return Err(Failure::new("the two tables have no column in common"));
    }
    Ok((compared, missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, type_name: &str) -> Column {
        Column { name: name.to_owned(), sql_type: type_name.to_owned(), kind: Kind::of(type_name) }
    }

    fn compared(source: &str, target: &str) -> Compared {
        Compared { name: "c".into(), source: column("c", source), target: column("c", target) }
    }

    #[test]
    fn texts_meet_at_the_lesser_precision() {
        assert_eq!(compared("int4", "int8").text(false, false), "\"c\"::text");
        assert_eq!(compared("int4", "numeric").text(true, false), "trim_scale(\"c\"::numeric)::text");
        assert_eq!(compared("numeric", "float8").text(false, false), "\"c\"::float8::text");
        assert_eq!(compared("timestamp", "timestamptz").text(true, false), "(\"c\" AT TIME ZONE 'UTC')::text");
        assert_eq!(compared("timestamp", "timestamp").text(false, true), "date_trunc('milliseconds', \"c\")::text");
        assert_eq!(compared("date", "date").text(false, true), "\"c\"::text");
        assert_eq!(compared("json", "jsonb").text(false, false), "\"c\"::jsonb::text");
        assert_eq!(compared("text", "varchar").text(false, false), "\"c\"::text");
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
    }

    #[test]
    fn columns_are_paired_by_name() {
        let (source, target) = ([column("a", "int4"), column("b", "text")], [column("a", "int8"), column("x", "text")]);
        let (pairs, missing) = pair_columns(&source, &target, &[]).unwrap();
        assert_eq!((pairs.len(), missing.in_target, missing.notes.len()), (1, 1, 2));
        assert!(pair_columns(&source, &target, &["b".to_owned()]).is_err());
        assert!(pair_columns(&source, &target[1..], &[]).is_err());
    }
}
