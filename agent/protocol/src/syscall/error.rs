//! Errors of system calls by name.

use std::{fmt, str::FromStr};

use syscalls::Errno;

use super::nearest::{advice, nearest};
use crate::serde_as_text;

/// The largest that has a name (EHWPOISON, asm-generic/errno.h).
const LAST: i32 = 133;
/// Other names of some (asm-generic/errno.h; ENOTSUP is the C library's).
const ALIASES: [(&str, Errno); 3] =
    [("EWOULDBLOCK", Errno::EAGAIN), ("EDEADLOCK", Errno::EDEADLK), ("ENOTSUP", Errno::EOPNOTSUPP)];

/// Why an error was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is not an error of a system call ({})",
    advice(*near, "write it as EACCES; errno(3) lists them")
)]
pub struct BadErrorNumber {
    name: String,
    near: Option<&'static str>,
}

/// What a system call fails with, by its name in errno(3): `EACCES`. The numbers are those that x86-64 and
/// AArch64 share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorNumber(Errno);

impl ErrorNumber {
    /// The number, above zero.
    pub fn number(self) -> i32 {
        self.0.into_raw()
    }
}

impl fmt::Display for ErrorNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.name().unwrap_or("?"))
    }
}

impl FromStr for ErrorNumber {
    type Err = BadErrorNumber;

    fn from_str(text: &str) -> Result<Self, BadErrorNumber> {
        let name = text.trim().to_ascii_uppercase();
        let alias = ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, errno)| *errno);
        let all = || (1..=LAST).map(Errno::new);
        let errno = alias.or_else(|| all().find(|errno| errno.name() == Some(&name)));
        errno.map(Self).ok_or_else(|| BadErrorNumber {
            name: text.to_owned(),
            near: nearest(&name, all().filter_map(|errno| errno.name())),
        })
    }
}

serde_as_text!(ErrorNumber);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        for (name, number) in
            [("EPERM", 1), ("enoent", 2), ("EACCES", 13), ("ENOSYS", 38), ("EWOULDBLOCK", 11)]
        {
            assert_eq!(name.parse::<ErrorNumber>().unwrap().number(), number);
        }
        for text in ["", "13", "EWHATEVER", "ERESTARTSYS"] {
            assert!(text.parse::<ErrorNumber>().is_err(), "{text}");
        }
    }

    #[test]
    fn all_are_read_back() {
        let named: Vec<_> = (1..=LAST)
            .map(Errno::new)
            .filter(|errno| errno.name().is_some())
            .map(ErrorNumber)
            .collect();
        assert!(named.len() > 125, "{}", named.len());
        for error in named {
            assert_eq!(error.to_string().parse(), Ok(error));
        }
    }
}
