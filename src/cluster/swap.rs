//! A pod's images, replaced by one that nobody has, and put back: what `fail --by image` does.
//!
//! What is needed to put them back is an annotation of the pod, written together with the images. Whoever finds it
//! there may put them back; where it is gone, that has been done. All writes name the version of the pod that was read.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{Patch, PatchParams};
use pod_chaos_protocol::FaultId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Chosen, Cluster, Restorer, api_error, client::in_time};
use crate::exit::{Error, Exit};

/// An image that cannot be pulled: no registry's name ends so (RFC 6761, section 6.4).
const NOWHERE: &str = "pod-chaos.invalid/failed:on-purpose";
/// The annotation's key begins so; the fault's id follows.
const ANNOTATION: &str = "pod-chaos/images-";
/// Of what length the annotation is before the images are replaced: whoever is to put them back has shown that it can.
const ARMED: &str = "";
/// How often somebody else may write in between.
const TRIES: u32 = 20;

/// What was replaced, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// Its id.
    #[serde(skip, default = "no_fault")]
    pub fault: FaultId,
    /// What each container had.
    pub images: BTreeMap<String, String>,
    /// When it began, by the API server's clock, in seconds since 1970.
    pub since: u64,
    /// When it is to end, by the same.
    pub until: u64,
    /// The Job that sees to that.
    pub job: String,
}

/// Who has put images back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestoredBy {
    /// The Job, at the deadline; or somebody else before.
    Job,
    /// This command.
    Client,
}

fn no_fault() -> FaultId {
    FaultId::new(0)
}

impl Swap {
    /// That of all containers of a pod that run, from now on.
    ///
    /// Those that prepare the pod have ended, unless they are sidecars (KEP-753).
    pub fn new(pod: &Pod, restorer: &Restorer, now: u64) -> Self {
        let images =
            containers(pod).filter_map(|(_, one)| Some((one.name.clone(), one.image.clone()?)));
        let seconds = restorer.running_time.as_nanos().div_ceil(1_000_000_000);
        let (fault, job) = (restorer.fault, restorer.name());
        Self { fault, images: images.collect(), since: now, until: now + seconds, job }
    }

    /// Those of a pod; `None` in place of one that somebody is ready for and that has not begun.
    pub fn all_of(pod: &Pod) -> Result<Vec<(FaultId, Option<Self>)>, Error> {
        let annotations = pod.metadata.annotations.iter().flatten();
        let ours = annotations.filter_map(|(key, value)| {
            Some((key, key.strip_prefix(ANNOTATION)?.parse::<FaultId>().ok()?, value))
        });
        ours.map(|(key, fault, value)| {
            if value == ARMED {
                return Ok((fault, None));
            }
            let swap = serde_json::from_str::<Self>(value).map_err(|error| {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                Error::internal(&format!("reading annotation {key} of pod/{name}"), error)
                    .hint("its `images` say what each container had; put that back, and remove it")
            })?;
            Ok((fault, Some(Self { fault, ..swap })))
        })
        .collect()
    }

    /// Whether a pod has any.
    pub fn is_on(pod: &Pod) -> bool {
        pod.metadata.annotations.iter().flatten().any(|(key, _)| key.starts_with(ANNOTATION))
    }

    /// Those that are in force.
    pub fn in_force(pod: &Pod) -> Result<Vec<Self>, Error> {
        Ok(Self::all_of(pod)?.into_iter().filter_map(|(_, swap)| swap).collect())
    }

    /// Whether the server would take it, too.
    pub async fn check(&self, at: &Chosen) -> Result<(), Error> {
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        change(at, dry_run, |pod| Ok(Some(self.put_in(pod)))).await.map(drop)
    }

    /// Replaces the images of a pod for which somebody is ready to put them back.
    pub async fn carry_out(&self, at: &Chosen) -> Result<(), Error> {
        let name = &at.name;
        let changed = change(at, PatchParams::default(), |pod| {
            let ready = Self::all_of(pod)?.contains(&(self.fault, None));
            if !ready {
                return Err(Error::refused(format_args!(
                    "pod/{name} has nobody any more who would put its images back"
                )));
            }
            Ok(Some(self.put_in(pod)))
        });
        let pod = changed.await?.unwrap_or_default();
        let left =
            containers(&pod).filter(|(_, one)| one.image.as_deref() != Some(NOWHERE)).count();
        if left == 0 && Self::in_force(&pod)?.contains(self) {
            return Ok(());
        }
        Err(Error::new(
            Exit::NotClean,
            format_args!("the API server took new images for pod/{name} but did not keep them all"),
        ))
    }

    /// Puts them back. Whether there was something to be put back.
    pub async fn take_back(at: &Chosen, fault: FaultId) -> Result<bool, Error> {
        let changed = change(at, PatchParams::default(), |pod| {
            let found = Self::all_of(pod)?.into_iter().find(|(id, _)| *id == fault);
            Ok(found.map(|(_, swap)| put_back(pod, fault, swap.as_ref())))
        });
        Ok(changed.await?.is_some())
    }

