//! Prints a schema as `Schema.toString()` of Avro Java does: fixed member order, each named type
//! written out at its first use only, names relative to the enclosing namespace.

use std::collections::HashSet;

use super::java_json::{write_string, write_value};
use super::{Enum, Field, Fixed, Kind, Name, Named, Node, NodeId, Order, Properties, Record, Schema};

pub(super) fn print(schema: &Schema, known: &[String]) -> String {
    let mut printer = Printer { schema, known: known.iter().cloned().collect(), out: String::new() };
    printer.node(schema.root, None);
    printer.out
}

struct Printer<'a> {
    schema: &'a Schema,
    known: HashSet<String>,
    out: String,
}

impl<'a> Printer<'a> {
    fn node(&mut self, id: NodeId, enclosing: Option<&'a str>) {
        let node = self.schema.node(id);
        if let Some(named) = node.named()
            && !self.known.insert(named.name.full())
        {
            write_string(&mut self.out, &named.name.relative_to(enclosing));
            return;
        }
        match &node.kind {
            Kind::Union(branches) => {
                self.out.push('[');
                for (i, branch) in branches.iter().enumerate() {
                    self.comma(i);
                    self.node(*branch, enclosing);
                }
                self.out.push(']');
            }
            Kind::Array(items) => self.container("array", "items", *items, node, enclosing),
            Kind::Map(values) => self.container("map", "values", *values, node, enclosing),
            Kind::Record(record) => self.record(record, &node.properties, enclosing),
            Kind::Enum(symbols) => self.symbols(symbols, &node.properties, enclosing),
            Kind::Fixed(fixed) => self.fixed(fixed, &node.properties, enclosing),
            primitive if node.properties.is_empty() => write_string(&mut self.out, primitive.type_name()),
            primitive => {
                self.open(primitive.type_name());
                self.properties(&node.properties);
                self.out.push('}');
            }
        }
    }

    fn container(&mut self, name: &str, member: &str, child: NodeId, node: &Node, enclosing: Option<&'a str>) {
        self.open(name);
        self.key(member);
        self.node(child, enclosing);
        self.properties(&node.properties);
        self.out.push('}');
    }

    fn record(&mut self, record: &'a Record, properties: &Properties, enclosing: Option<&str>) {
        self.open(if record.error { "error" } else { "record" });
        self.head(&record.named, enclosing);
        self.key("fields");
        self.out.push('[');
        for (i, field) in record.fields.iter().enumerate() {
            self.comma(i);
            self.field(field, record.named.name.namespace.as_deref());
        }
        self.out.push(']');
        self.properties(properties);
        self.type_aliases(&record.named);
        self.out.push('}');
    }

    fn field(&mut self, field: &Field, enclosing: Option<&'a str>) {
        self.out.push_str("{\"name\":");
        write_string(&mut self.out, &field.name);
        self.key("type");
        self.node(field.schema, enclosing);
        self.text("doc", field.doc.as_deref());
        if let Some(default) = &field.default {
            self.key("default");
            write_value(&mut self.out, default);
        }
        if field.order != Order::Ascending {
            self.text("order", Some(field.order.as_str()));
        }
        if !field.aliases.is_empty() {
            self.strings("aliases", field.aliases.iter().map(String::as_str));
        }
        self.properties(&field.properties);
        self.out.push('}');
    }

    fn symbols(&mut self, symbols: &Enum, properties: &Properties, enclosing: Option<&str>) {
        self.open("enum");
        self.head(&symbols.named, enclosing);
        self.strings("symbols", symbols.symbols.iter().map(String::as_str));
        self.text("default", symbols.default.as_deref());
        self.properties(properties);
        self.type_aliases(&symbols.named);
        self.out.push('}');
    }

    fn fixed(&mut self, fixed: &Fixed, properties: &Properties, enclosing: Option<&str>) {
        self.open("fixed");
        self.head(&fixed.named, enclosing);
        self.key("size");
        self.out.push_str(&fixed.size.to_string());
        self.properties(properties);
        self.type_aliases(&fixed.named);
        self.out.push('}');
    }

    fn head(&mut self, named: &Named, enclosing: Option<&str>) {
        let Name { name, namespace } = &named.name;
        self.text("name", Some(name));
        match (namespace.as_deref(), enclosing) {
            (Some(namespace), enclosing) if Some(namespace) != enclosing => self.text("namespace", Some(namespace)),
            (None, Some(_)) => self.text("namespace", Some("")),
            _ => {}
        }
        self.text("doc", named.doc.as_deref());
    }

    fn type_aliases(&mut self, named: &Named) {
        if !named.aliases.is_empty() {
            let enclosing = named.name.namespace.as_deref();
            let relative: Vec<String> = named.aliases.iter().map(|alias| alias.relative_to(enclosing)).collect();
            self.strings("aliases", relative.iter().map(String::as_str));
        }
    }

    fn open(&mut self, type_name: &str) {
        self.out.push_str("{\"type\":");
        write_string(&mut self.out, type_name);
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.out.push(',');
        }
    }

    fn key(&mut self, key: &str) {
        self.out.push(',');
        write_string(&mut self.out, key);
        self.out.push(':');
    }

    fn text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.key(key);
            write_string(&mut self.out, text);
        }
    }

    fn strings<'t>(&mut self, key: &str, texts: impl Iterator<Item = &'t str>) {
        self.key(key);
        self.out.push('[');
        for (i, text) in texts.enumerate() {
            self.comma(i);
            write_string(&mut self.out, text);
        }
        self.out.push(']');
    }

    fn properties(&mut self, properties: &Properties) {
        for (key, value) in properties {
            self.key(key);
            write_value(&mut self.out, value);
        }
    }
}
