//! The wait before a fault starts.

use std::{str::FromStr, time::Duration};

use pod_chaos_protocol::{BadTime, RunTime};

/// Why a warm-up was refused.
pub type BadWarmUp = BadTime;

/// How long to wait before the start: as a running time, but it may be zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarmUp(Duration);

impl WarmUp {
    /// The wait.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for WarmUp {
    type Err = BadWarmUp;

    fn from_str(text: &str) -> Result<Self, BadWarmUp> {
        match text.parse::<RunTime>() {
            Ok(time) => Ok(Self(time.into())),
            // Less than any running time: as good as none.
            Err(BadTime::TooShort(..)) => Ok(Self(Duration::ZERO)),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn may_be_zero_and_counts_seconds() {
        assert_eq!("0".parse(), Ok(WarmUp(Duration::ZERO)));
        assert_eq!("5".parse(), Ok(WarmUp(Duration::from_secs(5))));
        assert_eq!("500ms".parse(), Ok(WarmUp(Duration::from_millis(500))));
        assert!("-1".parse::<WarmUp>().is_err());
        assert!("25h".parse::<WarmUp>().is_err());
    }
}
