//! From minijinja's syntax tree to our nodes: resolves names, infers types, and refuses what cannot work.

mod calls;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use millstream_values::Value;
use minijinja::machinery::ast::{self, BinOpKind, CompareOpKind, Expr, UnaryOpKind};

use super::budget::Budget;
use super::infer::{self, Refusal};
use super::node::{BinaryOp, IfNode, LoopField, Node, Path, SliceNode, Step};
use super::parse::{self, Form};
use super::{ExprFault, Expression, Root, Scope, object};
use crate::types::Type;

/// Deepest nesting of a compiled expression.
const MAX_DEPTH: usize = 100;

type Typed = (Node, Type);

/// Compiles an expression.
pub(crate) fn expression(source: &str, scope: &Scope) -> Result<Expression, ExprFault> {
    let prepared = parse::prepare(source, Form::Expression, &mut scope.names())?;
    let tree = parse::expression(&prepared)?;
    let mut resolver = Resolver::new(source, Names::Of(scope));
    let (node, ty) = resolver.expression(&tree)?;
    Ok(Expression { node, ty, references: resolver.references })
}

/// What names mean outside of the text.
pub(crate) enum Names<'s> {
    /// Those of a scope.
    Of(&'s Scope),
    /// Any name is some value: for finding out which are mentioned.
    Any,
}

/// The state of a compilation.
pub(crate) struct Resolver<'s> {
    source: &'s str,
    names: Names<'s>,
    pub(crate) references: BTreeSet<Arc<str>>,
    depth: usize,
    /// A template's variables: blocks from the outermost in, each with names, places and types.
    pub(crate) blocks: Vec<Vec<(String, usize, Type)>>,
    pub(crate) num_locals: usize,
    /// Types of the elements of the loops around.
    pub(crate) loops: Vec<Type>,
}

impl<'s> Resolver<'s> {
    pub(crate) fn new(source: &'s str, names: Names<'s>) -> Self {
        Self {
            source,
            names,
            references: BTreeSet::new(),
            depth: 0,
            blocks: Vec::new(),
            num_locals: 0,
            loops: Vec::new(),
        }
    }

    /// Resolves an expression, one level deeper.
    pub(crate) fn expression(&mut self, expr: &Expr<'_>) -> Result<Typed, ExprFault> {
        if self.depth >= MAX_DEPTH {
            return Err(parse::too_deep(range(expr)));
        }
        self.depth += 1;
        let resolved = self.expression_here(expr);
        self.depth -= 1;
        resolved
    }

    fn expression_here(&mut self, expr: &Expr<'_>) -> Result<Typed, ExprFault> {
        match expr {
            Expr::Var(_) => self.name(expr),
            Expr::Const(constant) => constant_value(&constant.value, range(expr)),
            Expr::List(list) => self.list(&list.items),
            Expr::Tuple(tuple) => self.list(&tuple.items),
            Expr::Map(map) => self.map(map),
            Expr::GetAttr(get) => self.attribute(get, expr),
            Expr::GetItem(get) => self.item(get, expr),
            Expr::Slice(slice) => self.slice(slice, expr),
            Expr::UnaryOp(unary) => self.unary(unary, expr),
            Expr::BinOp(binary) => self.binary(binary, expr),
            Expr::Compare(compare) => self.compare(compare, expr),
            Expr::IfExpr(of) => self.condition(of),
            Expr::Filter(filter) => {
                let subject = match &filter.expr {
                    Some(subject) => self.expression(subject)?,
                    None => {
                        return Err(fault(
                            range(expr),
                            ("a filter of nothing".to_owned(), "put a value before `|`".to_owned()),
                        ));
                    }
                };
                self.filter(filter, subject, expr)
            }
            Expr::Test(test) => self.test(test, expr),
            Expr::Call(call) => self.call(call, expr),
        }
    }

