//! `description` and `mcp`, of a pipeline and of a deployment, to an [`About`].

use std::sync::Arc;

use crate::Task;
use crate::fault::FaultSink;
use crate::plan::About;
use crate::raw::Reader;

/// Most bytes of a description: all of them go into the prompts of agents.
const MAX_DESCRIPTION_BYTES: usize = 4096;

/// Of the file as a whole.
pub(super) fn of_pipeline(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> About {
    let is_tool = table.bool("mcp", faults).unwrap_or_default();
    About { description: description(table, faults), is_tool }
}

/// Of a deployment that does this task, where that is known.
pub(super) fn of_deployment(table: &mut Reader<'_>, task: Option<Task>, faults: &mut FaultSink<'_>) -> About {
    let about = of_pipeline(table, faults);
    let is_able = task.is_none_or(|task| matches!(task, Task::Embed | Task::Rerank | Task::Classify));
    if let Some((key, _)) = table.raw("mcp").filter(|_| about.is_tool && !is_able) {
        let message = format!("{} is for the tasks `embed`, `rerank` and `classify`", table.label("mcp"));
        let help =
            "put a pipeline with a route around the deployment, and `mcp = true` at the top of its file";
        faults.push(key.span.clone(), message, help);
    }
    about
}

fn description(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Option<Arc<str>> {
    let (text, raw) = table.text("description", faults)?;
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_DESCRIPTION_BYTES {
        let message = format!("{} has {} bytes", table.label("description"), text.len());
        let help = format!("say in 1 to {MAX_DESCRIPTION_BYTES} bytes what it is for, or leave it out");
        faults.push(raw.span.clone(), message, help);
        return None;
    }
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use crate::Plan;

    fn file(top: &str, of_deployment: &str) -> String {
        format!(
            "name = \"p\"\n{top}\n[request]\nq = \"text\"\n[deployments.d]\n{of_deployment}\n[stages.s]\nuse = \"d\"\n\
             inputs = {{ texts = \"[request.q]\" }}\n[response]\na = \"s\"\n"
        )
    }

    #[test]
    fn pipelines_and_deployments_say_whether_they_are_tools() {
        let embed = "task = \"embed\"\nmodel = \"m\"";
        let plain = Plan::compile("p.toml", &file("route = \"/p\"", embed)).unwrap();
        let spec = &plain.deployments()[&"d".parse().unwrap()];
        assert_eq!((plain.is_tool(), plain.of_deployment(spec).is_tool()), (false, false));
        let top = "route = \"/p\"\nmcp = true\ndescription = \"  Finds things.\\n\"";
        let both = format!("{embed}\nmcp = true\ndescription = \"Texts to vectors.\"");
        let tool = Plan::compile("p.toml", &file(top, &both)).unwrap();
        assert_eq!((tool.is_tool(), tool.description()), (true, Some("Finds things.")));
        let lone = tool.of_deployment(spec);
        assert_eq!((lone.is_tool(), lone.description()), (true, Some("Texts to vectors.")));
        assert_eq!(tool.deployments(), plain.deployments(), "replicas go on");
    }

    #[test]
    fn what_cannot_be_a_tool_is_said_with_its_place() {
        let embed = "task = \"embed\"\nmodel = \"m\"";
        let long = format!("route = \"/p\"\ndescription = \"{}\"", "x".repeat(5000));
        let table = [
            ("route = \"/p\"\nmcp = 1", embed, "`mcp`"),
            ("route = \"/p\"\ndescription = \" \"", embed, "`description` has 0 bytes"),
            (&long, embed, "`description` has 5000 bytes"),
            ("route = \"/p\"", "engine = \"echo\"\nmcp = true", "is for the tasks"),
            ("mcp = true", embed, "`mcp` but no `route`"),
        ];
        for (top, deployment, expected) in table {
            let told = Plan::compile("p.toml", &file(top, deployment)).err().unwrap().to_string();
            assert!(told.contains(expected), "{told}");
        }
    }
}
