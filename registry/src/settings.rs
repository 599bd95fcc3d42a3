//! Config and mode of a scope: what can be set, how a partial update lands, how records look.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::compat::Level;
use crate::error::Error;
use crate::schema::avro::to_java_json;
use crate::schema::{Metadata, RuleSet};
use crate::subject::Subject;

const LEVEL: &str = "compatibilityLevel";
/// The level's name in PUT bodies and their answers.
const LEVEL_IN_BODY: &str = "compatibility";

/// The members of a config record, in the order of the original.
const MEMBERS: [&str; 13] = [
    "alias",
    "aliasForDeks",
    "normalize",
    "validateFields",
    "validateNewSchemas",
    "validateRules",
    LEVEL,
    "compatibilityPolicy",
    "compatibilityGroup",
    "defaultMetadata",
    "overrideMetadata",
    "defaultRuleSet",
    "overrideRuleSet",
];

/// Members that a subject's record inherits from the global one when it does not set them.
const INHERITED: [&str; 6] =
    ["normalize", "validateFields", "validateNewSchemas", "validateRules", "compatibilityPolicy", "compatibilityGroup"];

/// The config of a scope: only what was set, checked when it was set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config(Map<String, Value>);

impl Config {
    /// Reads a record's value, or a PUT body laid over nothing.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Config, serde_json::Error> {
        let members: Map<String, Value> = serde_json::from_slice(bytes)?;
        Ok(Config(ordered(|name| members.get(name).filter(|value| !value.is_null()).cloned())))
    }

    /// The record's value.
    pub(crate) fn encode(&self, scope: &Subject) -> Bytes {
        let mut value = Map::new();
        if !scope.is_global() {
            value.insert("subject".into(), scope.to_string().into());
        }
        value.extend(self.0.clone());
        Bytes::from(to_java_json(&Value::Object(value)))
    }

    /// This config after a PUT: members that are absent stay, null clears, anything else sets.
    pub fn updated(&self, body: &Map<String, Value>) -> Result<Config, Error> {
        let mut members = self.0.clone();
        for (name, value) in body {
            let name = if name == LEVEL_IN_BODY { LEVEL } else { name.as_str() };
            if !MEMBERS.contains(&name) {
                continue;
            }
            if value.is_null() {
                members.shift_remove(name);
            } else {
                members.insert(name.to_owned(), checked(name, value)?);
            }
        }
        Ok(Config(ordered(|name| members.get(name).cloned())))
    }

    /// The answer to GET and DELETE.
    pub fn to_json(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// The answer to PUT.
    pub fn to_update_json(&self) -> Value {
        let rename = |name: &String| if name == LEVEL { LEVEL_IN_BODY.to_owned() } else { name.clone() };
        Value::Object(self.0.iter().map(|(name, value)| (rename(name), value.clone())).collect())
    }

    /// The level, if set.
    pub fn level(&self) -> Option<Level> {
        self.text(LEVEL).and_then(|level| level.parse().ok())
    }

    /// This config with a level for the case that none is set.
    pub fn with_default_level(mut self, level: Level) -> Config {
        if self.level().is_none() {
            self.0.insert(LEVEL.to_owned(), level.as_str().into());
            self.0 = ordered(|name| self.0.get(name).cloned());
        }
        self
    }

    /// This config with what subjects inherit from `global`.
    pub(crate) fn inheriting(mut self, global: &Config) -> Config {
        for name in INHERITED {
            if let (false, Some(value)) = (self.0.contains_key(name), global.0.get(name)) {
                self.0.insert(name.to_owned(), value.clone());
            }
        }
        Config(ordered(|name| self.0.get(name).cloned()))
    }

    /// The subject that requests for this one are sent to.
    pub fn alias(&self) -> Option<&str> {
        self.text("alias").filter(|alias| !alias.is_empty())
    }

    /// The metadata property that groups versions for comparison.
    pub fn compatibility_group(&self) -> Option<&str> {
        self.text("compatibilityGroup").filter(|group| !group.is_empty())
    }

    /// A switch, if set.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.0.get(name).and_then(Value::as_bool)
    }

    /// `defaultMetadata` or `overrideMetadata`.
    pub(crate) fn metadata(&self, name: &str) -> Option<Metadata> {
        self.0.get(name).and_then(|value| serde_json::from_value(value.clone()).ok())
    }

    /// `defaultRuleSet` or `overrideRuleSet`.
    pub(crate) fn rule_set(&self, name: &str) -> Option<RuleSet> {
        self.0.get(name).and_then(|value| serde_json::from_value(value.clone()).ok())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }
}

