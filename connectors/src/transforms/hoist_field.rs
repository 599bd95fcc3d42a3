//! `HoistField`: the whole side becomes a field.

use std::sync::Arc;

use super::{Side, sided};
use crate::api::{ConfigDef, ConfigKey, ConfigType, Error, Props, Record, Result, Transform};
use crate::data::{Datum, Field, Plans, Schema, Value};

sided!("HoistField", HoistField);

fn config() -> ConfigDef {
    ConfigDef::new().with(
        ConfigKey::required("field", ConfigType::String).doc("Field name for the single field that will be created."),
    )
}

#[derive(Debug)]
struct HoistField {
    side: Side,
    field: Arc<str>,
    plans: Plans<Arc<Schema>>,
}

impl HoistField {
    fn new(side: Side, props: &Props) -> Result<Self> {
        Ok(Self { side, field: Arc::from(config().read(props)?.text("field")), plans: Plans::default() })
    }
}

impl Transform for HoistField {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let Datum { schema, value } = self.side.of(&mut record);
        let inner = std::mem::take(value);
        match schema {
            Some(known) => {
                let field = &self.field;
                let outer = self.plans.plan(known, || {
                    let field = Field::new(Arc::clone(field), Arc::clone(known));
                    Ok::<_, Error>(Arc::new(Schema::structure(vec![field])))
                })?;
                *value = Value::Struct(vec![inner]);
                *schema = Some(Arc::clone(outer));
            }
            None => *value = Value::Map(vec![(Value::from(&*self.field), inner)]),
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, int32};
    use super::*;

    #[test]
    fn wraps_with_and_without_schema() {
        let mut hoist = build(&VALUE, &[("field", "f")]);
        let row = Record::of_value(Arc::from("t"), Datum::new(Arc::new(int32()), 1.into()));
        assert_eq!(apply(&mut *hoist, row).value.value, Value::Struct(vec![1.into()]));
        let null = apply(&mut *hoist, Record::of_value(Arc::from("t"), Datum::default()));
        assert_eq!(null.value.value, Value::Map(vec![("f".into(), Value::Null)]));
    }
}
