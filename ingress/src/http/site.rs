//! Pages for people: `/`, which says what is here, and the page that shows OpenAPI documents. That page holds nothing itself: it loads
//! the document beside it, and asks for an API key where one is needed.

use std::fmt::Write as _;
use std::sync::LazyLock;

use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName,
    IF_NONE_MATCH, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::openapi;
use crate::protocol::{Last, Problem, accepts, json};
use crate::routes::Route;

/// How the path of a page ends that shows a document.
pub(crate) const DOCS: &str = "/docs";
/// What comes before the name of a file that those pages load.
pub(crate) const FILES: &str = "/-/site/";

/// Nothing from elsewhere, no scripts inside a page. The bundle has styles inside its elements.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const START_POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file that is part of the binary.
struct File {
    name: &'static str,
    kind: &'static str,
    /// Whether it is packed: all browsers take that.
    coding: Option<&'static str>,
    bytes: &'static [u8],
}

const DOCS_PAGE: File =
    File { name: "docs.html", kind: HTML, coding: None, bytes: include_bytes!("../../site/docs.html") };

const SITE: [File; 3] = [
    File { name: "docs.js", kind: SCRIPT, coding: None, bytes: include_bytes!("../../site/docs.js") },
    File {
        name: "page.css",
        kind: "text/css; charset=utf-8",
        coding: None,
        bytes: include_bytes!("../../site/page.css"),
    },
    File {
        name: "openapi-explorer.js",
        kind: SCRIPT,
        coding: Some("gzip"),
        bytes: include_bytes!("../../site/vendor/openapi-explorer/openapi-explorer.min.js.gz"),
    },
];

/// What the files are known by.
static ETAGS: LazyLock<[String; 3]> =
    LazyLock::new(|| SITE.map(|file| format!("\"{}\"", &blake3::hash(file.bytes).to_hex()[..32])));

/// The page that shows the document beside it.
pub(crate) fn docs() -> Response<Last> {
    let mut response = whole(&DOCS_PAGE);
    set(&mut response, CONTENT_SECURITY_POLICY, DOCS_POLICY);
    response
}

/// A file that a page loads.
///
/// # Errors
/// 404.
pub(crate) fn file(head: &Parts) -> Result<Response<Last>, Problem> {
    let name = head.uri.path().strip_prefix(FILES).unwrap_or_default();
    let found = SITE.iter().zip(&*ETAGS).find(|(file, _)| file.name == name);
    let (file, etag) = found.ok_or_else(|| Problem::not_found("there is no such file"))?;
    let known = head.headers.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let is_known = known.flat_map(|tags| tags.split(',')).any(|tag| tag.trim() == etag);
    let mut response = if is_known { Response::new(Last::default()) } else { whole(file) };
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    // Asked for again each time, as another version of the server may have others.
    set(&mut response, CACHE_CONTROL, "no-cache");
    set(&mut response, ETAG, etag);
    Ok(response)
}

fn whole(file: &File) -> Response<Last> {
    let mut response = Response::new(Last::from(bytes::Bytes::from_static(file.bytes)));
    set(&mut response, CONTENT_TYPE, file.kind);
    set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    if let Some(coding) = file.coding {
        set(&mut response, CONTENT_ENCODING, coding);
    }
    response
}

fn set(response: &mut Response<Last>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// `GET /`.
#[derive(Serialize)]
struct Start {
    name: &'static str,
    version: &'static str,
    links: Links,
    /// Not there for requests that may not know them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pipelines: Option<Vec<StartPipeline>>,
}

#[derive(Serialize)]
struct Links {
    docs: &'static str,
    openapi: &'static str,
    routes: &'static str,
    models: &'static str,
}

#[derive(Serialize)]
struct StartPipeline {
    name: String,
    route: String,
    docs: String,
    openapi: String,
}

/// What is here, as JSON or, for browsers, as a page. Without routes it says nothing of pipelines.
pub(crate) fn start(head: &Parts, routes: Option<Vec<&Route>>) -> Response<Last> {
    let start = Start {
        name: "millstream",
        version: env!("CARGO_PKG_VERSION"),
        links: Links { docs: DOCS, openapi: openapi::SUFFIX, routes: "/-/routes", models: "/v1/models" },
        pipelines: routes.map(pipelines),
    };
    let mut response = if accepts(&head.headers, "text/html") {
        let mut response = Response::new(start.page().into_bytes().into());
        set(&mut response, CONTENT_TYPE, HTML);
        set(&mut response, CONTENT_SECURITY_POLICY, START_POLICY);
        response
    } else {
        json(&start)
    };
    set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(&mut response, VARY, ACCEPT.as_str());
    response
}

fn pipelines(routes: Vec<&Route>) -> Vec<StartPipeline> {
    let plans = routes.into_iter().map(|route| &route.variants[0].plan);
    let routes = plans.filter_map(|plan| Some((plan.name().to_string(), plan.route()?.to_owned())));
    let entry = |(name, route): (String, String)| StartPipeline {
        docs: format!("{route}{DOCS}"),
        openapi: format!("{route}{}", openapi::SUFFIX),
        name,
        route,
    };
    routes.map(entry).collect()
}

impl Start {
    /// Names and routes have no characters that mean something in HTML: the checks of pipelines see to that.
    fn page(&self) -> String {
        let Self { version, links, .. } = self;
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Millstream</title>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"{FILES}page.css\"></head>\n\
             <body><main class=\"start\"><h1>Millstream {version}</h1>\n<ul>\n"
        );
        let rows = [
            (links.docs, "pipelines, to read about and to try"),
            (links.openapi, "the same for programs"),
            (links.routes, "pipelines with their revisions and replicas"),
            (links.models, "models for OpenAI's clients"),
        ];
        for (path, text) in rows {
            let _ = writeln!(page, "<li><a href=\"{path}\">{path}</a>: {text}</li>");
        }
        page.push_str("</ul>\n<h2>Pipelines</h2>\n");
        match self.pipelines.as_deref() {
            None => page.push_str("<p>They are listed for requests with an API key.</p>\n"),
            Some([]) => page.push_str("<p>None has been deployed.</p>\n"),
            Some(pipelines) => {
                page.push_str("<ul>\n");
                for StartPipeline { name, route, docs, .. } in pipelines {
                    let _ =
                        writeln!(page, "<li><a href=\"{docs}\">{name}</a>: <code>POST {route}</code></li>");
                }
                page.push_str("</ul>\n");
            }
        }
        page.push_str("</main></body></html>\n");
        page
    }
}
