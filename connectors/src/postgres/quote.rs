//! Identifiers and literals in SQL text. COPY takes no parameters, so this is the one place where values become text.

/// How identifiers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quoting {
    /// In double quotes, keeping case.
    #[default]
    Always,
    /// As the server reads a bare name: in lower case, if it is a plain identifier. The quotes are written all the same,
    /// so that a column may be called `order` or `user`.
    Never,
}

impl Quoting {
    /// From the value of `quote.sql.identifiers`.
    pub fn from_text(text: &str) -> Self {
        if text.eq_ignore_ascii_case("never") { Self::Never } else { Self::Always }
    }

    /// An identifier as SQL.
    pub fn identifier(self, name: &str) -> String {
        let mut out = String::with_capacity(name.len() + 2);
        self.push(&mut out, name);
        out
    }

    /// Appends an identifier.
    pub fn push(self, out: &mut String, name: &str) {
        if self == Self::Never && is_plain(name) {
            push_quoted(out, &name.to_ascii_lowercase());
        } else {
            push_quoted(out, name);
        }
    }

    /// A qualified table name as SQL.
    pub fn table(self, schema: &str, name: &str) -> String {
        format!("{}.{}", self.identifier(schema), self.identifier(name))
    }

    /// Names as a comma-separated list.
    pub fn list<'a>(self, names: impl IntoIterator<Item = &'a str>) -> String {
        let mut out = String::new();
        for name in names {
            if !out.is_empty() {
                out.push(',');
            }
            self.push(&mut out, name);
        }
        out
    }
}

/// An identifier in double quotes.
pub fn identifier(name: &str) -> String {
    Quoting::Always.identifier(name)
}

/// A qualified name in double quotes.
pub fn table(schema: &str, name: &str) -> String {
    Quoting::Always.table(schema, name)
}

fn is_plain(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
}

fn push_quoted(out: &mut String, name: &str) {
    out.push('"');
    for c in name.chars() {
        match c {
            '"' => out.push_str("\"\""),
            '\0' => {}
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Text as a string literal, whatever `standard_conforming_strings` says. NUL, which PostgreSQL cannot hold, is dropped.
pub fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 3);
    if text.contains('\\') {
        out.push('E');
    }
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\0' => {}
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// A number as a bigint literal.
pub fn bigint(number: i64) -> String {
    format!("'{number}'::int8")
}

/// Splits a dotted name whose parts may be in double quotes.
pub fn split_name(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let last = parts.len() - 1;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                parts[last].push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => parts[last].push(c),
        }
    }
    parts
}

/// Splits a comma-separated list whose entries may hold double quotes; the quotes stay.
pub fn split_list(text: &str) -> Vec<String> {
    let mut entries = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        let last = entries.len() - 1;
        match c {
            ',' if !quoted => entries.push(String::new()),
            c => {
                quoted ^= c == '"';
                entries[last].push(c);
            }
        }
    }
    entries.into_iter().map(|entry| entry.trim().to_owned()).filter(|entry| !entry.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_could_end_a_quote() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(Quoting::Never.identifier("Ab_1"), "\"ab_1\"");
        assert_eq!(Quoting::Never.identifier("a b"), "\"a b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'"), "E'a\\\\'''");
        assert_eq!(bigint(-5), "'-5'::int8");
        assert_eq!(split_name("\"a.b\".\"c\"\"d\""), ["a.b", "c\"d"]);
        assert_eq!(split_list("\"a\".\"b,c\", \"a\".\"d\""), ["\"a\".\"b,c\"", "\"a\".\"d\""]);
        assert!(split_list("").is_empty());
    }
}
