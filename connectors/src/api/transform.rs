//! Single message transforms (KIP-66) and predicates (KIP-585).

use super::{ConfigDef, Props, Record, Result};

/// Changes, routes or drops one record at a time. What depends on the schema alone is planned once per schema and
/// cached by the identity of its `Arc`, so that `apply` is a straight walk over values.
pub trait Transform: Send {
    /// The changed record, or `None` to drop it.
    ///
    /// # Errors
    /// A data error if this record cannot be transformed; the tolerance policy decides what follows.
    fn apply(&mut self, record: Record) -> Result<Option<Record>>;
}

/// Decides whether a transform applies to a record.
pub trait Predicate: Send {
    /// Whether the record meets the condition.
    fn test(&self, record: &Record) -> bool;
}

/// A registered transform.
pub struct TransformSpec {
    /// The Java class name, such as `org.apache.kafka.connect.transforms.Cast$Value`.
    pub class: &'static str,
    /// Its config keys, without the `transforms.<alias>.` prefix.
    pub config: fn() -> ConfigDef,
    /// Builds one from its config keys, without the prefix.
    pub build: fn(&Props) -> Result<Box<dyn Transform>>,
}

/// A registered predicate.
pub struct PredicateSpec {
    /// The Java class name.
    pub class: &'static str,
    /// Its config keys, without the `predicates.<alias>.` prefix.
    pub config: fn() -> ConfigDef,
    /// Builds one from its config keys, without the prefix.
    pub build: fn(&Props) -> Result<Box<dyn Predicate>>,
}

impl std::fmt::Debug for TransformSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TransformSpec").field(&self.class).finish()
    }
}

impl std::fmt::Debug for PredicateSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PredicateSpec").field(&self.class).finish()
    }
}
