//! Linear layers, normalisation and row look-up on `f32` tensors of the CPU.
//!
//! A layer adds bias and residual inside the product and finishes each row (activation, normalisation) before the
//! result is a tensor, so that no intermediate result is written twice.

use candle_core::{Error, Result, Storage, Tensor};
use millstream_engine::LoadError;
use rayon::prelude::*;

use crate::matmul::{View, matmul};
use crate::{Weights, math};

/// Rows that are multiplied together. With a block's rows along the vector registers, 32 (two or four registers) is what
/// the `gemm` crate does best: 125 GFLOP/s on one core with AVX-512 where a product of all rows at once reaches 65, and
/// 28 for 16 rows, most of it spent on rearranging the weights.
const ROW_BLOCK: usize = 32;
/// Up to so many rows, inner products one by one are quicker still.
const MAX_SINGLE_ROWS: usize = 3;

/// What is done to rows of a layer's result, in place; called with any number of whole rows.
pub type Finish<'a> = &'a (dyn Fn(&mut [f32]) + Sync);

/// Calls `f` with the elements of a contiguous `f32` tensor on the CPU.
///
/// # Errors
/// When the tensor is on another device, not contiguous, or not `f32`.
pub fn with_f32<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(Error::Msg("the kernels of this engine run on the cpu".to_owned()));
    };
    let data = storage.as_slice::<f32>()?;
    let (start, end) = layout.contiguous_offsets().ok_or_else(|| Error::Msg("tensor has gaps".to_owned()))?;
    Ok(f(&data[start..end]))
}

/// `x · weightᵀ + bias`, `weight` of shape `[out, in]`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Vec<f32>>,
    size_in: usize,
    size_out: usize,
}

impl Linear {
    /// A layer of a weight `[out, in]` and a bias `[out]`.
    ///
    /// # Errors
    /// When the shapes do not fit, or one is zero.
    pub fn new(weight: Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (size_out, size_in) = weight.dims2()?;
        if size_out == 0 || size_in == 0 {
            return Err(Error::Msg(format!(
                "a layer of {size_in} inputs and {size_out} outputs computes nothing"
            )));
        }
        let bias = bias.map(Tensor::to_vec1::<f32>).transpose()?;
        if bias.as_ref().is_some_and(|bias| bias.len() != size_out) {
            return Err(Error::Msg(format!("the bias of a layer with {size_out} outputs has another size")));
        }
        Ok(Self { weight, bias, size_in, size_out })
    }