fn ordered(value: impl Fn(&str) -> Option<Value>) -> Map<String, Value> {
    MEMBERS.iter().filter_map(|name| value(name).map(|value| ((*name).to_owned(), value))).collect()
}

fn checked(name: &str, value: &Value) -> Result<Value, Error> {
    let wrong = || Error::UnprocessableBody(format!("invalid value for '{name}'"));
    match name {
        LEVEL => {
            let level: Level = value.as_str().ok_or(Error::InvalidLevel)?.parse().map_err(|_| Error::InvalidLevel)?;
            Ok(level.as_str().into())
        }
        "normalize" | "validateFields" | "validateNewSchemas" | "validateRules" if !value.is_boolean() => Err(wrong()),
        "alias" | "aliasForDeks" | "compatibilityPolicy" | "compatibilityGroup" if !value.is_string() => Err(wrong()),
        "defaultMetadata" | "overrideMetadata" => {
            serde_json::from_value::<Metadata>(value.clone()).map_err(|_| wrong())?;
            Ok(value.clone())
        }
        "defaultRuleSet" | "overrideRuleSet" => {
            let rules = serde_json::from_value::<RuleSet>(value.clone()).map_err(|_| wrong())?;
            rules.validate().map_err(Error::InvalidRuleSet)?;
            Ok(value.clone())
        }
        _ => Ok(value.clone()),
    }
}

/// What may be done to a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Everything.
    #[default]
    ReadWrite,
    /// Only reading.
    ReadOnly,
    /// Only reading; deprecated.
    ReadOnlyOverride,
    /// Only registering with given ids, unchecked.
    Import,
    /// Requests are for another registry; server-wide only.
    Forward,
}

impl Mode {
    /// The name in Confluent's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::ReadWrite => "READWRITE",
            Mode::ReadOnly => "READONLY",
            Mode::ReadOnlyOverride => "READONLY_OVERRIDE",
            Mode::Import => "IMPORT",
            Mode::Forward => "FORWARD",
        }
    }

    /// True if nothing may be written.
    pub fn is_read_only(self) -> bool {
        matches!(self, Mode::ReadOnly | Mode::ReadOnlyOverride)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Mode> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        value.get("mode")?.as_str()?.parse().ok()
    }

    pub(crate) fn encode(self, scope: &Subject) -> Bytes {
        let mut value = Map::new();
        if !scope.is_global() {
            value.insert("subject".into(), scope.to_string().into());
        }
        value.insert("mode".into(), self.as_str().into());
        Bytes::from(to_java_json(&Value::Object(value)))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Mode, Error> {
        let modes = [Mode::ReadWrite, Mode::ReadOnly, Mode::ReadOnlyOverride, Mode::Import, Mode::Forward];
        let upper = text.to_uppercase();
        modes.into_iter().find(|mode| mode.as_str() == upper).ok_or(Error::InvalidMode)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn put(config: &Config, body: Value) -> Config {
        config.updated(body.as_object().unwrap()).unwrap()
    }

    #[test]
    fn updates_keep_what_is_absent_and_clear_what_is_null() {
        let config = put(&Config::default(), json!({"alias": "x"}));
        assert_eq!(config.level(), None);
        let config = put(&config, json!({"compatibility": "full", "unknown": 1}));
        assert_eq!(config.to_json(), json!({"alias": "x", "compatibilityLevel": "FULL"}));
        let config = put(&config, json!({"alias": null}));
        assert_eq!(config.to_update_json(), json!({"compatibility": "FULL"}));
        assert_eq!(config.encode(&Subject::parse("")), &br#"{"compatibilityLevel":"FULL"}"#[..]);
    }
}
