//! Names are looked up again while a fault runs, in a thread of their own: an answer may be long in coming.

use std::{
    io::{self, Read as _, Write as _},
    net::IpAddr,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use pod_chaos_protocol::Host;

use super::Resolver;

/// When to try again after there was no answer.
const RETRY: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The host has these addresses.
    Addresses(Host, Vec<IpAddr>),
    /// It has none any more, or nobody tells. Said once, until there is an answer again.
    Nothing(Host, String),
}

/// Looks names up as long as it lives.
#[derive(Debug)]
pub struct Refresh {
    news: Receiver<News>,
    bell: UnixStream,
}

impl Refresh {
    /// Starts at once, to find out for how long what is known holds. The files of the resolver are read anew
    /// each time: they may change.
    pub fn start(hosts: Vec<Host>) -> io::Result<Self> {
        let (bell, ringer) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        let (sender, news) = channel();
        let run = move || look_up(hosts, &sender, &ringer);
        thread::Builder::new().name("resolver".to_owned()).spawn(run)?;
        Ok(Self { news, bell })
    }

    /// What has been found since the last call; never waits.
    pub fn news(&mut self) -> Vec<News> {
        let mut bytes = [0; 64];
        while self.bell.read(&mut bytes).is_ok_and(|length| length > 0) {}
        self.news.try_iter().collect()
    }
}

impl AsFd for Refresh {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn look_up(hosts: Vec<Host>, sender: &Sender<News>, mut ringer: &UnixStream) {
    let start = Instant::now();
    let mut hosts: Vec<_> = hosts.into_iter().map(|host| (start, host, false)).collect();
    loop {
        let Some((due, host, silent)) = hosts.iter_mut().min_by_key(|(due, ..)| *due) else {
            return;
        };
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let answer = Resolver::of_the_pod()
            .map_err(|failure| failure.message)
            .and_then(|resolver| resolver.resolve(&host.name).map_err(|error| error.to_string()));
        let (news, pause) = match answer {
            Ok(answer) => {
                *silent = false;
                let addresses = answer.addresses.into_iter().collect();
                (Some(News::Addresses(host.clone(), addresses)), answer.ttl)
            }
            Err(why) => {
                let first = !std::mem::replace(silent, true);
                (first.then(|| News::Nothing(host.clone(), why)), RETRY)
            }
        };
        *due = Instant::now() + pause;
        if let Some(news) = news
            && (sender.send(news).is_err() || ringer.write_all(b"!").is_err())
        {
            return;
        }
    }
}
