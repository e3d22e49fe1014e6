//! The plan of a deployment that is called by its full name, without a pipeline around it: one stage, whose inputs are the request and
//! whose value is the answer. It runs as any other plan does.

use std::collections::BTreeMap;

use super::{
    CallRules, OnError, Plan, PlanParts, Response, Serving, StageInputs, StagePlan, TextAnswer, Work,
};
use crate::request::{Field, FieldType, Schema};
use crate::types::{Inputs, Type, task_inputs, task_output};
use crate::{DeploymentSpec, FullName, Placement, Rollout, TensorType};

impl Plan {
    /// Makes one for a deployment of this pipeline. Its request has the inputs of the deployment's task; where those are not known,
    /// it takes any.
    #[must_use]
    pub fn of_deployment(&self, spec: &DeploymentSpec) -> Self {
        let pipeline = self.name();
        let about = self.parts.serving.deployments.get(&spec.name).cloned().unwrap_or_default();
        let stage = StagePlan {
            name: spec.name.as_str().into(),
            work: Work::Call { target: 0, text: TextAnswer::of(spec) },
            inputs: StageInputs::Request,
            when: None,
            for_each: None,
            rules: CallRules::default(),
            on_error: OnError::Fail,
        };
        let takes = task_inputs(spec);
        let inputs = takes.fields.iter().map(|input| (input.name.clone(), input.ty.clone())).collect();
        let plan = Self::new(PlanParts {
            name: pipeline.clone(),
            serving: Serving { about, ..Serving::default() },
            request: Schema::of(&takes),
            deployments: BTreeMap::new(),
            targets: vec![FullName { pipeline: pipeline.clone(), deployment: spec.name.clone() }],
            timeout: None,
            max_body: None,
            placement: Placement::default(),
            rollout: Rollout::default(),
            capture: None,
            stages: vec![stage],
            response: Response::Stage(0),
        });
        // What takes anything may answer anything.
        let answer = if takes.open { Type::open_map(Type::Any) } else { task_output(spec, &inputs) };
        let callable_name = plan.parts.targets[0].to_string().into();
        Self { task: Some(spec.task), callable_name, answer, ..plan }
    }
}

impl Schema {
    /// The request that has these inputs as its fields.
    fn of(inputs: &Inputs) -> Self {
        let field = |input: &crate::types::InputField| Field {
            is_optional: !input.required,
            ..Field::required(input.name.clone(), field_type(&input.ty))
        };
        Self { fields: inputs.fields.iter().map(field).collect(), is_open: inputs.open }
    }
}

/// What a field of a request is to be for an input of that type: what has no name there is any JSON, and left to the engine.
fn field_type(ty: &Type) -> FieldType {
    match ty {
        Type::Text => FieldType::Text,
        Type::Int => FieldType::Int,
        Type::Float => FieldType::Float,
        Type::Bool => FieldType::Bool,
        Type::Bytes => FieldType::Bytes,
        Type::List(item) => match field_type(item) {
            FieldType::Json => FieldType::Json,
            item => FieldType::List(Box::new(item)),
        },
        Type::Tensor(tensor) => match (tensor.dtype, &tensor.shape) {
            (Some(dtype), Some(shape)) => FieldType::Tensor(TensorType { dtype, shape: shape.clone() }),
            _ => FieldType::Json,
        },
        Type::Any | Type::None | Type::Map(_) | Type::Optional(_) | Type::OneOf(_) => FieldType::Json,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_values::Value;

    use super::*;
    use crate::{Action, Run};

    fn lone(deployment: &str) -> Plan {
        let file = format!("name = \"p\"\n[deployments.d]\n{deployment}\n");
        let plan = Plan::compile("p.toml", &file).unwrap();
        let spec = plan.deployments().values().next().unwrap();
        plan.of_deployment(spec)
    }

    #[test]
    fn the_request_is_the_call_and_its_answer_the_response() {
        let plan = Arc::new(lone("task = \"embed\"\nmodel = \"m\""));
        assert_eq!(plan.targets()[0].to_string(), "p/d");
        assert_eq!(plan.first_targets(), [0]);
        let request = plan.parse_request(br#"{"texts": ["a", "b"]}"#).unwrap();
        let (mut run, actions) = Run::start(plan, &request.fields, |_| 1);
        let [Action::Call(call)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(call.inputs, Value::map([("texts", Value::list(["a", "b"].map(Value::from)))]));
        let actions = run.finish_call(call.id, Ok(Value::from("whole")));
        assert_eq!(actions, [Action::Finish(Ok(Value::from("whole")))]);
    }

    #[test]
    fn the_request_has_the_inputs_of_the_task() {
        let generate = "task = \"generate\"\nmodel = \"m\"";
        let signed = "engine = \"echo\"\nsignature = { inputs = { x = \"f32[2]\" } }";
        let table = [
            (generate, r#"{"prompt": "hello"}"#, Ok(r#"{"prompt":"hello"}"#)),
            (generate, r#"{"messages": [{"role": "user", "content": "a"}], "max_tokens": 3}"#, Ok("")),
            (generate, r#"{"prompt": 1}"#, Err("/prompt")),
            (generate, r#"{"prompts": "hello"}"#, Err("/prompts")),
            (signed, r#"{"x": [1, 2]}"#, Ok(r#"{"x":[1.0,2.0]}"#)),
            (signed, r#"{"x": [1]}"#, Err("/x")),
            (signed, "{}", Err("/x")),
            ("engine = \"echo\"", r#"{"any": {"thing": [1]}}"#, Ok(r#"{"any":{"thing":[1]}}"#)),
            ("engine = \"echo\"", r#"{"any": null}"#, Err("/any")),
            ("engine = \"echo\"", "{}", Ok("{}")),
        ];
        for (deployment, body, expected) in table {
            let found = lone(deployment).parse_request(body.as_bytes());
            match (found, expected) {
                (Ok(request), Ok("")) => assert_eq!(request.fields.as_map().unwrap().len(), 2, "{body}"),
                (Ok(request), Ok(fields)) => {
                    assert_eq!(serde_json::to_string(&request.fields).unwrap(), fields, "{body}");
                }
                (Err(crate::RequestError::Invalid(faults)), Err(path)) => {
                    assert_eq!(faults[0].path, path, "{body}");
                }
                (found, _) => panic!("{body}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_generator_streams_its_text() {
        let plan = lone("task = \"generate\"\nmodel = \"m\"");
        assert!(plan.can_stream());
        assert!(!lone("engine = \"echo\"").can_stream());
    }
}
