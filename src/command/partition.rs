//! `partition`: no network.

use super::network;
use crate::{
    cli::{ConnectionArgs, PartitionArgs},
    exit::{Error, Exit},
    plan::Intent,
};

pub(super) async fn run(connection: &ConnectionArgs, args: &PartitionArgs) -> Result<Exit, Error> {
    let intent = Intent::try_from(args).map_err(|error| {
        Error::new(Exit::Usage, error)
            .hint("`kubectl pod-chaos partition --help` explains the flags")
    })?;
    network::run(connection, &args.target, &args.course, intent).await
}
