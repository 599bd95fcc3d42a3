//! Names of Avro: full names, namespaces, and the two sets of rules for what a name may be.
//!
//! New schemas must keep to the ASCII rules of the Avro specification; stored schemas may hold
//! any letters and any namespace, because Avro let them through for years.

use super::parse::{ParseError, Strictness};

/// A full name: a simple name and perhaps a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The simple name.
    pub name: String,
    /// The namespace; never empty.
    pub namespace: Option<String>,
}

impl Name {
    /// Splits a written name; without a dot it is taken to lie in `enclosing`.
    pub fn new(written: &str, enclosing: Option<&str>) -> Name {
        let (namespace, name) = match written.rsplit_once('.') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (enclosing, written),
        };
        Name { name: name.to_owned(), namespace: namespace.filter(|space| !space.is_empty()).map(str::to_owned) }
    }

    /// `namespace.name`, or the simple name when there is no namespace.
    pub fn full(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}.{}", self.name),
            None => self.name.clone(),
        }
    }

    /// The short form inside `enclosing` when that is unambiguous, otherwise the full name.
    pub(super) fn relative_to(&self, enclosing: Option<&str>) -> String {
        let same = self.namespace.is_some() && self.namespace.as_deref() == enclosing;
        if same && !is_type_name(&self.name) { self.name.clone() } else { self.full() }
    }

    pub(super) fn validate(&self, strictness: Strictness) -> Result<(), ParseError> {
        validate_name(&self.name, strictness)?;
        if let (Strictness::New, Some(namespace)) = (strictness, &self.namespace) {
            for part in namespace.split('.') {
                validate_name(part, strictness).map_err(|err| {
                    ParseError::new(format!("Namespace part \"{namespace}\" is invalid: {}", err.message()))
                })?;
            }
        }
        Ok(())
    }
}

/// Names that would be read as a type, so that a named type of this name needs its full name.
fn is_type_name(name: &str) -> bool {
    const TYPES: [&str; 14] = [
        "record", "enum", "array", "map", "union", "fixed", "string", "bytes", "int", "long", "float", "double",
        "boolean", "null",
    ];
    TYPES.contains(&name)
}

pub(super) fn validate_name(name: &str, strictness: Strictness) -> Result<(), ParseError> {
    let letter = |c: char| match strictness {
        Strictness::Stored => c.is_alphabetic() || c == '_',
        Strictness::New => c.is_ascii_alphabetic() || c == '_',
    };
    let digit = |c: char| match strictness {
        Strictness::Stored => c.is_numeric(),
        Strictness::New => c.is_ascii_digit(),
    };
    let mut chars = name.chars();
    match chars.next() {
        None => Err(ParseError::new("Empty name")),
        Some(first) if !letter(first) => Err(ParseError::new(format!("Illegal initial character: {name}"))),
        Some(_) if chars.any(|c| !letter(c) && !digit(c)) => {
            Err(ParseError::new(format!("Illegal character in: {name}")))
        }
        Some(_) => Ok(()),
    }
}
