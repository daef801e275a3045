//! A worse network for what leaves, where nf_tables has no egress hook (before Linux 5.16): the kernel's
//! netem, in a queue of the interface itself.
//!
//! ```text
//! table inet pod-chaos-0badcafe {                        the gate, with its timeout
//!     … chain egress { type filter hook postrouting priority filter; … }
//!     … chain hit-egress { counter meta priority set 7062:4 }
//! }
//! eth0   prio 7062: bands 4 ─┬─ 7062:1, 7062:2, 7062:3  pfifo limit 1000
//!                            └─ 7062:4  tbf 7063: rate 30gbit ── netem 7064:
//! ```
//!
//! The [gate](super::gate) gives packets that are hit the fourth band's class as their priority, which is how
//! prio sorts them (`prio_classify` of net/sched/sch_prio.c); no program of the pod can give it that priority
//! without NET_ADMIN. When the gate closes, no packet gets it any more, and prio sends all as they come: the
//! deadline is the kernel's as of any fault.
//!
//! For this time the interface's own root qdisc is replaced, which no other fault does. So it is only done to
//! one that the kernel has put there by itself, which has no handle, and which it puts back when ours is
//! deleted (`qdisc_graft`, `attach_default_qdiscs`); any other would be lost with all that it was told.
//!
//! A qdisc has no room for the fault's id. The table comes first and goes last, and claims by its comment the
//! queues of the interfaces it names; what looks like ours and is claimed by no fault was left behind.
//!
//! Limits: one such fault on an interface at a time, and only for what leaves; what comes in needs no egress
//! hook, see [`super::netem`]. Packets that do not pass the hooks of IP, those of packet sockets, are not hit.
//! In the moment when the qdisc comes or goes, the kernel drops what is sent (`dev_deactivate`).

use pod_chaos_protocol::{Direction, Failure, FailureKind, FaultId, Interface};

use super::{
    clear::{list_qdiscs, undone, verified},
    gate::{self, Fate, Gate, Way},
    id_of_table,
    label::{Kind, Label, Shapes},
    netem::{self, NETEM, TBF, add_qdiscs, compare_qdiscs},
    selection::Selection,
    table_name,
};
use crate::{
    clock,
    error::{Doing, KernelError, failure},
    kernel::Kernel,
    netlink::{
        link::{self, Link},
        nftables,
        qdisc::{self, Handle, Options, Qdisc},
    },
};

