//! Matrix products on strided slices: a safe door to the `gemm` crate.

use gemm::Parallelism;

/// A matrix inside a slice: element (r, c) is at `r * row_stride + c * col_stride`.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// A row-major matrix of `rows` rows that begin `row_stride` apart and have `cols` elements.
    ///
    /// # Panics
    /// When the slice is too short for that.
    #[must_use]
    pub fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        let last = if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + cols };
        assert!(last <= data.len(), "a view of {rows} × {cols} needs {last} elements, not {}", data.len());
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The same elements with rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// Rows `start..end`.
    ///
    /// # Panics
    /// When there are fewer, or the view is transposed.
    #[must_use]
    pub fn rows(self, start: usize, end: usize) -> Self {
        assert!(
            self.col_stride == 1 && start <= end && end <= self.rows,
            "rows {start}..{end} of {}",
            self.rows
        );
        Self::new(
            &self.data[(start * self.row_stride).min(self.data.len())..],
            end - start,
            self.cols,
            self.row_stride,
        )
    }

    /// Row `index` of a view that is not transposed.
    ///
    /// # Panics
    /// When there are fewer rows, or the view is transposed.
    #[must_use]
    pub fn row(self, index: usize) -> &'a [f32] {
        assert!(self.col_stride == 1 && index < self.rows, "row {index} of {}", self.rows);
        &self.data[index * self.row_stride..index * self.row_stride + self.cols]
    }

    /// Number of rows.
    #[must_use]
    pub fn num_rows(self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[must_use]
    pub fn num_cols(self) -> usize {
        self.cols
    }
}

/// `out += scale × lhs × rhs`; `out` is row-major `[lhs.rows, rhs.cols]` without gaps. Up to `threads` threads of the
/// current pool work on it.
///
/// # Panics
/// When the shapes do not fit.
pub fn matmul(out: &mut [f32], lhs: View<'_>, rhs: View<'_>, scale: f32, threads: usize) {
    assert_eq!(lhs.cols, rhs.rows, "inner sizes of a product");
    assert_eq!(out.len(), lhs.rows * rhs.cols, "size of a product");
    if out.is_empty() || lhs.cols == 0 {
        return;
    }
    let stride = |size: usize| isize::try_from(size).expect("a stride is at most a slice's length");
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    // SAFETY: `View::new` and `rows` keep every element of both views inside their slices, transposing only renames
    // the axes, and `out` has exactly rows × columns elements and is borrowed alone.
    unsafe {
        gemm::gemm(
            lhs.rows,
            rhs.cols,
            lhs.cols,
            out.as_mut_ptr(),
            1,
            stride(rhs.cols),
            true,
            lhs.data.as_ptr(),
            stride(lhs.col_stride),
            stride(lhs.row_stride),
            rhs.data.as_ptr(),
            stride(rhs.col_stride),
            stride(rhs.row_stride),
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_and_transposed_views_multiply_like_plain_loops() {
        let lhs: Vec<f32> = (0..5 * 8u8).map(|i| f32::from(i) * 0.25 - 3.0).collect();
        let rhs: Vec<f32> = (0..7 * 8u8).map(|i| f32::from(i % 11) * 0.5 - 2.0).collect();
        let (a, b) = (View::new(&lhs[1..], 5, 6, 8).rows(1, 5), View::new(&rhs, 7, 6, 8));
        let mut out = vec![1.0; 4 * 7];
        matmul(&mut out, a, b.transposed(), 0.5, 1);
        for row in 0..4 {
            for col in 0..7 {
                let sum: f32 = a.row(row).iter().zip(b.row(col)).map(|(x, y)| x * y).sum();
                assert!((out[row * 7 + col] - (1.0 + 0.5 * sum)).abs() < 1e-4);
            }
        }
    }
}
