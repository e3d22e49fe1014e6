//! What a caught panic said.

/// The panic's message.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the engine panicked: {}", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_panics_are_read() {
        let caught = |run: fn()| panic_text(&*std::panic::catch_unwind(run).unwrap_err());
        assert_eq!(caught(|| panic!("plain")), "the engine panicked: plain");
        assert_eq!(caught(|| panic!("made {}", 1)), "the engine panicked: made 1");
        assert_eq!(caught(|| std::panic::panic_any(5)), "the engine panicked: no message");
    }
}
