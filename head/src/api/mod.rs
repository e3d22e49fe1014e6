//! The head's servers: thin handlers that decode, ask an actor or the catalog, and encode.

pub(crate) mod auth;
pub(crate) mod control_service;
pub(crate) mod dashboard;
pub(crate) mod decode;
pub(crate) mod keys;
pub(crate) mod node_service;
pub(crate) mod own_site;
pub(crate) mod rollouts;
pub(crate) mod route_service;
pub(crate) mod series;
pub(crate) mod table;
