//! Elementwise and row functions, written so that the compiler turns them into vector code: each is compiled for
//! AVX-512, AVX2 and the baseline, and the best one is chosen when it runs.

const LANES: usize = 16;

/// Compiles a function for several instruction sets and picks one at run time.
macro_rules! vectorised {
    ($(#[$meta:meta])* pub fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        pub fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx2") {
                    if is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512vl")
                        && is_x86_feature_detected!("avx512dq")
                        && is_x86_feature_detected!("avx512bw")
                    {
                        // SAFETY: the processor has every feature that the function is compiled for.
                        return unsafe { avx512($($arg),*) };
                    }
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}

/// e to the power of `x`, to about 2 ulp; `x` is clamped to what a finite, normal `f32` can hold.
/// Source: range reduction by multiples of ln 2 and the minimax polynomial of Cephes `expf`.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 × 2^23: adding it rounds to a whole number that stands in the low bits
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4f32;
    p = p.mul_add(r, 1.398_2e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_6e-1);
    p = p.mul_add(r, 0.5);
    let e = (p * r).mul_add(r, r + 1.0);
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    e * power
}

/// The error function, to 2e-7. Source: Abramowitz and Stegun, 7.1.26.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / a.mul_add(0.327_591_1, 1.0);
    let mut p = 1.061_405_4f32;
    p = p.mul_add(t, -1.453_152);
    p = p.mul_add(t, 1.421_413_7);
    p = p.mul_add(t, -0.284_496_74);
    p = p.mul_add(t, 0.254_829_6);
    (1.0 - p * t * exp(-a * a)).copysign(x)
}

/// Sum of `f` over the elements, in an order that depends on the length alone.
#[inline(always)]
fn sum_by(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f(value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += f(value);
    }
    lanes.iter().sum()
}

vectorised! {
    /// `x · (1 + erf(x / √2)) / 2` in place: the exact GELU, to 2e-7 of `max(1, |x|)`.
    pub fn gelu(values: &mut [f32]) {
        for value in values {
            let x = *value;
            *value = 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
        }
    }
}

vectorised! {
    /// The GELU approximated by tanh, in place (`gelu_new`, `gelu_pytorch_tanh`).
    pub fn gelu_tanh(values: &mut [f32]) {
        for value in values {
            let x = *value;
            let inner = 0.797_884_6 * (0.044_715 * x * x).mul_add(x, x);
            // (1 + tanh(y)) / 2 is the logistic function of 2y.
            *value = x / (1.0 + exp(-2.0 * inner));
        }
    }
}

vectorised! {
    /// `max(x, 0)` in place.
    pub fn relu(values: &mut [f32]) {
        for value in values {
            *value = value.max(0.0);
        }
    }
}

vectorised! {
    /// `gate = silu(gate) · up`, element by element: the gated activation of Llama-shaped models.
    pub fn silu_times(gate: &mut [f32], up: &[f32]) {
        for (g, &u) in gate.iter_mut().zip(up) {
            let x = *g;
            *g = x / (1.0 + exp(-x)) * u;
        }
    }
}

vectorised! {
    /// `values += other`, element by element.
    pub fn add(values: &mut [f32], other: &[f32]) {
        for (value, &o) in values.iter_mut().zip(other) {
            *value += o;
        }
    }
}

vectorised! {
    /// Softmax of one row, in place. An empty row stays empty.
    pub fn softmax(row: &mut [f32]) {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane = lane.max(value);
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane = lane.max(value);
        }
        let max = lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for value in row.iter_mut() {
            *value = exp(*value - max);
        }
        let scale = 1.0 / sum_by(row, |value| value);
        for value in row {
            *value *= scale;
        }
    }
}

vectorised! {
    /// Layer normalisation of every row of `gamma.len()` elements, in place.
    pub fn layer_norm(rows: &mut [f32], gamma: &[f32], beta: &[f32], epsilon: f32) {
        let size = gamma.len();
        #[expect(clippy::cast_precision_loss, reason = "hidden sizes are far below 2^24")]
        let inverse_size = 1.0 / size as f32;
        for row in rows.chunks_exact_mut(size) {
            let mean = sum_by(row, |value| value) * inverse_size;
            let variance = sum_by(row, |value| (value - mean) * (value - mean)) * inverse_size;
            let scale = 1.0 / (variance + epsilon).sqrt();
            for ((value, &g), &b) in row.iter_mut().zip(gamma).zip(beta) {
                *value = (*value - mean) * scale * g + b;
            }
        }
    }
}

vectorised! {
    /// Root-mean-square normalisation of every row of `gamma.len()` elements, in place.
    pub fn rms_norm(rows: &mut [f32], gamma: &[f32], epsilon: f32) {
        let size = gamma.len();
        #[expect(clippy::cast_precision_loss, reason = "hidden sizes are far below 2^24")]
        let inverse_size = 1.0 / size as f32;
        for row in rows.chunks_exact_mut(size) {
            let scale = 1.0 / (sum_by(row, |value| value * value) * inverse_size + epsilon).sqrt();
            for (value, &g) in row.iter_mut().zip(gamma) {
                *value = *value * scale * g;
            }
        }
    }
}

