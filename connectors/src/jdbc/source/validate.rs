//! Errors across the source's keys that need no connection, on the keys that the original attaches them to.

use super::config::Mode;
use crate::api::{ConfigError, Props};
use crate::jdbc::connection_keys::check_place;

pub(super) const NO_MODE: &str =
    "Query mode must be specified: set mode to bulk, incrementing, timestamp or timestamp+incrementing";

const OLD_FAMILY: [&str; 4] =
    ["table.whitelist", "table.blacklist", "timestamp.column.name", "incrementing.column.name"];
const NEW_FAMILY: [&str; 4] =
    ["table.include.list", "table.exclude.list", "timestamp.columns.mapping", "incrementing.column.mapping"];
const FILTERS: [&str; 4] = ["table.whitelist", "table.blacklist", "table.include.list", "table.exclude.list"];

/// All errors across keys.
pub(super) fn validate(props: &Props) -> Vec<ConfigError> {
    let text = |key: &str| props.get(key).map(|value| value.trim()).unwrap_or_default();
    let given = |key: &str| !text(key).is_empty();
    let mut errors = Vec::new();
    let mut on_all = |keys: &[&str], message: &str| {
        errors.extend(keys.iter().map(|key| ConfigError::on(*key, message)));
    };
    let present = |keys: &[&'static str]| keys.iter().copied().filter(|key| given(key)).collect::<Vec<_>>();
    let (old, new, filters) = (present(&OLD_FAMILY), present(&NEW_FAMILY), present(&FILTERS));

    if !old.is_empty() && !new.is_empty() {
        let message = format!("Cannot mix {} with {}", old.join(", "), new.join(", "));
        on_all(&old, &message);
        on_all(&new, &message);
    }
    if given("table.whitelist") && given("table.blacklist") {
        on_all(&["table.whitelist", "table.blacklist"], "table.whitelist and table.blacklist are exclusive.");
    }
    if given("table.exclude.list") && !given("table.include.list") {
        on_all(&["table.exclude.list"], "table.exclude.list needs table.include.list");
    }
    if given("query") && given("query.masked") {
        on_all(&["query", "query.masked"], "query and query.masked are exclusive");
    }
    let query = if given("query") { "query" } else { "query.masked" };
    if given(query) {
        let message =
            format!("{query} may not be combined with whole-table copying settings: remove {}", filters.join(", "));
        on_all(&filters, &message);
        let start = text(query).trim_start_matches(['(', ' ', '\n', '\t']).to_ascii_lowercase();
        if !["select", "with", "values", "table", "--", "/*"].iter().any(|word| start.starts_with(word)) {
            on_all(&[query], "only SELECT statements are read: the query must begin with SELECT or WITH");
        }
    }
    check_mode(props, given(query), &mut errors);
    check_place(props, &mut errors);
    if given(query) && !given("topic.prefix") {
        let message = format!("topic.prefix must be set with {query}: it is the topic");
        errors.push(ConfigError::on("topic.prefix", message));
    }
    if text("transaction.isolation.mode").eq_ignore_ascii_case("SQL_SERVER_SNAPSHOT") {
        let message = "SQL_SERVER_SNAPSHOT is an isolation level of SQL Server only";
        errors.push(ConfigError::on("transaction.isolation.mode", message));
    }
    errors
}

fn check_mode(props: &Props, with_query: bool, errors: &mut Vec<ConfigError>) {
    let given = |key: &str| props.get(key).is_some_and(|value| !value.trim().is_empty());
    let Some(mode) = Mode::from_text(props.get("mode").map(|mode| mode.trim()).unwrap_or_default()) else {
        if !given("mode") {
            errors.push(ConfigError::on("mode", NO_MODE));
        }
        return;
    };
    if with_query && mode.has_incrementing() && !given("incrementing.column.name") {
        let message = "incrementing.column.name must be set when a query is read in an incrementing mode";
        errors.push(ConfigError::on("incrementing.column.name", message));
    }
    let new_family = NEW_FAMILY.into_iter().any(given);
    for (needed, mapping, name, form) in [
        (mode.has_timestamp(), "timestamp.columns.mapping", "timestamp.column.name", "<regex>:[<column>|<column>]"),
        (mode.has_incrementing(), "incrementing.column.mapping", "incrementing.column.name", "<regex>:<column>"),
    ] {
        if !needed && given(mapping) {
            let message = format!("{mapping} has no meaning in this mode");
            errors.push(ConfigError::on("mode", message.clone()));
            errors.push(ConfigError::on(mapping, message));
        }
        if needed && new_family && !given(mapping) && !given(name) {
            let message = format!(
                "{mapping} must be set in this mode with table.include.list or another mapping: entries {form}"
            );
            errors.push(ConfigError::on("mode", message.clone()));
            errors.push(ConfigError::on(mapping, message));
        }
    }
    let suffix = props.get("query.suffix").map(|suffix| suffix.trim_start().to_ascii_lowercase()).unwrap_or_default();
    if mode != Mode::Bulk && suffix.split(|c: char| !c.is_alphanumeric()).next() == Some("where") {
        let message = "query.suffix stands at the very end of the statement, behind its own WHERE and ORDER BY, so it can't \
                       begin with WHERE in this mode: set the condition in query, as SELECT * FROM <table> WHERE ...";
        errors.push(ConfigError::on("query.suffix", message));
    }
    if mode.has_timestamp() && !new_family && !given("timestamp.column.name") && !given("timestamp.columns.mapping") {
        errors.push(ConfigError::on("timestamp.column.name", "timestamp.column.name must be set in this mode"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(entries: &[(&str, &str)]) -> Vec<String> {
        let usual = [("connection.url", "jdbc:postgresql://h/d"), ("topic.prefix", "t")];
        let all = usual.iter().chain(entries);
        let props = all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        validate(&props).into_iter().map(|error| error.key).collect()
    }

    #[test]
    fn errors_are_on_the_keys_of_the_original() {
        assert_eq!(keys(&[("mode", "bulk"), ("table.whitelist", "a")]), [""; 0]);
        assert_eq!(keys(&[("table.whitelist", "a")]), ["mode"]);
        assert_eq!(keys(&[("mode", "bulk"), ("query", "SELECT 1"), ("table.whitelist", "a")]), ["table.whitelist"]);
        assert_eq!(keys(&[("mode", "bulk"), ("query", "DELETE FROM t")]), ["query"]);
        assert_eq!(keys(&[("mode", "bulk"), ("query", "with a as (select 1) select * from a")]), [""; 0]);
        assert_eq!(keys(&[("mode", "incrementing"), ("query", "SELECT 1")]), ["incrementing.column.name"]);
        assert_eq!(
            keys(&[("mode", "bulk"), ("table.whitelist", "a"), ("table.include.list", "b")]),
            ["table.whitelist", "table.include.list"]
        );
        assert_eq!(keys(&[("mode", "bulk"), ("table.exclude.list", "b")]), ["table.exclude.list"]);
        assert_eq!(keys(&[("mode", "timestamp")]), ["timestamp.column.name"]);
        let listed = ("table.include.list", "public[.]t");
        let (by_id, by_time) = (("incrementing.column.mapping", "a:id"), ("timestamp.columns.mapping", "a:[at]"));
        let (no_ids, no_times) = (["mode", "incrementing.column.mapping"], ["mode", "timestamp.columns.mapping"]);
        assert_eq!(keys(&[("mode", "incrementing"), listed]), no_ids);
        assert_eq!(keys(&[("mode", "timestamp"), listed]), no_times);
        assert_eq!(keys(&[("mode", "timestamp+incrementing"), listed, by_time]), no_ids);
        assert_eq!(keys(&[("mode", "timestamp+incrementing"), listed, by_id]), no_times);
        assert_eq!(keys(&[("mode", "timestamp+incrementing"), listed, by_id, by_time]), [""; 0]);
        assert_eq!(keys(&[("mode", "timestamp"), listed, by_id, by_time]), no_ids);
        assert_eq!(keys(&[("mode", "bulk"), listed]), [""; 0]);
        assert_eq!(keys(&[("mode", "timestamp+incrementing"), by_time]), no_ids);
        assert_eq!(keys(&[("mode", "incrementing"), ("query.suffix", " Where a = 1")]), ["query.suffix"]);
        assert_eq!(keys(&[("mode", "incrementing"), ("query.suffix", "LIMIT 5")]), [""; 0]);
        assert_eq!(keys(&[("mode", "bulk"), ("query.suffix", "WHERE a = 1")]), [""; 0]);
        assert_eq!(keys(&[("mode", "bulk"), ("query", "SELECT 1"), ("topic.prefix", "")]), ["topic.prefix"]);
        assert_eq!(validate(&[("mode".to_owned(), "bulk".to_owned())].into_iter().collect())[0].key, "connection.url");
    }
}
