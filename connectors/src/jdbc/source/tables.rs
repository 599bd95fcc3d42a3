//! Which tables a connector copies, and which task copies which.

use std::collections::HashSet;

use regex::Regex;

use crate::api::{Config, Error, Props, Result};
use crate::jdbc::whole_match;
use crate::postgres::catalog::{self, TableName};
use crate::postgres::connection::Session;
use crate::postgres::quote;

/// The task config's key for its tables.
pub(super) const TABLES: &str = "tables";
/// The task config's key that says that tables were looked for.
pub(super) const TABLES_FETCHED: &str = "tables.fetched";

/// The filters of a config.
#[derive(Debug, Clone)]
pub(super) struct TableFilter {
    types: Vec<String>,
    catalog: Option<String>,
    schema: Option<String>,
    /// Whether tables are told apart and read by their schemas.
    qualified: bool,
    whitelist: Vec<String>,
    blacklist: Vec<String>,
    include: Vec<Regex>,
    exclude: Vec<Regex>,
}

impl TableFilter {
    /// From a config that was read.
    pub(super) fn new(config: &Config) -> Result<Self> {
        let texts = |key: &str| config.list(key).into_iter().map(str::to_owned).collect::<Vec<_>>();
        let regexes = |key: &str| {
            config
                .list(key)
                .into_iter()
                .map(|pattern| {
                    whole_match(pattern)
                        .map_err(|e| Error::config(format!("invalid regex \"{pattern}\" in {key}")).caused_by(e))
                })
                .collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            types: texts("table.types"),
            catalog: config.optional("catalog.pattern").map(str::to_owned),
            schema: config.optional("schema.pattern").map(str::to_owned),
            qualified: config.boolean("table.names.qualify"),
            whitelist: texts("table.whitelist"),
            blacklist: texts("table.blacklist"),
            include: regexes("table.include.list")?,
            exclude: regexes("table.exclude.list")?,
        })
    }

    /// Whether no filter is set, so that every table is copied.
    pub(super) fn is_open(&self) -> bool {
        self.whitelist.is_empty() && self.blacklist.is_empty() && self.include.is_empty()
    }

    /// The tables to copy, in listing order.
    pub(super) async fn list(&self, session: &mut Session) -> std::result::Result<Vec<TableName>, sqlx::Error> {
        let mut tables = self.visible(session).await?;
        tables.retain(|table| self.admits(table));
        if !self.qualified {
            unqualify(&mut tables);
        }
        Ok(tables)
    }

    /// Kinds of tables in the config that PostgreSQL does not have.
    pub(super) fn unknown_types(&self) -> Vec<&str> {
        let known = |given: &str| catalog::TABLE_TYPE_NAMES.iter().any(|name| name.eq_ignore_ascii_case(given));
        self.types.iter().map(String::as_str).filter(|given| !known(given)).collect()
    }

    /// The schemas that tables of the wanted kinds are in.
    pub(super) async fn schemas(&self, session: &mut Session) -> std::result::Result<Vec<String>, sqlx::Error> {
        let types: Vec<&str> = self.types.iter().map(String::as_str).collect();
        let tables = catalog::list_tables(session, &types, None).await?;
        let mut schemas: Vec<String> = tables.into_iter().map(|table| table.schema).collect();
        schemas.sort();
        schemas.dedup();
        Ok(schemas)
    }

    /// What may have kept tables from being seen, for a message.
    pub(super) fn hint(&self) -> String {
        let mut hint = String::new();
        for (key, pattern, of) in
            [("catalog.pattern", &self.catalog, "database"), ("schema.pattern", &self.schema, "schema")]
        {
            match pattern.as_deref() {
                None => {}
                Some("") => hint.push_str(&format!(
                    ". {key}=\"\" means tables without a {of}, of which PostgreSQL has none: leave it out"
                )),
                Some(pattern) => hint.push_str(&format!(". {key}={pattern} leaves out each other {of}")),
            }
        }
        hint
    }

    /// The tables of the wanted kinds and schemas, to choose from.
    pub(super) async fn visible(&self, session: &mut Session) -> std::result::Result<Vec<TableName>, sqlx::Error> {
        if let Some(pattern) = &self.catalog
            && !catalog::is_current(session, pattern).await?
        {
            return Ok(Vec::new());
        }
        let types: Vec<&str> = self.types.iter().map(String::as_str).collect();
        catalog::list_tables(session, &types, self.schema.as_deref()).await
    }

    fn admits(&self, table: &TableName) -> bool {
        let dotted = table.dotted();
        let named = |list: &[String]| {
            list.iter().any(|entry| *entry == dotted || *entry == table.name || *entry == table.quoted())
        };
        if !self.include.is_empty() {
            let matches = |list: &[Regex]| list.iter().any(|regex| regex.is_match(&dotted));
            return matches(&self.include) && !matches(&self.exclude);
        }
        if !self.whitelist.is_empty() {
            return named(&self.whitelist);
        }
        !named(&self.blacklist)
    }
}

