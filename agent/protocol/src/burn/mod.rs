//! How much of a resource is to be used up, and how much was.

mod cpu;
mod io;
mod memory;

pub use cpu::{CpuBurn, CpuLoad, CpuUsage, CpuWhole};
pub use io::{BadIo, IoBurn, IoUsage, Pace};
pub use memory::{BadMemory, MemoryBurn, MemoryLoad, MemoryUsage};
