//! Compatibility levels and the frame that every schema type shares: which earlier versions are
//! compared, in which direction, and the trailer lines that name the offending version.

pub mod avro;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longer texts are cut in messages.
const MAX_SCHEMA_IN_MESSAGE: usize = 10_240;

/// How a new schema must relate to earlier versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    /// Anything goes.
    None,
    /// The new schema reads data of the latest version.
    #[default]
    Backward,
    /// The new schema reads data of all versions.
    BackwardTransitive,
    /// The latest version reads data of the new schema.
    Forward,
    /// All versions read data of the new schema.
    ForwardTransitive,
    /// Both directions with the latest version.
    Full,
    /// Both directions with all versions.
    FullTransitive,
}

impl Level {
    /// The name in Confluent's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::None => "NONE",
            Level::Backward => "BACKWARD",
            Level::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Level::Forward => "FORWARD",
            Level::ForwardTransitive => "FORWARD_TRANSITIVE",
            Level::Full => "FULL",
            Level::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    /// True if every earlier version counts, not just the latest.
    pub fn is_transitive(self) -> bool {
        matches!(self, Level::BackwardTransitive | Level::ForwardTransitive | Level::FullTransitive)
    }

    fn is_forward(self) -> bool {
        matches!(self, Level::Forward | Level::ForwardTransitive)
    }

    fn is_full(self) -> bool {
        matches!(self, Level::Full | Level::FullTransitive)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no compatibility level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a compatibility level")]
pub struct UnknownLevel;

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Level, UnknownLevel> {
        const LEVELS: [Level; 7] = [
            Level::None,
            Level::Backward,
            Level::BackwardTransitive,
            Level::Forward,
            Level::ForwardTransitive,
            Level::Full,
            Level::FullTransitive,
        ];
        let upper = text.to_uppercase();
        LEVELS.into_iter().find(|level| level.as_str() == upper).ok_or(UnknownLevel)
    }
}

/// Which side of a comparison a schema is on, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The schema being checked.
    New,
    /// An earlier version.
    Old,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Role::New => "new",
            Role::Old => "old",
        }
    }
}

/// An earlier version to compare with.
#[derive(Debug, Clone)]
pub struct Earlier<S> {
    /// Its version number.
    pub version: i32,
    /// Its canonical text, for the messages.
    pub text: String,
    /// The schema.
    pub schema: S,
}

/// Compares `new` with the earlier versions (newest first) and returns why it is incompatible.
///
/// `reads(reader, writer, reader's role)` lists the problems of one direction. Transitive levels
/// stop at the first version with a problem.
pub fn check<S>(
    level: Level,
    new: &S,
    earlier: &[Earlier<S>],
    reads: impl Fn(&S, &S, Role) -> Vec<String>,
) -> Vec<String> {
    if level == Level::None {
        return Vec::new();
    }
    let count = if level.is_transitive() { earlier.len() } else { 1 };
    for old in earlier.iter().take(count) {
        let mut messages = Vec::new();
        if level.is_full() {
            messages = reads(&old.schema, new, Role::Old);
        }
        let mut last =
            if level.is_forward() { reads(&old.schema, new, Role::Old) } else { reads(new, &old.schema, Role::New) };
        if !last.is_empty() {
            last.push(format!("{{oldSchemaVersion: {}}}", old.version));
            last.push(shown_schema(&old.text));
        }
        messages.append(&mut last);
        if !messages.is_empty() {
            return messages;
        }
    }
    Vec::new()
}

/// Java counts UTF-16 units when it cuts.
fn shown_schema(text: &str) -> String {
    if text.encode_utf16().count() <= MAX_SCHEMA_IN_MESSAGE {
        return format!("{{oldSchema: '{text}'}}");
    }
    let mut units = 0;
    let cut: String = text
        .chars()
        .take_while(|c| {
            units += c.len_utf16();
            units <= MAX_SCHEMA_IN_MESSAGE
        })
        .collect();
    format!("{{oldSchema: <truncated> '{cut}...'}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complain(reader: &i32, writer: &i32, role: Role) -> Vec<String> {
        if reader < writer { vec![format!("{} {reader} {writer}", role.as_str())] } else { Vec::new() }
    }

    fn earlier(schemas: &[i32]) -> Vec<Earlier<i32>> {
        let mut all: Vec<_> = (1..)
            .zip(schemas)
            .map(|(version, schema)| Earlier { version, text: "t".into(), schema: *schema })
            .collect();
        all.reverse();
        all
    }

    #[test]
    fn only_transitive_levels_look_past_the_latest_version() {
        assert!(check(Level::Backward, &5, &earlier(&[9, 4]), complain).is_empty());
        let messages = check(Level::BackwardTransitive, &5, &earlier(&[9, 8, 4]), complain);
        assert_eq!(messages, ["new 5 8", "{oldSchemaVersion: 2}", "{oldSchema: 't'}"]);
    }

    #[test]
    fn full_reports_the_forward_direction_without_a_trailer() {
        assert_eq!(check(Level::Full, &5, &earlier(&[4]), complain), ["old 4 5"]);
        assert_eq!(
            check(Level::Forward, &5, &earlier(&[4]), complain),
            ["old 4 5", "{oldSchemaVersion: 1}", "{oldSchema: 't'}"]
        );
        assert!(check(Level::None, &5, &earlier(&[9]), complain).is_empty());
    }

    #[test]
    fn levels_are_read_in_any_case() {
        assert_eq!("full_Transitive".parse(), Ok(Level::FullTransitive));
        assert_eq!("fullish".parse::<Level>(), Err(UnknownLevel));
    }
}