    /// The part of the text that a node comes from.
    fn text(&self, range: Range<usize>) -> &'s str {
        self.source.get(range).unwrap_or_default()
    }

    fn name(&mut self, expr: &Expr<'_>) -> Result<Typed, ExprFault> {
        let range = range(expr);
        let name = self.text(range.clone());
        let local =
            self.blocks.iter().rev().flat_map(|block| block.iter().rev()).find(|(known, ..)| known == name);
        if let Some((_, place, ty)) = local {
            return Ok((path(Root::Local(*place), name), ty.clone()));
        }
        let (root, ty) = match &self.names {
            Names::Any => (Root::Item, Type::Any),
            Names::Of(scope) => scope
                .get(name)
                .map(|(root, ty)| (root, ty.clone()))
                .ok_or_else(|| unknown_name(name, scope, range))?,
        };
        self.references.insert(name.into());
        Ok((path(root, name), ty))
    }

    fn list(&mut self, items: &[Expr<'_>]) -> Result<Typed, ExprFault> {
        let mut nodes = Vec::with_capacity(items.len());
        let mut item_type: Option<Type> = None;
        for item in items {
            let (node, ty) = self.expression(item)?;
            nodes.push(node);
            item_type = Some(match item_type {
                Some(known) => known.join(ty),
                None => ty,
            });
        }
        let ty = Type::list(item_type.unwrap_or_default());
        let constants: Option<Vec<Value>> = nodes.iter().map(|node| constant(node).cloned()).collect();
        Ok((
            constants.map_or_else(|| Node::List(nodes), |values| Node::Const(Value::List(values.into()))),
            ty,
        ))
    }

    fn map(&mut self, map: &ast::Map<'_>) -> Result<Typed, ExprFault> {
        let mut entries = Vec::with_capacity(map.keys.len());
        let mut fields = Vec::with_capacity(map.keys.len());
        for (key, entry) in map.keys.iter().zip(&map.values) {
            let name: Arc<str> = match key.as_const() {
                Some(name) if name.as_str().is_some() => name.as_str().unwrap_or_default().into(),
                _ => {
                    let help = "write the name in quotes: `{\"name\": value}`";
                    return Err(fault(
                        range(key),
                        ("a name of a map must be a text literal".to_owned(), help.to_owned()),
                    ));
                }
            };
            let (node, ty) = self.expression(entry)?;
            entries.push((Arc::clone(&name), node));
            fields.push((name, ty));
        }
        Ok((Node::Map(entries), Type::map(fields)))
    }

    fn attribute(&mut self, get: &ast::GetAttr<'_>, expr: &Expr<'_>) -> Result<Typed, ExprFault> {
        if let Some(depth) = self.loop_depth(&get.expr) {
            return self.loop_field(depth, get.name, expr);
        }
        let base = self.expression(&get.expr)?;
        let end = range(expr).end;
        let ty =
            infer::field(&base.1, get.name).map_err(|refusal| fault(end - get.name.len()..end, refusal))?;
        Ok((self.step(base.0, Step::Field(get.name.into()), expr), ty))
    }

    /// The loop that `loop` means here, if `expr` is it.
    fn loop_depth(&self, expr: &Expr<'_>) -> Option<usize> {
        match expr {
            Expr::Var(var) if var.id == "loop" => self.loops.len().checked_sub(1),
            _ => None,
        }
    }

    fn loop_field(&self, depth: usize, name: &str, expr: &Expr<'_>) -> Result<Typed, ExprFault> {
        let field = LoopField::parse(name).ok_or_else(|| {
            let help =
                "it has `index`, `index0`, `revindex`, `first`, `last`, `length`, `previtem`, `nextitem`";
            fault(range(expr), (format!("`loop` has no `{name}`"), help.to_owned()))
        })?;
        let ty = match field {
            LoopField::First | LoopField::Last => Type::Bool,
            LoopField::Previous | LoopField::Next => self.loops[depth].clone(),
            _ => Type::Int,
        };
        Ok((Node::Loop(depth, field), ty))
    }

    /// A step from a node; a path grows by it.
    fn step(&self, base: Node, step: Step, expr: &Expr<'_>) -> Node {
        match base {
            Node::Path(mut path) => {
                let mut steps = std::mem::take(&mut path.steps).into_vec();
                steps.push(step);
                path.steps = steps.into();
                path.text = self.text(range(expr)).into();
                Node::Path(path)
            }
            other => Node::Step(Box::new((other, step))),
        }
    }

    fn item(&mut self, get: &ast::GetItem<'_>, expr: &Expr<'_>) -> Result<Typed, ExprFault> {
        let base = self.expression(&get.expr)?;
        let (key, key_type) = self.expression(&get.subscript_expr)?;
        let key_range = range(&get.subscript_expr);
        let here = |refusal| fault(key_range.clone(), refusal);
        match constant(&key) {
            Some(Value::Text(name)) => {
                let ty = infer::field(&base.1, name).map_err(here)?;
                Ok((self.step(base.0, Step::Field(Arc::clone(name)), expr), ty))
            }
            Some(Value::Int(index)) => {
                let ty = infer::element(&base.1).map_err(here)?;
                Ok((self.step(base.0, Step::Index(*index), expr), ty))
            }
            _ => {
                let ty = match key_type.required() {
                    Type::Int => infer::element(&base.1).map_err(here)?,
                    Type::Text | Type::Any | Type::OneOf(_) => Type::Any,
                    other => {
                        let refusal =
                            (format!("`{other}` is not an index"), "index by a number or a name".to_owned());
                        return Err(fault(key_range, refusal));
                    }
                };
                Ok((Node::Item(Box::new((base.0, key))), ty))
            }
        }
    }

    fn slice(&mut self, slice: &ast::Slice<'_>, expr: &Expr<'_>) -> Result<Typed, ExprFault> {
        let base = self.expression(&slice.expr)?;
        let ty = infer::slice(&base.1).map_err(|refusal| fault(range(expr), refusal))?;
        let start = self.bound(slice.start.as_ref())?;
        let stop = self.bound(slice.stop.as_ref())?;
        let step = self.bound(slice.step.as_ref())?;
        if let (Some(start), Some(stop), None) = (literal_bound(&start), literal_bound(&stop), &step) {
            return Ok((self.step(base.0, Step::Slice(start, stop), expr), ty));
        }
        Ok((Node::Slice(Box::new(SliceNode { value: base.0, start, stop, step })), ty))
    }

    fn bound(&mut self, expr: Option<&Expr<'_>>) -> Result<Option<Node>, ExprFault> {
        let Some(expr) = expr else { return Ok(None) };
        let (node, ty) = self.expression(expr)?;
        match ty.required() {
            Type::Int | Type::Any | Type::None | Type::OneOf(_) => Ok(Some(node)),
            other => Err(fault(
                range(expr),
                (format!("a slice is bounded by `int`, not `{other}`"), "use a whole number".to_owned()),
            )),
        }
    }

    fn unary(&mut self, unary: &ast::UnaryOp<'_>, expr: &Expr<'_>) -> Result<Typed, ExprFault> {
        let (node, ty) = self.expression(&unary.expr)?;
        match unary.op {
            UnaryOpKind::Not => Ok((Node::Not(Box::new(node)), Type::Bool)),
            UnaryOpKind::Neg => {
                let ty = infer::negate(&ty).map_err(|refusal| fault(range(expr), refusal))?;
                match constant(&node) {
                    Some(Value::Int(number)) => Ok((Node::Const(Value::Int(number.saturating_neg())), ty)),
                    Some(Value::Float(number)) => Ok((Node::Const(Value::Float(-number)), ty)),
                    _ => Ok((Node::Negate(Box::new(node)), ty)),
                }
            }
        }
    }

    fn binary(&mut self, binary: &ast::BinOp<'_>, expr: &Expr<'_>) -> Result<Typed, ExprFault> {
        let (left, left_type) = self.expression(&binary.left)?;
        let (right, right_type) = self.expression(&binary.right)?;
        let op = match binary.op {
            BinOpKind::ScAnd => return Ok((Node::And(Box::new((left, right))), left_type.join(right_type))),
            BinOpKind::ScOr => {
                return Ok((Node::Or(Box::new((left, right))), or_type(left_type, right_type)));
            }
            BinOpKind::Eq => BinaryOp::Equal,
            BinOpKind::Ne => BinaryOp::NotEqual,
            BinOpKind::Lt => BinaryOp::Less,
            BinOpKind::Lte => BinaryOp::LessOrEqual,
            BinOpKind::Gt => BinaryOp::Greater,
            BinOpKind::Gte => BinaryOp::GreaterOrEqual,
            BinOpKind::Add => BinaryOp::Add,
            BinOpKind::Sub => BinaryOp::Subtract,
            BinOpKind::Mul => BinaryOp::Multiply,
            BinOpKind::Div => BinaryOp::Divide,
            BinOpKind::FloorDiv => BinaryOp::FloorDivide,
            BinOpKind::Rem => BinaryOp::Remainder,
            BinOpKind::Pow => BinaryOp::Power,
            BinOpKind::Concat => BinaryOp::Concat,
            BinOpKind::In => BinaryOp::In,
        };
        let ty = infer::binary(op, &left_type, &right_type).map_err(|refusal| fault(range(expr), refusal))?;
        Ok((Node::Binary(op, Box::new((left, right))), ty))
    }

    fn compare(&mut self, compare: &ast::Compare<'_>, expr: &Expr<'_>) -> Result<Typed, ExprFault> {
        let (first, mut left_type) = self.expression(&compare.expr)?;
        let mut others = Vec::with_capacity(compare.ops.len());
        for of in &compare.ops {
            let op = match of.op {
                CompareOpKind::Eq => BinaryOp::Equal,
                CompareOpKind::Ne => BinaryOp::NotEqual,
                CompareOpKind::Lt => BinaryOp::Less,
                CompareOpKind::Lte => BinaryOp::LessOrEqual,
                CompareOpKind::Gt => BinaryOp::Greater,
                CompareOpKind::Gte => BinaryOp::GreaterOrEqual,
                CompareOpKind::In => BinaryOp::In,
                CompareOpKind::NotIn => BinaryOp::NotIn,
            };
            let (node, right_type) = self.expression(&of.expr)?;
            infer::binary(op, &left_type, &right_type).map_err(|refusal| fault(range(expr), refusal))?;
            others.push((op, node));
            left_type = right_type;
        }
        Ok((Node::Compare(Box::new(first), others), Type::Bool))
    }

    fn condition(&mut self, of: &ast::IfExpr<'_>) -> Result<Typed, ExprFault> {
        let (test, _) = self.expression(&of.test_expr)?;
        let (then, then_type) = self.expression(&of.true_expr)?;
        let (otherwise, ty) = match &of.false_expr {
            Some(expr) => {
                let (node, ty) = self.expression(expr)?;
                (Some(node), then_type.join(ty))
            }
            None => (None, then_type.optional()),
        };
        Ok((Node::If(Box::new(IfNode { test, then, otherwise })), ty))
    }
}

