//! The gRPC services of an ingress.

use tonic::service::Routes;

/// See the module.
pub(crate) struct Services(pub(super) Routes);

impl Services {
    /// These, beside the one that says that this process lives.
    pub(crate) fn new(routes: Routes) -> Self {
        // Nobody reports a change: it serves as long as it answers.
        let (_, health) = tonic_health::server::health_reporter();
        Self(routes.add_service(health))
    }
}
