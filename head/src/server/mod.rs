//! The head's servers: they decode, call [`crate::control`] or a session's actor, and encode. Who may call what is said
//! in [`auth`].

pub(crate) mod auth;
pub(crate) mod grpc;
pub(crate) mod http;
