//! The agent's image as a file, and into the nodes of local clusters: for who has no registry.

mod agent;
mod archive;
mod loader;

pub use agent::{Agent, Architecture, BadAgent, built_in};
pub use archive::{Archive, Format};
pub use loader::{Loader, Missing};
