//! The time a pod has to end.

use std::{str::FromStr, time::Duration};

use super::WarmUp;

/// Between SIGTERM and SIGKILL: whole seconds, as `metadata.deletionGracePeriodSeconds`. Zero is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracePeriod(u32);

impl GracePeriod {
    /// In seconds.
    pub const fn seconds(self) -> u32 {
        self.0
    }
}

impl FromStr for GracePeriod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = text.parse::<WarmUp>().map_err(|error| error.to_string())?.duration();
        // What is less than any running time was taken for zero.
        let digits_are_zero = text.bytes().all(|byte| !(b'1'..=b'9').contains(&byte));
        if time.subsec_nanos() > 0 || (time == Duration::ZERO && !digits_are_zero) {
            return Err(format!("`{text}` is not a whole number of seconds"));
        }
        // No running time is longer than a day.
        u32::try_from(time.as_secs()).map(Self).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_whole_seconds() {
        let seconds = |text: &str| text.parse().map(GracePeriod::seconds);
        assert_eq!(seconds("0"), Ok(0));
        assert_eq!(seconds("0s"), Ok(0));
        assert_eq!(seconds("30"), Ok(30));
        assert_eq!(seconds("2m"), Ok(120));
        for bad in ["500ms", "1.5", "1us", "-1", "", "soon", "25h"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
