//! The engine's rules, with an encoder whose numbers can be told in advance.
