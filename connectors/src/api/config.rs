//! Config keys as data, in the manner of Kafka's `ConfigDef`: one table says what a key accepts, what it defaults to,
//! what `validate` shows of it, and which error text a wrong value gets.

use std::borrow::Cow;

use fancy_regex::Regex;
use indexmap::IndexMap;

use super::{Error, Result};

/// A config as it was given: text by key, in order.
pub type Props = IndexMap<String, String>;

/// What kind of text a key accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigType {
    /// `true` or `false`, any case.
    Boolean,
    /// Any text.
    String,
    /// 16-bit integer.
    Short,
    /// 32-bit integer.
    Int,
    /// 64-bit integer.
    Long,
    /// Floating point number.
    Double,
    /// Comma-separated texts.
    List,
    /// A Java class name or alias.
    Class,
    /// Text that is never shown.
    Password,
}

impl ConfigType {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Short => "SHORT",
            Self::Int => "INT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// How much a key matters to most users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Almost everyone sets it.
    High,
    /// Some set it.
    Medium,
    /// Few set it.
    Low,
}

/// How wide a form should draw the key's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Not said.
    None,
    /// A few characters.
    Short,
    /// A name.
    Medium,
    /// A sentence.
    Long,
}

/// A check of a parsed value.
#[derive(Debug, Clone)]
pub enum Validator {
    /// No further check.
    Any,
    /// At least this number.
    AtLeast(i64),
    /// Between these numbers, both allowed.
    Between(i64, i64),
    /// One of these texts, exactly.
    OneOf(&'static [&'static str]),
    /// One of these texts, any case.
    OneOfAnyCase(&'static [&'static str]),
    /// One of these texts, all lower or all upper case.
    LowerOrUpper(&'static [&'static str]),
    /// Not empty.
    NonEmpty,
    /// A Java regular expression.
    Regex,
    /// A check of its own: the reason why the text is refused.
    Check(fn(&str) -> std::result::Result<(), String>),
}

/// One key.
#[derive(Debug, Clone)]
pub struct ConfigKey {
    /// The key.
    pub name: Cow<'static, str>,
    /// What it accepts.
    pub kind: ConfigType,
    /// Whether a value must be given.
    pub required: bool,
    /// The value that stands if none is given; `None` is Java's null.
    pub default: Option<Cow<'static, str>>,
    /// Further check.
    pub validator: Validator,
    /// How much it matters.
    pub importance: Importance,
    /// What it does.
    pub documentation: Cow<'static, str>,
    /// The heading that it stands under.
    pub group: Option<Cow<'static, str>>,
    /// Its place under the heading; set by [`ConfigDef::with`].
    pub order: i32,
    /// Width of an input field.
    pub width: Width,
    /// The name shown to people.
    pub display_name: Cow<'static, str>,
    /// Keys whose meaning depends on this one.
    pub dependents: Vec<Cow<'static, str>>,
    /// Values to offer.
    pub recommended: &'static [&'static str],
}

impl ConfigKey {
    /// A required key of medium importance without a check.
    pub fn required(name: impl Into<Cow<'static, str>>, kind: ConfigType) -> Self {
        let name = name.into();
        Self {
            display_name: name.clone(),
            name,
            kind,
            required: true,
            default: None,
            validator: Validator::Any,
            importance: Importance::High,
            documentation: Cow::Borrowed(""),
            group: None,
            order: -1,
            width: Width::None,
            dependents: Vec::new(),
            recommended: &[],
        }
    }

    /// A key whose default is null.
    pub fn optional(name: impl Into<Cow<'static, str>>, kind: ConfigType) -> Self {
        Self { required: false, importance: Importance::Medium, ..Self::required(name, kind) }
    }

    /// A key with a default.
    pub fn with_default(
        name: impl Into<Cow<'static, str>>,
        kind: ConfigType,
        default: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { default: Some(default.into()), ..Self::optional(name, kind) }
    }

    /// The same key with an importance.
    pub fn importance(mut self, importance: Importance) -> Self {
        self.importance = importance;
        self
    }

    /// The same key with documentation.
    pub fn doc(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.documentation = text.into();
        self
    }

