//! The agent's image, and the plugin's, as a file, and into the nodes of local clusters: for who has no registry.

mod archive;
mod loader;
mod program;

pub use archive::{Archive, Format};
pub use loader::{Loader, Missing};
pub use program::{Architecture, BadProgram, Kind, Program, built_in};
