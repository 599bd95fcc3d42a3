//! `TimestampConverter`: between text, Unix time and Connect's Date, Time and Timestamp, in UTC, milliseconds at best.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::simple_date_format::SimpleDateFormat;
use super::{Side, fill_default, not_a_map, not_a_struct, replace_null_key, sided, with_fields};
use crate::api::{ConfigDef, ConfigKey, ConfigType, Error, Importance, Props, Record, Result, Transform, Validator};
use crate::data::civil::DAY_MILLIS;
use crate::data::{DATE, Datum, Field, Plans, Schema, TIME, TIMESTAMP, Type, Value, date, time, timestamp};

const PURPOSE: &str = "converting timestamp formats";

sided!("TimestampConverter", TimestampConverter);

fn config() -> ConfigDef {
    ConfigDef::new()
        .with(
            ConfigKey::with_default("field", ConfigType::String, "")
                .importance(Importance::High)
                .doc("The field containing the timestamp, or empty if the entire value is a timestamp."),
        )
        .with(
            ConfigKey::required("target.type", ConfigType::String)
                .importance(Importance::High)
                .check(Validator::OneOf(&["string", "unix", "Date", "Time", "Timestamp"]))
                .doc("The desired timestamp representation: string, unix, Date, Time, or Timestamp."),
        )
        .with(ConfigKey::with_default("format", ConfigType::String, "").doc(
            "A pattern as for Java's SimpleDateFormat. Text is printed with it if target.type is string, and parsed \
             with it if the input is text.",
        ))
        .with(
            ConfigKey::with_default("unix.precision", ConfigType::String, "milliseconds")
                .importance(Importance::Low)
                .check(Validator::OneOf(&["nanoseconds", "microseconds", "milliseconds", "seconds"]))
                .doc("The precision of Unix time, read or written. Milliseconds are the most that is kept."),
        )
        .with(replace_null_key())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Unix,
    Date,
    Time,
    Timestamp,
}

impl Form {
    fn schema(self, optional: bool) -> Schema {
        match self {
            Self::Text => Schema::new(Type::String),
            Self::Unix => Schema::new(Type::Int64),
            Self::Date => date(),
            Self::Time => time(),
            Self::Timestamp => timestamp(),
        }
        .with_optional(optional)
    }

    fn of_schema(schema: &Schema) -> Result<Self> {
        match (schema.name(), schema.kind) {
            (Some(TIMESTAMP), _) => Ok(Self::Timestamp),
            (Some(DATE), _) => Ok(Self::Date),
            (Some(TIME), _) => Ok(Self::Time),
            (_, Type::String) => Ok(Self::Text),
            (_, Type::Int64) => Ok(Self::Unix),
            (name, kind) => {
                let name = name.map(|name| format!("{name}:")).unwrap_or_default();
                Err(Error::data(format!(
                    "Schema Schema{{{name}{}}} does not correspond to a known timestamp type format",
                    kind.java_name()
                ))
                .with_class("org.apache.kafka.connect.errors.ConnectException"))
            }
        }
    }

    fn of_value(value: &Value) -> Result<Self> {
        match value {
            Value::Int64(_) => Ok(Self::Unix),
            Value::String(_) => Ok(Self::Text),
            other => Err(Error::data(format!(
                "TimestampConverter does not support class {} objects as timestamps",
                other.java_class()
            ))),
        }
    }
}

#[derive(Debug)]
struct Settings {
    target: Form,
    format: Option<SimpleDateFormat>,
    precision: Precision,
    replace_null: bool,
}

