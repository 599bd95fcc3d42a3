//! DescribeConfigs (32).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse, RequestHeader};

use super::configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, Entry, GROUP, TOPIC, broker_entries, topic_entries};
use super::{Context, text};
use crate::cluster::{Refusal, check_name};

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let synonyms = request.include_synonyms;
    let mut response = DescribeConfigsResponse::default();
    for resource in request.resources {
        let result = match entries(context, &resource) {
            Ok(entries) => {
                let wanted = |entry: &Entry| {
                    let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
                    keys.is_none_or(|keys| keys.iter().any(|key| **key == *entry.name))
                };
                let shown =
                    entries.into_iter().filter(wanted).map(|e| show(e, synonyms, header.request_api_version)).collect();
                DescribeConfigsResult::default().with_configs(shown)
            }
            Err((error, message)) => {
                DescribeConfigsResult::default().with_error_code(error.code()).with_error_message(Some(text(message)))
            }
        };
        response
            .results
            .push(result.with_resource_type(resource.resource_type).with_resource_name(resource.resource_name));
    }
    response
}

fn entries(context: &Context, resource: &DescribeConfigsResource) -> Result<Vec<Entry>, Refusal> {
    let name: &str = &resource.resource_name;
    match resource.resource_type {
        TOPIC => {
            check_name(name)?;
            let unknown = || (ResponseError::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."));
            let topic = context.cluster().topic(name).ok_or_else(unknown)?;
            Ok(topic_entries(&context.handle, &topic))
        }
        BROKER | BROKER_LOGGER if !name.is_empty() && name != context.node_id().0.to_string() => {
            let message = format!("Unexpected broker id {name}; this is {}", context.node_id().0);
            Err((ResponseError::InvalidRequest, message))
        }
        BROKER => Ok(broker_entries(context)),
        BROKER_LOGGER | CLIENT_METRICS | GROUP => Ok(Vec::new()),
        other => Err((ResponseError::InvalidRequest, format!("Unknown resource type {other}"))),
    }
}

fn show(entry: Entry, synonyms: bool, version: i16) -> DescribeConfigsResourceResult {
    let synonym = |(name, value, source): (String, String, i8)| {
        DescribeConfigsSynonym::default().with_name(text(name)).with_value(Some(text(value))).with_source(source)
    };
    let result = DescribeConfigsResourceResult::default()
        .with_name(text(entry.name))
        .with_value(Some(text(entry.value)))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source)
        .with_config_type(if version >= 3 { entry.kind } else { 0 });
    if synonyms { result.with_synonyms(entry.synonyms.into_iter().map(synonym).collect()) } else { result }
}
