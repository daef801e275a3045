//! The only place that talks to the API server.

mod agent;
mod audit;
pub mod checkup;
mod client;
mod error;
mod events;
mod follow;
mod inject;
mod peers;
mod preflight;
mod removal;
mod restart;
mod restorer;
mod retry;
mod role;
mod safety;
mod select;
mod session;
mod swap;
mod target;

pub use agent::{AgentContainer, AgentSpec, AgentState, agents};
pub use audit::{Audit, reverted};
pub use client::{Cluster, Scope};
pub use error::{api_error, connect_error};
pub use follow::{Change, Following};
pub use inject::{Installed, NewAgent, NoAnswer, ensure_agent, reach_agent};
pub use preflight::{check_can_be_removed, check_namespaces, check_pod};
pub use removal::{Removal, Removed, RemovedBy};
pub use restart::{Fate, follow_end, follow_restart};
pub use restorer::{IDLE, Restorer, remove_restorer};
pub use role::{Capability, Domain, ProcessRole, Role, User};
pub use safety::{Limits, Safety};
pub use select::{Choice, Chosen, find, select};
pub use session::{Session, SessionError};
pub use swap::{RestoredBy, Stage, Swap, now};
pub use target::{TargetContainer, status_of};
