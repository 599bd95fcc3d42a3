//! `FileStreamSinkConnector`: the text of each record's value becomes a line of a file, or of standard output.

use std::io::Write;

use async_trait::async_trait;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::VERSION;
use crate::api::{
    ConfigDef, ConfigError, ConfigKey, ConfigType, Error, Importance, Props, Rejected, Result, SinkConnector,
    SinkContext, SinkRecords, SinkTask, Spec,
};
use crate::data::text::java_text;

/// The connector.
pub static SINK: FileStreamSink = FileStreamSink;

static SPEC: Spec =
    Spec { class: "org.apache.kafka.connect.file.FileStreamSinkConnector", aliases: &[], version: VERSION, config };

fn config() -> ConfigDef {
    ConfigDef::new().with(
        ConfigKey::optional("file", ConfigType::String)
            .importance(Importance::High)
            .doc("Destination filename. If not specified, the standard output will be used"),
    )
}

/// Writes lines.
#[derive(Debug)]
pub struct FileStreamSink;

#[async_trait]
impl SinkConnector for FileStreamSink {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn validate(&self, _props: &Props) -> Vec<ConfigError> {
        Vec::new()
    }

    async fn check(&self, _props: &Props) -> Vec<ConfigError> {
        Vec::new()
    }

    async fn open(&self, props: &Props, _context: SinkContext) -> Result<Box<dyn SinkTask>> {
        let config = config().read(props)?;
        let file = match config.optional("file").filter(|file| !file.is_empty()) {
            None => None,
            Some(path) => {
                let opened = OpenOptions::new().append(true).create(true).open(path).await;
                Some(opened.map_err(|error| {
                    Error::fatal(format!("Couldn't find or create file '{path}' for FileStreamSinkTask"))
                        .caused_by(error)
                })?)
            }
        };
        Ok(Box::new(FileStreamSinkTask { file }))
    }
}

struct FileStreamSinkTask {
    /// `None` writes to standard output.
    file: Option<File>,
}

#[async_trait]
impl SinkTask for FileStreamSinkTask {
    async fn put(&mut self, records: &mut dyn SinkRecords) -> Result<Vec<Rejected>> {
        let mut text = String::new();
        while records.advance().await? {
            for record in records.piece() {
                let value = &record.record.value;
                text.push_str(&java_text(value.schema.as_deref(), &value.value));
                text.push('\n');
            }
        }
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let written = match &mut self.file {
            Some(file) => file.write_all(text.as_bytes()).await,
            None => tokio::task::spawn_blocking(move || std::io::stdout().write_all(text.as_bytes()))
                .await
                .unwrap_or_else(|error| Err(std::io::Error::other(error))),
        };
        // Part of the text may be in the file, so the same records must not come again to this task.
        written.map_err(|error| Error::fatal("cannot write to the file").caused_by(error))?;
        Ok(Vec::new())
    }

    async fn flush(&mut self) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let failed = |error| Error::fatal("cannot flush the file").caused_by(error);
        file.flush().await.map_err(failed)?;
        file.sync_data().await.map_err(failed)
    }

    async fn close(mut self: Box<Self>) {
        if let Err(error) = self.flush().await {
            tracing::warn!(error = %error, "could not flush the file while closing");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::api::{Health, MadeRecords, Origin, Record, SinkRecord};
    use crate::data::{Datum, Value};

    #[tokio::test]
    async fn values_become_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        let props = [("file".to_owned(), path.to_str().unwrap().to_owned())].into_iter().collect();
        let context = SinkContext {
            connector: Arc::from("c"),
            task: 0,
            group: crate::api::ConsumerGroup { cluster: Arc::from("k"), name: Arc::from("connect-c") },
            stop: CancellationToken::new(),
            health: Health::default(),
        };
        let mut task = SINK.open(&props, context).await.unwrap();
        let record = |value: Value| SinkRecord {
            record: Record::of_value(Arc::from("t"), Datum::schemaless(value)),
            origin: Origin { topic: Arc::from("t"), partition: 0, offset: 0 },
        };
        task.put(&mut MadeRecords::new(&[record("a".into()), record(Value::Int32(5))])).await.unwrap();
        task.flush().await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\n5\n");
        task.close().await;
    }
}
