//! The converters that a config can name, by full class name, simple name or alias.

use towline_connectors::api::{ConfigDef, Error, Props, Result};
use towline_connectors::data::Type;

use super::avro::AvroConverter;
use super::header::SimpleHeaderConverter;
use super::json::JsonConverter;
use super::primitive::PrimitiveConverter;
use super::string::StringConverter;
use super::{AsHeader, Converter, HeaderConverter, avro, json, string};

/// What a class serves as, in the words of `GET /connector-plugins`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Keys and values.
    Converter,
    /// Headers.
    HeaderConverter,
}

impl Kind {
    /// The `type` of the plugin in REST answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Converter => "converter",
            Self::HeaderConverter => "header_converter",
        }
    }
}

/// A converter class.
pub struct ConverterSpec {
    /// The Java class name that configs carry.
    pub class: &'static str,
    /// What it serves as; classes that serve as both are converters and header converters in REST answers.
    pub kinds: &'static [Kind],
    /// Its keys, without the `value.converter.` prefix.
    pub config: fn() -> ConfigDef,
    make: Make,
}

enum Make {
    Json,
    String,
    Primitive(Type),
    SimpleHeader,
    Avro,
}

impl std::fmt::Debug for ConverterSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ConverterSpec").field(&self.class).finish()
    }
}

const BOTH: &[Kind] = &[Kind::Converter, Kind::HeaderConverter];

const fn primitive(class: &'static str, kind: Type) -> ConverterSpec {
    ConverterSpec { class, kinds: BOTH, config: ConfigDef::new, make: Make::Primitive(kind) }
}

static SPECS: &[ConverterSpec] = &[
    ConverterSpec {
        class: "org.apache.kafka.connect.json.JsonConverter",
        kinds: BOTH,
        config: json::config,
        make: Make::Json,
    },
    ConverterSpec {
        class: "org.apache.kafka.connect.storage.StringConverter",
        kinds: BOTH,
        config: string::config,
        make: Make::String,
    },
    primitive("org.apache.kafka.connect.converters.ByteArrayConverter", Type::Bytes),
    primitive("org.apache.kafka.connect.converters.BooleanConverter", Type::Boolean),
    primitive("org.apache.kafka.connect.converters.ShortConverter", Type::Int16),
    primitive("org.apache.kafka.connect.converters.IntegerConverter", Type::Int32),
    primitive("org.apache.kafka.connect.converters.LongConverter", Type::Int64),
    primitive("org.apache.kafka.connect.converters.FloatConverter", Type::Float32),
    primitive("org.apache.kafka.connect.converters.DoubleConverter", Type::Float64),
    ConverterSpec {
        class: "org.apache.kafka.connect.storage.SimpleHeaderConverter",
        kinds: &[Kind::HeaderConverter],
        config: ConfigDef::new,
        make: Make::SimpleHeader,
    },
    ConverterSpec {
        class: "io.confluent.connect.avro.AvroConverter",
        kinds: &[Kind::Converter],
        config: avro::config,
        make: Make::Avro,
    },
];

/// Every converter class.
pub fn specs() -> &'static [ConverterSpec] {
    SPECS
}

/// The class of a full name, a simple name or an alias (`Json` for `JsonConverter`).
pub fn find(name: &str) -> Option<&'static ConverterSpec> {
    SPECS.iter().find(|spec| {
        let simple = spec.class.rsplit('.').next().unwrap_or_default();
        let pruned = simple.strip_suffix("HeaderConverter").or(simple.strip_suffix("Converter"));
        name == spec.class || name == simple || Some(name) == pruned
    })
}

fn unknown(name: &str) -> Error {
    let known: Vec<_> = SPECS.iter().map(|spec| spec.class).collect();
    Error::config(format!("Class {name} could not be found. Known converters are: {}", known.join(", ")))
}

/// Builds the converter of a class for keys or values; `props` are its own keys, the prefix stripped.
///
/// # Errors
/// A config error if the class is unknown or a key is wrong.
pub fn build(class: &str, is_key: bool, props: &Props) -> Result<Box<dyn Converter>> {
    let spec = find(class).ok_or_else(|| unknown(class))?;
    Ok(match spec.make {
        Make::Json => Box::new(JsonConverter::new(props)?),
        Make::String => Box::new(StringConverter::new(props)?),
        Make::Primitive(kind) => Box::new(PrimitiveConverter::new(kind)),
        Make::Avro => Box::new(AvroConverter::new(is_key, props)?),
        Make::SimpleHeader => {
            let message = format!("Class class {} does not implement the Converter interface", spec.class);
            return Err(Error::config(message));
        }
    })
}

/// Builds the header converter of a class.
///
/// # Errors
/// As [`build`].
pub fn build_header(class: &str, props: &Props) -> Result<Box<dyn HeaderConverter>> {
    let spec = find(class).ok_or_else(|| unknown(class))?;
    Ok(match spec.make {
        Make::Json => Box::new(AsHeader(JsonConverter::new(props)?)),
        Make::String => Box::new(AsHeader(StringConverter::new(props)?)),
        Make::Primitive(kind) => Box::new(AsHeader(PrimitiveConverter::new(kind))),
        Make::SimpleHeader => Box::new(SimpleHeaderConverter),
        Make::Avro => {
            let message = format!("Class class {} does not implement the HeaderConverter interface", spec.class);
            return Err(Error::config(message));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_found_by_each_of_their_names() {
        for name in ["org.apache.kafka.connect.json.JsonConverter", "JsonConverter", "Json"] {
            assert_eq!(find(name).unwrap().class, "org.apache.kafka.connect.json.JsonConverter");
        }
        assert!(find("Simple").is_some() && find("Converter").is_none());
        assert!(build("SimpleHeaderConverter", true, &Props::new()).is_err());
        assert!(build_header("String", &Props::new()).is_ok());
    }
}
