//! Memory of large packets that have left, for those to come. The kernel takes a page fault for each page of new
//! memory, which for a super-packet is longer than all else that happens to it: a malloc that gives memory of this
//! size back at once, as musl's and glibc's do, takes sixteen of them for each.

use std::collections::VecDeque;

/// What is shorter than a page is the allocator's.
const LARGE: usize = 4096;
/// For so many packets: what one system call takes or gives. At most 4 MiB.
const PACKETS: usize = crate::sys::packet::BATCH;

/// Memory that is free.
#[derive(Debug, Default)]
pub struct Memory(VecDeque<Vec<u8>>);

impl Memory {
    /// A copy of a packet, in the memory of one of about its size if there is any: what is held is counted by
    /// its length, so that is at least half of what it takes up.
    pub fn copy(&mut self, packet: &[u8]) -> Vec<u8> {
        let fits = |free: &Vec<u8>| (packet.len()..=2 * packet.len()).contains(&free.capacity());
        match self.0.pop_back() {
            Some(mut free) if fits(&free) => {
                free.clear();
                free.extend_from_slice(packet);
                free
            }
            other => {
                self.0.extend(other);
                packet.to_vec()
            }
        }
    }

    /// Takes that of a packet that has left.
    pub fn free(&mut self, packet: Vec<u8>) {
        if packet.capacity() < LARGE {
            return;
        }
        if self.0.len() == PACKETS {
            self.0.pop_front();
        }
        self.0.push_back(packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_large_packet_is_for_the_next_one_of_its_size() {
        let mut memory = Memory::default();
        let first = memory.copy(&vec![1; 60_000]);
        let place = first.as_ptr();
        memory.free(first);
        for length in [100, 29_999, 60_001] {
            let other = memory.copy(&vec![2; length]);
            assert_eq!(other, vec![2; length]);
            assert_ne!(other.as_ptr(), place);
        }
        let second = memory.copy(&vec![3; 30_000]);
        assert_eq!((second.as_ptr(), second), (place, vec![3; 30_000]));
    }

    #[test]
    fn little_is_kept() {
        let mut memory = Memory::default();
        memory.free(vec![0; LARGE - 1]);
        assert!(memory.0.is_empty());
        for length in LARGE..LARGE + PACKETS + 3 {
            memory.free(vec![0; length]);
        }
        let kept: Vec<_> = memory.0.iter().map(Vec::len).collect();
        assert_eq!(kept, (LARGE + 3..LARGE + PACKETS + 3).collect::<Vec<_>>());
    }
}
