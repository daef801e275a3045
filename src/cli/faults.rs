//! `status` and `revert`.

use clap::Args;

use super::{OutputFormat, PickArgs};
use crate::plan::StatusFormat;

const NOT_NAMED: &str =
    "Without a word on which pods, it is every pod of the namespace that ever got an agent.";

/// Flags of `status`.
#[derive(Debug, Args)]
#[command(after_help = NOT_NAMED)]
pub struct StatusArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub pick: PickArgs,
    /// How the result is printed on stdout: text, wide, json, yaml, name or jsonpath=PATH
    #[arg(
        id = "status_output",
        short = 'o',
        long = "output",
        value_name = "FORMAT",
        default_value_t
    )]
    pub output: StatusFormat,
}

/// Flags of `revert`.
#[derive(Debug, Args)]
#[command(after_help = NOT_NAMED)]
pub struct RevertArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub pick: PickArgs,
    /// How the result is printed on stdout
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
}