    /// The layer whose tensors are called `name.weight` and, if `has_bias`, `name.bias`.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn load(
        weights: &Weights,
        name: &str,
        sizes: [usize; 2],
        has_bias: bool,
    ) -> std::result::Result<Self, LoadError> {
        let [size_in, size_out] = sizes;
        let weight = weights.tensor(&format!("{name}.weight"), &[size_out, size_in])?;
        let bias = has_bias.then(|| weights.tensor(&format!("{name}.bias"), &[size_out])).transpose()?;
        Self::new(weight, bias.as_ref()).map_err(|error| LoadError::Model(format!("layer `{name}`: {error}")))
    }

    /// One layer that gives the results of all `parts`, side by side: one product instead of several.
    ///
    /// # Errors
    /// When the parts take inputs of different sizes.
    pub fn side_by_side(parts: &[Self]) -> Result<Self> {
        let weight = Tensor::cat(&parts.iter().map(|part| &part.weight).collect::<Vec<_>>(), 0)?;
        let has_bias = parts.iter().any(|part| part.bias.is_some());
        let bias = has_bias.then(|| {
            parts
                .iter()
                .flat_map(|part| part.bias.clone().unwrap_or_else(|| vec![0.0; part.size_out]))
                .collect()
        });
        let (size_out, size_in) = weight.dims2()?;
        Ok(Self { weight, bias, size_in, size_out })
    }

    /// Number of outputs.
    #[must_use]
    pub fn size_out(&self) -> usize {
        self.size_out
    }

    /// Bytes of weight and bias.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        4 * (self.weight.elem_count() + self.bias.as_ref().map_or(0, Vec::len)) as u64
    }

    /// `finish(x · weightᵀ + bias + residual)` for `x` of shape `[rows, in]`, as one matrix product.
    ///
    /// # Errors
    /// When shapes do not fit, or the tensors are not on the CPU.
    pub fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        threads: usize,
        finish: Finish<'_>,
    ) -> Result<Tensor> {
        let rows = self.check(x)?;
        let mut out = self.start(rows, residual)?;
        with_f32(x, |x| {
            with_f32(&self.weight, |weight| self.by_blocks(&mut out, x, weight, threads, finish))
        })??;
        Tensor::from_vec(out, (rows, self.size_out), x.device())
    }

    fn by_blocks(&self, out: &mut [f32], x: &[f32], weight: &[f32], threads: usize, finish: Finish<'_>) {
        let blocks = x.chunks(ROW_BLOCK * self.size_in);
        let outs = ROW_BLOCK * self.size_out;
        if threads > 1 && blocks.len() >= threads {
            let blocks = x.par_chunks(ROW_BLOCK * self.size_in);
            out.par_chunks_mut(outs).zip(blocks).for_each(|(out, x)| self.block(out, x, weight, 1, finish));
        } else {
            out.chunks_mut(outs).zip(blocks).for_each(|(out, x)| self.block(out, x, weight, threads, finish));
        }
    }

    /// At most [`ROW_BLOCK`] rows: computes `weight · xᵀ`, which needs no rearranged copy of the weights, and adds its
    /// transpose to `out`.
    fn block(&self, out: &mut [f32], x: &[f32], weight: &[f32], threads: usize, finish: Finish<'_>) {
        let rows = x.len() / self.size_in;
        if rows <= MAX_SINGLE_ROWS {
            self.each_row(out, x, weight, threads);
            return finish(out);
        }
        let x = View::new(x, rows, self.size_in, self.size_in).transposed();
        let mut product = vec![0.0; rows * self.size_out];
        let multiply = |(product, weight): (&mut [f32], &[f32])| {
            let weight = View::new(weight, product.len() / rows, self.size_in, self.size_in);
            matmul(product, weight, x, 1.0, 1);
        };
        if threads > 1 {
            let part = self.size_out.div_ceil(threads).next_multiple_of(16);
            product
                .par_chunks_mut(part * rows)
                .zip(weight.par_chunks(part * self.size_in))
                .for_each(multiply);
        } else {
            multiply((&mut product, weight));
        }
        math::add_transposed(out, &product, rows);
        finish(out);
    }

    /// As [`Linear::forward`], but each row is computed by itself with one order of additions, so that its result does
    /// not depend on which other rows stand beside it. Made for few rows: the weights are read once for all.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn forward_each(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        threads: usize,
        finish: Finish<'_>,
    ) -> Result<Tensor> {
        let rows = self.check(x)?;
        let mut out = self.start(rows, residual)?;
        with_f32(x, |x| with_f32(&self.weight, |weight| self.each_row(&mut out, x, weight, threads)))??;
        finish(&mut out);
        Tensor::from_vec(out, (rows, self.size_out), x.device())
    }

    fn each_row(&self, out: &mut [f32], x: &[f32], weight: &[f32], threads: usize) {
        // Blocks of outputs whose weights stay in the cache while all rows use them.
        let block = (16_384 / self.size_in.max(1)).clamp(8, 256);
        let work = |(weights, sums): (&[f32], &mut [f32])| {
            let outputs = weights.len() / self.size_in;
            for (row, sums) in x.chunks_exact(self.size_in).zip(sums.chunks_exact_mut(outputs)) {
                math::dot_each(sums, row, weights);
            }
        };
        let rows = x.len() / self.size_in;
        // Block by block, `[outputs of the block] × rows`: each block is one thread's own memory.
        let mut sums = vec![0.0; rows * self.size_out];
        let weight_blocks = weight.chunks(block * self.size_in);
        if threads > 1 && weight.len() * rows > 131_072 {
            weight
                .par_chunks(block * self.size_in)
                .zip(sums.par_chunks_mut(block * rows))
                .with_min_len((self.size_out / block / threads).max(1))
                .for_each(work);
        } else {
            weight_blocks.zip(sums.chunks_mut(block * rows)).for_each(work);
        }
        for (index, sums) in sums.chunks(block * rows).enumerate() {
            let outputs = sums.len() / rows;
            for (row, sums) in sums.chunks_exact(outputs).enumerate() {
                let start = row * self.size_out + index * block;
                math::add(&mut out[start..start + outputs], sums);
            }
        }
    }

    fn check(&self, x: &Tensor) -> Result<usize> {
        let (rows, size) = x.dims2()?;
        if size != self.size_in {
            return Err(Error::Msg(format!("a layer with {} inputs got rows of {size}", self.size_in)));
        }
        Ok(rows)
    }

    /// Bias plus residual: what the product is added to.
    fn start(&self, rows: usize, residual: Option<&Tensor>) -> Result<Vec<f32>> {
        let mut out = match residual {
            Some(residual) if residual.dims() == [rows, self.size_out] => {
                with_f32(residual, <[f32]>::to_vec)?
            }
            Some(residual) => {
                return Err(Error::Msg(format!("a residual of shape {:?} does not fit", residual.dims())));
            }
            None => vec![0.0; rows * self.size_out],
        };
        if let Some(bias) = &self.bias {
            for row in out.chunks_exact_mut(self.size_out) {
                math::add(row, bias);
            }
        }
        Ok(out)
    }
}

/// A normalisation of rows: by layer (with `beta`) or by root mean square (without).
#[derive(Debug, Clone)]
pub struct Norm {
    gamma: Vec<f32>,
    beta: Option<Vec<f32>>,
    epsilon: f32,
}

