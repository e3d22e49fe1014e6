//! Filters, tests and the few functions there are.

use std::ops::Range;
use std::sync::Arc;

use millstream_values::Value;
use minijinja::machinery::ast::{self, CallArg, Expr};

use super::{Resolver, Typed, constant, fault, or_type, range, unknown};
use crate::expr::node::{Call, DefaultNode, Node, Replaces};
use crate::expr::{ExprFault, filters, infer};
use crate::types::Type;

/// Arguments by place and by name, with their types.
type Arguments = (Vec<Typed>, Vec<(Arc<str>, Typed)>);

impl Resolver<'_> {
    /// A filter applied to `subject`, which is its first argument.
    pub(crate) fn filter(
        &mut self,
        filter: &ast::Filter<'_>,
        subject: Typed,
        expr: &Expr<'_>,
    ) -> Result<Typed, ExprFault> {
        if !filters::FILTERS.contains(&filter.name) {
            let refusal =
                unknown(&format!("there is no filter `{}`", filter.name), filter.name, filters::FILTERS);
            return Err(fault(self.find(filter.name, expr), refusal));
        }
        let (args, kwargs) = self.arguments(&filter.args, expr)?;
        if matches!(filter.name, "default" | "d") {
            return Ok(default(subject, args, kwargs));
        }
        let attribute =
            kwargs.iter().find(|(name, _)| &**name == "attribute").and_then(|(_, (node, _))| constant(node));
        let ty = infer::filter(filter.name, &subject.1, attribute.and_then(Value::as_text))
            .map_err(|refusal| fault(self.find(filter.name, expr), refusal))?;
        Ok((Node::Filter(Box::new(call(filter.name, subject.0, args, kwargs))), ty))
    }

    pub(super) fn test(&mut self, test: &ast::Test<'_>, expr: &Expr<'_>) -> Result<Typed, ExprFault> {
        if !filters::TESTS.contains(&test.name) {
            let refusal = unknown(&format!("there is no test `{}`", test.name), test.name, filters::TESTS);
            return Err(fault(self.find(test.name, expr), refusal));
        }
        let subject = self.expression(&test.expr)?;
        let (args, kwargs) = self.arguments(&test.args, expr)?;
        let node = match test.name {
            "defined" => Node::Defined(Box::new(subject.0)),
            "undefined" => Node::Not(Box::new(Node::Defined(Box::new(subject.0)))),
            name => Node::Test(Box::new(call(name, subject.0, args, kwargs))),
        };
        Ok((node, Type::Bool))
    }

    pub(super) fn call(&mut self, call: &ast::Call<'_>, expr: &Expr<'_>) -> Result<Typed, ExprFault> {
        match &call.expr {
            Expr::Var(var) if var.id == "range" => {
                let (args, kwargs) = self.arguments(&call.args, expr)?;
                let bad = args
                    .iter()
                    .find(|(_, ty)| !matches!(ty.required(), Type::Int | Type::Any | Type::OneOf(_)));
                if bad.is_some() || !kwargs.is_empty() || !(1..=3).contains(&args.len()) {
                    return Err(fault(
                        range(expr),
                        (
                            "`range` takes one to three `int`".to_owned(),
                            "write `range(stop)` or `range(start, stop, step)`".to_owned(),
                        ),
                    ));
                }
                Ok((Node::Range(args.into_iter().map(|(node, _)| node).collect()), Type::list(Type::Int)))
            }
            Expr::GetAttr(get)
                if get.name == "cycle" && self.loop_depth(&get.expr).is_some() && !call.args.is_empty() =>
            {
                let (args, _) = self.arguments(&call.args, expr)?;
                let ty = args.iter().map(|(_, ty)| ty.clone()).reduce(Type::join).unwrap_or_default();
                Ok((Node::Cycle(self.loops.len() - 1, args.into_iter().map(|(node, _)| node).collect()), ty))
            }
            Expr::GetAttr(get) => {
                let help = if filters::FILTERS.contains(&get.name) {
                    format!("write it as a filter: `|{}`", get.name)
                } else {
                    format!("filters do what methods do elsewhere: {}", infer::quoted(filters::FILTERS))
                };
                Err(fault(
                    range(expr),
                    (format!("`{}` is called, but values have no methods", get.name), help),
                ))
            }
            _ => Err(fault(
                range(expr),
                (
                    "there is no such function".to_owned(),
                    "the only function is `range`; use filters".to_owned(),
                ),
            )),
        }
    }

    fn arguments(&mut self, args: &[CallArg<'_>], expr: &Expr<'_>) -> Result<Arguments, ExprFault> {
        let (mut positional, mut named) = (Vec::new(), Vec::new());
        for arg in args {
            match arg {
                CallArg::Pos(arg) => positional.push(self.expression(arg)?),
                CallArg::Kwarg(name, arg) => named.push(((*name).into(), self.expression(arg)?)),
                CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {
                    return Err(fault(
                        range(expr),
                        ("`*` arguments are not supported".to_owned(), "write the arguments out".to_owned()),
                    ));
                }
            }
        }
        Ok((positional, named))
    }

    /// Where a filter's or test's name stands.
    fn find(&self, name: &str, expr: &Expr<'_>) -> Range<usize> {
        let whole = range(expr);
        match self.text(whole.clone()).rfind(name) {
            Some(at) => whole.start + at..whole.start + at + name.len(),
            None => whole,
        }
    }
}

fn call(name: &str, subject: Node, args: Vec<Typed>, kwargs: Vec<(Arc<str>, Typed)>) -> Call {
    let args = std::iter::once(subject).chain(args.into_iter().map(|(node, _)| node)).collect();
    Call {
        name: name.into(),
        args,
        kwargs: kwargs.into_iter().map(|(name, (node, _))| (name, node)).collect(),
    }
}

fn default(subject: Typed, args: Vec<Typed>, kwargs: Vec<(Arc<str>, Typed)>) -> Typed {
    let mut args = args.into_iter();
    let (fallback, fallback_type) = args.next().unwrap_or((Node::Const(Value::from("")), Type::Text));
    let boolean = args.next().or_else(|| kwargs.into_iter().next().map(|(_, arg)| arg));
    let replaces = match boolean.as_ref().and_then(|(node, _)| constant(node)) {
        Some(Value::Bool(true)) => Replaces::Falsy,
        _ => Replaces::Missing,
    };
    let ty = match replaces {
        Replaces::Falsy => or_type(subject.1, fallback_type),
        Replaces::Missing => subject.1.join(fallback_type),
    };
    (Node::Default(Box::new(DefaultNode { value: subject.0, fallback, replaces })), ty)
}
