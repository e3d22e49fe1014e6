//! What the flags of a process come to where others reach it: its certificate, whether it asks for keys, what was accepted.

use millstream_ingress::Listen;
use millstream_listen::tls::ServerCertificate;
use millstream_proto::status::Scheme;

use crate::exit::Failure;
use crate::global::Global;
use crate::up::addresses::{self, Exposure};
use crate::up::args::{Role, UpArgs};

/// See the module.
pub(crate) struct Door {
    certificate: Option<ServerCertificate>,
    /// Who may reach the process, and how.
    pub(crate) exposure: Exposure,
}

impl Door {
    /// As the flags say; what they accept is written to the log.
    pub(crate) fn of(global: &Global, args: &UpArgs, roles: &[Role]) -> Result<Self, Failure> {
        let exposure = addresses::check(global, args, roles)?;
        let certificate = if roles.contains(&Role::Ingress) { args.entrance.certificate()? } else { None };
        exposure.warn();
        Ok(Self { certificate, exposure })
    }

    /// What the ingress speaks.
    pub(crate) fn scheme(&self) -> Scheme {
        if self.certificate.is_some() { Scheme::Https } else { Scheme::Http }
    }

    /// Where and how the ingress listens.
    pub(crate) fn listen(&self, args: &UpArgs) -> Listen {
        Listen {
            address: args.listen.ingress,
            certificate: self.certificate.clone(),
            accepted_risks: self.exposure.of_ingress(),
        }
    }
}
