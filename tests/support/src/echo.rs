//! Pipelines of one stage whose model answers its inputs: what most tests deploy.

use std::fmt;

/// An echo pipeline as the text of its file, by `to_string`.
///
/// `Echo::new("p")` takes `{"text": …}` at `/p` and answers the same: the stage `out` calls the deployment `model`. The
/// methods add lines of TOML to its tables:
///
/// ```
/// # use millstream_test_support::Echo;
/// let slow = Echo::new("p").deployment("delay = \"40ms\"").stage("hedge = \"100ms\"");
/// assert!(slow.to_string().contains("[stages.out]\nuse = \"model\"\n"));
/// ```
#[derive(Debug, Clone)]
pub struct Echo {
    name: String,
    route: String,
    used: Used,
    top: String,
    fields: String,
    deployment: String,
    inputs: String,
    stage: String,
    answer: String,
    more: String,
}

/// What the stage calls.
#[derive(Debug, Clone)]
enum Used {
    /// The deployment `model` of this file.
    Own,
    /// A deployment that stands elsewhere; the file has no `model`.
    Other(String),
}

impl Echo {
    /// A pipeline of this name at the route of the same name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            route: format!("/{name}"),
            used: Used::Own,
            top: String::new(),
            fields: String::new(),
            deployment: String::new(),
            inputs: String::new(),
            stage: String::new(),
            answer: String::new(),
            more: String::new(),
        }
    }

    /// Serves at this route instead.
    #[must_use]
    pub fn route(mut self, route: &str) -> Self {
        route.clone_into(&mut self.route);
        self
    }

    /// Calls this deployment, such as `other/model`, and has none of its own.
    #[must_use]
    pub fn uses(mut self, deployment: &str) -> Self {
        self.used = Used::Other(deployment.to_owned());
        self
    }

    /// Adds lines to the file's top, such as `timeout = "60s"`.
    #[must_use]
    pub fn top(mut self, lines: &str) -> Self {
        push(&mut self.top, lines);
        self
    }

    /// Adds fields to `[request]`.
    #[must_use]
    pub fn field(mut self, lines: &str) -> Self {
        push(&mut self.fields, lines);
        self
    }

    /// Adds lines to `[deployments.model]`.
    #[must_use]
    pub fn deployment(mut self, lines: &str) -> Self {
        push(&mut self.deployment, lines);
        self
    }

    /// That many replicas, no more and no fewer.
    #[must_use]
    pub fn replicas(self, count: u32) -> Self {
        self.deployment(&format!("autoscaling = {{ min_replicas = {count}, max_replicas = {count} }}"))
    }

    /// Adds an input to the stage, beside `text`, and the field of that name to the answer.
    #[must_use]
    pub fn echoes(mut self, name: &str, expression: &str) -> Self {
        self.inputs += &format!(", {name} = \"{expression}\"");
        self.answer(&format!("{name} = \"out.{name}\""))
    }

    /// Adds lines to `[stages.out]`.
    #[must_use]
    pub fn stage(mut self, lines: &str) -> Self {
        push(&mut self.stage, lines);
        self
    }

    /// Adds fields to `[response]`.
    #[must_use]
    pub fn answer(mut self, lines: &str) -> Self {
        push(&mut self.answer, lines);
        self
    }

    /// Adds tables at the file's end.
    #[must_use]
    pub fn more(mut self, tables: &str) -> Self {
        push(&mut self.more, tables);
        self
    }
}

fn push(text: &mut String, lines: &str) {
    if !lines.is_empty() {
        *text += lines;
        text.push('\n');
    }
}

impl fmt::Display for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, route, top, fields, deployment, inputs, stage, answer, more, .. } = self;
        write!(f, "name = \"{name}\"\nroute = \"{route}\"\n{top}\n")?;
        write!(f, "[request]\ntext = \"text\"\n{fields}\n")?;
        let used = match &self.used {
            Used::Own => {
                write!(f, "[deployments.model]\nengine = \"echo\"\n{deployment}\n")?;
                "model"
            }
            Used::Other(other) => other,
        };
        write!(
            f,
            "[stages.out]\nuse = \"{used}\"\ninputs = {{ text = \"request.text\"{inputs} }}\n{stage}\n"
        )?;
        write!(f, "[response]\ntext = \"out.text\"\n{answer}\n{more}")
    }
}
