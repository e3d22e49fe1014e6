//! A capture as two CloudEvents 1.0 in JSON, of the types and with the ids of KServe's inference logger: what reads its
//! events reads these.

use std::time::{Duration, UNIX_EPOCH};

use millstream_pipelines::{redact_answer, redact_request};
use millstream_proto::Value;
use serde::Serialize;

use super::source::Captured;

/// Of the event that has a request's fields.
const REQUEST: &str = "org.kubeflow.serving.inference.request";
/// Of the event that has its answer.
const RESPONSE: &str = "org.kubeflow.serving.inference.response";

/// The two events of a capture, each a JSON object on one line, without its end.
pub(super) struct Events {
    pub(super) request: Vec<u8>,
    pub(super) response: Vec<u8>,
}

/// Names of attributes are lower-case letters and digits, as the specification has it.
#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    r#type: &'static str,
    source: &'a str,
    /// The same in both events.
    id: &'a str,
    time: String,
    /// The pipeline's name, as KServe calls it.
    inferenceservicename: &'a str,
    /// The HTTP status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// From the request's head to its whole answer, in microseconds: attributes have no fractions.
    #[serde(skip_serializing_if = "Option::is_none")]
    latencyus: Option<u64>,
    /// What kind of problem it met.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

/// The events of a capture, without what its file redacts.
pub(super) fn render(captured: &Captured) -> Events {
    let paths = &captured.source.settings.redact;
    let ended = Duration::from_micros(captured.ended_us);
    let (status, problem, answer) = match &captured.outcome {
        Ok(answer) => (200, None, Some(redact_answer(paths, answer))),
        Err(kind) => (kind.status.as_u16(), Some(kind.name), None),
    };
    let request = Event {
        data: Some(redact_request(paths, &captured.fields)),
        datacontenttype: Some("application/json"),
        ..Event::of(captured, REQUEST, ended.saturating_sub(captured.elapsed))
    };
    let source = captured.source_name();
    let latencyus = u64::try_from(captured.elapsed.as_micros()).ok();
    let response = Event {
        status: Some(status),
        latencyus,
        problem,
        datacontenttype: answer.is_some().then_some("application/json"),
        data: answer,
        ..Event::of(captured, RESPONSE, ended)
    };
    Events { request: request.line(&source), response: response.line(&source) }
}

impl<'a> Event<'a> {
    /// An event without data.
    fn of(captured: &'a Captured, kind: &'static str, since_epoch: Duration) -> Self {
        Self {
            specversion: "1.0",
            r#type: kind,
            source: "",
            id: captured.request_id.as_str(),
            time: humantime::format_rfc3339_micros(UNIX_EPOCH + since_epoch).to_string(),
            inferenceservicename: &captured.source.pipeline,
            status: None,
            latencyus: None,
            problem: None,
            datacontenttype: None,
            data: None,
        }
    }

    fn line(self, source: &'a str) -> Vec<u8> {
        serde_json::to_vec(&Self { source, ..self })
            .expect("values have text keys, and writing to memory does not fail")
    }
}

impl Captured {
    /// The CloudEvents source: the revision that answered.
    fn source_name(&self) -> String {
        format!("/{}/revisions/{}", self.source.pipeline, self.source.revision)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_pipelines::Plan;
    use millstream_proto::{ErrorClass, RequestId};
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::capture::source::Source;
    use crate::protocol::problem::kind_of;

    fn captured(redact: &str) -> Captured {
        let file = format!(
            "name = \"p\"\nroute = \"/p\"\n[request]\ntext = \"text\"\n[deployments.m]\nengine = \"echo\"\n\
             [stages.s]\nuse = \"m\"\ninputs = {{ text = \"request.text\" }}\n[response]\ntext = \"s.text\"\n\
             [capture]\npercent = \"100%\"\nredact = [{redact}]\n"
        );
        let plan = Plan::compile("p.toml", &file).map_err(|faults| faults.to_string()).unwrap();
        Captured {
            source: Arc::new(Source::of(&plan, 3).unwrap()),
            request_id: RequestId::new("r-1"),
            fields: Value::map([("text", Value::from("two\nlines"))]),
            outcome: Ok(Value::map([("text", Value::from("an answer"))])),
            elapsed: Duration::from_micros(1500),
            ended_us: 1_764_000_000_001_500,
        }
    }

    fn parsed(events: &Events) -> [Json; 2] {
        [&events.request, &events.response].map(|line| {
            assert!(!line.contains(&b'\n'), "one line");
            serde_json::from_slice(line).unwrap()
        })
    }

    #[test]
    fn a_capture_is_two_events_with_one_id() {
        let [request, response] = parsed(&render(&captured("")));
        let expected = json!({
            "specversion": "1.0", "type": "org.kubeflow.serving.inference.request", "source": "/p/revisions/3",
            "id": "r-1", "time": "2025-11-24T16:00:00.000000Z", "inferenceservicename": "p",
            "datacontenttype": "application/json", "data": {"text": "two\nlines"},
        });
        assert_eq!(request, expected);
        let expected = json!({
            "specversion": "1.0", "type": "org.kubeflow.serving.inference.response", "source": "/p/revisions/3",
            "id": "r-1", "time": "2025-11-24T16:00:00.001500Z", "inferenceservicename": "p", "status": 200,
            "latencyus": 1500, "datacontenttype": "application/json", "data": {"text": "an answer"},
        });
        assert_eq!(response, expected);
        for event in [&request, &response] {
            for name in event.as_object().unwrap().keys() {
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase()) && name.len() <= 20, "{name}");
            }
        }
    }

    #[test]
    fn a_failed_request_has_its_problem_and_no_data() {
        let failed = Captured { outcome: Err(kind_of(ErrorClass::Overloaded)), ..captured("") };
        let [_, response] = parsed(&render(&failed));
        assert_eq!((&response["status"], &response["problem"]), (&json!(503), &json!("overloaded")));
        assert!(response.get("data").is_none() && response.get("datacontenttype").is_none(), "{response}");
    }

    #[test]
    fn what_the_file_redacts_is_in_neither_event() {
        let events = render(&captured("\"request.text\", \"answer.text\""));
        let [request, response] = parsed(&events);
        assert_eq!(request["data"], json!({"text": "[redacted]"}));
        assert_eq!(response["data"], json!({"text": "[redacted]"}));
    }
}
