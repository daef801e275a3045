//! Reads are asked again when their connection breaks.
//!
//! A server closes a connection that has idled, and one that restarts closes all; what is sent in that very
//! moment is never answered. Asking twice is harmless where nothing is changed (RFC 9110, section 9.2.2).

use std::{error::Error, future::Ready};

use http::{Method, Request, Response, header};
use kube::client::Body;
use tower::{BoxError, retry::Policy};

/// Asks again as often as it has tries left.
#[derive(Clone, Debug)]
pub(super) struct ReadAgain {
    tries: u8,
}

impl Default for ReadAgain {
    fn default() -> Self {
        Self { tries: 2 }
    }
}

impl<Answer> Policy<Request<Body>, Response<Answer>, BoxError> for ReadAgain {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        answer: &mut Result<Response<Answer>, BoxError>,
    ) -> Option<Self::Future> {
        let broke = answer.as_ref().is_err_and(|error| broke(error.as_ref()));
        self.tries = self.tries.checked_sub(1)?;
        broke.then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        // A stream to a container starts a process there.
        let changes =
            request.method() != Method::GET || request.headers().contains_key(header::UPGRADE);
        if changes {
            return None;
        }
        let mut again = Request::new(request.body().try_clone()?);
        again.method_mut().clone_from(request.method());
        again.uri_mut().clone_from(request.uri());
        again.headers_mut().clone_from(request.headers());
        again.extensions_mut().clone_from(request.extensions());
        Some(again)
    }
}

/// Whether the connection ended before the answer; a server that cannot be reached at all is something else.
fn broke(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_incomplete_message() || error.is_canceled() || error.is_closed();
        }
        next = error.source();
    }
    false
}
