//! Whether there can be such a place as a path of `redact` names, by the types of the request and the answer.

use crate::raw::did_you_mean;
use crate::redact::{RedactedPath, Step};
use crate::types::Type;

/// Why there can be no such place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoSuchPlace {
    pub(super) message: String,
    pub(super) help: String,
}

/// Whether a value of that type can have something there. What is known only when requests run is allowed.
pub(super) fn check_path(path: &RedactedPath, ty: &Type) -> Result<(), NoSuchPlace> {
    check(path.part.name().to_owned(), &path.steps, ty)
}

fn check(so_far: String, steps: &[Step], ty: &Type) -> Result<(), NoSuchPlace> {
    let Some((step, rest)) = steps.split_first() else { return Ok(()) };
    match (step, ty) {
        (_, Type::Any) => Ok(()),
        (_, Type::Optional(inner)) => check(so_far, steps, inner),
        (_, Type::OneOf(all)) => {
            let mut found = all.iter().map(|ty| check(so_far.clone(), steps, ty));
            let first = found.next().unwrap_or(Ok(()));
            if first.is_ok() || found.any(|found| found.is_ok()) { Ok(()) } else { first }
        }
        (Step::Field(name), Type::Map(map)) => match map.get(name) {
            Some(ty) => check(format!("{so_far}.{name}"), rest, ty),
            None => {
                let known: Vec<String> = map.fields.keys().map(|known| format!("{so_far}.{known}")).collect();
                let path = format!("{so_far}.{name}");
                let help = did_you_mean(&path, known.iter().map(String::as_str));
                Err(NoSuchPlace { message: format!("`{so_far}` has no field `{name}`"), help })
            }
        },
        (Step::Field(name), Type::List(_)) => Err(NoSuchPlace {
            message: format!("`{so_far}` is a list, which has no field `{name}`"),
            help: format!("for each of its elements write `{so_far}[].{name}`"),
        }),
        (Step::Each, Type::List(item)) => check(format!("{so_far}[]"), rest, item),
        (Step::Field(_) | Step::Each, ty) => Err(NoSuchPlace {
            message: format!("`{so_far}` is `{ty}`, of which there are no parts to name"),
            help: format!("write `{so_far}`: all of it is left out then"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RedactedPath {
        text.parse().unwrap()
    }

    #[test]
    fn places_that_cannot_be_are_found_by_type() {
        let document = Type::map([("text", Type::Text), ("meta", Type::Any)]);
        let request = Type::map([
            ("question", Type::Text),
            ("documents", Type::list(document)),
            ("maybe", Type::Text.optional()),
        ]);
        for good in
            ["request", "request.documents", "request.documents[].meta.anything[].at.all", "request.maybe"]
        {
            assert_eq!(check_path(&path(good), &request), Ok(()), "{good}");
        }
        for (text, message, help) in [
            ("request.qestion", "`request` has no field `qestion`", "did you mean `request.question`?"),
            ("request.documents.text", "is a list", "`request.documents[].text`"),
            ("request.documents[].txt", "has no field `txt`", "did you mean `request.documents[].text`?"),
            ("request.question[]", "`request.question` is `text`", "write `request.question`"),
            ("request.question.x", "`request.question` is `text`", "write `request.question`"),
        ] {
            let fault = check_path(&path(text), &request).unwrap_err();
            assert!(fault.message.contains(message) && fault.help.contains(help), "{text}: {fault:?}");
        }
    }
}
