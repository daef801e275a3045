//! Which packets are lost: by chance, or in bursts by a chain of states, as "loss random", "loss state" and
//! "loss gemodel" of tc-netem(8).

use pod_chaos_protocol::{FourStates, GilbertElliott, Loss};

use super::{
    chance::{Coin, Threshold},
    dice::Dice,
};

/// A model of loss and where it stands.
#[derive(Clone, Debug)]
pub enum LossModel {
    /// Each by itself, or a little as the one before.
    Random(Coin),
    /// A chain of four states.
    State(Chain),
    /// A chain of two states.
    Gemodel(Channel),
}

impl LossModel {
    /// At its start, where all is well.
    pub fn new(loss: Loss) -> Self {
        match loss {
            Loss::Random(chance) => Self::Random(Coin::new(chance)),
            Loss::State(states) => Self::State(Chain::new(states)),
            Loss::Gemodel(model) => Self::Gemodel(Channel::new(model)),
        }
    }

    /// Whether the next packet is lost.
    pub fn loses(&mut self, dice: &mut Dice) -> bool {
        match self {
            Self::Random(coin) => coin.falls(dice),
            Self::State(chain) => chain.loses(dice),
            Self::Gemodel(channel) => channel.loses(dice),
        }
    }
}

/// Where the chain of four states stands, by the numbers that tc-netem(8) gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// 1.
    Arriving,
    /// 2.
    ArrivingInBurst,
    /// 3.
    LostInBurst,
    /// 4.
    LostAlone,
}

/// A chain of four states.
#[derive(Clone, Debug)]
pub struct Chain {
    /// p13, p31, p32, p23, p14: how many of 2^32 throws.
    p13: u64,
    p31: u64,
    p32: u64,
    p23: u64,
    p14: u64,
    state: State,
}

impl Chain {
    fn new(states: FourStates) -> Self {
        let [p13, p31, p32, p23, p14] = states.probabilities().map(|p| {
            let scaled = u64::from(p.scaled());
            if scaled == u64::from(u32::MAX) { scaled + 1 } else { scaled }
        });
        Self { p13, p31, p32, p23, p14, state: State::Arriving }
    }

    /// Goes on to the next state; the packet is lost when that is one in which packets are.
    fn loses(&mut self, dice: &mut Dice) -> bool {
        let throw = u64::from(dice.throw());
        self.state = match self.state {
            State::Arriving if throw < self.p14 => State::LostAlone,
            State::Arriving if throw < self.p14 + self.p13 => State::LostInBurst,
            State::Arriving | State::LostAlone => State::Arriving,
            State::ArrivingInBurst if throw < self.p23 => State::LostInBurst,
            State::ArrivingInBurst => State::ArrivingInBurst,
            State::LostInBurst if throw < self.p32 => State::ArrivingInBurst,
            State::LostInBurst if throw < self.p32 + self.p31 => State::Arriving,
            State::LostInBurst => State::LostInBurst,
        };
        matches!(self.state, State::LostInBurst | State::LostAlone)
    }
}

/// A channel with a good and a bad state, each with its own loss.
#[derive(Clone, Debug)]
pub struct Channel {
    to_bad: Threshold,
    to_good: Threshold,
    lost_while_bad: Threshold,
    lost_while_good: Threshold,
    bad: bool,
}

impl Channel {
    fn new(GilbertElliott { p, r, bad, good }: GilbertElliott) -> Self {
        Self {
            to_bad: Threshold::new(p),
            to_good: Threshold::new(r),
            lost_while_bad: Threshold::new(bad),
            lost_while_good: Threshold::new(good),
            bad: false,
        }
    }

    /// The packet is lost or not by the state that it finds; the next one may find another.
    fn loses(&mut self, dice: &mut Dice) -> bool {
        let (turn, loss) = if self.bad {
            (self.to_good, self.lost_while_bad)
        } else {
            (self.to_bad, self.lost_while_good)
        };
        self.bad ^= turn.is_met(dice);
        loss.is_met(dice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: u32 = 2_000_000;

    /// The share of packets that are lost, and the mean length of a burst of losses.
    fn measure(text: &str) -> (f64, f64) {
        let (mut model, mut dice) = (LossModel::new(text.parse().unwrap()), Dice::new(11));
        let (mut lost, mut bursts, mut before) = (0u32, 0u32, false);
        for _ in 0..COUNT {
            let now = model.loses(&mut dice);
            lost += u32::from(now);
            bursts += u32::from(now && !before);
            before = now;
        }
        (f64::from(lost) / f64::from(COUNT), f64::from(lost) / f64::from(bursts))
    }

    fn assert_near(text: &str, share: f64, burst: f64) {
        let (found, length) = measure(text);
        assert!((found - share).abs() < 0.03 * share, "{text}: {found} instead of {share}");
        assert!((length - burst).abs() < 0.04 * burst, "{text}: bursts of {length}, not {burst}");
    }

    #[test]
    fn a_simple_gilbert_channel_loses_all_while_it_is_bad() {
        // In the long run bad for p / (p + r), and then for 1 / r packets.
        assert_near("gemodel 1% 10%", 0.01 / 0.11, 10.0);
        assert_near("gemodel 2% 25%", 0.02 / 0.27, 4.0);
        assert_near("gemodel 5%", 0.05, 1.0 / 0.95);
    }

    #[test]
    fn a_gilbert_elliott_channel_loses_by_its_state() {
        let (share, _) = measure("gemodel 1% 10% 70% 0.5%");
        let bad = 0.01 / 0.11;
        let want = bad * 0.7 + (1.0 - bad) * 0.005;
        assert!((share - want).abs() < 0.03 * want, "{share} instead of {want}");
    }

    #[test]
    fn a_chain_of_two_of_the_four_states_is_a_simple_gilbert_channel() {
        assert_near("state 1% 10%", 0.01 / 0.11, 10.0);
    }

    #[test]
    fn a_chain_of_four_states_loses_by_its_balance() {
        // Solved by hand: each state's share is what flows into it.
        let [p13, p31, p32, p23, p14] = [0.02, 0.3, 0.1, 0.5, 0.01];
        let (one, three): (f64, f64) = (1.0, p13 / p31);
        let (two, four) = (three * p32 / p23, p14);
        let want = (three + four) / (one + two + three + four);
        let (share, _) = measure("state 2% 30% 10% 50% 1%");
        assert!((share - want).abs() < 0.03 * want, "{share} instead of {want}");
    }

    #[test]
    fn random_losses_are_alone() {
        assert_near("10%", 0.1, 1.0 / 0.9);
        assert_near("20% 50%", 0.2, 1.0 / (0.8 * 0.5));
    }
}