impl Norm {
    /// The layer normalisation whose tensors are `name.weight` and `name.bias`, both `[size]`.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn layer(
        weights: &Weights,
        name: &str,
        size: usize,
        epsilon: f32,
    ) -> std::result::Result<Self, LoadError> {
        let beta = vector(weights, &format!("{name}.bias"), size)?;
        Ok(Self { gamma: vector(weights, &format!("{name}.weight"), size)?, beta: Some(beta), epsilon })
    }

    /// The root-mean-square normalisation whose tensor is `name.weight`, `[size]`.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn root_mean_square(
        weights: &Weights,
        name: &str,
        size: usize,
        epsilon: f32,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self { gamma: vector(weights, &format!("{name}.weight"), size)?, beta: None, epsilon })
    }

    /// Normalises whole rows in place.
    pub fn apply(&self, rows: &mut [f32]) {
        match &self.beta {
            Some(beta) => math::layer_norm(rows, &self.gamma, beta, self.epsilon),
            None => math::rms_norm(rows, &self.gamma, self.epsilon),
        }
    }

    /// The normalised rows of `x`, `[rows, size]`.
    ///
    /// # Errors
    /// When `x` is not a contiguous `f32` tensor of the CPU.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut rows = with_f32(x, <[f32]>::to_vec)?;
        self.apply(&mut rows);
        Tensor::from_vec(rows, x.dims(), x.device())
    }

    /// Bytes of its parameters.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        4 * (self.gamma.len() + self.beta.as_ref().map_or(0, Vec::len)) as u64
    }
}

fn vector(weights: &Weights, name: &str, size: usize) -> std::result::Result<Vec<f32>, LoadError> {
    let tensor = weights.tensor(name, &[size])?;
    tensor.to_vec1().map_err(|error| LoadError::Model(format!("tensor `{name}`: {error}")))
}

/// Adds row `ids[i]` of `table` (`[n, size]`) to row `i` of `out`.
///
/// # Errors
/// When an id is not below `n`, or `out` is not `[ids, size]`.
pub fn gather_rows(out: &mut [f32], table: &Tensor, ids: impl ExactSizeIterator<Item = usize>) -> Result<()> {
    let (num_rows, size) = table.dims2()?;
    if out.len() != ids.len() * size {
        return Err(Error::Msg(format!("{} rows of {size} do not fill {} elements", ids.len(), out.len())));
    }
    with_f32(table, |table| {
        for (row, id) in out.chunks_exact_mut(size).zip(ids) {
            let Some(source) = table.get(id * size..(id + 1) * size) else {
                return Err(Error::Msg(format!("row {id} of a table of {num_rows}")));
            };
            math::add(row, source);
        }
        Ok(())
    })?
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn random(rows: usize, cols: usize) -> Tensor {
        Tensor::randn(0.0f32, 1.0, (rows, cols), &Device::Cpu).unwrap()
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
        let (a, b) = (a.flatten_all().unwrap(), b.flatten_all().unwrap());
        let both = a.to_vec1::<f32>().unwrap().into_iter().zip(b.to_vec1::<f32>().unwrap());
        both.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn both_ways_of_a_layer_agree_with_candle() {
        for (rows, size_in, size_out) in [(1, 33, 70), (7, 64, 300), (40, 128, 17)] {
            let (x, w, b) = (random(rows, size_in), random(size_out, size_in), random(1, size_out));
            let residual = random(rows, size_out);
            let expected = x.matmul(&w.t().unwrap()).unwrap();
            let expected = expected.broadcast_add(&b).unwrap().add(&residual).unwrap().relu().unwrap();
            let layer = Linear::new(w, Some(&b.flatten_all().unwrap())).unwrap();
            for threads in [1, 2] {
                let one = layer.forward(&x, Some(&residual), threads, &math::relu).unwrap();
                let other = layer.forward_each(&x, Some(&residual), threads, &math::relu).unwrap();
                assert!(largest_difference(&one, &expected) < 1e-4);
                assert!(largest_difference(&other, &expected) < 1e-4);
            }
        }
    }

    #[test]
    fn a_layer_of_no_size_is_refused() {
        assert!(
            Linear::new(Tensor::zeros((3, 0), candle_core::DType::F32, &Device::Cpu).unwrap(), None).is_err()
        );
    }

    #[test]
    fn a_row_alone_and_among_others_gives_the_same_bits() {
        let layer = Linear::new(random(90, 200), None).unwrap();
        let x = random(5, 200);
        let together = layer.forward_each(&x, None, 2, &|_| ()).unwrap();
        for row in 0..5 {
            let alone = layer.forward_each(&x.narrow(0, row, 1).unwrap(), None, 1, &|_| ()).unwrap();
            let expected = together.narrow(0, row, 1).unwrap();
            assert_eq!(largest_difference(&alone, &expected).to_bits(), 0);
        }
    }

    #[test]
    fn parts_side_by_side_give_their_results_side_by_side() {
        let (a, b) = (random(3, 8), random(5, 8));
        let bias = random(1, 5).flatten_all().unwrap();
        let parts = [Linear::new(a, None).unwrap(), Linear::new(b, Some(&bias)).unwrap()];
        let x = random(2, 8);
        let both = Linear::side_by_side(&parts).unwrap().forward(&x, None, 1, &|_| ()).unwrap();
        let each: Vec<_> = parts.iter().map(|part| part.forward(&x, None, 1, &|_| ()).unwrap()).collect();
        assert!(largest_difference(&both, &Tensor::cat(&each, 1).unwrap()) < 1e-5);
    }
}