const PRIO: Handle = Handle::qdisc(0x7062);
/// The band for what is hit; those before it are for everything else.
const BAND: u16 = 4;
/// The bands of packets by their priority, as the kernel sorts them by itself (`sch_default_prio2band` of
/// net/sched/sch_generic.c).
const MAP: [u8; 16] = [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
/// What the kernel gives to most interfaces (`DEFAULT_TX_QUEUE_LEN`); those of pods may have none, and a
/// queue for no packet.
const LIMIT: u32 = 1000;

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Plan(netem::Plan);

impl Plan {
    /// Refuses what takes the egress hook.
    pub fn new(plan: netem::Plan) -> Result<Self, Failure> {
        if plan.traffic.peers(Direction::Ingress).is_some() {
            let message =
                "without the nf_tables egress hook, a fault that hits what leaves cannot \
                           hit what comes in as well"
                    .to_owned();
            let hint = "two faults, one in each direction, can run side by side";
            return Err(failure(FailureKind::Unsupported, message, Some(hint)));
        }
        Ok(Self(plan))
    }

    /// The fault's id.
    pub fn id(&self) -> FaultId {
        self.0.id
    }

    /// The interfaces that are hit.
    pub fn interfaces(&self) -> &[(Interface, Link)] {
        &self.0.interfaces
    }

    /// The qdiscs of an interface whose packets have at most so many bytes, in the order they are made.
    pub fn qdiscs(&self, mtu: u32) -> Vec<(Handle, Handle, Options)> {
        let prio = Options::Prio { bands: u32::from(BAND), map: MAP };
        let mut qdiscs = vec![(Handle::ROOT, PRIO, prio)];
        // Who asks for no handle gets any.
        qdiscs.extend(
            (1..BAND).map(|band| (PRIO.class(band), Handle::ANY, Options::Pfifo { limit: LIMIT })),
        );
        qdiscs.extend(self.0.qdiscs_at(PRIO.class(BAND), mtu));
        qdiscs
    }

    fn gate(&self) -> Gate {
        let netem::Plan { id, interfaces, traffic, netem, timeout_ms } = &self.0;
        let from_ms = clock::now_ms();
        let way = |(number, (interface, link)): (usize, &(Interface, Link))| Way {
            number,
            interface: interface.clone(),
            target: link.index,
            direction: Direction::Egress,
            fate: Fate::Queued(PRIO.class(BAND).0),
        };
        Gate {
            id: *id,
            label: Label {
                kind: Kind::Prio,
                interfaces: interfaces.iter().map(|(name, _)| name.clone()).collect(),
                from_ms,
                to_ms: from_ms + timeout_ms,
                shapes: Shapes::of(netem),
            },
            timeout_ms: *timeout_ms,
            ways: interfaces.iter().enumerate().map(way).collect(),
            selection: Selection::new(traffic),
            sample: traffic.sample,
            new_only: false,
        }
    }
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Applied {
    gate: Gate,
}

/// Puts the fault in force. When that fails, it undoes what it has made.
pub fn apply(kernel: &mut Kernel, plan: &Plan) -> Result<Applied, Failure> {
    for link in queues(kernel, plan.id())? {
        remove(kernel, &link)?;
    }
    // Nothing is undone here: what is there is someone else's.
    refuse_queues_of_others(kernel, plan)?;
    make(kernel, plan).map_err(|failure| undone(kernel, plan.id(), failure))
}

/// Reads the fault back, compares it with what was asked for, and undoes it when they differ.
pub fn verify(kernel: &mut Kernel, plan: &Plan, applied: &Applied) -> Result<(), Failure> {
    let compared = compare(kernel, plan, applied);
    verified(kernel, plan.id(), compared)
}

fn refuse_queues_of_others(kernel: &mut Kernel, plan: &Plan) -> Result<(), Failure> {
    for (interface, link) in plan.interfaces() {
        let qdiscs = list_qdiscs(kernel, link.index)?;
        let root = qdiscs.iter().find(|qdisc| qdisc.parent == Handle::ROOT);
        let Some(Qdisc { kind, handle, .. }) = root.filter(|root| root.handle != Handle::ANY)
        else {
            continue;
        };
        let message = format!(
            "without the nf_tables egress hook, the fault would take the place of the qdisc {kind} \
             {handle} of `{interface}`"
        );
        let hint = if *handle == PRIO {
            "another fault is there: end it with --replace, or hit what both are to hit by one"
        } else {
            "someone has put it there, and what it was told would be lost: delete it first"
        };
        return Err(failure(FailureKind::Conflict, message, Some(hint)));
    }
    Ok(())
}

fn make(kernel: &mut Kernel, plan: &Plan) -> Result<Applied, Failure> {
    let gate = plan.gate();
    gate.announce(kernel)?;
    for (_, link) in plan.interfaces() {
        add_qdiscs(kernel, link, &plan.qdiscs(link.mtu))?;
    }
    gate.arm(kernel)?;
    Ok(Applied { gate })
}

/// What of the fault the kernel shows differently.
fn compare(kernel: &mut Kernel, plan: &Plan, applied: &Applied) -> Result<Vec<String>, Failure> {
    let Some(contents) = gate::read(kernel, plan.id())? else {
        return Ok(vec![format!("no table {}", table_name(plan.id()))]);
    };
    let mut differences = applied.gate.compare(&contents);
    for (_, link) in plan.interfaces() {
        let qdiscs = list_qdiscs(kernel, link.index)?;
        differences.extend(compare_qdiscs(&link.name, &qdiscs, plan.qdiscs(link.mtu))?);
    }
    Ok(differences)
}

/// Whether the queues of an interface are those of a fault, by their shape.
pub fn are_ours(qdiscs: &[Qdisc]) -> bool {
    let shape = [
        (Handle::ROOT, PRIO, "prio"),
        (PRIO.class(BAND), TBF, "tbf"),
        (TBF.class(1), NETEM, "netem"),
    ];
    // One that was being made when its agent was killed has the first ones.
    let is = |(parent, handle, kind): (Handle, Handle, &str)| {
        let mut same = qdiscs.iter().filter(|qdisc| qdisc.parent == parent);
        same.find(|qdisc| qdisc.handle != Handle::ANY)
            .map(|qdisc| qdisc.handle == handle && qdisc.kind == kind)
    };
    let [root, tbf, netem] = shape.map(is);
    root == Some(true) && tbf != Some(false) && netem != Some(false)
}

/// The interfaces that have this fault's queues, or those that nobody claims any more.
pub fn queues(kernel: &mut Kernel, id: FaultId) -> Result<Vec<Link>, KernelError> {
    let all = qdisc::list_all(&mut kernel.route).doing(|| "list the qdiscs".to_owned())?;
    if !all.iter().any(|qdisc| qdisc.parent == Handle::ROOT && qdisc.handle == PRIO) {
        return Ok(Vec::new());
    }
    let tables =
        nftables::tables(&mut kernel.netfilter).doing(|| "list the nf_tables tables".to_owned())?;
    let claimed: Vec<Interface> = tables
        .into_iter()
        .filter(|table| id_of_table(&table.name).is_some_and(|other| other != id))
        .filter_map(|table| table.comment?.parse::<Label>().ok())
        .filter(|label| label.kind == Kind::Prio)
        .flat_map(|label| label.interfaces)
        .collect();
    let links = link::list(&mut kernel.route).doing(|| "list the interfaces".to_owned())?;
    let is_own = |link: &Link| {
        let of_link: Vec<_> =
            all.iter().filter(|qdisc| qdisc.link == link.index).cloned().collect();
        are_ours(&of_link) && !claimed.iter().any(|name| name.to_string() == link.name)
    };
    Ok(links.into_iter().filter(is_own).collect())
}

/// Deletes a fault's queues of this interface: the kernel puts its own back.
pub fn remove(kernel: &mut Kernel, link: &Link) -> Result<(), KernelError> {
    let message = qdisc::delete(link.index, PRIO);
    kernel
        .route
        .request(&message)
        .doing(|| format!("delete the qdisc prio {PRIO} of {}", link.name))
}

/// How what is left of one is called.
pub fn name(link: &Link) -> String {
    format!("qdisc prio {PRIO} of {}", link.name)
}
