//! A body to a request: quickly where nothing is wrong, else carefully, to find every fault.

use super::{Schema, quick};
use crate::{Request, RequestError};

impl Schema {
    /// Validates a body and fills in defaults.
    pub(crate) fn parse(&self, body: &[u8]) -> Result<Request, RequestError> {
        quick::read(self, body).map_or_else(|| self.parse_carefully(body), Ok)
    }
}
