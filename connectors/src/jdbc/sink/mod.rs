//! stub
/// stub
#[derive(Debug)]
pub struct JdbcSinkConnector;
