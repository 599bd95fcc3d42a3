//! `SetSchemaMetadata`: another schema name or version; values stay.

use std::sync::Arc;

use super::{Side, replace_null_key, sided};
use crate::api::{ConfigDef, ConfigKey, ConfigType, Error, Importance, Props, Record, Result, Transform};
use crate::data::{Datum, Plans, Schema};

sided!("SetSchemaMetadata", SetSchemaMetadata);

fn config() -> ConfigDef {
    ConfigDef::new()
        .with(
            ConfigKey::optional("schema.name", ConfigType::String)
                .importance(Importance::High)
                .doc("Schema name to set."),
        )
        .with(
            ConfigKey::optional("schema.version", ConfigType::Int)
                .importance(Importance::High)
                .doc("Schema version to set."),
        )
        .with(replace_null_key())
}

#[derive(Debug)]
struct SetSchemaMetadata {
    side: Side,
    name: Option<Arc<str>>,
    version: Option<i32>,
    plans: Plans<Arc<Schema>>,
}

impl SetSchemaMetadata {
    fn new(side: Side, props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        let name = config.optional("schema.name").map(Arc::from);
        let version = config.number("schema.version").and_then(|version| i32::try_from(version).ok());
        if name.is_none() && version.is_none() {
            return Err(Error::config("Neither schema name nor version configured"));
        }
        Ok(Self { side, name, version, plans: Plans::default() })
    }
}

impl Transform for SetSchemaMetadata {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let Datum { schema, value } = self.side.of(&mut record);
        match schema {
            None if value.is_null() => {}
            None => return Err(Error::data("Schema required for [updating schema metadata]")),
            Some(known) => {
                let (name, version) = (&self.name, self.version);
                let changed = self.plans.plan(known, || {
                    let mut schema = Schema::clone(known);
                    schema.name = name.clone().or(schema.name);
                    schema.version = version.or(schema.version);
                    Ok::<_, Error>(Arc::new(schema))
                })?;
                *schema = Some(Arc::clone(changed));
            }
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, int32, map_record};
    use super::*;

    #[test]
    fn name_and_version_are_replaced() {
        let mut transform = build(&VALUE, &[("schema.name", "n"), ("schema.version", "2")]);
        let row = Record::of_value(Arc::from("t"), Datum::new(Arc::new(int32().with_doc("d")), 1.into()));
        let schema = apply(&mut *transform, row).value.schema.unwrap();
        assert_eq!(*schema, int32().with_doc("d").with_name("n").with_version(2));
        let error = transform.apply(map_record(&[])).unwrap_err().to_string();
        assert_eq!(error, "Schema required for [updating schema metadata]");
        assert!((VALUE.build)(&Props::new()).is_err());
    }
}
