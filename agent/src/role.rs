//! What this agent may do: the capabilities of its container say what it is there for.

use std::fs;

use crate::processes::field;

/// `CAP_NET_ADMIN` (linux/capability.h).
const NET_ADMIN: u32 = 12;

/// Whether it can make faults of the network, and see them. One that is there for processes cannot.
pub fn sees_network() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Where it cannot be told, the kernel refuses what may not be done.
    effective(&status).is_none_or(|capabilities| capabilities & (1 << NET_ADMIN) != 0)
}

/// The effective capabilities, as a set of bits.
fn effective(status: &str) -> Option<u64> {
    u64::from_str_radix(field(status, "CapEff")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_capabilities_as_the_kernel_prints_them() {
        assert_eq!(effective("CapPrm:\t0\nCapEff:\t0000000000001000\n"), Some(1 << NET_ADMIN));
        assert_eq!(effective("Name:\tx\n"), None);
    }
}
