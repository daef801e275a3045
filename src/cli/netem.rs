//! The flags of netem's options, in `tc`'s words.

use std::num::NonZeroU32;

use clap::Args;
use pod_chaos_protocol::{Chance, Distribution, Latency, Link, Loss, Percentage, Reorder, Slot};

use super::at_least_one;
use crate::plan::{Profile, distribution, slot};

const DELAY: &str = "Delay";
const LOSS: &str = "Loss and damage";
const LINK: &str = "Link";

/// What becomes of packets.
#[derive(Debug, Default, Args)]
pub struct NetemArgs {
    /// Delay of each packet that is hit
    #[arg(short, long, value_name = "TIME", allow_negative_numbers = true, help_heading = DELAY)]
    pub delay: Option<Latency>,
    /// Spread the delay over delay ± this
    #[arg(
        short = 'v',
        long,
        visible_alias = "jitter",
        value_name = "TIME",
        allow_negative_numbers = true,
        help_heading = DELAY
    )]
    pub variation: Option<Latency>,
    /// How much of a packet's variation is in the next one's
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true, help_heading = DELAY)]
    pub correlation: Option<Percentage>,
    /// Shape of the variation: uniform (when not given), normal, pareto, paretonormal,
    /// or a file of numbers as tc has them
    #[arg(long, value_name = "NAME|FILE", value_parser = distribution, help_heading = DELAY)]
    pub distribution: Option<Distribution>,
    /// Send some packets at once, before those that are delayed:
    /// 'PERCENT [CORRELATION] [gap DISTANCE]'
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true, help_heading = DELAY)]
    pub reorder: Option<Reorder>,
    /// Lose packets: 'PERCENT [CORRELATION]', 'state P13 [P31 [P32 [P23 [P14]]]]'
    /// or 'gemodel P [R [1-H [1-K]]]'
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true, help_heading = LOSS)]
    pub loss: Option<Loss>,
    /// Mark packets that can be marked (ECN) instead of losing them
    #[arg(long, help_heading = LOSS)]
    pub ecn: bool,
    /// Send packets twice: 'PERCENT [CORRELATION]'
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true, help_heading = LOSS)]
    pub duplicate: Option<Chance>,
    /// Change one bit of packets: 'PERCENT [CORRELATION]'
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true, help_heading = LOSS)]
    pub corrupt: Option<Chance>,
    /// A link by name; other flags override parts of it
    #[arg(long, value_enum, value_name = "NAME", hide_possible_values = true, help_heading = LINK)]
    pub profile: Option<Profile>,
    /// Send no faster than this: 'RATE [PACKETOVERHEAD [CELLSIZE [CELLOVERHEAD]]]',
    /// such as 1mbit
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true, help_heading = LINK)]
    pub rate: Option<Link>,
    /// Hold packets until a slot comes: 'MIN [MAX] [packets N] [bytes N]'
    /// or 'distribution NAME|FILE TIME VARIATION [packets N] [bytes N]'
    #[arg(
        long,
        value_name = "WORDS",
        allow_hyphen_values = true,
        value_parser = slot,
        help_heading = LINK
    )]
    pub slot: Option<Slot>,
    /// Packets that are held at most; as many as the rest needs when not given
    #[arg(long, value_name = "PACKETS", value_parser = at_least_one, help_heading = LINK)]
    pub limit: Option<NonZeroU32>,
}
