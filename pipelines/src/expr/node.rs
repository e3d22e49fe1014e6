//! The compiled form of an expression: names are resolved to where their values lie, literals are values.

use std::sync::Arc;

use millstream_values::Value;

use super::Root;

/// A compiled expression.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Const(Value),
    /// A name and steps from it, all known at compile time: most of what pipelines say.
    Path(Box<Path>),
    List(Vec<Node>),
    Map(Vec<(Arc<str>, Node)>),
    /// A step from something that is not a path.
    Step(Box<(Node, Step)>),
    /// `a[b]` with `b` computed.
    Item(Box<(Node, Node)>),
    /// `a[b:c:d]` with computed or stepped bounds.
    Slice(Box<SliceNode>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(BinaryOp, Box<(Node, Node)>),
    /// `a < b < c`.
    Compare(Box<Node>, Vec<(BinaryOp, Node)>),
    And(Box<(Node, Node)>),
    Or(Box<(Node, Node)>),
    If(Box<IfNode>),
    /// `a|default(b)`.
    Default(Box<DefaultNode>),
    /// `a is defined`.
    Defined(Box<Node>),
    Filter(Box<Call>),
    Test(Box<Call>),
    /// `range(a, b, c)`.
    Range(Vec<Node>),
    /// `loop.index` of the loop of that depth.
    Loop(usize, LoopField),
    /// `loop.cycle(a, b)`.
    Cycle(usize, Vec<Node>),
}

/// A name and steps from it.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub(crate) root: Root,
    pub(crate) steps: Box<[Step]>,
    /// As it is written, for messages.
    pub(crate) text: Arc<str>,
}

/// One step into a value.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// `.name` or `["name"]`.
    Field(Arc<str>),
    /// `[3]`, `[-1]`.
    Index(i64),
    /// `[1:]`, `[:-1]`, `[2:4]`.
    Slice(Option<i64>, Option<i64>),
}

#[derive(Debug, Clone)]
pub(crate) struct SliceNode {
    pub(crate) value: Node,
    pub(crate) start: Option<Node>,
    pub(crate) stop: Option<Node>,
    pub(crate) step: Option<Node>,
}

#[derive(Debug, Clone)]
pub(crate) struct IfNode {
    pub(crate) test: Node,
    pub(crate) then: Node,
    /// Without one a false test gives none.
    pub(crate) otherwise: Option<Node>,
}

#[derive(Debug, Clone)]
pub(crate) struct DefaultNode {
    pub(crate) value: Node,
    pub(crate) fallback: Node,
    /// Whether the fallback also stands in for what is there but counts as false.
    pub(crate) replaces: Replaces,
}

/// What `default` replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaces {
    Missing,
    Falsy,
}

/// A filter or test: the first argument is what it is applied to.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) name: Arc<str>,
    pub(crate) args: Vec<Node>,
    pub(crate) kwargs: Vec<(Arc<str>, Node)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
    Concat,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

impl BinaryOp {
    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::FloorDivide => "//",
            Self::Remainder => "%",
            Self::Power => "**",
            Self::Concat => "~",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::NotIn => "not in",
        }
    }
}

/// What a template's `loop` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoopField {
    Index,
    Index0,
    RevIndex,
    RevIndex0,
    First,
    Last,
    Length,
    Depth,
    Depth0,
    Previous,
    Next,
}

impl LoopField {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "index" => Self::Index,
            "index0" => Self::Index0,
            "revindex" => Self::RevIndex,
            "revindex0" => Self::RevIndex0,
            "first" => Self::First,
            "last" => Self::Last,
            "length" => Self::Length,
            "depth" => Self::Depth,
            "depth0" => Self::Depth0,
            "previtem" => Self::Previous,
            "nextitem" => Self::Next,
            _ => return None,
        })
    }
}

impl Node {
    /// Calls `visit` with every name's place, repeats included.
    pub(crate) fn visit_roots(&self, visit: &mut dyn FnMut(Root)) {
        match self {
            Self::Const(_) | Self::Loop(..) => {}
            Self::Path(path) => visit(path.root),
            Self::List(nodes) | Self::Range(nodes) | Self::Cycle(_, nodes) => {
                nodes.iter().for_each(|node| node.visit_roots(visit));
            }
            Self::Map(entries) => entries.iter().for_each(|(_, node)| node.visit_roots(visit)),
            Self::Step(step) => step.0.visit_roots(visit),
            Self::Not(node) | Self::Negate(node) | Self::Defined(node) => node.visit_roots(visit),
            Self::Item(pair) | Self::Binary(_, pair) | Self::And(pair) | Self::Or(pair) => {
                pair.0.visit_roots(visit);
                pair.1.visit_roots(visit);
            }
            Self::Slice(slice) => {
                slice.value.visit_roots(visit);
                for bound in [&slice.start, &slice.stop, &slice.step].into_iter().flatten() {
                    bound.visit_roots(visit);
                }
            }
            Self::Compare(first, others) => {
                first.visit_roots(visit);
                others.iter().for_each(|(_, node)| node.visit_roots(visit));
            }
            Self::If(node) => {
                node.test.visit_roots(visit);
                node.then.visit_roots(visit);
                if let Some(otherwise) = &node.otherwise {
                    otherwise.visit_roots(visit);
                }
            }
            Self::Default(node) => {
                node.value.visit_roots(visit);
                node.fallback.visit_roots(visit);
            }
            Self::Filter(call) | Self::Test(call) => {
                call.args.iter().for_each(|node| node.visit_roots(visit));
                call.kwargs.iter().for_each(|(_, node)| node.visit_roots(visit));
            }
        }
    }

    /// The stage and field of `stage.field`.
    pub(crate) fn as_stage_field(&self) -> Option<(usize, &str)> {
        let Self::Path(path) = self else { return None };
        match (path.root, &*path.steps) {
            (Root::Stage(stage), [Step::Field(field)]) => Some((stage, field)),
            _ => None,
        }
    }
}
