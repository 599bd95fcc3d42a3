//! `HeaderFrom`: moves or copies fields into headers.

use std::sync::Arc;

use bytestring::ByteString;

use super::{Side, not_a_map, not_a_struct, or_default, place_of, replace_null_key, sided, with_fields};
use crate::api::{
    ConfigDef, ConfigKey, ConfigType, Error, Header, Importance, Props, Record, Result, Transform, Validator,
};
use crate::data::{Datum, Plans, Schema, Value};

sided!("HeaderFrom", HeaderFrom);

fn config() -> ConfigDef {
    let list = |name, doc| {
        ConfigKey::required(name, ConfigType::List).importance(Importance::High).check(Validator::NonEmpty).doc(doc)
    };
    ConfigDef::new()
        .with(list("fields", "Field names in the record whose values are to be copied or moved to headers."))
        .with(list("headers", "Header names, in the order of the field names."))
        .with(
            ConfigKey::required("operation", ConfigType::String)
                .importance(Importance::High)
                .check(Validator::OneOf(&["move", "copy"]))
                .doc("Either move or copy."),
        )
        .with(replace_null_key())
}

#[derive(Debug)]
struct HeaderFrom {
    side: Side,
    fields: Vec<String>,
    headers: Vec<ByteString>,
    moves: bool,
    replace_null: bool,
    /// The places of the fields, and the schema without them.
    plans: Plans<(Vec<usize>, Arc<Schema>)>,
}

impl HeaderFrom {
    fn new(side: Side, props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        let fields: Vec<_> = config.list("fields").into_iter().map(str::to_owned).collect();
        let headers: Vec<_> = config.list("headers").into_iter().map(ByteString::from).collect();
        if fields.len() != headers.len() {
            return Err(Error::config("'fields' config must have the same number of elements as 'headers' config."));
        }
        let moves = config.text("operation") == "move";
        let replace_null = config.boolean("replace.null.with.default");
        Ok(Self { side, fields, headers, moves, replace_null, plans: Plans::default() })
    }
}

impl Transform for HeaderFrom {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let (fields, purpose) = (&self.fields, if self.moves { "header move" } else { "header copy" });
        let Datum { schema, value } = self.side.of(&mut record);
        let taken: Vec<Datum> = match (schema, value) {
            (Some(schema), Value::Struct(values)) => {
                let (places, rest) = self.plans.plan(schema, || {
                    let places = fields.iter().map(|field| place_of(schema, field)).collect::<Result<Vec<_>>>()?;
                    let kept = schema.fields.iter().enumerate().filter(|(place, _)| !places.contains(place));
                    let rest = with_fields(schema, kept.map(|(_, field)| field.clone()).collect());
                    Ok::<_, Error>((places, Arc::new(rest)))
                })?;
                let taken = places
                    .iter()
                    .map(|place| {
                        let field = &schema.fields[*place].schema;
                        let value = values.get(*place).unwrap_or(&Value::Null);
                        Datum::new(Arc::clone(field), or_default(value, field, self.replace_null))
                    })
                    .collect();
                if self.moves {
                    let mut place = 0;
                    values.retain(|_| {
                        place += 1;
                        !places.contains(&(place - 1))
                    });
                    *schema = Arc::clone(rest);
                }
                taken
            }
            (Some(_), other) => return Err(not_a_struct(purpose, other)),
            (None, value @ Value::Map(_)) => {
                let taken = fields
                    .iter()
                    .map(|field| Datum::schemaless(value.entry(field).cloned().unwrap_or_default()))
                    .collect();
                if let (true, Value::Map(entries)) = (self.moves, value) {
                    entries.retain(|(key, _)| !fields.iter().any(|field| key.as_str() == Some(field)));
                }
                taken
            }
            (None, other) => return Err(not_a_map(purpose, other)),
        };
        let headers = self.headers.iter().cloned().zip(taken).map(|(key, value)| Header { key, value });
        record.headers.extend(headers);
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, field, int32, props, record, text};
    use super::*;

    #[test]
    fn fields_are_moved() {
        let schema = Arc::new(Schema::structure(vec![field("a", int32()), field("b", text())]));
        let config = [("fields", "a"), ("headers", "h"), ("operation", "move")];
        let mut transform = build(&VALUE, &config);
        let out = apply(&mut *transform, record(&schema, vec![1.into(), "x".into()]));
        assert_eq!(out.value.value, Value::Struct(vec!["x".into()]));
        assert_eq!(out.value.schema.unwrap().fields.len(), 1);
        assert_eq!(out.headers[0].value, Datum::new(Arc::new(int32()), 1.into()));
        let error = (VALUE.build)(&props(&[("fields", "a,b"), ("headers", "h"), ("operation", "copy")])).err().unwrap();
        assert!(error.to_string().starts_with("'fields' config must have the same number"));
    }
}
