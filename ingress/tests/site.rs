//! What people see in a browser: the page that says what is here, and the one that shows what can be called.

use crate::common::{FakeWorker, Reaction, Setup};
use serde_json::{Value, json};

async fn setup() -> (FakeWorker, Setup) {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let setup = Setup::echo(&[("echo-1", worker.address)]).await;
    (worker, setup)
}

#[tokio::test]
async fn the_first_page_says_what_is_here_in_the_form_that_is_asked_for() {
    let (_worker, setup) = setup().await;
    let get = || setup.client.get(setup.url("/"));
    let answer: Value = get().send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["links"]["docs"], "/docs");
    let echo =
        json!({"name": "echo", "route": "/echo", "docs": "/echo/docs", "openapi": "/echo/openapi.json"});
    assert_eq!(answer["pipelines"], json!([echo]));
    for link in answer["links"].as_object().unwrap().values() {
        let linked = setup.client.get(setup.url(link.as_str().unwrap())).send().await.unwrap();
        assert_eq!(linked.status(), 200, "{link}");
    }
    let page = get().header("accept", "text/html,*/*;q=0.8").send().await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(page.headers()["vary"], "accept");
    assert!(page.text().await.unwrap().contains("<a href=\"/echo/docs\">echo</a>"));
    let unknown = get().header("x-api-key", "mk_unknown").send().await.unwrap();
    assert_eq!(unknown.status(), 200);
    let told: Value = unknown.json().await.unwrap();
    assert!(told["links"].is_object() && told.get("pipelines").is_none_or(Value::is_null), "{told}");
}

#[tokio::test]
async fn the_page_of_documents_needs_nothing_from_elsewhere() {
    let (_worker, setup) = setup().await;
    for path in ["/docs", "/echo/docs"] {
        let answer = setup.client.get(setup.url(path)).send().await.unwrap();
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe-eval"), "{policy}");
        let page = answer.text().await.unwrap();
        for elsewhere in ["http://", "https://", "<script>", "style="] {
            assert!(!page.contains(elsewhere), "`{elsewhere}` stands in the page");
        }
        let files: Vec<_> = page.split('"').filter(|part| part.starts_with("/-/site/")).collect();
        assert_eq!(files.len(), 2, "{page}");
        for file in files {
            assert_eq!(setup.client.get(setup.url(file)).send().await.unwrap().status(), 200, "{file}");
        }
    }
}

#[tokio::test]
async fn files_of_pages_are_packed_and_sent_once() {
    let (_worker, setup) = setup().await;
    let get = |name: &str| setup.client.get(setup.url(&format!("/-/site/{name}")));
    let first = get("openapi-explorer.js").send().await.unwrap();
    assert_eq!(first.headers()["content-encoding"], "gzip");
    let etag = first.headers()["etag"].clone();
    assert!(first.bytes().await.unwrap().starts_with(&[0x1f, 0x8b]), "the client does not unpack it");
    let again = get("openapi-explorer.js").header("if-none-match", etag.clone()).send().await.unwrap();
    assert_eq!((again.status().as_u16(), &again.headers()["etag"]), (304, &etag));
    let other = get("docs.js").header("if-none-match", etag).send().await.unwrap();
    assert_eq!(other.status(), 200);
    assert_eq!(get("../edge.rs").send().await.unwrap().status(), 404);
    assert_eq!(get("nothing.js").send().await.unwrap().status(), 404);
}
