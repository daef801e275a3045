//! How much of a resource is to be used up, and how much was.

mod cpu;
mod memory;

pub use cpu::{CpuBurn, CpuLoad, CpuUsage, CpuWhole};
pub use memory::{BadMemory, MemoryBurn, MemoryLoad, MemoryUsage};
