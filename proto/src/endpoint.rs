//! How what HTTP listeners answer is declared: paths, headers and errors as values, so that the code that answers and
//! the reference in the documentation are made from the same thing. Each crate declares its own.

/// A path that a listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The methods, such as `GET`.
    pub methods: &'static str,
    /// The path; `{route}` is the route of a pipeline.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// What it answers, for people.
    pub help: &'static str,
}

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody who reaches the address.
    Everybody,
    /// Everybody, or with `--require-api-key` only requests with an API key.
    ApiKey,
    /// Requests with any token: a viewer's or the admin token.
    Viewer,
    /// Requests with the admin token.
    AdminToken,
}

/// A header that a listener reads or answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name, in lower case.
    pub name: String,
    /// What it says, for people.
    pub help: &'static str,
}
