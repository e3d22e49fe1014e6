//! What a new text of a pipeline takes away from its callers: route, request fields and response fields that go or change.

use std::collections::BTreeMap;

use super::{Plan, Response};
use crate::request::Field;
use crate::types::{Type, assignable};

impl Plan {
    /// What requests that the plan before could answer will miss, a sentence each; empty when nothing breaks.
    #[must_use]
    pub fn breaks(&self, before: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(route) = before.route().filter(|route| self.route() != Some(route)) {
            let now = self.route().map_or("it has none".to_owned(), |now| format!("it becomes `{now}`"));
            found.push(format!("the route `{route}` goes ({now}): requests to it get 404"));
        }
        found.extend(self.request_breaks(before));
        found.extend(self.response_breaks(before));
        found
    }

    fn request_breaks(&self, before: &Self) -> Vec<String> {
        let fields = |plan: &Self| -> BTreeMap<String, Field> {
            plan.parts.request.fields.iter().map(|field| (field.name.to_string(), field.clone())).collect()
        };
        let (old, new) = (fields(before), fields(self));
        let gone = old.keys().filter(|name| !new.contains_key(*name) && !self.parts.request.is_open);
        let gone = gone.map(|name| format!("the request field `{name}` goes: requests with it get 422"));
        let changed = new.values().filter_map(|field| {
            let name = &field.name;
            let needs = field.default.is_none() && !field.is_optional;
            match old.get(&**name) {
                None => needs.then(|| {
                    format!("the request field `{name}` is new and required: requests without it get 422")
                }),
                Some(known) if known.ty != field.ty => {
                    Some(format!("the request field `{name}` changes from `{}` to `{}`", known.ty, field.ty))
                }
                Some(known) => (needs && (known.default.is_some() || known.is_optional)).then(|| {
                    format!("the request field `{name}` becomes required: requests without it get 422")
                }),
            }
        });
        gone.chain(changed).collect()
    }

    fn response_breaks(&self, before: &Self) -> Vec<String> {
        let fields = |plan: &Self| -> Option<BTreeMap<String, Type>> {
            let Response::Fields(fields) = &plan.parts.response else { return None };
            Some(fields.iter().map(|(name, value)| (name.to_string(), value.ty().clone())).collect())
        };
        // Without a route nobody sees a response.
        let Some((old, new)) = fields(before).zip(fields(self)).filter(|_| self.route().is_some()) else {
            return Vec::new();
        };
        let lost = old.iter().filter_map(|(name, was)| match new.get(name) {
            None => Some(format!("the response field `{name}` goes")),
            Some(is) => assignable(is, was)
                .is_err()
                .then(|| format!("the response field `{name}` changes from `{was}` to `{is}`")),
        });
        lost.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "name = \"p\"\nroute = \"/p\"\n[request]\ntext = \"text\"\nkeep = { type = \"int\", default = 3 }\n\
                        [deployments.d]\nengine = \"echo\"\n[stages.s]\nuse = \"d\"\n\
                        inputs = { text = \"request.text\", keep = \"request.keep\" }\n[response]\ntext = \"s.text\"\nkeep = \"s.keep\"\n";

    #[test]
    fn what_callers_lose_is_named_and_what_they_gain_is_not() {
        let plan = |text: &str| Plan::compile("p.toml", text).map_err(|faults| faults.to_string()).unwrap();
        let old = plan(FILE);
        for (from, to, expected) in [
            ("/p", "/q", &["the route `/p` goes (it becomes `/q`): requests to it get 404"][..]),
            (
                "text = \"text\"",
                "question = \"text\"",
                &[
                    "the request field `text` goes: requests with it get 422",
                    "the request field `question` is new and required: requests without it get 422",
                ],
            ),
            (
                "text = \"text\"",
                "text = \"text[]\"",
                &[
                    "the request field `text` changes from `text` to `text[]`",
                    "the response field `text` changes from `text` to `text[]`",
                ],
            ),
            (
                "{ type = \"int\", default = 3 }",
                "\"int\"",
                &["the request field `keep` becomes required: requests without it get 422"],
            ),
            ("keep = \"s.keep\"\n", "", &["the response field `keep` goes"]),
            ("keep = \"s.keep\"\n", "keep = \"s.keep\"\nmore = \"s.text\"\n", &[]),
            ("text = \"text\"\n", "text = \"text\"\nmore = { type = \"int\", default = 1 }\n", &[]),
        ] {
            let given = if to.starts_with("question") { "request.question" } else { "request.text" };
            let text = FILE.replacen(from, to, 1).replace("request.text", given);
            assert_eq!(plan(&text).breaks(&old), expected, "{from} -> {to}");
        }
    }
}
