//! Flags become validated values here; nothing past this module is text that could be wrong.

mod disruption;
mod followed;
mod grace_period;
mod image;
mod intent;
mod name;
mod netem;
mod partition;
mod profile;
mod table;
mod traffic;
mod warm_up;

pub use disruption::BadDisruption;
pub use followed::{
    BadFollowed, Followed, Kind as FollowedKind, Labels, Service, ServicePort as ServicePortName,
};
pub use grace_period::GracePeriod;
pub use image::{BadImage, Image};
pub use intent::Intent;
pub use name::{BadName, Namespace, PodName};
pub use profile::Profile;
pub use table::{BadTable, distribution, slot};
pub use traffic::BadTrafficFlags;
pub use warm_up::{BadWarmUp, WarmUp};
