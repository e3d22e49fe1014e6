//! Unix sockets for calls between processes of one machine and user.

use millstream_calls::NodeId;

/// The name of the socket on which the worker of a node takes calls, in the folder of its user's processes.
#[must_use]
pub fn socket_name(node: &NodeId) -> String {
    format!("calls-{node}.sock")
}
