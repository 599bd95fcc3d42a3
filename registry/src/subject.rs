//! Subject names and contexts: `:.context:subject`, plain `subject` in the default context.
//!
//! Mirrors Confluent's `QualifiedSubject`. A [`Subject`] is kept in its canonical spelling, which
//! is also its spelling in the `_schemas` topic.

use std::fmt;

use crate::error::Error;

/// The context without a prefix.
pub const DEFAULT_CONTEXT: &str = ".";
/// The context of server-wide config and mode.
pub const GLOBAL_CONTEXT: &str = ".__GLOBAL";
const WILDCARD: &str = ":*:";

/// A subject within its context; an empty name stands for the context itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    context: String,
    name: String,
}

impl Subject {
    /// Reads a subject as written in a path or record.
    pub fn parse(written: &str) -> Subject {
        if let Some((context, name)) = written.strip_prefix(':').and_then(|rest| rest.split_once(':'))
            && context.starts_with('.')
        {
            return Subject { context: context.to_owned(), name: name.to_owned() };
        }
        Subject { context: DEFAULT_CONTEXT.to_owned(), name: written.to_owned() }
    }

    /// The subject of this name in a context.
    pub fn in_context(context: &str, name: &str) -> Subject {
        Subject { context: context.to_owned(), name: name.to_owned() }
    }

    /// A name from a request, taken to lie in this subject's context unless it is qualified.
    pub fn sibling(&self, written: &str) -> Subject {
        if is_qualified(written) { Subject::parse(written) } else { Subject::in_context(&self.context, written) }
    }

    /// The context, with its leading dot.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// The name without the context.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True for the default context.
    pub fn is_default_context(&self) -> bool {
        self.context == DEFAULT_CONTEXT
    }

    /// True if this stands for the default context itself, that is, for the global settings.
    pub fn is_global(&self) -> bool {
        self.is_default_context() && self.name.is_empty()
    }

    /// Refuses names that may not be written to.
    pub fn validate(&self, for_settings: bool) -> Result<(), Error> {
        let control = |text: &str| text.chars().any(char::is_control);
        let reserved = matches!(self.name.as_str(), "__GLOBAL" | "__EMPTY");
        let global = self.context == GLOBAL_CONTEXT && !for_settings;
        if control(&self.name) || control(&self.context) || reserved || global {
            return Err(Error::InvalidSubject(self.to_string()));
        }
        Ok(())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_default_context() { f.write_str(&self.name) } else { write!(f, ":{}:{}", self.context, self.name) }
    }
}

/// True for `:.context:...` and `:*:...`.
pub fn is_qualified(written: &str) -> bool {
    written.starts_with(WILDCARD) || (written.starts_with(":.") && written[2..].contains(':'))
}

/// A filter on subjects by prefix, perhaps across all contexts (`:*:prefix`).
#[derive(Debug, Clone)]
pub struct SubjectPrefix {
    context: Option<String>,
    name: String,
}

impl SubjectPrefix {
    /// Reads a prefix as written in a query.
    pub fn parse(written: &str) -> SubjectPrefix {
        if let Some(name) = written.strip_prefix(WILDCARD) {
            return SubjectPrefix { context: None, name: name.to_owned() };
        }
        let subject = Subject::parse(written);
        SubjectPrefix { context: Some(subject.context), name: subject.name }
    }

    /// True if the subject starts with the prefix.
    pub fn matches(&self, subject: &Subject) -> bool {
        self.context.as_ref().is_none_or(|context| *context == subject.context) && subject.name.starts_with(&self.name)
    }
}

/// A context as named in a path: the leading dot may be missing.
pub fn context_from_path(written: &str) -> Result<String, Error> {
    let trimmed = written.trim_matches(':');
    if trimmed.contains(':') || trimmed.chars().any(char::is_control) {
        return Err(Error::BadRequest(format!("invalid context '{written}'")));
    }
    Ok(if trimmed.starts_with('.') { trimmed.to_owned() } else { format!(".{trimmed}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_print_in_their_canonical_spelling() {
        for (written, context, name, printed) in [
            ("s", ".", "s", "s"),
            (":.:s", ".", "s", "s"),
            (":.c:s", ".c", "s", ":.c:s"),
            (":.c:", ".c", "", ":.c:"),
            (":c:s", ".", ":c:s", ":c:s"),
            ("a:b", ".", "a:b", "a:b"),
            ("", ".", "", ""),
        ] {
            let subject = Subject::parse(written);
            assert_eq!((subject.context(), subject.name(), subject.to_string().as_str()), (context, name, printed));
        }
    }

    #[test]
    fn prefixes_match_within_a_context_or_across_all() {
        let subject = Subject::parse(":.c:orders");
        assert!(SubjectPrefix::parse(":*:or").matches(&subject));
        assert!(SubjectPrefix::parse(":.c:").matches(&subject));
        assert!(!SubjectPrefix::parse("or").matches(&subject));
    }

    #[test]
    fn reserved_names_and_control_characters_are_refused() {
        for name in ["__GLOBAL", "__EMPTY", "a\u{1}b", ":.__GLOBAL:s"] {
            assert!(Subject::parse(name).validate(false).is_err(), "{name}");
        }
        assert!(Subject::parse(":.__GLOBAL:").validate(true).is_ok());
        assert!(Subject::parse("*").validate(false).is_ok());
    }
}
