//! (being written)
use super::Root;
use millstream_values::Value;
use std::sync::Arc;
#[derive(Debug, Clone)]
pub(crate) enum Node { Const(Value), List(Vec<Node>), Map(Vec<(Arc<str>, Node)>) }
impl Node {
    pub(crate) fn visit_roots(&self, _visit: &mut dyn FnMut(Root)) { unimplemented!() }
    pub(crate) fn as_stage_field(&self) -> Option<(usize, &str)> { unimplemented!() }
}
