//! Can data written with one Avro schema be read with another: the rules, the order and the
//! messages of Avro Java 1.12's `SchemaCompatibility`, quirks included.
//!
//! Results are remembered per pair of nodes with the path at which the pair was first met, as in
//! the original; a pair that is still being compared counts as compatible (recursive schemas).

use std::collections::{BTreeSet, HashMap};

use super::Role;
use crate::schema::avro::{Enum, Field, Fixed, Kind, Named, NodeId, Record, Schema};

/// Pairs deeper than this end the check with an error; no real schema is.
const MAX_PAIRS_DEEP: usize = 512;

/// The problems of reading data of `writer` with `reader`, worded as Confluent does.
pub fn incompatibilities(reader: &Schema, writer: &Schema, reader_is: Role) -> Vec<String> {
    let mut check = Check { reader, writer, memo: HashMap::new(), depth: 0 };
    match check.pair(reader.root_id(), writer.root_id(), &mut Vec::new()) {
        Ok(problems) => problems.iter().map(|problem| problem.message(reader_is)).collect(),
        Err(text) => vec![format!("Unexpected exception during compatibility check: {text}")],
    }
}

#[derive(Debug, Clone)]
struct Problem {
    kind: ProblemKind,
    path: String,
    info: String,
}

#[derive(Debug, Clone, Copy)]
enum ProblemKind {
    NameMismatch,
    FixedSizeMismatch,
    MissingEnumSymbols,
    ReaderFieldMissingDefaultValue,
    TypeMismatch,
    MissingUnionBranch,
}

impl Problem {
    fn message(&self, reader_is: Role) -> String {
        let reader = reader_is.as_str();
        let writer = if reader_is == Role::New { Role::Old.as_str() } else { Role::New.as_str() };
        let (path, info) = (&self.path, &self.info);
        let (name, description) = match self.kind {
            ProblemKind::NameMismatch => {
                ("NAME_MISMATCH", format!("The name of the schema has changed (path '{path}')"))
            }
            ProblemKind::FixedSizeMismatch => (
                "FIXED_SIZE_MISMATCH",
                format!(
                    "The size of FIXED type field at path '{path}' in the {reader} schema does not match with the {writer} schema"
                ),
            ),
            ProblemKind::MissingEnumSymbols => (
                "MISSING_ENUM_SYMBOLS",
                format!("The {reader} schema is missing enum symbols '{info}' at path '{path}' in the {writer} schema"),
            ),
            ProblemKind::ReaderFieldMissingDefaultValue => (
                "READER_FIELD_MISSING_DEFAULT_VALUE",
                format!(
                    "The field '{info}' at path '{path}' in the {reader} schema has no default value and is missing in the {writer} schema"
                ),
            ),
            ProblemKind::TypeMismatch => (
                "TYPE_MISMATCH",
                format!(
                    "The type (path '{path}') of a field in the {reader} schema does not match with the {writer} schema"
                ),
            ),
            ProblemKind::MissingUnionBranch => (
                "MISSING_UNION_BRANCH",
                format!(
                    "The {reader} schema is missing a type inside a union field at path '{path}' in the {writer} schema"
                ),
            ),
        };
        format!("{{errorType:'{name}', description:'{description}', additionalInfo:'{info}'}}")
    }
}

type Path = Vec<String>;
type Outcome = Result<Vec<Problem>, String>;

struct Check<'a> {
    reader: &'a Schema,
    writer: &'a Schema,
    /// `None` while the pair is being compared.
    memo: HashMap<(NodeId, NodeId), Option<Vec<Problem>>>,
    depth: usize,
}

impl<'a> Check<'a> {
    fn pair(&mut self, reader: NodeId, writer: NodeId, path: &mut Path) -> Outcome {
        if let Some(known) = self.memo.get(&(reader, writer)) {
            return Ok(known.clone().unwrap_or_default());
        }
        if self.depth > MAX_PAIRS_DEEP {
            return Err("schemas are nested too deeply".to_owned());
        }
        self.memo.insert((reader, writer), None);
        self.depth += 1;
        let problems = self.compare(reader, writer, path);
        self.depth -= 1;
        let problems = problems?;
        self.memo.insert((reader, writer), Some(problems.clone()));
        Ok(problems)
    }

    fn step(&mut self, step: &str, reader: NodeId, writer: NodeId, path: &mut Path) -> Outcome {
        path.push(step.to_owned());
        let outcome = self.pair(reader, writer, path);
        path.pop();
        outcome
    }

    fn compare(&mut self, reader: NodeId, writer: NodeId, path: &mut Path) -> Outcome {
        let (r, w): (&'a Kind, &'a Kind) = (&self.reader.node(reader).kind, &self.writer.node(writer).kind);
        match (r, w) {
            (Kind::Array(r), Kind::Array(w)) => self.step("items", *r, *w, path),
            (Kind::Map(r), Kind::Map(w)) => self.step("values", *r, *w, path),
            (Kind::Fixed(r), Kind::Fixed(w)) => Ok(fixed_sizes(r, w, path)),
            (Kind::Enum(r), Kind::Enum(w)) => Ok(enum_symbols(r, w, path)),
            (Kind::Record(r), Kind::Record(w)) => self.fields(r, w, writer, path),
            (Kind::Union(_), Kind::Union(branches)) => self.union_branches(reader, branches, path),
            (_, Kind::Union(branches)) => {
                let mut problems = Vec::new();
                for (i, branch) in branches.iter().enumerate() {
                    problems.append(&mut self.step(&i.to_string(), reader, *branch, path)?);
                }
                Ok(problems)
            }
            (Kind::Union(branches), w) => {
                for branch in branches {
                    if self.pair(*branch, writer, &mut Vec::new())?.is_empty() {
                        return Ok(Vec::new());
                    }
                }
                Ok(vec![missing_branch(w, path)])
            }
            (r, w) if promotes(r, w) => Ok(Vec::new()),
            (r, w) => Ok(vec![Problem {
                kind: ProblemKind::TypeMismatch,
                path: pointer(path),
                info: format!("reader type: {} not compatible with writer type: {}", upper(r), upper(w)),
            }]),
        }
    }

