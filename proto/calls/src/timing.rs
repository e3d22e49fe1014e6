//! What a replica says of a call's time.

use std::time::Duration;

/// Where a call's time in its replica went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// From its arrival until it began to run: behind others, or for company.
    pub waited: Duration,
    /// From there to the answer.
    pub ran: Duration,
    /// Inputs of all calls that ran together with its first; 0 where that is not known.
    pub batch_size: u32,
}
