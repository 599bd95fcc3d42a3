//! The predicates that decide whether a transform applies: by topic, by header, by tombstone.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use fancy_regex::Regex;

use super::regex_router::whole;
use crate::api::{ConfigDef, ConfigKey, ConfigType, Importance, Predicate, PredicateSpec, Record, Validator};

/// True when the whole topic name matches.
pub static TOPIC_NAME_MATCHES: PredicateSpec = PredicateSpec {
    class: "org.apache.kafka.connect.transforms.predicates.TopicNameMatches",
    config: || {
        ConfigDef::new().with(
            ConfigKey::required("pattern", ConfigType::String)
                .importance(Importance::Medium)
                .check(Validator::NonEmpty)
                .doc("A Java regular expression for matching against the name of a record's topic."),
        )
    },
    build: |props| {
        let config = (TOPIC_NAME_MATCHES.config)().read(props)?;
        Ok(Box::new(TopicNameMatches { pattern: whole(config.text("pattern"))?, last: Mutex::default() }))
    },
};

/// True when there is a header of a name.
pub static HAS_HEADER_KEY: PredicateSpec = PredicateSpec {
    class: "org.apache.kafka.connect.transforms.predicates.HasHeaderKey",
    config: || {
        ConfigDef::new().with(
            ConfigKey::required("name", ConfigType::String)
                .importance(Importance::Medium)
                .check(Validator::NonEmpty)
                .doc("The header name."),
        )
    },
    build: |props| Ok(Box::new(HasHeaderKey((HAS_HEADER_KEY.config)().read(props)?.text("name").to_owned()))),
};

/// True when the value is null.
pub static RECORD_IS_TOMBSTONE: PredicateSpec = PredicateSpec {
    class: "org.apache.kafka.connect.transforms.predicates.RecordIsTombstone",
    config: ConfigDef::new,
    build: |_| Ok(Box::new(RecordIsTombstone)),
};

struct TopicNameMatches {
    pattern: Regex,
    /// The last topic and what was found for it.
    last: Mutex<Option<(Arc<str>, bool)>>,
}

impl Predicate for TopicNameMatches {
    fn test(&self, record: &Record) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((topic, matches)) if *topic == record.topic => *matches,
            _ => {
                let matches = self.pattern.is_match(&*record.topic).unwrap_or(false);
                *last = Some((Arc::clone(&record.topic), matches));
                matches
            }
        }
    }
}

struct HasHeaderKey(String);

impl Predicate for HasHeaderKey {
    fn test(&self, record: &Record) -> bool {
        record.headers.iter().any(|header| *header.key == *self.0)
    }
}

struct RecordIsTombstone;

impl Predicate for RecordIsTombstone {
    fn test(&self, record: &Record) -> bool {
        record.value.value.is_null()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{map_record, props};
    use super::*;
    use crate::data::Datum;

    #[test]
    fn predicates_decide() {
        let topic =
            |pattern: &str| (TOPIC_NAME_MATCHES.build)(&props(&[("pattern", pattern)])).unwrap().test(&map_record(&[]));
        assert!(topic("top.*") && !topic("top"));
        assert!(!(RECORD_IS_TOMBSTONE.build)(&props(&[])).unwrap().test(&map_record(&[])));
        let tombstone = Record { value: Datum::default(), ..map_record(&[]) };
        assert!((RECORD_IS_TOMBSTONE.build)(&props(&[])).unwrap().test(&tombstone));
        assert!(!(HAS_HEADER_KEY.build)(&props(&[("name", "h")])).unwrap().test(&tombstone));
        assert!((HAS_HEADER_KEY.build)(&props(&[])).is_err());
    }
}
