//! `status` and `revert`.

use clap::Args;

use super::{OutputArgs, PickArgs, agent::ImageArgs};

const NOT_NAMED: &str =
    "Without a word on which pods, it is every pod of the namespace that ever got an agent.";

/// Flags of `status`.
#[derive(Debug, Args)]
#[command(after_help = NOT_NAMED)]
pub struct StatusArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub pick: PickArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
}

/// Flags of `revert`.
#[derive(Debug, Args)]
#[command(after_help = NOT_NAMED)]
pub struct RevertArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub pick: PickArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub agent: ImageArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
}
