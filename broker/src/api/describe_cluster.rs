//! DescribeCluster (60).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse, RequestHeader};

use super::metadata::CLUSTER_OPERATIONS;
use super::{Context, text};

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let mut response = DescribeClusterResponse::default();
    if header.request_api_version >= 1 && request.endpoint_type != 1 {
        let error = if request.endpoint_type == 2 {
            ResponseError::MismatchedEndpointType
        } else {
            ResponseError::UnsupportedEndpointType
        };
        response.error_code = error.code();
        response.error_message = Some(text("this is a broker listener"));
        return response;
    }
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    let (host, port) = context.address();
    let broker = DescribeClusterBroker::default().with_broker_id(context.node_id()).with_host(host).with_port(port);
    response
        .with_cluster_id(text(context.handle.cluster_id()))
        .with_controller_id(context.node_id())
        .with_brokers(vec![broker.with_rack(context.rack())])
}
