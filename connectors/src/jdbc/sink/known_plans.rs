//! The plans that were made, found again by what they were made for.

use std::sync::Arc;

use super::batch::same;
use super::plan::WritePlan;
use crate::data::Schema;

/// Plans that are kept; schemas that change for ever must not fill the memory.
const MOST: usize = 512;

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) topic: &'a Arc<str>,
    /// The table, if records name it themselves.
    pub(super) table: Option<&'a Arc<str>>,
    pub(super) key: Option<&'a Arc<Schema>>,
    pub(super) value: Option<&'a Arc<Schema>>,
}

#[derive(Debug)]
struct KnownPlan {
    topic: Arc<str>,
    table: Option<Arc<str>>,
    key: Option<Arc<Schema>>,
    value: Option<Arc<Schema>>,
    plan: Arc<WritePlan>,
}

/// Plans with what they were made for.
#[derive(Debug, Default)]
pub(super) struct KnownPlans {
    plans: Vec<KnownPlan>,
}

impl KnownPlans {
    /// The plan for these very schemas, or for equal ones: converters may build an equal schema anew.
    pub(super) fn find(&mut self, wanted: &Wanted<'_>) -> Option<Arc<WritePlan>> {
        let here = |known: &&KnownPlan| known.topic == *wanted.topic && known.table.as_ref() == wanted.table;
        let very =
            |known: &&KnownPlan| same(known.key.as_ref(), wanted.key) && same(known.value.as_ref(), wanted.value);
        if let Some(known) = self.plans.iter().filter(here).find(very) {
            return Some(Arc::clone(&known.plan));
        }
        let equal = |known: &&KnownPlan| known.key.as_ref() == wanted.key && known.value.as_ref() == wanted.value;
        let plan = Arc::clone(&self.plans.iter().filter(here).find(equal)?.plan);
        self.keep(wanted, &plan);
        Some(plan)
    }

    /// Keeps a plan.
    pub(super) fn keep(&mut self, wanted: &Wanted<'_>, plan: &Arc<WritePlan>) {
        if self.plans.len() >= MOST {
            self.plans.clear();
        }
        self.plans.push(KnownPlan {
            topic: Arc::clone(wanted.topic),
            table: wanted.table.cloned(),
            key: wanted.key.cloned(),
            value: wanted.value.cloned(),
            plan: Arc::clone(plan),
        });
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.plans.clear();
    }
}