#[derive(Debug, Clone, Copy)]
enum Precision {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

#[derive(Debug)]
struct Plan {
    schema: Arc<Schema>,
    /// The place of the field, its schema as it was, and the form of its values.
    field: Option<(usize, Arc<Schema>, Form)>,
}

#[derive(Debug)]
struct TimestampConverter {
    side: Side,
    field: String,
    settings: Settings,
    plans: Plans<Plan>,
}

impl TimestampConverter {
    fn new(side: Side, props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        let target = match config.text("target.type") {
            "string" => Form::Text,
            "unix" => Form::Unix,
            "Date" => Form::Date,
            "Time" => Form::Time,
            _ => Form::Timestamp,
        };
        let pattern = config.text("format");
        if target == Form::Text && pattern.trim().is_empty() {
            return Err(Error::config(
                "TimestampConverter requires format option to be specified when using string timestamps",
            ));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
        let format = if pattern.trim().is_empty() {
            None
        } else {
            Some(SimpleDateFormat::new(pattern, now).ok_or_else(|| {
                Error::config(format!(
                    "TimestampConverter requires a SimpleDateFormat-compatible pattern for string timestamps: {pattern}"
                ))
            })?)
        };
        let precision = match config.text("unix.precision") {
            "seconds" => Precision::Seconds,
            "microseconds" => Precision::Micros,
            "nanoseconds" => Precision::Nanos,
            _ => Precision::Millis,
        };
        let replace_null = config.boolean("replace.null.with.default");
        Ok(Self {
            side,
            field: config.text("field").to_owned(),
            settings: Settings { target, format, precision, replace_null },
            plans: Plans::default(),
        })
    }
}

impl Settings {
    /// Milliseconds since the epoch.
    fn instant(&self, form: Form, value: &Value) -> Result<i64> {
        let wrong = |form: &str| {
            let message = format!("Expected {form}, but found class {}", value.java_class());
            Err(Error::data(message))
        };
        match (form, value) {
            (Form::Text, Value::String(text)) => {
                let Some(format) = &self.format else {
                    return Err(Error::data(
                        "TimestampConverter requires format option to be specified when using string timestamps",
                    ));
                };
                format.parse(text).ok_or_else(|| {
                    Error::data(format!(
                        "Could not parse timestamp: value ({text}) does not match pattern ({})",
                        format.pattern()
                    ))
                })
            }
            (Form::Text, _) => wrong("string timestamp to be a String"),
            (Form::Unix, Value::Int64(number)) => Ok(match self.precision {
                Precision::Seconds => number.saturating_mul(1_000),
                Precision::Millis => *number,
                Precision::Micros => number / 1_000,
                Precision::Nanos => number / 1_000_000,
            }),
            (Form::Unix, _) => wrong("Unix timestamp to be a Long"),
            (Form::Date, Value::Int32(days)) => Ok(i64::from(*days) * DAY_MILLIS),
            (Form::Time, Value::Int32(millis)) => Ok(i64::from(*millis)),
            (Form::Timestamp, Value::Int64(millis)) => Ok(*millis),
            (Form::Date, _) => wrong("Date to be a java.util.Date"),
            (Form::Time, _) => wrong("Time to be a java.util.Date"),
            (Form::Timestamp, _) => wrong("Timestamp to be a java.util.Date"),
        }
    }

    fn convert(&self, form: Form, value: &Value) -> Result<Value> {
        if value.is_null() {
            return Ok(Value::Null);
        }
        let millis = self.instant(form, value)?;
        Ok(match (self.target, &self.format) {
            (Form::Text, Some(format)) => Value::from(format.format(millis)),
            (Form::Unix, _) => Value::Int64(match self.precision {
                Precision::Seconds => millis / 1_000,
                Precision::Millis => millis,
                Precision::Micros => millis.saturating_mul(1_000),
                Precision::Nanos => millis.saturating_mul(1_000_000),
            }),
            (Form::Date, _) => Value::Int32(millis.div_euclid(DAY_MILLIS) as i32),
            (Form::Time, _) => Value::Int32(millis.rem_euclid(DAY_MILLIS) as i32),
            _ => Value::Int64(millis),
        })
    }

    fn plan(&self, schema: &Schema, field: &str) -> Result<Plan> {
        if field.is_empty() {
            return Ok(Plan { schema: Arc::new(self.target.schema(schema.optional)), field: None });
        }
        let Some((place, found)) = schema.field(field) else {
            return Ok(Plan { schema: Arc::new(schema.clone()), field: None });
        };
        let mut fields = schema.fields.clone();
        fields[place] = Field::new(Arc::clone(&found.name), Arc::new(self.target.schema(found.schema.optional)));
        let form = Form::of_schema(&found.schema)?;
        Ok(Plan {
            schema: Arc::new(with_fields(schema, fields)),
            field: Some((place, Arc::clone(&found.schema), form)),
        })
    }

