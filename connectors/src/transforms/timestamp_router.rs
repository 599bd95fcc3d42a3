//! `TimestampRouter`: a topic named after the record's timestamp, in UTC.

use std::sync::Arc;

use super::simple_date_format::SimpleDateFormat;
use crate::api::{
    ConfigDef, ConfigKey, ConfigType, Error, Importance, Props, Record, Result, Transform, TransformSpec,
};

/// Routes by time.
pub static SPEC: TransformSpec = TransformSpec {
    class: "org.apache.kafka.connect.transforms.TimestampRouter",
    config,
    build: |props| Ok(Box::new(TimestampRouter::new(props)?)),
};

fn config() -> ConfigDef {
    ConfigDef::new()
        .with(
            ConfigKey::with_default("topic.format", ConfigType::String, "${topic}-${timestamp}")
                .importance(Importance::High)
                .doc("Format of the new topic, with ${topic} and ${timestamp} as placeholders."),
        )
        .with(
            ConfigKey::with_default("timestamp.format", ConfigType::String, "yyyyMMdd")
                .importance(Importance::High)
                .doc("A pattern as for Java's SimpleDateFormat."),
        )
}

#[derive(Debug)]
struct TimestampRouter {
    topic: String,
    format: SimpleDateFormat,
}

impl TimestampRouter {
    fn new(props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        let pattern = config.text("timestamp.format");
        let format = SimpleDateFormat::new(pattern, 0)
            .ok_or_else(|| Error::config(format!("Invalid value {pattern} for configuration timestamp.format")))?;
        Ok(Self { topic: config.text("topic.format").to_owned(), format })
    }
}

impl Transform for TimestampRouter {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let Some(timestamp) = record.timestamp else {
            return Err(Error::data(format!("Timestamp missing on record: {}", record.topic)));
        };
        let time = self.format.format(timestamp);
        let routed = self.topic.replace("${topic}", &record.topic).replace("${timestamp}", &time);
        if routed != *record.topic {
            record.topic = Arc::from(routed);
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, map_record};
    use super::*;

    #[test]
    fn the_topic_tells_the_day() {
        let mut router = build(&SPEC, &[]);
        let record = Record { timestamp: Some(1_709_209_845_000), ..map_record(&[]) };
        assert_eq!(&*apply(&mut *router, record).topic, "topic-20240229");
        assert!(router.apply(map_record(&[])).unwrap_err().to_string().starts_with("Timestamp missing on record:"));
    }
}
