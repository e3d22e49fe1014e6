//! What the engines on candle share: model files read within limits, weights with checked shapes, and the handful of
//! CPU kernels that candle's stock operations leave slow (fused linear layers, attention without padding, exact GELU).
//!
//! It knows nothing of tasks, calls or models' layouts: those are the engines'. Everything computes in `f32` on the CPU.

mod attention;
mod linear;
#[allow(
    unsafe_code,
    reason = "functions compiled for the processor's features; there are none on other processors"
)]
mod math;
#[expect(unsafe_code, reason = "`gemm` takes pointers and strides")]
mod matmul;
#[cfg(feature = "testing")]
pub mod testing;
mod weights;

pub use attention::{Attention, CausalMask, Queries, attend, attend_packed};
pub use linear::{Finish, Linear, Norm, gather_rows, with_f32};
pub use math::{
    add, add_scaled, add_transposed, dot, dot_each, gelu, gelu_tanh, layer_norm, relu, rms_norm, sigmoid,
    silu_times, softmax,
};
pub use matmul::{View, matmul};
pub use weights::Weights;
