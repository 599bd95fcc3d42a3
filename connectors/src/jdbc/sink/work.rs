//! From a slice of records to statements: which rows are written and which deleted, so that the table ends as if the
//! records had been written one after the other. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::config::InsertMode;
use super::plan::WritePlan;
use super::unwrap::Action;
use crate::api::SinkRecord;

/// A record's place in the slice, with its plan; a deletion has a plan of key columns only, a truncation of none.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) index: usize,
    pub(super) plan: Arc<WritePlan>,
    pub(super) action: Action,
}

/// A statement over some records.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) plan: Arc<WritePlan>,
    pub(super) action: Action,
    pub(super) rows: Vec<usize>,
}

/// Orders the items of one put into statements; rows whose key can't be encoded are left to fail in their run. If a row
/// may be refused, `careful` keeps all of them, in their order: else it would take those with it that it stands for.
pub(super) fn arrange(items: Vec<Item>, mode: InsertMode, records: &[SinkRecord], careful: bool) -> Vec<Run> {
    if careful {
        return in_order(items, mode, records);
    }
    let mut tables: Vec<Vec<Item>> = Vec::new();
    for item in items {
        match tables.iter_mut().find(|table| table[0].plan.table == item.plan.table) {
            Some(table) => table.push(item),
            None => tables.push(vec![item]),
        }
    }
    tables.into_iter().flat_map(|table| arrange_table(table, mode, records)).collect()
}

/// One record after the other; those that follow each other are one statement if it can't touch a row twice.
fn in_order(items: Vec<Item>, mode: InsertMode, records: &[SinkRecord]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut keys: HashSet<Vec<u8>> = HashSet::new();
    for item in items {
        let mut key = Vec::new();
        let unique = item.action == Action::Write && mode != InsertMode::Insert;
        let keyed = unique && item.plan.encode_key(&records[item.index], &mut key) == Ok(true);
        match runs.last_mut() {
            Some(run)
                if item.action == run.action
                    && item.action != Action::Truncate
                    && Arc::ptr_eq(&run.plan, &item.plan)
                    && !(keyed && keys.contains(&key)) =>
            {
                run.rows.push(item.index);
            }
            _ => {
                keys.clear();
                runs.push(Run { plan: item.plan, action: item.action, rows: vec![item.index] });
            }
        }
        if keyed {
            keys.insert(key);
        }
    }
    runs
}

fn arrange_table(mut items: Vec<Item>, mode: InsertMode, records: &[SinkRecord]) -> Vec<Run> {
    if let Some(last) = items.iter().rposition(|item| item.action == Action::Truncate) {
        // Nothing of what came before it is left.
        let rest = items.split_off(last + 1);
        let emptied = items.swap_remove(last);
        let first = Run { plan: emptied.plan, action: Action::Truncate, rows: vec![emptied.index] };
        return std::iter::once(first).chain(arrange_table(rest, mode, records)).collect();
    }
    if mode == InsertMode::Insert && items.iter().all(|item| item.action == Action::Write) {
        // The order of inserts shows nowhere: one statement a plan, however schemas alternate.
        let mut runs: Vec<Run> = Vec::new();
        for item in items {
            match runs.iter_mut().find(|run| Arc::ptr_eq(&run.plan, &item.plan)) {
                Some(run) => run.rows.push(item.index),
                None => runs.push(Run { plan: item.plan, action: Action::Write, rows: vec![item.index] }),
            }
        }
        return runs;
    }
    let mut runs = Vec::new();
    let mut segment = Segment::default();
    for item in items {
        if !segment.takes(&item) {
            std::mem::take(&mut segment).reduce(mode, records, &mut runs);
        }
        segment.push(item);
    }
    segment.reduce(mode, records, &mut runs);
    runs
}

/// Items of at most one plan for writes and one for deletions: rows of another schema write other columns, so that the
/// last of a key does not stand for all.
#[derive(Default)]
struct Segment {
    items: Vec<Item>,
    writes: Option<Arc<WritePlan>>,
    deletions: Option<Arc<WritePlan>>,
}

impl Segment {
    fn takes(&self, item: &Item) -> bool {
        let delete = item.action == Action::Delete;
        let (plan, other) = if delete { (&self.deletions, &self.writes) } else { (&self.writes, &self.deletions) };
        // Where bytes do not tell which keys are equal, deletions can't go before what is written.
        let apart = other.is_none() || item.plan.exact_keys;
        apart && plan.as_ref().is_none_or(|plan| Arc::ptr_eq(plan, &item.plan))
    }

    fn push(&mut self, item: Item) {
        let plan = if item.action == Action::Delete { &mut self.deletions } else { &mut self.writes };
        plan.get_or_insert_with(|| Arc::clone(&item.plan));
        self.items.push(item);
    }

    /// Deletions first, then what came after each key's last deletion.
    fn reduce(self, mode: InsertMode, records: &[SinkRecord], runs: &mut Vec<Run>) {
        let mut fates: HashMap<Vec<u8>, Fate> = HashMap::with_capacity(self.items.len());
        let mut unknown = Vec::new();
        let mut key = Vec::new();
        for item in &self.items {
            key.clear();
            let delete = item.action == Action::Delete;
            if item.plan.encode_key(&records[item.index], &mut key) != Ok(true) {
                unknown.push((item.index, delete));
                continue;
            }
            if !fates.contains_key(&key) {
                fates.insert(key.clone(), Fate::default());
            }
            let Some(fate) = fates.get_mut(&key) else { continue };
            if delete {
                fate.deleted = Some(item.index);
                fate.written.clear();
            } else {
                if mode != InsertMode::Insert {
                    fate.written.clear();
                }
                fate.written.push(item.index);
            }
        }
        let mut deleted: Vec<usize> = fates.values().filter_map(|fate| fate.deleted).collect();
        let mut written: Vec<usize> = fates.into_values().flat_map(|fate| fate.written).collect();
        for (index, delete) in unknown {
            if delete { &mut deleted } else { &mut written }.push(index);
        }
        let both = [(self.deletions, Action::Delete, deleted), (self.writes, Action::Write, written)];
        for (plan, action, mut rows) in both {
            if let Some(plan) = plan
                && !rows.is_empty()
            {
                rows.sort_unstable();
                runs.push(Run { plan, action, rows });
            }
        }
    }
}

#[derive(Default)]
struct Fate {
    /// The last deletion of the key.
    deleted: Option<usize>,
    /// What is written after it.
    written: Vec<usize>,
}