    fn union_branches(&mut self, reader: NodeId, branches: &[NodeId], path: &mut Path) -> Outcome {
        let mut problems = Vec::new();
        for (i, branch) in branches.iter().enumerate() {
            if !self.pair(reader, *branch, &mut Vec::new())?.is_empty() {
                path.push(i.to_string());
                problems.push(missing_branch(&self.writer.node(*branch).kind, path));
                path.pop();
            }
        }
        Ok(problems)
    }

    fn fields(&mut self, reader: &Record, writer: &Record, writer_id: NodeId, path: &mut Path) -> Outcome {
        let mut problems = names(&reader.named, &writer.named, path);
        path.push("fields".to_owned());
        for (position, field) in reader.fields.iter().enumerate() {
            path.push(position.to_string());
            let found = self.writer_field(field, position, writer, writer_id)?;
            match found {
                Some(written) => problems.append(&mut self.step("type", field.schema, written.schema, path)?),
                None if field.default.is_some() => {}
                // The original compares the enum with the whole record here.
                None if self.has_enum_default(field) => {
                    problems.append(&mut self.step("type", field.schema, writer_id, path)?);
                }
                None => problems.push(Problem {
                    kind: ProblemKind::ReaderFieldMissingDefaultValue,
                    path: pointer(path),
                    info: field.name.clone(),
                }),
            }
            path.pop();
        }
        path.pop();
        Ok(problems)
    }

    fn has_enum_default(&self, field: &Field) -> bool {
        matches!(&self.reader.node(field.schema).kind, Kind::Enum(symbols) if symbols.default.is_some())
    }

    /// The one field of the writer that has the name or an alias of the reader's field.
    fn writer_field<'w>(
        &self,
        field: &Field,
        position: usize,
        writer: &'w Record,
        writer_id: NodeId,
    ) -> Result<Option<&'w Field>, String> {
        let names = std::iter::once(&field.name).chain(&field.aliases);
        let mut found = names.filter_map(|name| writer.field(name)).map(|(_, field)| field);
        let first = found.next();
        if found.next().is_none() {
            return Ok(first);
        }
        let kind = upper(&self.reader.node(field.schema).kind);
        Err(format!(
            "Reader record field {} type:{kind} pos:{position} matches multiple fields in writer record schema {}",
            field.name,
            self.writer.at(writer_id).resolved()
        ))
    }
}

fn names(reader: &Named, writer: &Named, path: &mut Path) -> Vec<Problem> {
    if reader.name.name == writer.name.name || reader.aliases.contains(&writer.name) {
        return Vec::new();
    }
    path.push("name".to_owned());
    let problem = Problem {
        kind: ProblemKind::NameMismatch,
        path: pointer(path),
        info: format!("expected: {}", writer.name.full()),
    };
    path.pop();
    vec![problem]
}

fn fixed_sizes(reader: &Fixed, writer: &Fixed, path: &mut Path) -> Vec<Problem> {
    let mut problems = names(&reader.named, &writer.named, path);
    if reader.size != writer.size {
        path.push("size".to_owned());
        problems.push(Problem {
            kind: ProblemKind::FixedSizeMismatch,
            path: pointer(path),
            info: format!("expected: {}, found: {}", writer.size, reader.size),
        });
        path.pop();
    }
    problems
}

fn enum_symbols(reader: &Enum, writer: &Enum, path: &mut Path) -> Vec<Problem> {
    let mut problems = names(&reader.named, &writer.named, path);
    let known: BTreeSet<&str> = reader.symbols.iter().map(String::as_str).collect();
    let missing: BTreeSet<&str> = writer.symbols.iter().map(String::as_str).filter(|s| !known.contains(s)).collect();
    if !missing.is_empty() && reader.default.is_none() {
        path.push("symbols".to_owned());
        let list: Vec<&str> = missing.into_iter().collect();
        problems.push(Problem {
            kind: ProblemKind::MissingEnumSymbols,
            path: pointer(path),
            info: format!("[{}]", list.join(", ")),
        });
        path.pop();
    }
    problems
}

fn missing_branch(writer: &Kind, path: &Path) -> Problem {
    Problem {
        kind: ProblemKind::MissingUnionBranch,
        path: pointer(path),
        info: format!("reader union lacking writer type: {}", upper(writer)),
    }
}

fn promotes(reader: &Kind, writer: &Kind) -> bool {
    match (reader, writer) {
        (Kind::Long, Kind::Int)
        | (Kind::Float, Kind::Int | Kind::Long)
        | (Kind::Double, Kind::Int | Kind::Long | Kind::Float)
        | (Kind::Bytes, Kind::String)
        | (Kind::String, Kind::Bytes) => true,
        (reader, writer) => std::mem::discriminant(reader) == std::mem::discriminant(writer),
    }
}

fn pointer(path: &Path) -> String {
    format!("/{}", path.join("/"))
}

fn upper(kind: &Kind) -> String {
    kind.type_name().to_uppercase()
}
