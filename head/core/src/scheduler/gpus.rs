//! GPUs as a demand asks for them: how many, how much of each, of which model.

use millstream_pipelines::GpuDemand;
use serde::{Deserialize, Serialize};

use super::WHOLE_DEVICE;

/// Devices that a demand takes: a number of them, and how much of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Gpus {
    pub(super) count: u32,
    pub(super) milli: u32,
}

impl Gpus {
    /// `None` for a demand without GPUs.
    pub(super) fn of(demand: GpuDemand) -> Option<Self> {
        match demand {
            GpuDemand::None | GpuDemand::Share(0) | GpuDemand::Whole(0) => None,
            GpuDemand::Share(milli) => Some(Self { count: 1, milli: milli.min(WHOLE_DEVICE) }),
            GpuDemand::Whole(count) => Some(Self { count, milli: WHOLE_DEVICE }),
        }
    }

    /// All of it, in thousandths of a device.
    pub(super) fn total(self) -> u64 {
        u64::from(self.count) * u64::from(self.milli)
    }
}

/// Whether one of these models (any, when there are none) is a device's. People write `A100` where a driver says `NVIDIA
/// A100-SXM4-80GB`: whole words of its name are enough, in any case of letters.
pub(super) fn accepts_model(accepted: &[String], model: &str) -> bool {
    accepted.is_empty() || accepted.iter().any(|wanted| is_model(wanted, model))
}

fn is_model(wanted: &str, model: &str) -> bool {
    let is_word_end = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
    let (wanted, model) = (wanted.as_bytes(), model.as_bytes());
    !wanted.is_empty()
        && model.windows(wanted.len()).enumerate().any(|(at, window)| {
            window.eq_ignore_ascii_case(wanted)
                && is_word_end(at.checked_sub(1).and_then(|before| model.get(before)))
                && is_word_end(model.get(at + wanted.len()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_accepted_by_whole_words_of_its_name() {
        let table = [
            ("H200", "NVIDIA H200", true),
            ("nvidia h200", "NVIDIA H200", true),
            ("A100", "NVIDIA A100-SXM4-80GB", true),
            ("A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB", true),
            ("A10", "NVIDIA A100-SXM4-80GB", false),
            ("V100", "V100M16", false),
            ("V100M16", "V100M16", true),
            ("H100 NVL", "NVIDIA H100 NVL", true),
            ("NVIDIA H200", "H200", false),
            ("", "H200", false),
        ];
        for (wanted, model, expected) in table {
            assert_eq!(accepts_model(&[wanted.to_owned()], model), expected, "{wanted} {model}");
        }
        assert!(accepts_model(&[], "T4"));
    }
}
