//! Offsets over REST (KIP-875): what a source has read, what a sink's group has committed.

use serde_json::{Map, Value, json};
use towline_connectors::api::{Connector, ConsumerGroup, Error, ErrorKind, Position, TopicPartition};

use super::{Herder, Refusal, find_connector};
use crate::config_providers;
use crate::store::{ConnectorState, State, TargetState};
use crate::task::group_of;

const MANAGED: &str = "The Connect framework-managed offsets for this connector have been altered successfully. However, if \
this connector manages offsets externally, they will need to be manually altered in the system that the connector uses.";
const RESET: &str = "The Connect framework-managed offsets for this connector have been reset successfully. However, if \
this connector manages offsets externally, they will need to be manually reset in the system that the connector uses.";

impl Herder {
    /// The offsets of a connector, in the shape of the REST answer.
    ///
    /// # Errors
    /// 404 if there is none of that name, 500 if the cluster does not answer.
    pub async fn offsets(&self, name: &str) -> Result<Value, Refusal> {
        let state = self.state(name)?;
        let offsets: Vec<Value> = if is_sink(&state) {
            let committed = self.shared.kafka.group_offsets(&group_of(name, &state.config)).await?;
            let entry = |(at, offset): (TopicPartition, i64)| json!({"partition": {"kafka_topic": &*at.topic, "kafka_partition": at.partition}, "offset": {"kafka_offset": offset}});
            committed.into_iter().map(entry).collect()
        } else {
            let stored = self.shared.stores.offsets.of_connector(name);
            stored.iter().map(|(p, o)| json!({"partition": p.to_json(), "offset": o.to_json()})).collect()
        };
        Ok(json!({ "offsets": offsets }))
    }

    fn stopped(&self, name: &str) -> Result<std::sync::Arc<ConnectorState>, Refusal> {
        let state = self.state(name)?;
        // STOPPED is written once the tasks have ended: until then one of them may still commit.
        let ended = self.shared.stores.status.connector(name).is_some_and(|status| status.state == State::Stopped);
        if state.target == TargetState::Stopped && state.tasks.is_empty() && ended {
            return Ok(state);
        }
        Err(Refusal::new(
            400,
            "Connectors must be in the STOPPED state before their offsets can be modified. This can be done for the \
             specified connector by issuing a 'PUT' request to the '/connectors/{c}/stop' endpoint"
                .replace("{c}", name),
        ))
    }

    /// Changes some offsets of a stopped connector; the text of the answer.
    ///
    /// # Errors
    /// 400 for offsets that make no sense or a connector that is not stopped, 404 if there is none of that name.
    pub async fn alter_offsets(&self, name: &str, body: &Value) -> Result<String, Refusal> {
        let entries = entries(body)?;
        let state = self.stopped(name)?;
        if is_sink(&state) {
            let offsets = entries.iter().map(sink_entry).collect::<Result<Vec<_>, _>>()?;
            self.alter_target(name, &state, Some(&offsets)).await?;
            self.shared.kafka.alter_group_offsets(&group_of(name, &state.config), &offsets).await?;
            return Ok(MANAGED.to_owned());
        }
        let offsets = entries.iter().map(source_entry).collect::<Result<Vec<_>, _>>()?;
        let handled = match find_connector(state.config.get("connector.class").map_or("", String::as_str)) {
            Some(Connector::Source(source)) => {
                // Offsets can be set while a provider's file is gone: what it would say is then not checked.
                let props = config_providers::resolve(&state.config, &self.shared.config);
                source.alter_offsets(props.as_ref().unwrap_or(&state.config), &offsets).map_err(refusal)?
            }
            _ => false,
        };
        self.shared.stores.offsets.put(name, &offsets).await?;
        Ok(if handled {
            "The offsets for this connector have been altered successfully".to_owned()
        } else {
            MANAGED.to_owned()
        })
    }

    /// Lets what the target itself knows of a sink's offsets follow.
    async fn alter_target(
        &self,
        name: &str,
        state: &ConnectorState,
        offsets: Option<&[(TopicPartition, Option<i64>)]>,
    ) -> Result<bool, Refusal> {
        let Some(Connector::Sink(sink)) =
            find_connector(state.config.get("connector.class").map_or("", String::as_str))
        else {
            return Ok(false);
        };
        let props = config_providers::resolve(&state.config, &self.shared.config)?;
        let group = ConsumerGroup {
            cluster: self.shared.cluster_id.clone(),
            name: group_of(name, &state.config).as_str().into(),
        };
        Ok(sink.alter_offsets(&props, &group, offsets).await?)
    }

