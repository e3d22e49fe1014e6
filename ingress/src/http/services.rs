//! The gRPC services of an ingress that are not its own: health, and reflection, which tells clients such as `grpcurl` what there is to
//! call.

use millstream_proto::PUBLIC_FILE_DESCRIPTOR_SET;
use tonic::service::Routes;
use tonic_reflection::server::Builder;

/// See the module.
pub(crate) struct Services(pub(super) Routes);

impl Services {
    /// These, beside the ones that say that this process lives and what it offers.
    pub(crate) fn new(routes: Routes) -> Self {
        // Nobody reports a change: it serves as long as it answers.
        let (_, health) = tonic_health::server::health_reporter();
        // Most clients know the older one alone.
        let reflection = reflected().build_v1().expect("the descriptors come from the build");
        let older = reflected().build_v1alpha().expect("the descriptors come from the build");
        Self(routes.add_service(health).add_service(reflection).add_service(older))
    }
}

fn reflected() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(PUBLIC_FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
