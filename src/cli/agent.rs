//! `install` and `uninstall`.

use clap::Args;

use super::{PickArgs, PodArgs};
use crate::plan::Image;

/// Which image the agent comes from.
#[derive(Clone, Debug, Args)]
pub struct ImageArgs {
    /// Image of the agent
    #[arg(short = 'g', long, value_name = "IMAGE", env = "POD_CHAOS_IMAGE", default_value_t)]
    pub image: Image,
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
