//! What the dashboard's address answers, as a table: from one entry come the route, who may call it, the reference in the
//! documentation and the operation in the OpenAPI document. So none of them can say something else than the others.

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::MethodRouter;
use millstream_proto::endpoint::{Access, Endpoint};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::Site;
use super::access::{admin_only, viewer_only};

/// Makes the schema of a type.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// A path with one method.
pub(super) struct Operation {
    pub(super) endpoint: Endpoint,
    pub(super) handler: MethodRouter<Arc<Site>>,
    /// Its name in the OpenAPI document; empty for pages, which are not part of the API.
    id: &'static str,
    query: &'static [(&'static str, &'static str)],
    takes: Option<SchemaOf>,
    answers: Answers,
}

/// What an operation answers.
#[derive(Clone, Copy)]
enum Answers {
    Json(SchemaOf),
    Events(SchemaOf),
    Nothing,
    Other(&'static str),
}

impl Operation {
    fn new(
        methods: &'static str,
        path: &'static str,
        access: Access,
        handler: MethodRouter<Arc<Site>>,
    ) -> Self {
        let endpoint = Endpoint { methods, path, access, help: "" };
        Self { endpoint, handler, id: "", query: &[], takes: None, answers: Answers::Nothing }
    }

    /// A page, a sign of life or metrics: not of the API.
    pub(super) fn page(
        methods: &'static str,
        path: &'static str,
        help: &'static str,
        handler: MethodRouter<Arc<Site>>,
    ) -> Self {
        let mut page = Self::new(methods, path, Access::Everybody, handler).help("", help);
        page.answers = Answers::Other("text/html");
        page
    }

    /// Something to be read, by whoever has a token.
    pub(super) fn read<T: JsonSchema>(path: &'static str, handler: MethodRouter<Arc<Site>>) -> Self {
        let mut read = Self::new("GET, HEAD", path, Access::Viewer, handler);
        read.answers = Answers::Json(|schemas| schemas.subschema_for::<T>());
        read
    }

    /// A question with a body, by whoever has a token.
    pub(super) fn ask<T: JsonSchema>(path: &'static str, handler: MethodRouter<Arc<Site>>) -> Self {
        let mut ask = Self::new("POST", path, Access::Viewer, handler);
        ask.answers = Answers::Json(|schemas| schemas.subschema_for::<T>());
        ask
    }

    /// A stream of server-sent events with that data.
    pub(super) fn events<T: JsonSchema>(path: &'static str, handler: MethodRouter<Arc<Site>>) -> Self {
        let mut events = Self::new("GET", path, Access::Viewer, handler);
        events.answers = Answers::Events(|schemas| schemas.subschema_for::<T>());
        events
    }

    /// A file to be read, by whoever has the admin token.
    pub(super) fn file(path: &'static str, kind: &'static str, handler: MethodRouter<Arc<Site>>) -> Self {
        let mut file = Self::new("GET", path, Access::AdminToken, handler);
        file.answers = Answers::Other(kind);
        file
    }

    /// A change, by whoever has the admin token.
    pub(super) fn change<T: JsonSchema>(
        method: &'static str,
        path: &'static str,
        handler: MethodRouter<Arc<Site>>,
    ) -> Self {
        let mut change = Self::new(method, path, Access::AdminToken, handler);
        change.answers = Answers::Json(|schemas| schemas.subschema_for::<T>());
        change
    }

    /// Its body.
    pub(super) fn takes<T: JsonSchema>(mut self) -> Self {
        self.takes = Some(|schemas| schemas.subschema_for::<T>());
        self
    }

    /// Its parameters behind the `?`, each with its meaning.
    pub(super) fn query(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }

    /// Its name and what it does.
    pub(super) fn help(mut self, id: &'static str, help: &'static str) -> Self {
        self.id = id;
        self.endpoint.help = help;
        self
    }

    fn in_openapi(&self, schemas: &mut SchemaGenerator) -> Value {
        let mut parameters = Vec::new();
        for part in self.endpoint.path.split('/') {
            if let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                parameters.push(json!({
                    "name": name, "in": "path", "required": true, "schema": { "type": "string" },
                }));
            }
        }
        for (name, help) in self.query {
            parameters.push(json!({
                "name": name, "in": "query", "description": help, "schema": { "type": "string" },
            }));
        }
        let content = |kind: &str, schema: Schema| json!({ kind: { "schema": schema } });
        let good = match self.answers {
            Answers::Json(schema) => content("application/json", schema(schemas)),
            Answers::Events(schema) => content("text/event-stream", schema(schemas)),
            Answers::Other(kind) => json!({ kind: {} }),
            Answers::Nothing => json!({}),
        };
        let problem = json!({ "$ref": "#/components/responses/Problem" });
        let mut operation = json!({
            "operationId": self.id,
            "summary": self.endpoint.help,
            "parameters": parameters,
            "responses": {
                "200": { "description": "Done.", "content": good },
                "default": problem,
            },
        });
        if let Some(takes) = self.takes {
            operation["requestBody"] =
                json!({ "required": true, "content": content("application/json", takes(schemas)) });
        }
        operation
    }
}

/// The router of all of them.
pub(super) fn router(operations: Vec<Operation>, site: &Arc<Site>) -> Router<Arc<Site>> {
    operations.into_iter().fold(Router::new(), |router, operation| {
        let Operation { endpoint, handler, .. } = operation;
        let state = Arc::clone(site);
        let handler = match endpoint.access {
            Access::Everybody | Access::ApiKey => handler,
            Access::Viewer => handler.route_layer(middleware::from_fn_with_state(state, viewer_only)),
            Access::AdminToken => handler.route_layer(middleware::from_fn_with_state(state, admin_only)),
        };
        router.route(endpoint.path, handler)
    })
}

/// The OpenAPI 3.1 document of those that belong to the API.
pub(super) fn openapi(operations: &[Operation], problem: SchemaOf) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for operation in operations.iter().filter(|operation| !operation.id.is_empty()) {
        let path = paths.entry(operation.endpoint.path).or_insert_with(|| json!({}));
        let method = operation.endpoint.methods.split(',').next().unwrap_or_default().to_lowercase();
        path[method] = operation.in_openapi(&mut schemas);
    }
    let problem = problem(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Millstream",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Everything that the `cluster` command does, over HTTP. A viewer's token reads, the admin token changes.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "token": [] }, { "session": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "responses": {
                "Problem": {
                    "description": "What is wrong, with the fix (RFC 9457).",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "session": { "type": "apiKey", "in": "cookie", "name": "millstream_session" },
            },
        },
    })
}