    fn apply_schemaless(&self, field: &str, value: &mut Value) -> Result<()> {
        if value.is_null() {
            return Ok(());
        }
        if field.is_empty() {
            *value = self.convert(Form::of_value(value)?, value)?;
            return Ok(());
        }
        let Value::Map(entries) = value else { return Err(not_a_map(PURPOSE, value)) };
        match entries.iter_mut().find(|(key, _)| key.as_str() == Some(field)) {
            Some((_, found)) if !found.is_null() => *found = self.convert(Form::of_value(found)?, found)?,
            Some(_) => {}
            None => entries.push((Value::from(field), Value::Null)),
        }
        Ok(())
    }
}

impl Transform for TimestampConverter {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let Datum { schema, value } = self.side.of(&mut record);
        let settings = &self.settings;
        let Some(known) = schema else {
            settings.apply_schemaless(&self.field, value)?;
            return Ok(Some(record));
        };
        let plan = self.plans.plan(known, || settings.plan(known, &self.field))?;
        match (&plan.field, &mut *value) {
            (_, value) if self.field.is_empty() => {
                fill_default(value, known, settings.replace_null);
                if !value.is_null() {
                    *value = settings.convert(Form::of_schema(known)?, value)?;
                }
            }
            (_, Value::Null) => {}
            (Some((place, was, form)), Value::Struct(values)) => {
                if let Some(value) = values.get_mut(*place) {
                    fill_default(value, was, settings.replace_null);
                    *value = settings.convert(*form, value)?;
                }
            }
            (None, Value::Struct(_)) => {}
            (_, other) => return Err(not_a_struct(PURPOSE, other)),
        }
        *schema = Some(Arc::clone(&plan.schema));
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, field, int32, map_record, record};
    use super::*;

    const TUTORIAL: [(&str, &str); 3] =
        [("field", "timestamp"), ("format", "yyyy-MM-dd HH:mm:ss.S"), ("target.type", "string")];

    #[test]
    fn the_tutorial_goes_there_and_back() {
        let fields = vec![field("id", int32()), field("timestamp", timestamp().optional())];
        let schema = Arc::new(Schema::structure(fields).with_name("iris_data"));
        let source = record(&schema, vec![1.into(), 1_709_209_845_005i64.into()]);
        let mut out = build(&VALUE, &TUTORIAL);
        let printed = apply(&mut *out, source.clone());
        assert_eq!(printed.value.value, Value::Struct(vec![1.into(), "2024-02-29 12:30:45.5".into()]));
        let target = printed.value.schema.clone().unwrap();
        assert_eq!(*target.fields[1].schema, Schema::new(Type::String).optional());
        assert_eq!(target.name(), Some("iris_data"));
        let again = apply(&mut *out, source.clone());
        assert!(Arc::ptr_eq(again.value.schema.as_ref().unwrap(), &target));

        let mut back = build(&VALUE, &[TUTORIAL[0], TUTORIAL[1], ("target.type", "Timestamp")]);
        assert_eq!(apply(&mut *back, printed), source);
        let null = record(&schema, vec![1.into(), Value::Null]);
        assert_eq!(apply(&mut *out, null).value.value, Value::Struct(vec![1.into(), Value::Null]));
    }

    #[test]
    fn whole_values_and_maps() {
        let mut seconds = build(&VALUE, &[("target.type", "unix"), ("unix.precision", "seconds")]);
        let whole = Record::of_value(Arc::from("t"), Datum::new(Arc::new(timestamp()), 5_999i64.into()));
        let converted = apply(&mut *seconds, whole).value;
        assert_eq!((converted.value, converted.schema.unwrap().kind), (Value::Int64(5), Type::Int64));
        let mut date = build(&VALUE, &[("target.type", "Date"), ("field", "a")]);
        let map = apply(&mut *date, map_record(&[("a", (DAY_MILLIS + 5).into())]));
        assert_eq!(map.value.value.entry("a"), Some(&Value::Int32(1)));
    }

    #[test]
    fn errors_read_as_in_java() {
        let error = |entries: &[(&str, &str)]| (VALUE.build)(&super::super::testing::props(entries)).err().unwrap();
        assert_eq!(
            error(&[("target.type", "string")]).to_string(),
            "TimestampConverter requires format option to be specified when using string timestamps"
        );
        let mut back = build(&VALUE, &[("target.type", "Timestamp"), ("format", "yyyy")]);
        let text = Record::of_value(Arc::from("t"), Datum::new(Arc::new(Schema::new(Type::String)), "x".into()));
        assert_eq!(
            back.apply(text).unwrap_err().to_string(),
            "Could not parse timestamp: value (x) does not match pattern (yyyy)"
        );
        let number = Record::of_value(Arc::from("t"), Datum::new(Arc::new(int32()), 1.into()));
        assert_eq!(
            back.apply(number).unwrap_err().to_string(),
            "Schema Schema{INT32} does not correspond to a known timestamp type format"
        );
        assert_eq!(
            back.apply(Record::of_value(Arc::from("t"), Datum::schemaless(1.into()))).unwrap_err().to_string(),
            "TimestampConverter does not support class java.lang.Integer objects as timestamps"
        );
    }
}
