//! What a model takes and gives: names, element types and shapes, and whether a shape fits. Plain data.

use std::fmt;

use millstream_pipelines::{Element, PortType};

/// One axis of a model's input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dim {
    /// Always this size.
    Fixed(usize),
    /// Any size; axes of one (not empty) name have one size within a call.
    Any(String),
}

/// An input or an output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    /// Its name.
    pub(crate) name: String,
    /// Type of its elements.
    pub(crate) element: Element,
    /// Its axes.
    pub(crate) dims: Vec<Dim>,
    /// Whether the model itself leaves the size of the first axis open.
    pub(crate) open_rows: bool,
}

impl Port {
    /// A port as the model declares it.
    pub(crate) fn new(name: impl Into<String>, element: Element, dims: Vec<Dim>) -> Self {
        let open_rows = matches!(dims.first(), Some(Dim::Any(_)));
        Self { name: name.into(), element, dims, open_rows }
    }

    /// Its type, as pipelines have it.
    pub(crate) fn ty(&self) -> PortType {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => Some(*size),
            Dim::Any(_) => None,
        };
        PortType { element: self.element, shape: self.dims.iter().map(size).collect() }
    }

    /// Narrows the port by what the pipeline declares; a declaration may leave out an open first axis (one row).
    pub(crate) fn narrow(&mut self, declared: &PortType) -> Result<(), String> {
        let skipped = usize::from(self.open_rows && declared.shape.len() + 1 == self.dims.len());
        let fits = declared.element == self.element
            && declared.shape.len() + skipped == self.dims.len()
            && self.dims[skipped..].iter().zip(&declared.shape).all(|pair| match pair {
                (Dim::Fixed(own), Some(size)) => own == size,
                (Dim::Fixed(_), None) => false,
                (Dim::Any(_), _) => true,
            });
        if !fits {
            return Err(format!(
                "`signature` declares input `{}` as `{declared}`, the model takes `{self}`; correct the declaration",
                self.name
            ));
        }
        for (own, size) in self.dims[skipped..].iter_mut().zip(&declared.shape) {
            if let Some(size) = size {
                *own = Dim::Fixed(*size);
            }
        }
        Ok(())
    }

    /// Whether a tensor of that shape can go in.
    pub(crate) fn fit(&self, shape: &[usize]) -> Fit {
        let fits = |shape: &[usize], dims: &[Dim]| {
            shape.len() == dims.len()
                && shape.iter().zip(dims).all(|(size, dim)| match dim {
                    Dim::Fixed(own) => own == size,
                    Dim::Any(_) => true,
                })
        };
        match self.dims.split_first() {
            _ if fits(shape, &self.dims) => Fit::AsItIs,
            Some((Dim::Any(_) | Dim::Fixed(1), row)) if fits(shape, row) => Fit::AsOneRow,
            _ => Fit::No,
        }
    }
}

/// How a shape goes into a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Just so.
    AsItIs,
    /// With a first axis of size 1 put before it.
    AsOneRow,
    /// Not at all.
    No,
}

/// `f32[?,42]`, as in pipeline files.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ty().fmt(f)
    }
}

/// A type as pipeline files write it, of a tensor that is there.
pub(crate) fn type_text(element: Element, shape: &[usize]) -> String {
    let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("{element}[{}]", dims.join(","))
}

/// What is wrong with the sizes of named axes in one call: each name has one size.
pub(crate) fn check_named_axes(ports: &[Port], shapes: &[&[usize]]) -> Vec<String> {
    // There are few names: a list is quicker than a map, and free where there are none.
    let mut sizes: Vec<(&str, usize, &str)> = Vec::new();
    let mut faults = Vec::new();
    for (port, shape) in ports.iter().zip(shapes) {
        for (axis, (dim, &size)) in port.dims.iter().zip(*shape).enumerate() {
            let Dim::Any(symbol) = dim else { continue };
            if symbol.is_empty() {
                continue;
            }
            match sizes.iter().find(|(name, ..)| name == symbol) {
                None => sizes.push((symbol, size, &port.name)),
                Some((_, first, holder)) if *first != size => faults.push(format!(
                    "axis {axis} of input `{}` is {size}, but axis `{symbol}` is {first} in input `{holder}`",
                    port.name
                )),
                Some(_) => {}
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use millstream_values::DType;

    use super::*;

    const F32: Element = Element::Of(DType::F32);

    fn any() -> Dim {
        Dim::Any(String::new())
    }

    #[test]
    fn a_row_fits_where_rows_are_open() {
        let port = Port::new("x", F32, vec![any(), Dim::Fixed(42)]);
        assert_eq!(port.to_string(), "f32[?,42]");
        assert_eq!(port.fit(&[7, 42]), Fit::AsItIs);
        assert_eq!(port.fit(&[42]), Fit::AsOneRow);
        assert_eq!(port.fit(&[41]), Fit::No);
        assert_eq!(port.fit(&[1, 1, 42]), Fit::No);
        assert_eq!(Port::new("x", F32, vec![Dim::Fixed(2), Dim::Fixed(42)]).fit(&[42]), Fit::No);
    }

    #[test]
    fn declarations_narrow_or_are_refused() {
        let model = Port::new("x", F32, vec![any(), any()]);
        let declared = |element, shape: &[Option<usize>]| PortType { element, shape: shape.to_vec() };
        let mut port = model.clone();
        port.narrow(&declared(F32, &[Some(42)])).unwrap();
        assert_eq!(port.to_string(), "f32[?,42]");
        assert!(port.open_rows);
        let error = model.clone().narrow(&declared(Element::Of(DType::I64), &[Some(42)])).unwrap_err();
        assert_eq!(
            error,
            "`signature` declares input `x` as `i64[42]`, the model takes `f32[?,?]`; correct the declaration"
        );
        assert!(port.narrow(&declared(F32, &[None, Some(41)])).is_err());
    }

    #[test]
    fn axes_of_one_name_have_one_size() {
        let named = |name: &str| {
            Port::new(
                name,
                Element::Of(DType::I64),
                vec![Dim::Any("batch".into()), Dim::Any("tokens".into())],
            )
        };
        let ports = [named("ids"), named("mask")];
        assert!(check_named_axes(&ports, &[&[2, 5], &[2, 5]]).is_empty());
        assert_eq!(
            check_named_axes(&ports, &[&[2, 5], &[2, 6]]),
            ["axis 1 of input `mask` is 6, but axis `tokens` is 5 in input `ids`"]
        );
    }
}
