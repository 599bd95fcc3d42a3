//! All that touches PostgreSQL: JDBC URLs, connections and their failures, the catalog, type mapping, the binary COPY
//! codec, SQL text and DDL. The only folder that names a SQL driver; it knows nothing of connectors, tasks or modes.

pub mod catalog;
mod client_files;
mod client_keys;
pub mod connection;
pub mod copy_decode;
pub mod copy_encode;
pub mod ddl;
pub mod debezium;
pub mod exact;
pub mod failure;
pub mod field_decoder;
pub mod field_encoder;
mod nodelay;
pub mod numeric;
pub mod quote;
pub mod render;
pub mod schemaless;
pub mod temporal;
mod tls;
pub mod type_map;
pub mod url;
mod uuid;
