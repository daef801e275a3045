//! What the people and programs that depend on a pod will see of a fault.

use pod_chaos_protocol::{Fault, Partition, PartitionMode};

/// In a sentence; `None` when the fault's own line says it all.
pub fn of(fault: &Fault) -> Option<String> {
    let Fault::Partition(Partition { mode, kill_connections, new_only }) = fault else {
        return None;
    };
    let text = match (mode, new_only) {
        (PartitionMode::Reject, true) => "new connections are refused at once, open ones go on",
        (PartitionMode::Reject, false) => {
            "connections are refused or reset at once, datagrams are answered with an error"
        }
        (_, true) => "new connections hang until they time out, open ones go on",
        (_, false) => {
            "everything hangs; a connection that is cut may go on late, up to as long again as the \
             partition lasts"
        }
    };
    let killed = match (kill_connections, mode) {
        (false, _) => "",
        (true, PartitionMode::Reject) => "; open connections end now, at both ends",
        (true, _) => "; open connections end now in the pod, and their other ends are not told",
    };
    Some(format!("{text}{killed}"))
}