    /// Says on the pod that somebody is ready to put its images back.
    pub async fn arm(at: &Chosen, fault: FaultId) -> Result<(), Error> {
        let changed = change(at, PatchParams::default(), |pod| {
            let known = Self::all_of(pod)?.into_iter().any(|(id, _)| id == fault);
            let armed = json!({"metadata": {"annotations": {key(fault): ARMED}}});
            Ok((!known).then_some(armed))
        });
        changed.await.map(drop)
    }

    fn put_in(&self, pod: &Pod) -> Value {
        let value = json!(self).to_string();
        let image_of =
            |one: &Container| self.images.contains_key(&one.name).then(|| NOWHERE.to_owned());
        patch(pod, self.fault, &value.into(), image_of)
    }
}

fn put_back(pod: &Pod, fault: FaultId, swap: Option<&Swap>) -> Value {
    // What somebody has changed meanwhile is theirs.
    let image_of = |one: &Container| {
        let own = swap?.images.get(&one.name)?;
        (one.image.as_deref() == Some(NOWHERE)).then(|| own.clone())
    };
    patch(pod, fault, &Value::Null, image_of)
}

fn key(fault: FaultId) -> String {
    format!("{ANNOTATION}{fault}")
}

/// The containers that run, and which list they are in.
fn containers(pod: &Pod) -> impl Iterator<Item = (&'static str, &Container)> {
    let spec = pod.spec.as_ref();
    let sidecars = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let apps = spec.into_iter().flat_map(|spec| &spec.containers);
    apps.map(|one| ("containers", one)).chain(sidecars.map(|one| ("initContainers", one)))
}

fn patch(
    pod: &Pod,
    fault: FaultId,
    value: &Value,
    image_of: impl Fn(&Container) -> Option<String>,
) -> Value {
    let mut patch = json!({"metadata": {"annotations": {key(fault): value}}, "spec": {}});
    for (list, one) in containers(pod) {
        let Some(image) = image_of(one) else { continue };
        let change = json!({"name": one.name, "image": image});
        match &mut patch["spec"][list] {
            Value::Array(changes) => changes.push(change),
            none => *none = json!([change]),
        }
    }
    patch
}

/// Reads the pod, and has it changed as `decide` says; again, where somebody else has changed it in between. `None`
/// when nothing is to be changed, or nothing is there.
async fn change(
    at: &Chosen,
    params: PatchParams,
    decide: impl Fn(&Pod) -> Result<Option<Value>, Error>,
) -> Result<Option<Pod>, Error> {
    let mut tries = TRIES;
    loop {
        let Some(pod) = read(at).await? else { return Ok(None) };
        let Some(patch) = decide(&pod)? else { return Ok(None) };
        tries -= 1;
        match write(&at.cluster, &pod, &params, &patch).await {
            Err(kube::Error::Api(status)) if status.code == 409 && tries > 0 => {}
            written => return written.map(Some).map_err(|error| api_error(&error)),
        }
    }
}

/// The very pod, if it is still there, and not another one that has got its name.
async fn read(Chosen { cluster, name, pod }: &Chosen) -> Result<Option<Pod>, Error> {
    let found = in_time(cluster.pods().get_opt(name.as_str())).await;
    let found = found.map_err(|error| api_error(&error))?;
    Ok(found.filter(|it| it.metadata.uid == pod.metadata.uid))
}

/// How far a fault has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not begun, and somebody is ready to end it.
    Armed,
    /// It is in force.
    InForce(Swap),
    /// It has ended, or the pod has gone, or it never was.
    Over,
}

impl Stage {
    /// As the pod has it.
    pub async fn of(at: &Chosen, fault: FaultId) -> Result<Self, Error> {
        let Some(pod) = read(at).await? else { return Ok(Self::Over) };
        let found = Swap::all_of(&pod)?.into_iter().find(|(id, _)| *id == fault);
        Ok(match found {
            None => Self::Over,
            Some((_, None)) => Self::Armed,
            Some((_, Some(swap))) => Self::InForce(swap),
        })
    }
}

/// Lists are merged by the names of containers.
async fn write(
    cluster: &Cluster,
    pod: &Pod,
    params: &PatchParams,
    patch: &Value,
) -> kube::Result<Pod> {
    let mut patch = patch.clone();
    patch["metadata"]["uid"] = json!(pod.metadata.uid);
    patch["metadata"]["resourceVersion"] = json!(pod.metadata.resource_version);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    in_time(cluster.pods().patch(name, params, &Patch::Strategic(patch))).await
}

/// The API server's clock in seconds since 1970, or this machine's where that one does not say.
pub async fn now(cluster: &Cluster) -> u64 {
    let own = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    cluster.clock().await.unwrap_or_else(own)
}
