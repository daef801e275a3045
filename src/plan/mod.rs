//! Flags become validated values here; nothing past this module is text that could be wrong.

mod disruption;
mod image;
mod name;
mod warm_up;

pub use disruption::{BadDisruption, Disruption};
pub use image::{BadImage, Image};
pub use name::{BadName, Namespace, PodName};
pub use warm_up::{BadWarmUp, WarmUp};
