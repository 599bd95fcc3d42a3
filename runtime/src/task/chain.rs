//! The transforms of a connector in their order, each with its predicate (KIP-66, KIP-585).

use towline_connectors::api::{Error, Predicate, Props, Record, Result, Transform, TransformSpec};
use towline_connectors::{PREDICATES, TRANSFORMS};

/// Transforms to apply one after the other.
#[derive(Default)]
pub struct Chain(Vec<Stage>);

struct Stage {
    class: &'static str,
    transform: Box<dyn Transform>,
    predicate: Option<(Box<dyn Predicate>, bool)>,
}

/// A transform that failed on a record.
#[derive(Debug)]
pub(super) struct ChainError {
    /// The transform's class.
    pub(super) class: &'static str,
    /// Why.
    pub(super) error: Error,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|stage| stage.class)).finish()
    }
}

/// The registered transform of a class name.
pub(crate) fn find_transform(class: &str) -> Option<&'static TransformSpec> {
    TRANSFORMS.iter().copied().find(|spec| spec.class == class || alias_of(spec.class, "") == Some(class))
}

/// The simple name of a class that is not nested, without the suffix of its kind.
pub(crate) fn alias_of<'a>(class: &'a str, suffix: &str) -> Option<&'a str> {
    let simple = class.rsplit('.').next()?;
    if simple.contains('$') { None } else { Some(simple.strip_suffix(suffix).unwrap_or(simple)) }
}

/// The keys under a prefix, the prefix dropped.
pub(crate) fn sub_props(props: &Props, prefix: &str) -> Props {
    props.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone()))).collect()
}

/// The entries of a comma-separated list.
pub(crate) fn entries(text: Option<&String>) -> impl Iterator<Item = &str> {
    text.map_or("", String::as_str).split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

impl Chain {
    /// Builds the transforms that a connector config names.
    ///
    /// # Errors
    /// A config error naming the key.
    pub fn build(props: &Props) -> Result<Self> {
        let mut stages = Vec::new();
        for alias in entries(props.get("transforms")) {
            let own = sub_props(props, &format!("transforms.{alias}."));
            let class = own.get("type").map(|class| class.trim()).unwrap_or_default();
            let spec = find_transform(class).ok_or_else(|| {
                Error::config(format!(
                    "Invalid value {class} for configuration transforms.{alias}.type: Class {class} could not be found."
                ))
            })?;
            let transform = (spec.build)(&own).map_err(|error| {
                Error::config(format!("transform {alias} ({class}) cannot be configured: {error}")).caused_by(error)
            })?;
            let negate = own.get("negate").is_some_and(|text| text.trim().eq_ignore_ascii_case("true"));
            let predicate = match own.get("predicate") {
                Some(name) => Some((build_predicate(props, alias, name.trim())?, negate)),
                None => None,
            };
            stages.push(Stage { class: spec.class, transform, predicate });
        }
        Ok(Self(stages))
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The transformed record, or `None` if a transform dropped it.
    pub(super) fn apply(&mut self, mut record: Record) -> Result<Option<Record>, ChainError> {
        for stage in &mut self.0 {
            if let Some((predicate, negate)) = &stage.predicate
                && predicate.test(&record) == *negate
            {
                continue;
            }
            match stage.transform.apply(record) {
                Ok(Some(next)) => record = next,
                Ok(None) => return Ok(None),
                Err(error) => return Err(ChainError { class: stage.class, error }),
            }
        }
        Ok(Some(record))
    }
}

fn build_predicate(props: &Props, transform: &str, alias: &str) -> Result<Box<dyn Predicate>> {
    if !entries(props.get("predicates")).any(|known| known == alias) {
        return Err(Error::config(format!(
            "Predicate '{alias}' of transforms.{transform}.predicate is not listed in 'predicates'; add it there"
        )));
    }
    let own = sub_props(props, &format!("predicates.{alias}."));
    let class = own.get("type").map(|class| class.trim()).unwrap_or_default();
    let spec = PREDICATES.iter().find(|spec| spec.class == class || alias_of(spec.class, "") == Some(class));
    let spec = spec.ok_or_else(|| {
        Error::config(format!(
            "Invalid value {class} for configuration predicates.{alias}.type: Class {class} could not be found."
        ))
    })?;
    (spec.build)(&own)
}
