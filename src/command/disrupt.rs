//! `disrupt`: a worse network.

use super::network;
use crate::{
    cli::{ConnectionArgs, DisruptArgs},
    exit::{Error, Exit},
    plan::Intent,
};

pub(super) async fn run(connection: &ConnectionArgs, args: &DisruptArgs) -> Result<Exit, Error> {
    let intent = Intent::try_from(args)
        .map_err(|error| Error::new(Exit::Usage, &error).hint(error.hint()))?;
    network::run(connection, &args.target, &args.course, intent).await
}