    /// Forgets all offsets of a stopped connector; the text of the answer.
    ///
    /// # Errors
    /// 400 for a connector that is not stopped, 404 if there is none of that name.
    pub async fn reset_offsets(&self, name: &str) -> Result<String, Refusal> {
        let state = self.stopped(name)?;
        if is_sink(&state) {
            self.alter_target(name, &state, None).await?;
            self.shared.kafka.delete_group(&group_of(name, &state.config)).await?;
        } else {
            let known = self.shared.stores.offsets.of_connector(name);
            let forgotten: Vec<_> = known.into_iter().map(|(partition, _)| (partition, None)).collect();
            self.shared.stores.offsets.put(name, &forgotten).await?;
        }
        Ok(RESET.to_owned())
    }
}

/// What is wrong with the offsets themselves is the user's to mend.
fn refusal(error: Error) -> Refusal {
    match error.kind() {
        ErrorKind::Data => Refusal::new(400, error.to_string()),
        _ => error.into(),
    }
}

fn is_sink(state: &ConnectorState) -> bool {
    matches!(find_connector(state.config.get("connector.class").map_or("", String::as_str)), Some(Connector::Sink(_)))
}

fn entries(body: &Value) -> Result<Vec<Map<String, Value>>, Refusal> {
    let Some(object) = body.as_object() else {
        return Err(Refusal::new(500, "Cannot deserialize value: the body must be an object with the key 'offsets'"));
    };
    if let Some(key) = object.keys().find(|key| *key != "offsets") {
        return Err(Refusal::new(500, format!("Unrecognized field \"{key}\", known is: \"offsets\"")));
    }
    let empty = || Refusal::new(400, "Partitions / offsets need to be provided for an alter offsets request");
    let list = match object.get("offsets") {
        None | Some(Value::Null) => return Err(empty()),
        Some(Value::Array(list)) if list.is_empty() => return Err(empty()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Refusal::new(500, "Cannot deserialize value of 'offsets': it must be an array")),
    };
    list.iter()
        .map(|entry| {
            let Some(entry) = entry.as_object() else {
                return Err(Refusal::new(500, "Cannot construct instance of an offset from what is not an object"));
            };
            if let Some(key) = entry.keys().find(|key| *key != "partition" && *key != "offset") {
                return Err(Refusal::new(
                    500,
                    format!("Unrecognized field \"{key}\", known are: \"partition\", \"offset\""),
                ));
            }
            let misshapen = ["partition", "offset"]
                .into_iter()
                .find(|key| !matches!(entry.get(*key), None | Some(Value::Null | Value::Object(_))));
            match misshapen {
                Some(key) => {
                    Err(Refusal::new(500, format!("Cannot deserialize value of '{key}': it must be an object")))
                }
                None => Ok(entry.clone()),
            }
        })
        .collect()
}

fn source_entry(entry: &Map<String, Value>) -> Result<(Position, Option<Position>), Refusal> {
    let partition = Position::from_json(entry.get("partition").unwrap_or(&Value::Null)).map_err(refusal)?;
    let offset = match entry.get("offset") {
        None | Some(Value::Null) => None,
        Some(offset) => Some(Position::from_json(offset).map_err(refusal)?),
    };
    Ok((partition, offset))
}

fn sink_entry(entry: &Map<String, Value>) -> Result<(TopicPartition, Option<i64>), Refusal> {
    let bad = |message: &str| Refusal::new(400, message);
    let Some(partition) = entry.get("partition").and_then(Value::as_object) else {
        return Err(bad("The partition for a sink connector offset cannot be null or missing"));
    };
    let (Some(topic), Some(number)) = (partition.get("kafka_topic"), partition.get("kafka_partition")) else {
        return Err(bad(
            "The partition for a sink connector offset must contain the keys 'kafka_topic' and 'kafka_partition'",
        ));
    };
    let Some(topic) = topic.as_str() else {
        return Err(bad("Kafka topic names must be valid strings and may not be null"));
    };
    if number.is_null() {
        return Err(bad("Kafka partitions must be valid numbers and may not be null"));
    }
    let partition = integer(number).and_then(|n| i32::try_from(n).ok()).ok_or_else(|| {
        bad(&format!("Failed to parse the following Kafka partition value: {number}. Partition values for sink connectors need to be integers."))
    })?;
    let at = TopicPartition { topic: topic.into(), partition };
    let Some(offset) = entry.get("offset").filter(|offset| !offset.is_null()) else { return Ok((at, None)) };
    let Some(offset) = offset.get("kafka_offset") else {
        return Err(bad("The offset for a sink connector should either be null or contain the key 'kafka_offset'"));
    };
    let offset = integer(offset).ok_or_else(|| {
        bad(&format!("Failed to parse the following Kafka offset value: {offset}. Offset values for sink connectors need to be integers."))
    })?;
    Ok((at, Some(offset)))
}

/// An integer, also as text.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}
