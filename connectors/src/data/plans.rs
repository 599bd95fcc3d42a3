//! Plans by schema: what depends on a schema alone is worked out once and found again by the schema's identity.

use std::sync::Arc;

use super::Schema;

/// As many plans are kept; a source that makes a new schema for each record must not fill the memory.
const LIMIT: usize = 256;

/// Plans by the identity of a schema. The schema is kept alive with its plan, so that its address means it alone.
#[derive(Debug)]
pub struct Plans<P> {
    plans: Vec<(Arc<Schema>, P)>,
}

impl<P> Default for Plans<P> {
    fn default() -> Self {
        Self { plans: Vec::new() }
    }
}

impl<P> Plans<P> {
    /// The plan of this very schema, if there is one.
    #[inline]
    pub fn known(&mut self, schema: &Arc<Schema>) -> Option<&mut P> {
        self.plans.iter_mut().find(|(known, _)| Arc::ptr_eq(known, schema)).map(|(_, plan)| plan)
    }

    /// The plan of this very schema, made now if it is new.
    ///
    /// # Errors
    /// What `make` answers.
    #[inline]
    pub fn plan<E>(&mut self, schema: &Arc<Schema>, make: impl FnOnce() -> Result<P, E>) -> Result<&mut P, E> {
        let place = match self.plans.iter().position(|(known, _)| Arc::ptr_eq(known, schema)) {
            Some(place) => place,
            None => {
                let plan = make()?;
                self.insert(schema, plan)
            }
        };
        Ok(&mut self.plans[place].1)
    }

    fn insert(&mut self, schema: &Arc<Schema>, plan: P) -> usize {
        if self.plans.len() >= LIMIT {
            self.plans.drain(..LIMIT / 2);
        }
        self.plans.push((Arc::clone(schema), plan));
        self.plans.len() - 1
    }
}
