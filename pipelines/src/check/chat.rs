//! `[chat]` to a [`Chat`].

use std::sync::Arc;

use super::value;
use crate::expr::Expression;
use crate::fault::FaultSink;
use crate::plan::Chat;
use crate::raw::{Key, Raw, RawTable, did_you_mean};
use crate::request::{Field, Schema};
use crate::types::{MapType, Type, assignable};

/// Names of a text that is the answer, where there are several texts.
const ANSWERS: [&str; 4] = ["answer", "text", "content", "message"];

/// What the table is checked against.
pub(super) struct Around<'a> {
    pub(super) request: &'a Schema,
    pub(super) answer: &'a Type,
}

/// Checks the table, if there is one; `name` is where its name stands.
pub(super) fn chat(
    name: &Key,
    table: &RawTable,
    around: &Around<'_>,
    faults: &mut FaultSink<'_>,
) -> Option<Chat> {
    let mut fields = Vec::new();
    for (key, raw) in &table.entries {
        fields.extend(field(key, raw, around.request, faults));
    }
    let is_whole = fields.len() == table.entries.len();
    let needed = |field: &&Field| field.default.is_none() && !field.is_optional;
    for field in around.request.fields.iter().filter(needed) {
        if table.get(&field.name).is_none() {
            let message = format!("`[chat]` does not say what the request's field `{}` is", field.name);
            let help =
                format!("add `{} = \"messages[-1].content\"`, or give the field a default", field.name);
            faults.push(name.span.clone(), message, help);
        }
    }
    let reads = |(_, expression): &(_, Expression)| expression.references().contains("messages");
    if is_whole && !fields.iter().any(reads) {
        let help = "make a field of it, such as `question = \"messages[-1].content\"`";
        faults.push(name.span.clone(), "`[chat]` uses none of the `messages`", help);
    }
    let answer = answer(name, around.answer, faults)?;
    Some(Chat { fields, answer })
}

fn field(
    key: &Key,
    raw: &Raw,
    request: &Schema,
    faults: &mut FaultSink<'_>,
) -> Option<(Arc<str>, Expression)> {
    let Some(field) = request.fields.iter().find(|field| *field.name == *key.text) else {
        let message = format!("`[chat]`: the request has no field `{}`", key.text);
        let names = request.fields.iter().map(|field| &*field.name);
        faults.push(key.span.clone(), message, did_you_mean(&key.text, names));
        return None;
    };
    let label = format!("`[chat]`: `{}`", key.text);
    let expression = value::expression(raw, &label, &Chat::scope(), faults)?;
    let may_be_none = field.is_optional || field.default.is_some();
    let given = if may_be_none { expression.ty().required() } else { expression.ty() };
    if let Err(reason) = assignable(given, &field.ty.ty()) {
        let help = match given {
            Type::Optional(_) => "say what it is where the client leaves it out: `max_tokens|default(100)`",
            _ => "a field of a message is `messages[-1].content`, all of them are `messages`",
        };
        faults.push(raw.span.clone(), format!("{label}: {reason}"), help);
        return None;
    }
    Some((Arc::clone(&field.name), expression))
}

/// The response's field whose name says that it is the answer, or its only text. What another pipeline's deployment gives may be one.
fn answer(name: &Key, answer: &Type, faults: &mut FaultSink<'_>) -> Option<Arc<str>> {
    let Type::Map(MapType { fields, .. }) = answer else { return None };
    let of = |ty: &Type| -> Vec<&Arc<str>> {
        fields.iter().filter(|(_, own)| own.required() == ty).map(|(name, _)| name).collect()
    };
    let (texts, any) = (of(&Type::Text), of(&Type::Any));
    let named =
        |names: &[&Arc<str>]| names.iter().find(|name| ANSWERS.contains(&&****name)).copied().cloned();
    let found = named(&texts).or_else(|| named(&any));
    if let Some(field) = found.or_else(|| only(&texts)).or_else(|| only(&any).filter(|_| texts.is_empty())) {
        return Some(field);
    }
    let message = "`[chat]`: it is not clear which field of the response is the next message";
    let help = "let `[response]` have one text, or one text whose name is `answer`";
    faults.push(name.span.clone(), message, help);
    None
}

fn only(names: &[&Arc<str>]) -> Option<Arc<str>> {
    let [only] = names else { return None };
    Some(Arc::clone(only))
}

#[cfg(test)]
mod tests {
    use millstream_values::{Map, Value};

    use crate::Plan;

    fn file(request: &str, response: &str, chat: &str) -> String {
        format!(
            "name = \"p\"\nroute = \"/p\"\n[request]\n{request}\n[deployments.e]\nengine = \"echo\"\n[stages.s]\nuse = \"e\"\n\
             inputs = {{ text = \"request.question\", more = \"request\" }}\n[response]\n{response}\n[chat]\n{chat}\n"
        )
    }

    fn plan(request: &str, response: &str, chat: &str) -> Result<Plan, String> {
        let text = file(request, response, chat);
        Plan::compile("p.toml", &text).map_err(|faults| faults.to_string())
    }

    #[test]
    fn a_conversation_becomes_a_request() {
        let request = "question = \"text\"\nhistory = [{ role = \"text\", content = \"text\" }]\nlength = { type = \"int\", default = 5 }";
        let chat =
            "question = \"messages[-1].content\"\nhistory = \"messages[:-1]\"\nlength = \"max_tokens\"";
        let plan = plan(request, "answer = \"s.text\"", chat).unwrap();
        let chat = plan.chat().unwrap();
        assert_eq!((&**chat.answer(), chat.uses("max_tokens"), chat.uses("seed")), ("answer", true, false));
        let message =
            |content: &str| Value::map([("role", Value::from("user")), ("content", Value::from(content))]);
        let given = Map::from_iter([("messages".into(), Value::list([message("a"), message("b")]))]);
        let fields = chat.request(&given).unwrap();
        assert_eq!(fields.get("question"), Some(&Value::from("b")));
        assert_eq!(fields.get("history"), Some(&Value::list([message("a")])));
        assert_eq!(fields.get("length"), None, "left out, so that the default holds");
    }

    #[test]
    fn what_cannot_be_is_told() {
        let table = [
            (
                "quest = \"messages[-1].content\"",
                "the request has no field `quest`; there is only `question`",
            ),
            ("question = \"messages\"", "`[chat]`: `question`"),
            ("question = \"max_tokens\"", "`[chat]`: `question`"),
            ("question = \"'a'\"", "`[chat]` uses none of the `messages`"),
            ("question = \"request.question\"", "`request`"),
            ("question = \"messages[-1].text\"", "`[chat]`: `question`"),
        ];
        for (chat, expected) in table {
            let told = plan("question = \"text\"", "answer = \"s.text\"", chat).err().unwrap_or_default();
            assert!(told.contains(expected), "{chat}: {told}");
        }
        let chat = "question = \"messages[-1].content\"";
        let told = plan("question = \"text\"\nmore = \"int\"", "answer = \"s.text\"", chat).err().unwrap();
        assert!(told.contains("does not say what the request's field `more` is"), "{told}");
        let two = "one = \"request.question\"\ntwo = \"request.question\"";
        let told = plan("question = \"text\"", two, chat).err().unwrap();
        assert!(told.contains("which field of the response is the next message"), "{told}");
        assert!(plan("question = \"text\"", &format!("{two}\nanswer = \"s.text\""), chat).is_ok());
    }
}
