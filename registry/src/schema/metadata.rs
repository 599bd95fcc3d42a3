//! What may accompany a schema: references, metadata and rule sets (data contracts).
//!
//! The registry stores, merges, hashes and serves rule sets; executing them is the clients' work.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A named type, import or `$ref` that another subject version defines.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference {
    /// The name by which the schema uses it; for Avro the full name of the type.
    #[serde(default)]
    pub name: String,
    /// The subject that holds it.
    #[serde(default)]
    pub subject: String,
    /// The version; -1 in requests stands for the latest.
    #[serde(default)]
    pub version: i32,
}

/// Free-form facts about a schema.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// Tags by path.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, BTreeSet<String>>,
    /// Named properties.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Names of properties that are secret.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeSet::is_empty")]
    pub sensitive: BTreeSet<String>,
}

/// Migration, domain and encoding rules.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleSet {
    /// Rules that run between versions.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub migration_rules: Vec<Rule>,
    /// Rules that run on values.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub domain_rules: Vec<Rule>,
    /// Rules that run on bytes.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub encoding_rules: Vec<Rule>,
    /// Where rules run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_at: Option<String>,
}

/// One rule of a rule set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The name, unique within the rule set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The documentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc: Option<String>,
    /// `TRANSFORM` or `CONDITION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// When it runs, such as `WRITE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The executor, such as `CEL`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub rule_type: Option<String>,
    /// The tags it applies to.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Parameters of the executor.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// The expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expr: Option<String>,
    /// The action on success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_success: Option<String>,
    /// The action on failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// True if it does not run.
    #[serde(default, deserialize_with = "null_as_default")]
    pub disabled: bool,
}

pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Metadata {
    /// This metadata with `over` laid over it, member by member.
    pub fn merged(mut self, over: Metadata) -> Metadata {
        self.tags.extend(over.tags);
        self.properties.extend(over.properties);
        self.sensitive.extend(over.sensitive);
        self
    }

    /// True if nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Metadata::default()
    }
}

impl RuleSet {
    /// This rule set with `over` laid over it, rule by rule.
    pub fn merged(self, over: RuleSet) -> RuleSet {
        RuleSet {
            migration_rules: merged_rules(self.migration_rules, over.migration_rules),
            domain_rules: merged_rules(self.domain_rules, over.domain_rules),
            encoding_rules: merged_rules(self.encoding_rules, over.encoding_rules),
            enable_at: over.enable_at.or(self.enable_at),
        }
    }

    /// Checks names, modes and actions; the text is Confluent's.
    pub fn validate(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        let lists = [
            (&self.migration_rules, &["UPGRADE", "DOWNGRADE", "UPDOWN"], "migration"),
            (&self.domain_rules, &["WRITE", "READ", "WRITEREAD"], "domain"),
            (&self.encoding_rules, &["WRITE", "READ", "WRITEREAD"], "encoding"),
        ];
        for (rules, modes, list) in lists {
            for rule in rules {
                let name = rule.name.as_deref().filter(|name| !name.is_empty()).ok_or("Missing rule name")?;
                validate_rule_name(name)?;
                if !names.insert(name) {
                    return Err(format!("Found rule with duplicate name '{name}'"));
                }
                if rule.rule_type.as_deref().is_none_or(str::is_empty) {
                    return Err("Missing rule type".to_owned());
                }
                if let Some(mode) = rule.mode.as_deref().filter(|mode| !modes.contains(mode)) {
                    return Err(format!("Unexpected mode for {list} rule '{name}': {mode}"));
                }
            }
        }
        Ok(())
    }
}

fn merged_rules(under: Vec<Rule>, over: Vec<Rule>) -> Vec<Rule> {
    let mut rules: Vec<Rule> =
        under.into_iter().filter(|rule| !over.iter().any(|other| other.name == rule.name)).collect();
    rules.extend(over);
    rules
}

fn validate_rule_name(name: &str) -> Result<(), String> {
    let mut chars = name.chars();
    if name.chars().count() > 256 {
        return Err("Rule name too long".to_owned());
    }
    if chars.next().is_some_and(|c| !c.is_alphabetic() && c != '_') {
        return Err(format!("Illegal initial character in rule name: {name}"));
    }
    if chars.any(|c| !c.is_alphanumeric() && !matches!(c, '_' | '-' | ' ')) {
        return Err(format!("Illegal character in rule name: {name}"));
    }
    Ok(())
}