/// The bytes of the text that a node comes from. The parser's own spans of operators begin at the token before.
pub(crate) fn range(expr: &Expr<'_>) -> Range<usize> {
    let span = expr.span();
    let mut leftmost = expr;
    let start = loop {
        leftmost = match leftmost {
            Expr::Slice(of) => &of.expr,
            Expr::GetAttr(of) => &of.expr,
            Expr::GetItem(of) => &of.expr,
            Expr::Call(of) => &of.expr,
            Expr::Test(of) => &of.expr,
            Expr::BinOp(of) => &of.left,
            Expr::Compare(of) => &of.expr,
            Expr::IfExpr(of) => &of.true_expr,
            Expr::Filter(of) if of.expr.is_some() => of.expr.as_ref().unwrap_or(leftmost),
            other => break other.span().start_offset as usize,
        };
    };
    start..(span.end_offset as usize).max(start)
}

pub(crate) fn fault(range: Range<usize>, (message, help): Refusal) -> ExprFault {
    ExprFault { range, message, help }
}

fn path(root: Root, name: &str) -> Node {
    Node::Path(Box::new(Path { root, steps: Box::default(), text: name.into() }))
}

fn constant(node: &Node) -> Option<&Value> {
    match node {
        Node::Const(value) => Some(value),
        _ => None,
    }
}