/// Bare names, each once: the search path says which table is meant.
fn unqualify(tables: &mut Vec<TableName>) {
    let mut seen = HashSet::new();
    tables.retain_mut(|table| {
        table.schema.clear();
        seen.insert(table.name.clone())
    });
}

/// Refuses tables of one name in several schemas: their topics would be one.
pub(super) fn refuse_same_names(tables: &[TableName]) -> Result<()> {
    for (at, table) in tables.iter().enumerate() {
        if let Some(other) = tables[..at].iter().find(|other| other.name == table.name) {
            return Err(Error::config(format!(
                "the tables {} and {} have the same name, so that they would share a topic: choose one with \
                 schema.pattern, table.whitelist or table.blacklist, or let the search path choose with \
                 table.names.qualify=false",
                other.dotted(),
                table.dotted()
            )));
        }
    }
    Ok(())
}

/// Contiguous groups of nearly equal size; the first ones get the extra table.
pub(super) fn group(tables: &[TableName], tasks: usize) -> Vec<Vec<TableName>> {
    let tasks = tasks.min(tables.len());
    if tasks == 0 {
        return Vec::new();
    }
    let (each, extra) = (tables.len() / tasks, tables.len() % tasks);
    let mut rest = tables;
    (0..tasks)
        .map(|at| {
            let (group, tail) = rest.split_at(each + usize::from(at < extra));
            rest = tail;
            group.to_vec()
        })
        .collect()
}

/// The config of a task that copies these tables.
pub(super) fn task_props(props: &Props, tables: &[TableName]) -> Props {
    let mut task = props.clone();
    let quoted: Vec<String> = tables.iter().map(TableName::quoted).collect();
    task.insert(TABLES.to_owned(), quoted.join(","));
    task.insert(TABLES_FETCHED.to_owned(), "true".to_owned());
    task
}

/// The tables in a task's config.
pub(super) fn tables_of(props: &Props) -> Vec<TableName> {
    let list = props.get(TABLES).map(String::as_str).unwrap_or_default();
    quote::split_list(list)
        .iter()
        .filter_map(|entry| {
            let mut parts = quote::split_name(entry);
            let name = parts.pop()?;
            Some(TableName { schema: parts.pop().unwrap_or_default(), name })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(names: &[&str]) -> Vec<TableName> {
        names
            .iter()
            .map(|name| {
                let (schema, name) = name.split_once('.').unwrap();
                TableName { schema: schema.to_owned(), name: name.to_owned() }
            })
            .collect()
    }

    fn admitted(entries: &[(&str, &str)], all: &[&str]) -> Vec<String> {
        let mut props: Props = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        props.insert("connection.url".into(), "jdbc:postgresql://h/d".into());
        let filter = TableFilter::new(&super::super::config::definition().read(&props).unwrap()).unwrap();
        tables(all).iter().filter(|table| filter.admits(table)).map(TableName::dotted).collect()
    }

    #[test]
    fn filters_as_the_original() {
        let all = ["public.a", "public.b", "s.a", "s.A"];
        assert_eq!(admitted(&[("table.whitelist", "a")], &all), ["public.a", "s.a"]);
        assert_eq!(admitted(&[("table.whitelist", "s.A,\"public\".\"b\"")], &all), ["public.b", "s.A"]);
        assert_eq!(admitted(&[("table.blacklist", "a,s.A")], &all), ["public.b"]);
        assert_eq!(admitted(&[("table.include.list", "s\\..*"), ("table.exclude.list", ".*A")], &all), ["s.a"]);
        assert_eq!(admitted(&[("table.include.list", "a")], &all), [""; 0]);
    }

    #[test]
    fn groups_are_contiguous_and_survive_the_config() {
        let all = tables(&["p.a", "p.b", "p.c,d", "p.e", "p.f"]);
        let sizes: Vec<usize> = group(&all, 3).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 2, 1]);
        assert!(group(&all[..0], 3).is_empty());
        assert_eq!(tables_of(&task_props(&Props::new(), &all)), all);
        assert!(refuse_same_names(&tables(&["p.a", "q.a"])).is_err());
        let mut bare = tables(&["p.a", "p.b", "q.a"]);
        unqualify(&mut bare);
        let task = task_props(&Props::new(), &bare);
        assert_eq!(task[TABLES], "\"a\",\"b\"");
        assert_eq!(tables_of(&task), bare);
        assert_eq!(bare[0].dotted(), "a");
    }
}
