//! Flags become validated values here; nothing past this module is text that could be wrong.

mod disruption;
mod fail;
mod followed;
mod grace_period;
mod image;
mod intent;
pub mod matrix;
mod mode;
mod name;
mod netem;
mod origin;
mod output_format;
mod partition;
mod pattern;
mod profile;
mod protected;
mod selection;
pub mod syscall;
mod table;
mod traffic;
mod url;
mod warm_up;
mod workload;

pub use disruption::BadDisruption;
pub use followed::{
    BadFollowed, Followed, Kind as FollowedKind, Labels, Service, ServicePort as ServicePortName,
};
pub use grace_period::GracePeriod;
pub use image::{BadImage, Image};
pub use intent::Intent;
pub use mode::{BadMode, Mode, part};
pub use name::{BadName, Namespace, NodeName, PodName, ServiceAccountName};
pub use origin::{BadBootstrap, Bootstrap, Origin};
pub use output_format::{BadFormat, OutputFormat, Path};
pub use pattern::{BadPattern, Pattern};
pub use profile::Profile;
pub use protected::Protected;
pub use selection::{Annotation, BadPick, BadSelection, FieldSelector, Phase, Selection};
pub use table::{BadTable, distribution, slot};
pub use traffic::BadTrafficFlags;
pub use url::{BadUrl, Url};
pub use warm_up::{BadWarmUp, WarmUp};
pub use workload::{BadTarget, TargetName, Workload, WorkloadKind};
