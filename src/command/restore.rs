//! `restore`: what the Job does that `fail --by image` leaves in the cluster.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    cli::{ConnectionArgs, RestoreArgs},
    cluster::{Chosen, Cluster, IDLE, Stage, Swap, now},
    exit::{Error, Exit},
};

/// Between two looks, and between two tries.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn run(connection: &ConnectionArgs, args: &RestoreArgs) -> Result<Exit, Error> {
    let clusters = Cluster::connect(connection, args.namespace.namespace.as_ref()).await?;
    let [cluster] = <[_; 1]>::try_from(clusters)
        .map_err(|_| Error::new(Exit::Usage, "a Job works on the one cluster that it runs in"))?;
    let at = &Chosen::with_uid(cluster, &args.pod, &args.uid);
    let fault = args.fault;
    insist(async || Swap::arm(at, fault).await).await;
    let armed = Instant::now();
    let until = loop {
        match insist(async || Stage::of(at, fault).await).await {
            Stage::Over => return Ok(Exit::Done),
            Stage::InForce(swap) => break swap.until,
            // Nobody has done it, and nobody will.
            Stage::Armed if armed.elapsed() > IDLE => break 0,
            Stage::Armed => sleep(AGAIN).await,
        }
    };
    sleep(Duration::from_secs(until.saturating_sub(now(&at.cluster).await))).await;
    insist(async || Swap::take_back(at, fault).await).await;
    Ok(Exit::Done)
}

/// Tries until it is done: the Job's own deadline ends it, and being started again takes the kubelet ever longer.
async fn insist<T>(mut act: impl AsyncFnMut() -> Result<T, Error>) -> T {
    loop {
        match act().await {
            Ok(done) => return done,
            Err(error) => error.print(),
        };
        sleep(AGAIN).await;
    }
}