#[inline(always)]
fn dot_body(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [[0.0f32; LANES]; 4];
    let (a_blocks, a_rest) = a.as_chunks::<{ 4 * LANES }>();
    let (b_blocks, b_rest) = b.as_chunks::<{ 4 * LANES }>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for (part, lane) in lanes.iter_mut().enumerate() {
            for i in 0..LANES {
                lane[i] = x[part * LANES + i].mul_add(y[part * LANES + i], lane[i]);
            }
        }
    }
    for (i, (&x, &y)) in a_rest.iter().zip(b_rest).enumerate() {
        let lane = &mut lanes[i / LANES % 4][i % LANES];
        *lane = x.mul_add(y, *lane);
    }
    let [first, second, third, fourth] = lanes;
    (0..LANES).map(|i| (first[i] + second[i]) + (third[i] + fourth[i])).sum()
}

vectorised! {
    /// The inner product of two slices of one length; the order of additions depends on the length alone.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        dot_body(a, b)
    }
}

vectorised! {
    /// `out[j] = row · weight[j]` for the rows of a row-major `weight` with `row.len()` columns.
    pub fn dot_each(out: &mut [f32], row: &[f32], weight: &[f32]) {
        for (value, line) in out.iter_mut().zip(weight.chunks_exact(row.len())) {
            *value = dot_body(row, line);
        }
    }
}

vectorised! {
    /// `out += weight · row`, element by element.
    pub fn add_scaled(out: &mut [f32], row: &[f32], weight: f32) {
        for (value, &x) in out.iter_mut().zip(row) {
            *value = x.mul_add(weight, *value);
        }
    }
}

vectorised! {
    /// `out += productᵀ` for a row-major `product` of `num_rows` columns; `out` has that many rows.
    pub fn add_transposed(out: &mut [f32], product: &[f32], num_rows: usize) {
        let size = product.len() / num_rows.max(1);
        // A strip of the product at a time, so that it is read from the nearest cache once for every row.
        for start in (0..size).step_by(LANES) {
            let end = (start + LANES).min(size);
            let strip = &product[start * num_rows..end * num_rows];
            for (row, out) in out.chunks_exact_mut(size).enumerate() {
                for (value, line) in out[start..end].iter_mut().zip(strip.chunks_exact(num_rows)) {
                    *value += line[row];
                }
            }
        }
    }
}

/// The logistic function.
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "references are computed in f64 and compared in f32")]
mod tests {
    use super::*;

    fn ramp(n: i16, scale: f32) -> Vec<f32> {
        (-n..n).map(|i| f32::from(i) * scale).collect()
    }

    #[test]
    fn exp_is_within_three_ulp_over_its_range() {
        for x in ramp(8_700, 0.01) {
            let expected = f64::from(x).exp() as f32;
            assert!((exp(x) - expected).abs() <= 3.0 * f32::EPSILON * expected, "exp({x})");
        }
    }

    #[test]
    fn gelu_agrees_with_integration_of_the_normal_density() {
        // The normal distribution function by Simpson's rule from 0, in f64.
        let phi = |x: f64| {
            let n = 400;
            let h = x / f64::from(n);
            let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let inner: f64 =
                (1..n).map(|i| density(f64::from(i) * h) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
            0.5 + h / 3.0 * (density(0.0) + inner + density(x))
        };
        let mut values = ramp(200, 0.03);
        let inputs = values.clone();
        gelu(&mut values);
        for (x, y) in inputs.iter().zip(values) {
            let expected = (f64::from(*x) * phi(f64::from(*x))) as f32;
            assert!((y - expected).abs() < 2e-6, "gelu({x}) is {y}, not {expected}");
        }
    }

    #[test]
    fn softmax_sums_to_one_and_survives_large_values() {
        for n in [1usize, 5, 16, 37] {
            let mut row: Vec<f32> = ramp(50, 7.0)[..n].to_vec();
            row[n / 2] = 1e30;
            softmax(&mut row);
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert!(row[n / 2] > 0.999);
        }
    }

    #[test]
    fn norms_and_dot_agree_with_f64_loops() {
        let row = ramp(37, 0.11);
        let gamma: Vec<f32> = row.iter().map(|x| 1.0 + x * 0.1).collect();
        let n = row.len() as f64;
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        let square = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n;
        let (mut layer, mut rms) = (row.clone(), row.clone());
        layer_norm(&mut layer, &gamma, &gamma, 1e-5);
        rms_norm(&mut rms, &gamma, 1e-5);
        for i in 0..row.len() {
            let (x, g) = (f64::from(row[i]), f64::from(gamma[i]));
            assert!((f64::from(layer[i]) - ((x - mean) / (variance + 1e-5).sqrt() * g + g)).abs() < 1e-5);
            assert!((f64::from(rms[i]) - x / (square + 1e-5).sqrt() * g).abs() < 1e-5);
        }
        let expected: f64 = row.iter().zip(&gamma).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        assert!((f64::from(dot(&row, &gamma)) - expected).abs() < 1e-3);
    }
}