    /// The same key under a heading.
    pub fn group(mut self, group: impl Into<Cow<'static, str>>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// The same key with a name for people.
    pub fn display(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.display_name = name.into();
        self
    }

    /// The same key with a width.
    pub fn width(mut self, width: Width) -> Self {
        self.width = width;
        self
    }

    /// The same key with a check.
    pub fn check(mut self, validator: Validator) -> Self {
        self.validator = validator;
        self
    }

    /// The same key with dependents.
    pub fn dependents(mut self, keys: &[&'static str]) -> Self {
        self.dependents = keys.iter().map(|key| Cow::Borrowed(*key)).collect();
        self
    }

    fn refuse(&self, text: &str, reason: &str) -> String {
        let shown = if self.kind == ConfigType::Password { "[hidden]" } else { text };
        format!("Invalid value {shown} for configuration {}: {reason}", self.name)
    }

    /// Parses and checks a given text; the error is Kafka's.
    fn parse(&self, text: &str) -> std::result::Result<String, String> {
        let text = text.trim();
        let number = |low: i128, high: i128| match text.parse::<i128>() {
            Ok(n) if n >= low && n <= high => Ok(n.to_string()),
            _ => Err(self.refuse(text, &format!("Not a number of type {}", self.kind.name()))),
        };
        let parsed = match self.kind {
            ConfigType::Boolean => match text.to_ascii_lowercase().as_str() {
                truth @ ("true" | "false") => truth.to_owned(),
                _ => return Err(self.refuse(text, "Expected value to be either true or false")),
            },
            ConfigType::Short => number(i16::MIN.into(), i16::MAX.into())?,
            ConfigType::Int => number(i32::MIN.into(), i32::MAX.into())?,
            ConfigType::Long => number(i64::MIN.into(), i64::MAX.into())?,
            ConfigType::Double => match text.parse::<f64>() {
                Ok(_) => text.to_owned(),
                Err(_) => return Err(self.refuse(text, "Not a number of type DOUBLE")),
            },
            ConfigType::List => split_list(text).join(","),
            ConfigType::String | ConfigType::Class | ConfigType::Password => text.to_owned(),
        };
        self.validate(&parsed).map_err(|reason| self.refuse(text, &reason))?;
        Ok(parsed)
    }

    fn validate(&self, text: &str) -> std::result::Result<(), String> {
        let one_of = |found: bool, label: &str, allowed: &[&str]| {
            if found { Ok(()) } else { Err(format!("String must be one of{label}: {}", allowed.join(", "))) }
        };
        match &self.validator {
            Validator::Any => Ok(()),
            Validator::AtLeast(low) => match text.parse::<i64>() {
                Ok(n) if n < *low => Err(format!("Value must be at least {low}")),
                _ => Ok(()),
            },
            Validator::Between(low, high) => match text.parse::<i64>() {
                Ok(n) if n < *low => Err(format!("Value must be at least {low}")),
                Ok(n) if n > *high => Err(format!("Value must be no more than {high}")),
                _ => Ok(()),
            },
            Validator::OneOf(allowed) => one_of(allowed.contains(&text), "", allowed),
            Validator::OneOfAnyCase(allowed) => {
                one_of(allowed.iter().any(|a| a.eq_ignore_ascii_case(text)), " (case insensitive)", allowed)
            }
            Validator::LowerOrUpper(allowed) => {
                let found = allowed.iter().any(|a| text == a.to_ascii_lowercase() || text == a.to_ascii_uppercase());
                if found {
                    Ok(())
                } else {
                    Err(format!("Invalid enumerator. Valid values are: {}", allowed.join(", ")))
                }
            }
            Validator::NonEmpty if text.is_empty() => Err("String must be non-empty".to_owned()),
            Validator::NonEmpty => Ok(()),
            Validator::Regex => Regex::new(text).map(|_| ()).map_err(|error| format!("Invalid regex: {error}")),
            Validator::Check(check) => check(text),
        }
    }
}

/// A comma-separated list, blanks around the commas dropped; empty text is the empty list.
fn split_list(text: &str) -> Vec<&str> {
    let text = text.trim();
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() }
}

/// An error attached to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The key.
    pub key: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl ConfigError {
    /// An error on a key.
    pub fn on(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// What `validate` says of one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigValue {
    /// The key.
    pub name: String,
    /// The parsed value as text, the default if none was given, `None` if it could not be parsed.
    pub value: Option<String>,
    /// Values to offer.
    pub recommended_values: Vec<String>,
    /// What is wrong with it.
    pub errors: Vec<String>,
}

/// A table of keys.
#[derive(Debug, Clone, Default)]
pub struct ConfigDef {
    keys: Vec<ConfigKey>,
}

impl ConfigDef {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same table with one more key; its order counts up within its group.
    pub fn with(mut self, mut key: ConfigKey) -> Self {
        if key.group.is_some() && key.order < 0 {
            key.order =
                1 + self.keys.iter().filter(|k| k.group == key.group).map(|k| k.order.max(0)).max().unwrap_or(0);
        }
        self.keys.push(key);
        self
    }

    /// The same table, completed for forms: keys that take one of some texts offer them, and every key has a width.
    /// Kafka's own keys do neither.
    pub fn for_forms(mut self) -> Self {
        for key in &mut self.keys {
            if let Validator::OneOf(texts) | Validator::OneOfAnyCase(texts) | Validator::LowerOrUpper(texts) =
                key.validator
            {
                key.recommended = texts;
            } else if key.kind == ConfigType::Boolean {
                key.recommended = &["true", "false"];
            }
            if key.width == Width::None {
                key.width = match key.kind {
                    ConfigType::Boolean | ConfigType::Short | ConfigType::Int | ConfigType::Long => Width::Short,
                    ConfigType::List => Width::Long,
                    _ => Width::Medium,
                };
            }
        }
        self
    }

    /// The keys in declaration order.
    pub fn keys(&self) -> &[ConfigKey] {
        &self.keys
    }

    /// The key of a name.
    pub fn key(&self, name: &str) -> Option<&ConfigKey> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// What `validate` says of each key, in declaration order.
    pub fn validate(&self, props: &Props) -> Vec<ConfigValue> {
        self.keys
            .iter()
            .map(|key| {
                let recommended_values =
                    key.recommended.iter().filter(|text| !text.is_empty()).map(|text| (*text).to_owned()).collect();
                let mut value =
                    ConfigValue { name: key.name.to_string(), recommended_values, ..ConfigValue::default() };
                match props.get(&*key.name).map(|text| key.parse(text)) {
                    Some(Ok(text)) => value.value = Some(text),
                    Some(Err(error)) => value.errors.push(error),
                    None if key.required => value
                        .errors
                        .push(format!("Missing required configuration \"{}\" which has no default value.", key.name)),
                    None => value.value = key.default.as_deref().map(str::to_owned),
                }
                value
            })
            .collect()
    }

    /// Reads a config for use.
    ///
    /// # Errors
    /// A config error with all that `validate` finds.
    pub fn read(&self, props: &Props) -> Result<Config> {
        let mut values = IndexMap::new();
        let mut errors = Vec::new();
        for value in self.validate(props) {
            errors.extend(value.errors);
            values.insert(value.name, value.value);
        }
        if errors.is_empty() { Ok(Config { values }) } else { Err(Error::config(errors.join("\n"))) }
    }
}

/// A config that was read: every declared key has a valid value, or its default. Look up at start, not per record.
#[derive(Debug, Clone, Default)]
pub struct Config {
    values: IndexMap<String, Option<String>>,
}

impl Config {
    /// The text of a key; `None` if neither given nor defaulted.
    pub fn optional(&self, key: &str) -> Option<&str> {
        self.values.get(key).and_then(|value| value.as_deref())
    }

    /// The text of a key; empty if neither given nor defaulted.
    pub fn text(&self, key: &str) -> &str {
        self.optional(key).unwrap_or_default()
    }

    /// The truth of a BOOLEAN key.
    pub fn boolean(&self, key: &str) -> bool {
        self.text(key) == "true"
    }

    /// The number of an INT, SHORT or LONG key; `None` if neither given nor defaulted.
    pub fn number(&self, key: &str) -> Option<i64> {
        self.optional(key).and_then(|text| text.parse().ok())
    }

    /// The number of a key that has a default; 0 without one.
    pub fn integer(&self, key: &str) -> i64 {
        self.number(key).unwrap_or_default()
    }

    /// A millisecond count as a duration; negative counts as zero.
    pub fn millis(&self, key: &str) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.integer(key)).unwrap_or(0))
    }

    /// The entries of a LIST key.
    pub fn list(&self, key: &str) -> Vec<&str> {
        split_list(self.text(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn props(entries: &[(&str, &str)]) -> Props {
        entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn errors_read_as_kafkas() {
        let def = ConfigDef::new()
            .with(ConfigKey::required("name", ConfigType::String).check(Validator::NonEmpty))
            .with(ConfigKey::with_default("tasks.max", ConfigType::Int, "1").check(Validator::AtLeast(1)))
            .with(ConfigKey::with_default("on", ConfigType::Boolean, "true"))
            .with(ConfigKey::with_default("l", ConfigType::List, ""));
        let values = def.validate(&props(&[("tasks.max", "0"), ("on", "yes"), ("l", " a , b")]));
        assert_eq!(values[0].errors, ["Missing required configuration \"name\" which has no default value."]);
        assert_eq!(values[1].errors, ["Invalid value 0 for configuration tasks.max: Value must be at least 1"]);
        assert_eq!(
            values[2].errors,
            ["Invalid value yes for configuration on: Expected value to be either true or false"]
        );
        assert_eq!(values[3].value.as_deref(), Some("a,b"));
        let config = def.read(&props(&[("name", "x"), ("tasks.max", " 3 ")])).unwrap();
        assert_eq!(config.integer("tasks.max"), 3);
        assert!(config.boolean("on") && config.list("l").is_empty());
    }
}
