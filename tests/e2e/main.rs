//! The plugin as a user types it, on the lab's real kubelets, judged by eyes that are not ours:
//! `ab`, `ping`, `tc -j`, `nft -j`, `ip -j`, container statuses.
//!
//! Run it with `scripts/lab run -- cargo test --test e2e`; without a lab every test is ignored and
//! says why. `POD_CHAOS_NODE=native` (or `guest`) has all of them on that node, `POD_CHAOS_BACKEND` has `disrupt` use
//! that backend, which is how each backend passes what the others pass.

mod admission;
mod deadline;
mod followed;
mod image;
mod install;
mod kinds;
mod lab;
mod machine;
mod network;
mod pods;
mod processes;
mod refusals;
mod status;
mod story;

use std::{process::ExitCode, sync::RwLock, time::Instant};

use lab::{Lab, Node};
use libtest_mimic::{Arguments, Failed, Trial};

type Test = fn(&Lab) -> Result<(), Failed>;

/// Tests that measure time have the machine to themselves.
static MACHINE: RwLock<()> = RwLock::new(());

/// A test that is named as its function.
macro_rules! on {
    ($node:ident $test:path) => {
        (stringify!($test), Node::$node, $test)
    };
}

/// Each test with the node it needs: the guest where netem matters, and time; a process starts ten times as
/// fast on the other.
const TESTS: &[(&str, Node, Test)] = &[
    // The longest ones come first.
    on!(Guest network::every_option),
    ("network::every_option_without_netem", Node::Native, network::every_option),
    on!(Native network::every_target_and_partition),
    on!(Native network::probes_of_the_kubelet_pass),
    on!(Guest story::delays_one_pod_and_not_the_other),
    on!(Guest story::variation_spreads_the_delay),
    on!(Guest story::ipv6_is_delayed_too),
    on!(Guest story::warm_up_is_shown_and_kept),
    on!(Guest story::only_the_named_interface_is_hit),
    on!(Native install::says_what_it_did_and_that_it_is_there),
    on!(Native install::replaces_a_dead_agent),
    on!(Native install::uninstall_lets_the_agent_exit),
    on!(Native install::an_agent_is_streamed_into_an_image_of_the_pods_own),
    on!(Native install::asks_for_the_least),
    on!(Native admission::pod_security_lets_in_what_the_table_says),
    on!(Native admission::a_policy_lets_in_agents_and_nothing_else),
    on!(Guest deadline::holds_when_all_live),
    on!(Guest deadline::holds_when_the_plugin_is_killed),
    on!(Guest deadline::holds_when_the_agent_is_killed),
    on!(Guest deadline::holds_when_all_processes_of_ours_are_killed),
    on!(Guest deadline::holds_when_the_app_container_is_killed),
    on!(Native deadline::holds_while_kubelet_and_api_server_stand_still),
    on!(Guest deadline::holds_when_the_plugin_is_killed_before_the_agent_starts),
    on!(Guest deadline::ctrl_c_while_the_agent_starts_leaves_nothing_in_force),
    on!(Guest deadline::ctrl_c_reverts_at_once),
    on!(Guest deadline::sigterm_reverts_at_once),
    on!(Guest deadline::detached_faults_end_and_are_cleared),
    on!(Guest image::is_loaded_into_containerd_and_runs),
    on!(Native kinds::every_kind_of_pod_works),
    on!(Guest machine::the_guest_cannot_write_to_the_machines_files),
    on!(Native machine::says_what_runs_and_what_it_said),
    on!(Guest status::reads_the_kernel_and_revert_ends_it),
    on!(Native status::many_faults_leave_nothing),
    on!(Native processes::a_pause_lasts_until_its_deadline),
    on!(Native processes::a_pause_ends_with_its_agent_and_with_its_container),
    on!(Native processes::the_same_user_needs_no_capability),
    on!(Native processes::a_signal_does_what_the_app_makes_of_it),
    on!(Native processes::what_handles_nothing_is_killed_without_a_capability),
    on!(Native processes::processor_time_is_burnt_by_the_container),
    on!(Native pods::a_deleted_pod_has_a_successor),
    on!(Native pods::a_failed_pod_stays_and_serves_nothing),
    on!(Native pods::images_that_nobody_has_are_put_back_by_a_job),
    on!(Native processes::calls_of_one_container_fail),
    on!(Native processes::calls_of_an_unprivileged_container_fail),
    on!(Native processes::a_container_is_observed),
    on!(Native processes::memory_is_held_by_the_container),
    on!(Native processes::a_disk_is_full_and_busy),
    on!(Guest processes::who_lacks_memory_is_killed_and_comes_back),
    on!(Native refusals::pods_that_cannot_be_hit),
    on!(Native refusals::a_static_pod),
    on!(Native refusals::missing_permissions),
    on!(Native refusals::our_cluster_role_is_enough),
    on!(Native refusals::pod_security),
    on!(Native refusals::an_image_that_cannot_be_pulled),
    on!(Native refusals::an_unknown_interface),
    on!(Native refusals::a_second_fault_on_the_interface),
    on!(Native story::many_pods_begin_at_the_same_moment),
    on!(Native story::a_kernel_without_netem_is_no_obstacle),
    (
        "partition::cuts_off_its_target_only",
        Node::Native,
        story::a_partition_cuts_off_its_target_only,
    ),
    ("targets::a_new_replica_is_hit_too", Node::Native, followed::a_new_replica_is_hit_too),
    (
        "targets::are_late_and_others_are_not",
        Node::Guest,
        story::a_target_is_late_and_others_are_not,
    ),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let lab = Lab::from_environment();
    if let Err(why) = &lab {
        eprintln!("skipped: {why}");
    }
    let labs: Option<[&'static Lab; 2]> = lab.ok().map(|lab| {
        [lab.on(Node::Guest), lab.on(Node::Native)].map(|lab| &*Box::leak(Box::new(lab)))
    });
    let everywhere = std::env::var("POD_CHAOS_NODE").ok();
    // Those of both nodes by turns, as each has processors of its own; nobody waits for who is to be alone.
    let places: Vec<_> =
        TESTS.iter().map(|(name, node, _)| (is_alone(name), *node == Node::Native)).collect();
    let mut tests: Vec<_> = TESTS.iter().copied().enumerate().collect();
    tests.sort_by_key(|&(at, _)| {
        let place = places[at];
        let count = |of: &[_]| of.iter().filter(|other| **other == place).count();
        (place.0, count(&places[..at]) * 1000 / count(&places))
    });
    let trials = tests.into_iter().map(|(_, (name, node, test))| {
        let node = match everywhere.as_deref() {
            None => node,
            // Of the guest's containerd.
            Some(_) if name.starts_with("image::") => node,
            Some("guest") => Node::Guest,
            Some("native") => Node::Native,
            Some(other) => panic!("POD_CHAOS_NODE is guest or native, not {other}"),
        };
        let able = labs.map(|labs| labs[usize::from(node == Node::Native)]).filter(|lab| {
            let has = lab.has(node);
            if !has {
                eprintln!("skipped: {name}: the lab has no {node} node");
            }
            has
        });
        Trial::test(name, move || match able {
            Some(lab) if is_alone(name) => {
                let _alone = MACHINE.write();
                timed(name, || test(lab))
            }
            Some(lab) => {
                let _shared = MACHINE.read();
                timed(name, || test(lab))
            }
            None => Err("cannot run here".into()),
        })
        .with_ignored_flag(able.is_none())
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    for lab in labs.into_iter().flatten() {
        lab.finish();
    }
    conclusion.exit_code()
}

/// Whether it measures time.
fn is_alone(name: &str) -> bool {
    let ones = ["story::delays", "story::variation", "story::many_pods", "deadline::holds"];
    ones.iter().any(|one| name.starts_with(one))
}

/// Says how long it takes, when asked to: the suite is to stay quick.
fn timed(name: &str, test: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
    let start = Instant::now();
    let outcome = test();
    if std::env::var_os("POD_CHAOS_TIMES").is_some() {
        eprintln!("{:6.1} s  {name}", start.elapsed().as_secs_f64());
    }
    outcome
}
