//! The GUID of a schema: an MD5 over text, references, metadata and rule set. It is the key by
//! which the registry recognizes a schema, so every byte of the input is Confluent's.

use std::fmt;
use std::str::FromStr;

use md5::{Digest, Md5};

use super::metadata::{Metadata, Reference, Rule, RuleSet};

/// The 16 bytes of the hash; printed as a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// Hashes a canonical text and what accompanies it. Neither type nor subject take part.
    pub fn of(text: &str, references: &[Reference], metadata: Option<&Metadata>, rule_set: Option<&RuleSet>) -> Guid {
        let mut hash = Md5::new();
        hash.update(text);
        for reference in references {
            hash.update(&reference.name);
            hash.update(&reference.subject);
            hash.update(reference.version.to_be_bytes());
        }
        if let Some(metadata) = metadata {
            hash_metadata(&mut hash, metadata);
        }
        if let Some(rule_set) = rule_set {
            hash_rule_set(&mut hash, rule_set);
        }
        Guid(hash.finalize().into())
    }
}

fn hash_metadata(hash: &mut Md5, metadata: &Metadata) {
    hash.update([1]);
    for (path, tags) in &metadata.tags {
        hash.update(path);
        tags.iter().for_each(|tag| hash.update(tag));
    }
    for (key, value) in &metadata.properties {
        hash.update(key);
        hash.update(value);
    }
    metadata.sensitive.iter().for_each(|name| hash.update(name));
}

fn hash_rule_set(hash: &mut Md5, rule_set: &RuleSet) {
    hash.update([1]);
    for rule in rule_set.migration_rules.iter().chain(&rule_set.domain_rules).chain(&rule_set.encoding_rules) {
        hash_rule(hash, rule);
    }
    if let Some(enable_at) = &rule_set.enable_at {
        hash.update(enable_at);
    }
}

fn hash_rule(hash: &mut Md5, rule: &Rule) {
    let mut text = |text: &Option<String>| {
        if let Some(text) = text {
            hash.update(text);
        }
    };
    text(&rule.name);
    text(&rule.doc);
    text(&rule.kind);
    text(&rule.mode);
    text(&rule.rule_type);
    rule.tags.iter().for_each(|tag| hash.update(tag));
    for (key, value) in &rule.params {
        hash.update(key);
        hash.update(value);
    }
    for text in [&rule.expr, &rule.on_success, &rule.on_failure].into_iter().flatten() {
        hash.update(text);
    }
    if rule.disabled {
        hash.update([1]);
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The text is no UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a GUID")]
pub struct NotAGuid;

impl FromStr for Guid {
    type Err = NotAGuid;

    fn from_str(text: &str) -> Result<Guid, NotAGuid> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != '-')
            .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect::<Option<_>>()
            .ok_or(NotAGuid)?;
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
        if digits.len() != 32 {
            return Err(NotAGuid);
        }
        bytes.try_into().map(Guid).map_err(|_| NotAGuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guid_of_a_plain_schema_is_that_of_confluent() {
        let guid = Guid::of("\"null\"", &[], None, None);
        assert_eq!(guid.to_string(), "9b41ef67-651c-1848-8a8b-08bb67c75699");
        assert_eq!(guid.to_string().parse(), Ok(guid));
        assert_eq!("zz".parse::<Guid>(), Err(NotAGuid));
    }
}
