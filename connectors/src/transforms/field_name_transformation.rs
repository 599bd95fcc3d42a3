//! Debezium's `FieldNameTransformation`: names of fields in another style, in keys, in rows, and in the rows of change
//! events. Keys of tombstones follow too, where the original leaves them: they have to find what was written.

use std::sync::Arc;

use super::naming_style::{self, NamingStyle};
use super::with_fields;
use crate::api::{Record, Result, Transform, TransformSpec};
use crate::data::{Datum, Field, Plans, Schema, Type, Value};

/// Renames fields.
pub static SPEC: TransformSpec = TransformSpec {
    class: "io.debezium.connector.jdbc.transforms.FieldNameTransformation",
    config: || naming_style::config("column"),
    build: |props| {
        let style = NamingStyle::new("column", props)?;
        Ok(Box::new(FieldNameTransformation { style, keys: Plans::default(), values: Plans::default() }))
    },
};

#[derive(Debug)]
struct FieldNameTransformation {
    style: NamingStyle,
    keys: Plans<Arc<Schema>>,
    values: Plans<Arc<Schema>>,
}

impl NamingStyle {
    fn renamed(&self, schema: &Schema) -> Schema {
        let fields = schema.fields.iter().map(|field| Field::new(self.apply(&field.name), Arc::clone(&field.schema)));
        with_fields(schema, fields.collect())
    }

    /// A change event keeps its own fields, the rows in it get other names.
    fn of_value(&self, schema: &Schema) -> Schema {
        if !schema.name().is_some_and(|name| name.ends_with(".Envelope")) {
            return self.renamed(schema);
        }
        let fields = schema.fields.iter().map(|field| match &*field.name {
            "before" | "after" if field.schema.kind == Type::Struct => {
                Field::new(&*field.name, Arc::new(self.renamed(&field.schema)))
            }
            _ => field.clone(),
        });
        with_fields(schema, fields.collect())
    }
}

/// Values of structs have places, no names: only the schema changes.
fn rename(datum: &mut Datum, plans: &mut Plans<Arc<Schema>>, make: impl FnOnce(&Schema) -> Schema) -> Result<()> {
    if let (Some(schema), Value::Struct(_)) = (&mut datum.schema, &datum.value) {
        let plan = plans.plan(schema, || Ok::<_, crate::api::Error>(Arc::new(make(schema))))?;
        *schema = Arc::clone(plan);
    }
    Ok(())
}

impl Transform for FieldNameTransformation {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let Self { style, keys, values } = self;
        rename(&mut record.key, keys, |schema| style.renamed(schema))?;
        rename(&mut record.value, values, |schema| style.of_value(schema))?;
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, field, int32, map_record, record, text};
    use super::*;

    fn names(schema: &Schema) -> Vec<&str> {
        schema.fields.iter().map(|field| &*field.name).collect()
    }

    #[test]
    fn rows_keys_and_events_are_renamed() {
        let mut transform = build(&SPEC, &[("column.naming.style", "snake_case")]);
        let row = Schema::structure(vec![field("orderId", int32()), field("nickName", text())]).optional();
        let envelope = Arc::new(
            Schema::structure(vec![field("before", row.clone()), field("after", row.clone()), field("tsMs", int32())])
                .with_name("s.Envelope"),
        );
        let values = || vec![Value::Null, Value::Struct(vec![1.into(), "x".into()]), 2.into()];
        let mut event = record(&envelope, values());
        event.key = Datum::new(Arc::new(row.clone()), Value::Struct(vec![1.into(), "x".into()]));
        let out = apply(&mut *transform, event);
        let schema = out.value.schema.unwrap();
        assert_eq!(names(&schema), ["before", "after", "tsMs"]);
        assert_eq!(names(&schema.fields[1].schema), ["order_id", "nick_name"]);
        assert!(schema.fields[1].schema.optional);
        assert_eq!(out.value.value, Value::Struct(values()));
        assert_eq!(names(&out.key.schema.unwrap()), ["order_id", "nick_name"]);
        let row = Arc::new(row);
        let plain =
            || apply(&mut *build(&SPEC, &[("column.naming.prefix", "c_")]), record(&row, vec![1.into(), "x".into()]));
        assert_eq!(names(&plain().value.schema.unwrap()), ["c_orderId", "c_nickName"]);
        // Objects without a schema stay, as in the original.
        let map = map_record(&[("orderId", 1.into())]);
        assert_eq!(apply(&mut *transform, map.clone()).value.value, map.value.value);
    }

    #[test]
    fn equal_schemas_come_out_as_one() {
        let mut transform = build(&SPEC, &[("column.naming.style", "upper_case")]);
        let row = Arc::new(Schema::structure(vec![field("a", int32())]));
        let mut schema = || apply(&mut *transform, record(&row, vec![1.into()])).value.schema.unwrap();
        assert!(Arc::ptr_eq(&schema(), &schema()));
    }
}
