//! Vectors of an answer, in the forms that APIs ask for.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_proto::Value;
use millstream_values::DType;

use super::Problem;

/// How many numbers of each vector a request asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Dimensions {
    /// The field that says it.
    field: &'static str,
    asked: Option<usize>,
}

impl Dimensions {
    /// What stands in that field; `None` asks for all numbers.
    ///
    /// # Errors
    /// A problem (400) for 0.
    pub(crate) fn read(field: &'static str, asked: Option<u64>) -> Result<Self, Problem> {
        if asked == Some(0) {
            return Err(Problem::bad_field(field, "is 0; give at least 1"));
        }
        Ok(Self { field, asked: asked.map(|asked| usize::try_from(asked).unwrap_or(usize::MAX)) })
    }
}

/// The vectors that a model gave: 32-bit floats as they are stored, of which each vector keeps the first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vectors<'v> {
    data: &'v [u8],
    width: usize,
    kept: usize,
}

impl<'v> Vectors<'v> {
    /// Those of an answer.
    ///
    /// # Errors
    /// A problem when there are none, or when a request asks for more numbers than they have.
    pub(crate) fn of(value: &'v Value, dimensions: Dimensions) -> Result<Self, Problem> {
        let (data, width) = match value.as_tensor().map(|it| (it.data(), it.dtype(), it.shape())) {
            Some((data, DType::F32, &[_, width])) if width > 0 => (data, width),
            _ => return Err(Problem::internal("the model gave no vectors")),
        };
        let Dimensions { field, asked } = dimensions;
        if let Some(asked) = asked.filter(|asked| *asked > width) {
            let text = format!("the model's vectors have {width} numbers, fewer than {asked}");
            return Err(Problem::bad_field(field, text));
        }
        Ok(Self { data, width, kept: asked.unwrap_or(width) })
    }

    /// The numbers of each.
    pub(crate) fn floats(self) -> impl Iterator<Item = Vec<f32>> + use<'v> {
        self.data.chunks_exact(4 * self.width).map(move |row| {
            let (numbers, _) = row[..4 * self.kept].as_chunks::<4>();
            let mut numbers: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            if self.kept < self.width {
                normalize(&mut numbers);
            }
            numbers
        })
    }

    /// The same as base64 of their bytes, least significant first.
    pub(crate) fn base64(self) -> impl Iterator<Item = String> + use<'v> {
        let whole = self.kept == self.width;
        let rows = self.data.chunks_exact(4 * self.width).filter(move |_| whole).map(Cow::Borrowed);
        let shortened = self.floats().filter(move |_| !whole);
        let shortened = shortened.map(|row| Cow::Owned(row.into_iter().flat_map(f32::to_le_bytes).collect()));
        rows.chain(shortened).map(|bytes: Cow<'_, [u8]>| STANDARD.encode(bytes))
    }
}

/// Makes a vector of length 1. Shortened ones need it: what models that were trained for it (Matryoshka representations, Kusupati
/// and others, 2022) leave most of the meaning in is the direction of the first numbers.
pub(crate) fn normalize(row: &mut [f32]) {
    let square = row.iter().map(|number| number * number).sum::<f32>();
    // One that has length 1 keeps its numbers to the last digit, so that all routes answer the same.
    if square > 0.0 && (square - 1.0).abs() > 1e-6 {
        let norm = square.sqrt();
        row.iter_mut().for_each(|number| *number /= norm);
    }
}

/// Whole numbers from -127 to 127: each number, within -1 to 1, times 127.
pub(crate) fn int8(row: &[f32]) -> Vec<i8> {
    #[expect(clippy::cast_possible_truncation, reason = "at most 127 either way")]
    row.iter().map(|number| (number.clamp(-1.0, 1.0) * 127.0).round() as i8).collect()
}

/// The same, 128 higher.
pub(crate) fn uint8(row: &[f32]) -> Vec<u8> {
    int8(row).into_iter().map(higher).collect()
}

/// A bit for each number, 1 where it is above 0, eight to a byte, the first in the highest bit.
pub(crate) fn ubinary(row: &[f32]) -> Vec<u8> {
    let byte = |numbers: &[f32]| {
        let bits = numbers.iter().enumerate();
        bits.fold(0, |byte, (at, number)| byte | u8::from(*number > 0.0) << (7 - at))
    };
    row.chunks(8).map(byte).collect()
}

/// The same, 128 lower.
pub(crate) fn binary(row: &[f32]) -> Vec<i8> {
    ubinary(row).into_iter().map(|byte| (byte ^ 0x80).cast_signed()).collect()
}

fn higher(number: i8) -> u8 {
    number.cast_unsigned() ^ 0x80
}

#[cfg(test)]
mod tests {
    use millstream_values::Tensor;

    use super::*;

    fn value() -> Value {
        Tensor::from_f32([2, 2], &[3.0, 4.0, 0.5, -1.0]).unwrap().into()
    }

    fn dimensions(asked: u64) -> Dimensions {
        Dimensions::read("/dimensions", Some(asked)).unwrap()
    }

    #[test]
    fn shorter_vectors_have_length_1_and_longer_ones_are_refused() {
        let value = value();
        let rows = |dimensions| Vectors::of(&value, dimensions).map(|it| it.floats().collect::<Vec<_>>());
        assert_eq!(rows(Dimensions::default()).unwrap(), [[3.0, 4.0], [0.5, -1.0]]);
        assert_eq!(rows(dimensions(2)).unwrap(), [[3.0, 4.0], [0.5, -1.0]]);
        assert_eq!(rows(dimensions(1)).unwrap(), [[1.0], [1.0]]);
        assert_eq!(rows(dimensions(3)).unwrap_err().errors()[0].path, "/dimensions");
        assert!(Dimensions::read("/dimensions", Some(0)).is_err());
        assert!(Vectors::of(&Value::Int(1), Dimensions::default()).is_err());
    }

    #[test]
    fn base64_is_that_of_the_same_numbers() {
        let value = value();
        for dimensions in [Dimensions::default(), dimensions(1)] {
            let vectors = Vectors::of(&value, dimensions).unwrap();
            let floats: Vec<_> = vectors.floats().collect();
            let decoded = vectors.base64().map(|text| STANDARD.decode(text).unwrap());
            let bytes = floats.into_iter().map(|row| row.into_iter().flat_map(f32::to_le_bytes).collect());
            assert_eq!(decoded.collect::<Vec<_>>(), bytes.collect::<Vec<Vec<u8>>>());
        }
    }

    #[test]
    fn a_vector_of_length_1_stays_as_it_is() {
        let mut row = [0.6, 0.8];
        normalize(&mut row);
        assert_eq!(row, [0.6, 0.8]);
        let mut zero = [0.0, 0.0];
        normalize(&mut zero);
        assert_eq!(zero, [0.0, 0.0]);
        let mut long = [3.0, 4.0];
        normalize(&mut long);
        assert_eq!(long, [0.6, 0.8]);
    }

    #[test]
    fn small_numbers_keep_order_and_sign() {
        let row = [-1.0, -0.5, 0.0, 0.25, 1.0, 3.0, f32::NAN, 0.1, -0.1, 0.1];
        assert_eq!(int8(&row), [-127, -64, 0, 32, 127, 127, 0, 13, -13, 13]);
        assert_eq!(uint8(&row), [1, 64, 128, 160, 255, 255, 128, 141, 115, 141]);
        assert_eq!(ubinary(&row), [0b0001_1101, 0b0100_0000]);
        assert_eq!(binary(&row), [-99, -64]);
    }
}
