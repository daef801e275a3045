//! Requests as they are answered, for who asks for it with `--v 6`, as kubectl tells them.

use std::{
    fmt::Display,
    task::{Context, Poll},
    time::Instant,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::Body;
use tower::{Layer, Service};

use crate::report::say;

/// From this level on kubectl tells requests.
const REQUESTS: u8 = 6;

/// Tells requests, or does not.
#[derive(Clone, Copy)]
pub(super) struct Telling(bool);

impl Telling {
    /// What that level of `--v` means.
    pub const fn at(level: u8) -> Self {
        Self(level >= REQUESTS)
    }
}

impl<S> Layer<S> for Telling {
    type Service = Told<S>;

    fn layer(&self, inner: S) -> Told<S> {
        Told { inner, tells: self.0 }
    }
}

/// A service of which each request is told.
#[derive(Clone)]
pub(super) struct Told<S> {
    inner: S,
    tells: bool,
}

impl<S, A> Service<Request<Body>> for Told<S>
where
    S: Service<Request<Body>, Response = Response<A>>,
    S::Error: Display,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let what = self.tells.then(|| format!("{} {}", request.method(), request.uri()));
        let begun = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let Some(what) = what {
                let came = match &answer {
                    Ok(answer) => answer.status().to_string(),
                    Err(error) => format!("failed: {error}"),
                };
                say(format_args!("{what} {came} in {} ms", begun.elapsed().as_millis()));
            }
            answer
        })
    }
}
