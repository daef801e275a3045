//! Addresses of web pages.

use std::{fmt, str::FromStr};

use http::{Uri, uri::Scheme};

/// Why an address was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a URL that can be asked (write it as http://localhost:8080/health)")]
pub struct BadUrl(String);

/// One that is asked by HTTP, over TLS or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(Uri);

impl Url {
    /// For a client.
    pub const fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether it is asked over TLS.
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }
}

impl FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let bad = || BadUrl(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let known = [&Scheme::HTTP, &Scheme::HTTPS].map(Some).contains(&uri.scheme());
        let named = uri.host().is_some_and(|host| !host.is_empty());
        if known && named { Ok(Self(uri)) } else { Err(bad()) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_can_be_asked() {
        for text in ["http://web/", "https://web:8443/a?b=c", "http://[::1]:80/"] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), text);
        }
        assert!("https://web".parse::<Url>().unwrap().is_secure());
        for text in ["", "web", "/health", "web:80", "ftp://web/", "http://", "http://a b/"] {
            assert_eq!(text.parse::<Url>(), Err(BadUrl(text.to_owned())), "{text}");
        }
    }
}
