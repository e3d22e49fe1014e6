//! The dashboard's files, inside the binary: `site/` as it stands, without a build step. What they show they ask of the REST
//! API, as any other program could.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use include_dir::{Dir, include_dir};

static SITE: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/site");

/// Where the form has its error.
const ERROR: &str = "<!--error-->";

/// A file that browsers load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Its content.
    pub bytes: &'static [u8],
    /// Its content type.
    pub kind: &'static str,
    /// What its content is known by, in quotes.
    pub etag: &'static str,
}

/// The files under `site/assets`, by their path there.
static ASSETS: LazyLock<BTreeMap<String, Asset>> = LazyLock::new(|| {
    let mut assets = BTreeMap::new();
    let mut folders: Vec<&Dir<'static>> = SITE.get_dir("assets").into_iter().collect();
    while let Some(folder) = folders.pop() {
        folders.extend(folder.dirs());
        for file in folder.files() {
            let Some(path) = file.path().to_str().and_then(|path| path.strip_prefix("assets/")) else {
                continue;
            };
            let Some(kind) = kind_of(path) else { continue };
            let etag = format!("\"{}\"", &blake3::hash(file.contents()).to_hex()[..32]);
            assets.insert(path.to_owned(), Asset { bytes: file.contents(), kind, etag: etag.leak() });
        }
    }
    assets
});

/// The content type of a file; `None` for what browsers have no use for, such as licences.
fn kind_of(path: &str) -> Option<&'static str> {
    let (_, ending) = path.rsplit_once('.')?;
    Some(match ending {
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        _ => return None,
    })
}

/// The file at that path under `assets/`.
#[must_use]
pub fn asset(path: &str) -> Option<Asset> {
    ASSETS.get(path).copied()
}

/// The page that all others are shown in.
#[must_use]
pub fn index_page() -> String {
    text("index.html").to_owned()
}

/// The form for logging in, with an error in it. The error is a sentence of the program's own: it goes in as it is.
#[must_use]
pub fn login_page(error: Option<&'static str>) -> String {
    let error = error.map(|error| format!("<p role=\"alert\" class=\"error\">{error}</p>"));
    text("login.html").replace(ERROR, &error.unwrap_or_default())
}

fn text(name: &str) -> &'static str {
    let file = SITE.get_file(name).and_then(|file| file.contents_utf8());
    file.expect("the two pages are in the folder, which the tests check")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What may come over the wire for the first page, in bytes.
    const BUDGET: usize = 300_000;

    #[test]
    fn everything_the_pages_name_is_there_and_nothing_is_from_elsewhere() {
        for page in [index_page(), login_page(None)] {
            let mut names = 0;
            for part in page.split(['"', '\'']).filter(|part| part.starts_with("/assets/")) {
                assert!(asset(part.trim_start_matches("/assets/")).is_some(), "{part} is missing");
                names += 1;
            }
            assert!(names > 0, "a page without its style");
            for elsewhere in ["http://", "https://", "//cdn", "style=\"", "<script>"] {
                assert!(!page.contains(elsewhere), "`{elsewhere}` stands in a page");
            }
        }
        let total: usize = ASSETS.values().map(|asset| asset.bytes.len()).sum();
        assert!(total + index_page().len() < BUDGET, "{total} bytes");
    }

    #[test]
    fn the_form_has_one_field_and_shows_its_error() {
        let page = login_page(Some("Not this one."));
        assert_eq!(page.matches("name=\"token\"").count(), 1);
        assert!(page.contains("Not this one.") && page.contains("role=\"alert\""));
        assert!(!login_page(None).contains("role=\"alert\""));
        assert!(
            login_page(None).contains("method=\"post\"") && login_page(None).contains("action=\"/login\"")
        );
    }

    #[test]
    fn files_are_known_by_their_content_and_licences_are_not_served() {
        assert_eq!(kind_of("vendor/uplot/LICENSE"), None);
        assert_eq!(asset("../index.html"), None);
        let etags: std::collections::BTreeSet<_> = ASSETS.values().map(|asset| asset.etag).collect();
        assert_eq!(etags.len(), ASSETS.len());
    }
}
