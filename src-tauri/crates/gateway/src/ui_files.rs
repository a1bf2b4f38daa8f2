//! The interface's files, and how they are served.
//!
//! They are looked up by their exact name in a list made when the program was built; no path ever reaches the file system.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use embedbar_contract::{Failure, FailureCode};

use crate::reply::Refusal;

const EMBEDDED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/ui_files.rs"));

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Embedbar</title>\
    <body style=\"font: 16px/1.5 system-ui; max-width: 40em; margin: 4em auto\"><h1>The interface is not built</h1>\
    <p>This Embedbar was built without its interface. In the project's folder, run</p>\
    <pre>npm --prefix ui ci\nnpm --prefix ui run build</pre><p>and build Embedbar again. The API works all the same.</p>\n";

/// The interface's files by their names, such as `index.html` and `assets/index.js`.
#[derive(Clone)]
pub struct UiFiles {
    files: Arc<BTreeMap<String, Cow<'static, [u8]>>>,
}

impl UiFiles {
    /// The interface as it was when this program was built; empty if it had not been built.
    pub fn embedded() -> Self {
        Self::new(EMBEDDED.iter().map(|(name, bytes)| ((*name).to_owned(), Cow::Borrowed(*bytes))))
    }

    /// Files of one's own.
    pub fn new(files: impl IntoIterator<Item = (String, Cow<'static, [u8]>)>) -> Self {
        Self { files: Arc::new(files.into_iter().collect()) }
    }

    /// Whether there is an interface.
    pub fn is_built(&self) -> bool {
        self.files.contains_key("index.html")
    }

    /// Answers a request for a file.
    pub(crate) fn answer(&self, method: &Method, uri: &Uri) -> Response {
        if method != Method::GET && method != Method::HEAD {
            return Refusal::request(StatusCode::METHOD_NOT_ALLOWED, format!("`{method}` is not possible here"))
                .into_response();
        }
        let name = match uri.path() {
            "/" => "index.html",
            path => path.strip_prefix('/').unwrap_or(path),
        };
        // The names in the addresses change with the contents except for those of pages: ask each time, it is not far.
        let headers = |kind| {
            [(CONTENT_TYPE, HeaderValue::from_static(kind)), (CACHE_CONTROL, HeaderValue::from_static("no-cache"))]
        };
        match self.files.get(name) {
            Some(Cow::Borrowed(bytes)) => (headers(content_type(name)), *bytes).into_response(),
            Some(Cow::Owned(bytes)) => (headers(content_type(name)), bytes.clone()).into_response(),
            None if name == "index.html" => {
                (StatusCode::SERVICE_UNAVAILABLE, headers(content_type(name)), NOT_BUILT).into_response()
            }
            None => {
                Refusal::from(Failure::new(FailureCode::NotFound, "there is nothing at this address")).into_response()
            }
        }
    }
}

impl fmt::Debug for UiFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "UiFiles({} files)", self.files.len())
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_type_that_its_name_says() {
        assert_eq!(content_type("index.html"), "text/html; charset=utf-8");
        assert_eq!(content_type("assets/app-1f.js"), "text/javascript; charset=utf-8");
        assert_eq!(content_type("assets/icon.svg"), "image/svg+xml");
        assert_eq!(content_type("LICENSE"), "application/octet-stream");
    }

    #[test]
    fn without_an_interface_the_start_page_says_how_to_build_it() {
        let none = UiFiles::new([]);
        assert!(!none.is_built());
        let response = none.answer(&Method::GET, &Uri::from_static("/"));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(NOT_BUILT.contains("npm --prefix ui run build"));
    }
}
