//! Flags become validated values here; nothing past this module is text that could be wrong.

mod disruption;
mod image;
mod name;
mod netem;
mod profile;
mod table;
mod warm_up;

pub use disruption::Disruption;
pub use image::{BadImage, Image};
pub use name::{BadName, Namespace, PodName};
pub use profile::Profile;
pub use table::{BadTable, distribution, slot};
pub use warm_up::{BadWarmUp, WarmUp};
