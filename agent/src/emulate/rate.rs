//! A wire that packets go over one after the other, each for as long as its bytes take.

use pod_chaos_protocol::Link;

/// A wire, and until when it is busy.
#[derive(Clone, Debug)]
pub struct Wire {
    link: Link,
    busy_until: u64,
}

impl Wire {
    /// One that is free.
    pub const fn new(link: Link) -> Self {
        Self { link, busy_until: 0 }
    }

    /// When a packet of so many bytes, from its Ethernet header on, has passed that is there at `now`.
    pub fn pass(&mut self, now: u64, length: usize) -> u64 {
        self.busy_until = now.max(self.busy_until).saturating_add(self.time(length));
        self.busy_until
    }

    /// How long so many bytes take.
    fn time(&self, length: usize) -> u64 {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let mut bytes = length.saturating_add(self.link.packet_overhead().into()).max(0);
        if let Some(cell) = self.link.cell() {
            let size = i64::from(cell.size.get());
            let cells = bytes / size + i64::from(bytes % size > 0);
            bytes = cells * (size + i64::from(cell.overhead));
        }
        let rate = self.link.rate().bytes_per_second();
        let nanos = i128::from(bytes.max(0)) * 1_000_000_000 / i128::from(rate);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(text: &str) -> Wire {
        Wire::new(text.parse().unwrap())
    }

    #[test]
    fn bytes_take_their_time() {
        // 1 Mbit/s is 8 µs for each byte.
        assert_eq!(wire("1mbit").time(1514), 12_112_000);
        assert_eq!(wire("1mbit 20").time(1514), 12_272_000);
        assert_eq!(wire("1mbit -14").time(1514), 12_000_000);
        // 1514 bytes are 32 cells of 48 bytes, which have 53 on the wire.
        assert_eq!(wire("1mbit 0 48 5").time(1514), 32 * 53 * 8_000);
        assert_eq!(wire("1mbit 0 48 5").time(48), 53 * 8_000);
    }

    #[test]
    fn packets_wait_for_each_other() {
        let mut wire = wire("8kbit");
        assert_eq!(wire.pass(5_000_000_000, 100), 5_100_000_000);
        assert_eq!(wire.pass(5_000_000_000, 100), 5_200_000_000);
        assert_eq!(wire.pass(6_000_000_000, 100), 6_100_000_000);
    }
}
