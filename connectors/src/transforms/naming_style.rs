//! Styles of names, as Debezium's transforms of names know them: a style, then a prefix and a suffix.

use crate::api::{ConfigDef, ConfigKey, ConfigType, Importance, Props, Result, Validator};

const STYLES: &[&str] = &["default", "snake_case", "camel_case", "camelCase", "kebab-case", "upper_case", "lower_case"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Default,
    /// Words between this character.
    Words(char),
    Camel,
    Upper,
    Lower,
}

/// What makes names out of names.
#[derive(Debug)]
pub(super) struct NamingStyle {
    style: Style,
    prefix: String,
    suffix: String,
}

/// The keys of a kind of names, `collection` or `column`.
pub(super) fn config(kind: &'static str) -> ConfigDef {
    let text = |part: &str, default: &'static str, doc: &'static str| {
        ConfigKey::with_default(format!("{kind}.naming.{part}"), ConfigType::String, default)
            .importance(Importance::Low)
            .doc(doc)
    };
    ConfigDef::new()
        .with(text("prefix", "", "What is put before the name."))
        .with(text("suffix", "", "What is put behind the name."))
        .with(
            text(
                "style",
                "default",
                "How the name is written: default, snake_case, camelCase, kebab-case, UPPER_CASE or lower_case.",
            )
            .check(Validator::OneOfAnyCase(STYLES)),
        )
}

impl NamingStyle {
    pub(super) fn new(kind: &'static str, props: &Props) -> Result<Self> {
        let config = config(kind).read(props)?;
        let text = |part: &str| config.text(&format!("{kind}.naming.{part}")).to_owned();
        let style = match text("style").to_ascii_lowercase().as_str() {
            "snake_case" => Style::Words('_'),
            "kebab-case" => Style::Words('-'),
            "camel_case" | "camelcase" => Style::Camel,
            "upper_case" => Style::Upper,
            "lower_case" => Style::Lower,
            _ => Style::Default,
        };
        Ok(Self { style, prefix: text("prefix"), suffix: text("suffix") })
    }

    pub(super) fn apply(&self, name: &str) -> String {
        let styled = match self.style {
            Style::Default => name.to_owned(),
            Style::Words(between) => words(name, between),
            Style::Camel => camel(name),
            Style::Upper => name.to_uppercase(),
            Style::Lower => name.to_lowercase(),
        };
        format!("{}{styled}{}", self.prefix, self.suffix)
    }
}

/// Lower-case words: a word begins at a capital, at a number and after one, and after what is neither.
fn words(name: &str, between: char) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len() + 8);
    for (at, c) in chars.iter().enumerate() {
        if !c.is_alphanumeric() {
            // Characters between words stand for one beginning.
            if !out.is_empty() && !out.ends_with(between) && chars[at..].iter().any(|c| c.is_alphanumeric()) {
                out.push(between);
            }
            continue;
        }
        let before = at.checked_sub(1).and_then(|at| chars.get(at)).filter(|c| c.is_alphanumeric());
        let begins = before.is_some_and(|before| {
            let next_is_lower = chars.get(at + 1).is_some_and(|next| next.is_lowercase());
            before.is_numeric() != c.is_numeric()
                || (c.is_uppercase() && (before.is_lowercase() || (before.is_uppercase() && next_is_lower)))
        });
        if begins {
            out.push(between);
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// Words between dots and underscores, put together.
fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (at, word) in name.split(['.', '_']).enumerate().filter(|(_, word)| !word.is_empty()) {
        let mut chars = word.chars();
        match chars.next() {
            Some(first) if at > 0 => out.extend(first.to_uppercase()),
            Some(first) => out.extend(first.to_lowercase()),
            None => {}
        }
        out.push_str(&chars.as_str().to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::props;
    use super::*;
    use proptest::prelude::*;

    fn named(style: &str, name: &str) -> String {
        NamingStyle::new("column", &props(&[("column.naming.style", style)])).unwrap().apply(name)
    }

    #[test]
    fn styles_of_names() {
        for (style, name, expected) in [
            ("snake_case", "CamelCaseName", "camel_case_name"),
            ("snake_case", "NameWithNumbers123", "name_with_numbers_123"),
            ("snake_case", "123NumbersExample", "123_numbers_example"),
            ("snake_case", "public.inventoryOnhandQuantities", "public_inventory_onhand_quantities"),
            ("SNAKE_CASE", "HTTPServer", "http_server"),
            ("snake_case", "_a__B_", "a_b"),
            ("kebab-case", "aB.c", "a-b-c"),
            ("camel_case", "camel_case_name", "camelCaseName"),
            ("camelCase", "database.schema.table", "databaseSchemaTable"),
            ("upper_case", "aß", "ASS"),
            ("lower_case", "ÄB_c", "äb_c"),
            ("default", "As.It Is", "As.It Is"),
        ] {
            assert_eq!(named(style, name), expected, "{style} {name}");
        }
        assert!(NamingStyle::new("column", &props(&[("column.naming.style", "loud")])).is_err());
        let around = [("column.naming.prefix", "a_"), ("column.naming.suffix", "_z")];
        assert_eq!(NamingStyle::new("column", &props(&around)).unwrap().apply("b"), "a_b_z");
    }

    proptest! {
        #[test]
        fn any_name_has_every_style(name in "\\PC{0,20}") {
            for style in STYLES {
                let _ = named(style, &name);
            }
        }
    }
}
