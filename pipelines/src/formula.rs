//! A number computed from named numbers, in the language of expressions: `0.05 + 0.02 * generated`. Tools take such
//! texts as arguments; pipelines have expressions of their own.

use millstream_values::Value;

use crate::expr::{Env, EvalError, ExprFault, Expression, Scope};
use crate::types::Type;

/// A compiled formula.
#[derive(Debug, Clone)]
pub struct Formula {
    expression: Expression,
    num_names: usize,
}

impl Formula {
    /// Compiles `text`, which may use these names.
    ///
    /// # Errors
    /// The first fault, with its range within `text`: syntax, an unknown name, a value that is not a number.
    pub fn compile(text: &str, names: &[&str]) -> Result<Self, ExprFault> {
        let mut scope = Scope::default();
        for (index, &name) in names.iter().enumerate() {
            scope.add_stage(name, index, Type::Float);
        }
        let expression = Expression::compile(text, &scope)?;
        match expression.ty() {
            Type::Int | Type::Float | Type::Any | Type::OneOf(_) => {
                Ok(Self { expression, num_names: names.len() })
            }
            other => Err(ExprFault {
                range: 0..text.len(),
                message: format!("this gives {other}, not a number"),
                help: "write an expression that computes a number".into(),
            }),
        }
    }

    /// Its value, for the values of the names in their order.
    ///
    /// # Errors
    /// [`EvalError`] when it cannot be computed, such as a division by zero, or is not a finite number.
    ///
    /// # Panics
    /// When there are not as many values as names.
    pub fn eval(&self, values: &[f64]) -> Result<f64, EvalError> {
        assert_eq!(values.len(), self.num_names, "one value for each name");
        let stages: Vec<_> = values.iter().map(|&value| Value::Float(value)).collect();
        let value = self.expression.eval(&Env { request: &Value::None, stages: &stages, item: None })?;
        let number = match value {
            Value::Float(number) => number,
            #[expect(clippy::cast_precision_loss, reason = "a number of such size is no measure of anything")]
            Value::Int(number) => number as f64,
            other => return Err(EvalError::invalid(format!("it gives {}, not a number", other.type_name()))),
        };
        if number.is_finite() { Ok(number) } else { Err(EvalError::invalid(format!("it gives {number}"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_in_and_a_number_comes_out() {
        let table = [
            ("0.05 + 0.0002*prompt + 0.02*generated", 0.05 + 0.0002 * 100.0 + 0.02 * 10.0),
            ("1", 1.0),
            ("prompt / 8 if prompt > 50 else 0", 12.5),
            ("(prompt + generated) * 2", 220.0),
        ];
        for (text, expected) in table {
            let formula = Formula::compile(text, &["prompt", "generated"]).unwrap();
            let found = formula.eval(&[100.0, 10.0]).unwrap();
            assert!((found - expected).abs() < 1e-9, "{text}: {found}");
        }
    }

    #[test]
    fn faults_have_a_place() {
        for (text, at) in [("0.05 + promt", 7), ("1 +", 2), ("'a'", 0), ("prompt +* 2", 8)] {
            let fault = Formula::compile(text, &["prompt", "generated"]).unwrap_err();
            assert_eq!(fault.range.start, at, "{text}: {fault:?}");
            assert!(!fault.help.is_empty());
        }
        let formula = Formula::compile("1 / (prompt - 1)", &["prompt"]).unwrap();
        assert!(formula.eval(&[1.0]).is_err());
    }
}
