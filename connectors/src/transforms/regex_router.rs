//! `RegexRouter`: another topic if the whole topic name matches a Java regular expression.

use std::sync::Arc;

use fancy_regex::{Captures, Regex};

use crate::api::{
    ConfigDef, ConfigKey, ConfigType, Error, Importance, Props, Record, Result, Transform, TransformSpec, Validator,
};

/// Routes by pattern.
pub static SPEC: TransformSpec = TransformSpec {
    class: "org.apache.kafka.connect.transforms.RegexRouter",
    config,
    build: |props| Ok(Box::new(RegexRouter::new(props)?)),
};

fn config() -> ConfigDef {
    ConfigDef::new()
        .with(
            ConfigKey::required("regex", ConfigType::String)
                .importance(Importance::High)
                .check(Validator::Regex)
                .doc("Regular expression that the whole topic name must match."),
        )
        .with(
            ConfigKey::required("replacement", ConfigType::String)
                .importance(Importance::High)
                .doc("The new topic name; $1 and ${name} stand for groups of the match."),
        )
}

#[derive(Debug)]
struct RegexRouter {
    regex: Regex,
    replacement: Vec<Part>,
    /// The last answer: most records of a task are of one topic.
    last: Option<(Arc<str>, Arc<str>)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Group(usize),
    Named(String),
}

/// A pattern that must match a whole text.
pub(super) fn whole(pattern: &str) -> Result<Regex> {
    Regex::new(&format!("^(?:{pattern})\\z")).map_err(|error| {
        Error::config(format!("Invalid value {pattern} for configuration regex: Invalid regex: {error}"))
            .caused_by(error)
    })
}

impl RegexRouter {
    fn new(props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        let regex = whole(config.text("regex"))?;
        let replacement = parse(config.text("replacement"), regex.captures_len())
            .ok_or_else(|| Error::config(format!("Illegal group reference in {}", config.text("replacement"))))?;
        Ok(Self { regex, replacement, last: None })
    }

    fn route(&self, topic: &str) -> Result<Option<String>> {
        let found = self.regex.captures(topic).map_err(|error| {
            Error::data(format!("matching topic {topic} against the pattern failed")).caused_by(error)
        })?;
        Ok(found.map(|captures| expand(&self.replacement, &captures)))
    }
}

/// Java's replacement syntax: `$n` takes as many digits as make a group, `${name}`, and a backslash in front of anything.
fn parse(replacement: &str, groups: usize) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(chars.next()?),
            '$' => {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                if chars.next_if_eq(&'{').is_some() {
                    let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                    parts.push(Part::Named(name));
                    continue;
                }
                let mut group = chars.next()?.to_digit(10)? as usize;
                while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                    let longer = group * 10 + digit as usize;
                    if longer >= groups {
                        break;
                    }
                    group = longer;
                    chars.next();
                }
                if group >= groups {
                    return None;
                }
                parts.push(Part::Group(group));
            }
            c => text.push(c),
        }
    }
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Some(parts)
}

fn expand(parts: &[Part], captures: &Captures<'_, str>) -> String {
    parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Group(group) => captures.get(*group).map_or("", |found| found.as_str()),
            Part::Named(name) => captures.name(name).map_or("", |found| found.as_str()),
        })
        .collect()
}

impl Transform for RegexRouter {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let routed = match &self.last {
            Some((from, to)) if Arc::ptr_eq(from, &record.topic) || *from == record.topic => Arc::clone(to),
            _ => {
                let to = self.route(&record.topic)?.map_or_else(|| Arc::clone(&record.topic), Arc::from);
                self.last = Some((Arc::clone(&record.topic), Arc::clone(&to)));
                to
            }
        };
        record.topic = routed;
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, map_record};
    use super::*;

    fn route(regex: &str, replacement: &str, topic: &str) -> String {
        let mut router = build(&SPEC, &[("regex", regex), ("replacement", replacement)]);
        let record = Record { topic: Arc::from(topic), ..map_record(&[]) };
        apply(&mut *router, record).topic.to_string()
    }

    #[test]
    fn the_whole_topic_must_match() {
        assert_eq!(route("b", "x", "abc"), "abc");
        assert_eq!(route("a|ab", "x", "ab"), "x");
        assert_eq!(route("(.*)-(.*)", "$2.$1", "db-iris"), "iris.db");
        assert_eq!(route("(?<schema>[^.]+)\\.(?<table>.+)", "${table}_$10", "public.iris"), "iris_public0");
        assert_eq!(route("(?!x).*", "\\$y", "abc"), "$y");
        assert!((SPEC.build)(&super::super::testing::props(&[("regex", "a"), ("replacement", "$1")])).is_err());
    }
}
