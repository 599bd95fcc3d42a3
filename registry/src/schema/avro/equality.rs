//! Equality of schemas as the registry's second-chance lookup needs it.
//!
//! It is `Schema.equals` of Avro Java (names, types, field order, defaults, sort order, custom
//! properties) plus docs, aliases and enum defaults. Where types came from does not count.

use std::collections::HashSet;

use super::{Field, Kind, Named, NodeId, Schema};

/// Pairs deeper than this are called different; no real schema is.
const MAX_PAIRS_DEEP: usize = 512;

pub(super) fn same(left: &Schema, right: &Schema) -> bool {
    Comparison { left, right, seen: HashSet::new() }.nodes(left.root, right.root, 0)
}

struct Comparison<'a> {
    left: &'a Schema,
    right: &'a Schema,
    seen: HashSet<(NodeId, NodeId)>,
}

impl Comparison<'_> {
    fn nodes(&mut self, left: NodeId, right: NodeId, depth: usize) -> bool {
        if depth > MAX_PAIRS_DEEP {
            return false;
        }
        if !self.seen.insert((left, right)) {
            return true;
        }
        let (l, r) = (self.left.node(left), self.right.node(right));
        if l.properties != r.properties {
            return false;
        }
        match (&l.kind, &r.kind) {
            (Kind::Array(l), Kind::Array(r)) | (Kind::Map(l), Kind::Map(r)) => self.nodes(*l, *r, depth + 1),
            (Kind::Union(l), Kind::Union(r)) => {
                l.len() == r.len() && l.iter().zip(r).all(|(l, r)| self.nodes(*l, *r, depth + 1))
            }
            (Kind::Record(l), Kind::Record(r)) => {
                l.error == r.error
                    && same_named(&l.named, &r.named)
                    && l.fields.len() == r.fields.len()
                    && l.fields
                        .iter()
                        .zip(&r.fields)
                        .all(|(l, r)| same_field(l, r) && self.nodes(l.schema, r.schema, depth + 1))
            }
            (Kind::Enum(l), Kind::Enum(r)) => {
                same_named(&l.named, &r.named) && l.symbols == r.symbols && l.default == r.default
            }
            (Kind::Fixed(l), Kind::Fixed(r)) => same_named(&l.named, &r.named) && l.size == r.size,
            (l, r) => std::mem::discriminant(l) == std::mem::discriminant(r),
        }
    }
}

fn same_named(left: &Named, right: &Named) -> bool {
    let sorted = |named: &Named| {
        let mut aliases = named.aliases.clone();
        aliases.sort();
        aliases
    };
    left.name == right.name && left.doc == right.doc && sorted(left) == sorted(right)
}

fn same_field(left: &Field, right: &Field) -> bool {
    left.name == right.name
        && left.default == right.default
        && left.order == right.order
        && left.doc == right.doc
        && left.aliases == right.aliases
        && left.properties == right.properties
}