/// A bound of a slice that is known now; `Some(None)` for one left out.
fn literal_bound(node: &Option<Node>) -> Option<Option<i64>> {
    match node {
        None => Some(None),
        Some(Node::Const(Value::Int(bound))) => Some(Some(*bound)),
        Some(_) => None,
    }
}

fn constant_value(value: &minijinja::Value, range: Range<usize>) -> Result<Typed, ExprFault> {
    object::from_jinja(value, &mut Budget::default(), 64)
        .map(|value| {
            let ty = Type::of(&value);
            (Node::Const(value), ty)
        })
        .map_err(|error| fault(range, (error.message, "use a smaller number".to_owned())))
}

/// The type of `a or b`: none counts as false, so `a` gives none only when `b` does.
fn or_type(left: Type, right: Type) -> Type {
    match left {
        Type::Optional(inner) => inner.join(right),
        Type::None => right,
        other => other.join(right),
    }
}

fn unknown_name(name: &str, scope: &Scope, range: Range<usize>) -> ExprFault {
    let known: Vec<&str> = scope.names().collect();
    if name == "loop" {
        return fault(
            range,
            (
                "`loop` has a meaning only as `loop.index` and the like, within a loop".to_owned(),
                "use it in `{% for %}`".to_owned(),
            ),
        );
    }
    fault(range, unknown(&format!("`{name}` is not known here"), name, &known))
}

fn unknown(message: &str, name: &str, known: &[&str]) -> Refusal {
    let help = match infer::nearest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("there is {}", infer::quoted(known)),
    };
    (message.to_owned(), help)
}
