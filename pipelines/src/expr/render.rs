//! Templates' statements: from minijinja's syntax tree to ours, and to text. Loops, conditions, `set`, `with`, and
//! blocks through filters are there; what composes files or defines functions is not, for a prompt is one text.

use std::ops::Range;
use std::sync::Arc;

use millstream_values::Value;
use minijinja::machinery::ast::{self, Expr, Stmt as Tree};

use super::budget::MAX_OUTPUT_BYTES;
use super::compile::{Resolver, fault, range};
use super::eval::{Context, LoopState, is_true, value};
use super::node::{Node, Path};
use super::{EvalError, ExprFault, Root, infer, slicing, text};
use crate::types::Type;

/// A compiled statement.
#[derive(Debug, Clone)]
pub(crate) enum Stmt {
    Raw(Box<str>),
    Emit(Node),
    For(Box<ForLoop>),
    If {
        test: Node,
        then: Vec<Stmt>,
        otherwise: Vec<Stmt>,
    },
    Set(Target, Node),
    /// `{% set x %}…{% endset %}` and `{% filter upper %}…{% endfilter %}`: the block's text is kept in a variable.
    Capture {
        place: usize,
        body: Vec<Stmt>,
        then: AfterCapture,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct ForLoop {
    target: Target,
    items: Node,
    filter: Option<Node>,
    body: Vec<Stmt>,
    otherwise: Vec<Stmt>,
    /// The variables of the body, forgotten on each turn.
    locals: Range<usize>,
}

/// What is done with a captured text.
#[derive(Debug, Clone)]
pub(crate) enum AfterCapture {
    Set(Target, Node),
    Emit(Node),
}

/// Where a value goes.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Local(usize),
    Unpack(Vec<Target>),
}

/// Compiles a whole template.
pub(crate) fn resolve(resolver: &mut Resolver<'_>, tree: &Tree<'_>) -> Result<Vec<Stmt>, ExprFault> {
    match tree {
        Tree::Template(template) => in_block(resolver, |resolver| statements(resolver, &template.children)),
        other => in_block(resolver, |resolver| Ok(vec![statement(resolver, other)?])),
    }
}

fn in_block<R>(
    resolver: &mut Resolver<'_>,
    of: impl FnOnce(&mut Resolver<'_>) -> Result<R, ExprFault>,
) -> Result<R, ExprFault> {
    resolver.blocks.push(Vec::new());
    let result = of(resolver);
    resolver.blocks.pop();
    result
}

fn statements(resolver: &mut Resolver<'_>, trees: &[Tree<'_>]) -> Result<Vec<Stmt>, ExprFault> {
    trees.iter().map(|tree| statement(resolver, tree)).collect()
}

fn statement(resolver: &mut Resolver<'_>, tree: &Tree<'_>) -> Result<Stmt, ExprFault> {
    match tree {
        Tree::EmitRaw(raw) => Ok(Stmt::Raw(raw.raw.into())),
        Tree::EmitExpr(emit) => {
            let (node, ty) = resolver.expression(&emit.expr)?;
            if matches!(ty.required(), Type::Tensor(_)) {
                let help = "a tensor is numbers for a model; write a text, or an element of it";
                return Err(fault(
                    range(&emit.expr),
                    (format!("`{ty}` is not written as text"), help.to_owned()),
                ));
            }
            Ok(Stmt::Emit(node))
        }
        Tree::ForLoop(of) => for_loop(resolver, of),
        Tree::IfCond(of) => {
            let (test, _) = resolver.expression(&of.expr)?;
            let then = statements(resolver, &of.true_body)?;
            let otherwise = statements(resolver, &of.false_body)?;
            Ok(Stmt::If { test, then, otherwise })
        }
        Tree::Set(set) => {
            let (node, ty) = resolver.expression(&set.expr)?;
            Ok(Stmt::Set(target(resolver, &set.target, &ty)?, node))
        }
        Tree::SetBlock(set) => capture(resolver, &set.body, |resolver, captured| {
            let (node, ty) = match &set.filter {
                Some(filter) => through(resolver, filter, captured)?,
                None => captured,
            };
            Ok(AfterCapture::Set(target(resolver, &set.target, &ty)?, node))
        }),
        Tree::FilterBlock(of) => capture(resolver, &of.body, |resolver, captured| {
            Ok(AfterCapture::Emit(through(resolver, &of.filter, captured)?.0))
        }),
        Tree::WithBlock(with) => in_block(resolver, |resolver| {
            let mut body = Vec::with_capacity(with.assignments.len() + with.body.len());
            for (to, expr) in &with.assignments {
                let (node, ty) = resolver.expression(expr)?;
                body.push(Stmt::Set(target(resolver, to, &ty)?, node));
            }
            body.extend(statements(resolver, &with.body)?);
            Ok(Stmt::If { test: Node::Const(Value::Bool(true)), then: body, otherwise: Vec::new() })
        }),
        other => Err(unsupported(other)),
    }
}

fn for_loop(resolver: &mut Resolver<'_>, of: &ast::ForLoop<'_>) -> Result<Stmt, ExprFault> {
    if of.recursive {
        let help = "write the loops out; how deep they go is then known";
        return Err(fault(
            range(&of.iter),
            ("a recursive loop is not supported".to_owned(), help.to_owned()),
        ));
    }
    let (items, ty) = resolver.expression(&of.iter)?;
    let item = infer::items(&ty).map_err(|refusal| fault(range(&of.iter), refusal))?;
    let first_local = resolver.num_locals;
    let (target, filter, body) = in_block(resolver, |resolver| {
        let target = target(resolver, &of.target, &item)?;
        let filter = of.filter_expr.as_ref().map(|filter| resolver.expression(filter)).transpose()?;
        resolver.loops.push(item.clone());
        let body = statements(resolver, &of.body);
        resolver.loops.pop();
        Ok((target, filter.map(|(node, _)| node), body?))
    })?;
    let locals = first_local..resolver.num_locals;
    let otherwise = statements(resolver, &of.else_body)?;
    Ok(Stmt::For(Box::new(ForLoop { target, items, filter, body, otherwise, locals })))
}

fn capture(
    resolver: &mut Resolver<'_>,
    body: &[Tree<'_>],
    then: impl FnOnce(&mut Resolver<'_>, (Node, Type)) -> Result<AfterCapture, ExprFault>,
) -> Result<Stmt, ExprFault> {
    let body = in_block(resolver, |resolver| statements(resolver, body))?;
    let place = resolver.num_locals;
    resolver.num_locals += 1;
    let path = Path { root: Root::Local(place), steps: Box::default(), text: "block".into() };
    let then = then(resolver, (Node::Path(Box::new(path)), Type::Text))?;
    Ok(Stmt::Capture { place, body, then })
}

/// A chain of filters that has no subject of its own, applied to a captured text.
fn through(
    resolver: &mut Resolver<'_>,
    expr: &Expr<'_>,
    captured: (Node, Type),
) -> Result<(Node, Type), ExprFault> {
    let Expr::Filter(filter) = expr else {
        return Err(fault(
            range(expr),
            ("this is not a filter".to_owned(), "write a filter such as `trim`".to_owned()),
        ));
    };
    let subject = match &filter.expr {
        Some(inner) => through(resolver, inner, captured)?,
        None => captured,
    };
    resolver.filter(filter, subject, expr)
}

/// Declares the variables of an assignment in the innermost block; one that is there already is assigned anew.
fn target(resolver: &mut Resolver<'_>, expr: &Expr<'_>, ty: &Type) -> Result<Target, ExprFault> {
    match expr {
        Expr::Var(var) => {
            let block = resolver.blocks.last_mut();
            let known = block.and_then(|block| block.iter_mut().find(|(name, ..)| name == var.id));
            if let Some((_, place, known)) = known {
                *known = std::mem::take(known).join(ty.clone());
                return Ok(Target::Local(*place));
            }
            let place = resolver.num_locals;
            resolver.num_locals += 1;
            if let Some(block) = resolver.blocks.last_mut() {
                block.push((var.id.to_owned(), place, ty.clone()));
            }
            Ok(Target::Local(place))
        }
        Expr::Tuple(tuple) => unpack(resolver, &tuple.items, ty),
        Expr::List(list) => unpack(resolver, &list.items, ty),
        other => {
            let help = "assign to a plain name";
            Err(fault(range(other), ("this cannot be assigned to".to_owned(), help.to_owned())))
        }
    }
}

fn unpack(resolver: &mut Resolver<'_>, names: &[Expr<'_>], ty: &Type) -> Result<Target, ExprFault> {
    let item = infer::items(ty).unwrap_or_default();
    Ok(Target::Unpack(names.iter().map(|name| target(resolver, name, &item)).collect::<Result<_, _>>()?))
}

fn unsupported(tree: &Tree<'_>) -> ExprFault {
    let (what, span) = match tree {
        Tree::AutoEscape(of) => ("autoescape", of.span()),
        Tree::Block(of) => ("block", of.span()),
        Tree::Import(of) => ("import", of.span()),
        Tree::FromImport(of) => ("from", of.span()),
        Tree::Extends(of) => ("extends", of.span()),
        Tree::Include(of) => ("include", of.span()),
        Tree::Macro(of) => ("macro", of.span()),
        Tree::CallBlock(of) => ("call", of.span()),
        Tree::Do(of) => ("do", of.span()),
        _ => ("this", minijinja::machinery::Span::default()),
    };
    let (start, end) = (span.start_offset as usize, span.end_offset as usize);
    let message = format!("`{{% {what} %}}` is not supported");
    fault(start..end, (message, "a template has `for`, `if`, `set`, `with`, `filter` and `raw`".to_owned()))
}

/// Runs statements, appending to `out`.
pub(crate) fn run(statements: &[Stmt], out: &mut String, context: &mut Context<'_>) -> Result<(), EvalError> {
    for statement in statements {
        context.budget.spend(1)?;
        match statement {
            Stmt::Raw(raw) => out.push_str(raw),
            Stmt::Emit(node) => text::write(&value(node, context)?, out, &mut context.budget)?,
            Stmt::If { test, then, otherwise } => {
                let body = if is_true(&value(test, context)?) { then } else { otherwise };
                run(body, out, context)?;
            }
            Stmt::For(of) => run_loop(of, out, context)?,
            Stmt::Set(target, node) => {
                let found = value(node, context)?;
                assign(target, found, context)?;
            }
            Stmt::Capture { place, body, then } => {
                let mut captured = String::new();
                run(body, &mut captured, context)?;
                context.budget.spend_bytes(captured.len())?;
                context.locals[*place] = Some(Value::from(captured));
                match then {
                    AfterCapture::Set(target, node) => {
                        let found = value(node, context)?;
                        assign(target, found, context)?;
                    }
                    AfterCapture::Emit(node) => {
                        text::write(&value(node, context)?, out, &mut context.budget)?
                    }
                }
            }
        }
        if out.len() > MAX_OUTPUT_BYTES {
            return Err(EvalError::too_large(format!(
                "a template gives more than {} MiB",
                MAX_OUTPUT_BYTES >> 20
            )));
        }
    }
    Ok(())
}

fn run_loop(of: &ForLoop, out: &mut String, context: &mut Context<'_>) -> Result<(), EvalError> {
    let mut items = loop_items(value(&of.items, context)?)?;
    context.budget.spend(items.len())?;
    if let Some(filter) = &of.filter {
        let mut kept = Vec::new();
        for item in items.iter() {
            assign(&of.target, item.clone(), context)?;
            if is_true(&value(filter, context)?) {
                kept.push(item.clone());
            }
        }
        items = kept.into();
    }
    if items.is_empty() {
        return run(&of.otherwise, out, context);
    }
    context.loops.push(LoopState { items: Arc::clone(&items), index: 0 });
    for (index, item) in items.iter().enumerate() {
        context.locals[of.locals.clone()].fill(None);
        if let Some(state) = context.loops.last_mut() {
            state.index = index;
        }
        assign(&of.target, item.clone(), context)?;
        run(&of.body, out, context)?;
    }
    context.loops.pop();
    Ok(())
}

/// What a loop, or `for_each`, goes through: elements of a list, names of a map, rows of a tensor.
pub(crate) fn loop_items(value: Value) -> Result<Arc<[Value]>, EvalError> {
    match value {
        Value::List(list) => Ok(list),
        Value::Map(map) => Ok(map.keys().map(|name| Value::Text(Arc::clone(name))).collect()),
        Value::Tensor(tensor) if tensor.len().is_some() => Ok((0..tensor.len().unwrap_or_default())
            .filter_map(|row| slicing::index_tensor(&tensor, row))
            .collect()),
        other => Err(EvalError::invalid(format!("a {} has no elements to go through", other.type_name()))),
    }
}

fn assign(target: &Target, value: Value, context: &mut Context<'_>) -> Result<(), EvalError> {
    match target {
        Target::Local(place) => {
            context.locals[*place] = Some(value);
            Ok(())
        }
        Target::Unpack(targets) => {
            let items = loop_items(value)?;
            if items.len() != targets.len() {
                return Err(EvalError::invalid(format!(
                    "{} values for {} names",
                    items.len(),
                    targets.len()
                )));
            }
            targets
                .iter()
                .zip(items.iter())
                .try_for_each(|(target, item)| assign(target, item.clone(), context))
        }
    }
}
