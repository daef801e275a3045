//! `install` and `uninstall`.

use clap::Args;

use super::{PickArgs, PodArgs};
use crate::plan::{Bootstrap, Image, Origin};

/// Where the agent comes from.
#[derive(Clone, Debug, Args)]
pub struct ImageArgs {
    /// Image of the agent
    #[arg(short = 'g', long, value_name = "IMAGE", env = "POD_CHAOS_IMAGE", default_value_t)]
    pub image: Image,
    /// How it gets into the pod: in that image; or by `stream` into one that the pod has, where no other is admitted
    #[arg(long, value_name = "HOW", default_value = "image")]
    pub bootstrap: Bootstrap,
}

impl ImageArgs {
    /// What these flags come to.
    pub fn origin(&self) -> Origin {
        match &self.bootstrap {
            Bootstrap::Image => Origin::Image(self.image.clone()),
            Bootstrap::Stream(programs) => Origin::Stream(programs.clone()),
        }
    }
}

/// Flags of `install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: PodArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub agent: ImageArgs,
}

/// Flags of `uninstall`.
#[derive(Debug, Args)]
pub struct UninstallArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub pick: PickArgs,
}
