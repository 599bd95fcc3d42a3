//! `FileStreamSourceConnector`: each line of a file, or of standard input, becomes a record. The offset is the place
//! behind the last whole line; without a file there are no offsets.

use std::io::{ErrorKind as IoErrorKind, Read, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::VERSION;
use crate::api::{
    ConfigDef, ConfigError, ConfigKey, ConfigType, Error, Health, Importance, Position, Props, Result, SourceBatch,
    SourceConnector, SourceContext, SourceRecord, SourceRecords, SourceTask, Spec, Validator,
};
use crate::data::{Schema, Type, Value};

/// The connector.
pub static SOURCE: FileStreamSource = FileStreamSource;

static SPEC: Spec =
    Spec { class: "org.apache.kafka.connect.file.FileStreamSourceConnector", aliases: &[], version: VERSION, config };

const CHUNK: usize = 64 * 1024;
/// How long a poll waits for new lines.
const IDLE: Duration = Duration::from_secs(1);

fn config() -> ConfigDef {
    ConfigDef::new()
        .with(
            ConfigKey::optional("file", ConfigType::String)
                .importance(Importance::High)
                .doc("Source filename. If not specified, the standard input will be used"),
        )
        .with(
            ConfigKey::required("topic", ConfigType::String)
                .check(Validator::NonEmpty)
                .doc("The topic to publish data to"),
        )
        .with(
            ConfigKey::with_default("batch.size", ConfigType::Int, "2000")
                .importance(Importance::Low)
                .doc("The maximum number of records the source task can read from the file each time it is polled"),
        )
}

/// Reads lines.
#[derive(Debug)]
pub struct FileStreamSource;

#[async_trait]
impl SourceConnector for FileStreamSource {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn validate(&self, _props: &Props) -> Vec<ConfigError> {
        Vec::new()
    }

    async fn check(&self, _props: &Props) -> Vec<ConfigError> {
        Vec::new()
    }

    async fn plan(&self, props: &Props, _max_tasks: usize, _health: &Health) -> Result<Vec<Props>> {
        Ok(vec![props.clone()])
    }

    async fn replan(&self, _props: &Props, _current: &[Props]) {
        std::future::pending::<()>().await;
    }

    async fn open(&self, props: &Props, context: SourceContext) -> Result<Box<dyn SourceTask>> {
        let config = config().read(props)?;
        let file = config.optional("file").filter(|file| !file.is_empty()).map(str::to_owned);
        let partition = match &file {
            Some(file) => Position::of([("filename", file.as_str().into())]),
            None => Position::of([]),
        };
        let mut position = 0;
        if file.is_some() {
            let stored = context.offsets.offsets(std::slice::from_ref(&partition)).await?;
            if let Some(offset) = stored.into_iter().next().flatten() {
                position = offset
                    .get("position")
                    .and_then(Value::as_i64)
                    .and_then(|position| u64::try_from(position).ok())
                    .ok_or_else(|| Error::fatal("the stored offset has no valid 'position'"))?;
            }
        }
        Ok(Box::new(FileStreamSourceTask {
            input: Input::Closed,
            file,
            topic: Arc::from(config.text("topic")),
            batch: usize::try_from(config.integer("batch.size")).unwrap_or(1).max(1),
            schema: Arc::new(Schema::new(Type::String)),
            partition: Arc::new(partition),
            lines: Lines { buffer: BytesMut::new(), searched: 0, position },
            context,
        }))
    }

    fn alter_offsets(&self, props: &Props, offsets: &[(Position, Option<Position>)]) -> Result<bool> {
        if props.get("file").is_none_or(|file| file.trim().is_empty()) {
            return Err(Error::fatal(
                "Offsets cannot be modified if the 'file' configuration is unspecified. This is because stdin is used \
                 for input and offsets are not tracked.",
            ));
        }
        for (partition, offset) in offsets {
            if partition.get("filename").is_none() {
                return Err(Error::fatal("Partition objects should contain the key 'filename'"));
            }
            let Some(offset) = offset else { continue };
            match offset.get("position") {
                None => {
                    return Err(Error::fatal("Offset objects should either be null or contain the key 'position'"));
                }
                Some(position) => match position.as_i64() {
                    None => {
                        return Err(Error::fatal(
                            "The value for the 'position' key in the offset is expected to be a Long value",
                        ));
                    }
                    Some(position) if position < 0 => {
                        return Err(Error::fatal(
                            "The value for the 'position' key in the offset should be non-negative",
                        ));
                    }
                    Some(_) => {}
                },
            }
        }
        Ok(true)
    }
}

enum Input {
    Closed,
    File(File),
    Stdin,
}

struct FileStreamSourceTask {
    input: Input,
    file: Option<String>,
    topic: Arc<str>,
    batch: usize,
    schema: Arc<Schema>,
    partition: Arc<Position>,
    lines: Lines,
    context: SourceContext,
}

impl FileStreamSourceTask {
    /// Opens the input at the place of the first unread line; false if there is no such file yet.
    async fn open_input(&mut self) -> Result<bool> {
        let failed = |what: &str, file: &str, error| Error::retriable(format!("cannot {what} {file}")).caused_by(error);
        let Some(file) = &self.file else {
            self.input = Input::Stdin;
            return Ok(true);
        };
        let mut opened = match File::open(file).await {
            Ok(opened) => opened,
            Err(error) if error.kind() == IoErrorKind::NotFound => {
                self.context.health.degraded(format!("file {file} does not exist yet"));
                return Ok(false);
            }
            Err(error) => return Err(failed("open", file, error)),
        };
        self.context.health.recovered();
        let place = self.lines.position + self.lines.buffer.len() as u64;
        opened.seek(SeekFrom::Start(place)).await.map_err(|error| failed("seek in", file, error))?;
        self.input = Input::File(opened);
        Ok(true)
    }

    /// Reads on; false if nothing more is there now.
    async fn read(&mut self) -> Result<bool> {
        self.lines.buffer.reserve(CHUNK);
        let length = match &mut self.input {
            Input::Closed => Ok(0),
            Input::File(file) => file.read_buf(&mut self.lines.buffer).await,
            Input::Stdin => {
                let read = tokio::task::spawn_blocking(|| {
                    let mut bytes = vec![0; CHUNK];
                    let length = std::io::stdin().lock().read(&mut bytes)?;
                    bytes.truncate(length);
                    Ok::<_, std::io::Error>(bytes)
                });
                match read.await {
                    Ok(Ok(bytes)) => {
                        self.lines.buffer.extend_from_slice(&bytes);
                        Ok(bytes.len())
                    }
                    Ok(Err(error)) => Err(error),
                    Err(error) => Err(std::io::Error::other(error)),
                }
            }
        };
        match length {
            Ok(length) => Ok(length > 0),
            Err(error) => {
                self.input = Input::Closed;
                Err(Error::retriable("cannot read the file").caused_by(error))
            }
        }
    }

    /// The lines that were read, up to a batch; none if there is no whole one.
    fn lines(&mut self) -> Option<SourceBatch> {
        let mut records = Vec::new();
        while records.len() < self.batch {
            let Some(line) = self.lines.next() else { break };
            records.push(SourceRecord::of_value(line.into()));
        }
        if records.is_empty() {
            return None;
        }
        let position = i64::try_from(self.lines.position).unwrap_or(i64::MAX);
        Some(SourceBatch {
            topic: Arc::clone(&self.topic),
            key_schema: None,
            value_schema: Some(Arc::clone(&self.schema)),
            records: SourceRecords::Made(records),
            source_partition: Arc::clone(&self.partition),
            source_offset: self.file.as_ref().map(|_| Position::of([("position", position.into())])),
        })
    }
}

#[async_trait]
impl SourceTask for FileStreamSourceTask {
    async fn poll(&mut self) -> Result<Vec<SourceBatch>> {
        loop {
            if let Some(batch) = self.lines() {
                return Ok(vec![batch]);
            }
            let more = match self.input {
                Input::Closed => self.open_input().await?,
                _ => self.read().await?,
            };
            if !more {
                // Both futures are cancel-safe: a sleep and a token.
                tokio::select! {
                    () = tokio::time::sleep(IDLE) => {}
                    () = self.context.stop.cancelled() => {}
                }
                if matches!(self.input, Input::Closed) || !self.read().await? {
                    return Ok(Vec::new());
                }
            }
        }
    }

    async fn close(self: Box<Self>) {}
}

/// Bytes that were read, and the place in the file that they begin at.
#[derive(Debug)]
struct Lines {
    buffer: BytesMut,
    /// How far the buffer holds no line end, so that a long line is searched once.
    searched: usize,
    position: u64,
}

impl Lines {
    /// The next whole line without its end: LF, CR LF or CR. A CR at the end of what was read waits for more.
    fn next(&mut self) -> Option<String> {
        let from = self.searched;
        let Some(end) = self.buffer[from..].iter().position(|b| matches!(b, b'\n' | b'\r')).map(|at| from + at) else {
            self.searched = self.buffer.len();
            return None;
        };
        self.searched = end;
        let mark = match self.buffer[end..] {
            [b'\r', b'\n', ..] => 2,
            [b'\r'] => return None,
            _ => 1,
        };
        let line = self.buffer.split_to(end + mark);
        self.searched = 0;
        self.position += line.len() as u64;
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::api::OffsetReader;

    #[derive(Debug)]
    struct Stored(Option<Position>);

    #[async_trait]
    impl OffsetReader for Stored {
        async fn offsets(&self, partitions: &[Position]) -> Result<Vec<Option<Position>>> {
            Ok(partitions.iter().map(|_| self.0.clone()).collect())
        }
    }

    async fn open(file: &std::path::Path, stored: Option<Position>) -> Box<dyn SourceTask> {
        let props = [("file", file.to_str().unwrap()), ("topic", "t"), ("batch.size", "2")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into_iter()
            .collect();
        let context = SourceContext {
            connector: Arc::from("c"),
            task: 0,
            offsets: Arc::new(Stored(stored)),
            stop: CancellationToken::new(),
            health: Health::default(),
        };
        SOURCE.open(&props, context).await.unwrap()
    }

    fn texts(batches: &[SourceBatch]) -> Vec<&str> {
        let records = batches.iter().flat_map(|batch| match &batch.records {
            SourceRecords::Made(records) => records,
            SourceRecords::Rows(_) => panic!("lines are records"),
        });
        records.map(|record| record.value.as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn lines_become_records_and_reading_resumes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.txt");
        let mut task = open(&path, None).await;
        assert!(task.poll().await.unwrap().is_empty());
        let mut file = std::fs::File::create(&path).unwrap();
        write!(file, "a\r\nb\nc\nd").unwrap();
        let first = task.poll().await.unwrap();
        assert_eq!(texts(&first), ["a", "b"]);
        let offset = first[0].source_offset.clone().unwrap();
        assert_eq!(offset.get("position"), Some(&Value::Int64(5)));
        assert_eq!(texts(&task.poll().await.unwrap()), ["c"]);
        assert!(task.poll().await.unwrap().is_empty());
        writeln!(file, "e").unwrap();
        assert_eq!(texts(&task.poll().await.unwrap()), ["de"]);
        let mut resumed = open(&path, Some(offset)).await;
        assert_eq!(texts(&resumed.poll().await.unwrap()), ["c", "de"]);
    }

    #[test]
    fn offsets_are_checked() {
        let props: Props = [("file".to_owned(), "f".to_owned())].into_iter().collect();
        let partition = Position::of([("filename", "f".into())]);
        let alter = |offset| SOURCE.alter_offsets(&props, &[(partition.clone(), offset)]);
        assert!(alter(None).unwrap());
        assert!(alter(Some(Position::of([("position", 3i64.into())]))).unwrap());
        assert_eq!(
            alter(Some(Position::of([("x", 3i64.into())]))).unwrap_err().to_string(),
            "Offset objects should either be null or contain the key 'position'"
        );
        assert!(alter(Some(Position::of([("position", (-3i64).into())]))).is_err());
        assert!(SOURCE.alter_offsets(&Props::new(), &[]).is_err());
    }
}
