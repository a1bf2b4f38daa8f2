//! Who may speak to us at all, judged by a request's head alone and before anything is routed.
//!
//! A page on the web can make a browser connect to a loopback port, by its address or by a name of its own that resolves to
//! it (DNS rebinding, which comes without an `Origin`). The exact `Host` stops the second, `Origin` and `Sec-Fetch-Site`
//! the first. This is no proof of who calls: that is the token's part.

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use embedbar_contract::{Failure, FailureCode};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a request that is not addressed to us by one of our own names, or that another page made.
pub(crate) fn check(headers: &HeaderMap, uri: &Uri, port: u16) -> Result<(), Failure> {
    let names = [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}")];
    let is_ours = |name: &str| names.iter().any(|ours| ours == name);

    let host = single(headers, &HOST).ok_or_else(|| refused("the request names no host, or several"))?;
    if !is_ours(host) {
        return Err(refused(format!("the host `{}` is not this gateway", shown(host))));
    }
    if let Some(authority) = uri.authority().filter(|authority| !is_ours(authority.as_str())) {
        return Err(refused(format!("the host `{}` is not this gateway", shown(authority.as_str()))));
    }
    if headers.contains_key(ORIGIN) {
        let origin = single(headers, &ORIGIN).unwrap_or_default();
        if !origin.strip_prefix("http://").is_some_and(is_ours) {
            return Err(refused(format!("the origin `{}` may not use this gateway", shown(origin))));
        }
    }
    // `same-site` is another port of this machine: another program's page.
    if headers.contains_key(SEC_FETCH_SITE) && !matches!(single(headers, &SEC_FETCH_SITE), Some("same-origin" | "none"))
    {
        return Err(refused("a page of another site may not use this gateway"));
    }
    Ok(())
}

/// The value of a header that is there exactly once and is text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::to_str);
    let first = values.next()?.ok()?;
    values.next().is_none().then_some(first)
}

/// What a stranger sent, short enough for a message.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn refused(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::InvalidRequest, message)
        .hint("Open the address that `embedbar serve` printed, or call it as `127.0.0.1` with its port.")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(headers: &[(&'static str, &str)], uri: &str) -> bool {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value")))
            .collect();
        check(&headers, &uri.parse().expect("an address"), 7431).is_ok()
    }

    #[test]
    fn our_own_three_names_pass() {
        for host in ["127.0.0.1:7431", "localhost:7431", "[::1]:7431"] {
            assert!(judge(&[("host", host)], "/"));
            assert!(judge(
                &[("host", host), ("origin", &format!("http://{host}")), ("sec-fetch-site", "same-origin")],
                "/"
            ));
            assert!(judge(&[("host", host)], &format!("http://{host}/")));
        }
        assert!(judge(&[("host", "localhost:7431"), ("sec-fetch-site", "none")], "/"), "typed by hand");
    }

    #[test]
    fn any_other_host_is_refused() {
        for host in [
            "",
            "localhost",
            "127.0.0.1",
            "127.0.0.1:7432",
            "127.0.0.1:74310",
            "evil.example:7431",
            "localhost:7431.evil.example",
            "localhost.:7431",
            "127.0.0.1:07431",
            "user@127.0.0.1:7431",
            "127.1:7431",
            "0.0.0.0:7431",
            "[::1]",
            "::1:7431",
            "2130706433:7431",
            "localhost:7431 ",
            "LOCALHOST:7431",
        ] {
            assert!(!judge(&[("host", host)], "/"), "{host:?}");
        }
        assert!(!judge(&[], "/"), "none at all");
        assert!(!judge(&[("host", "localhost:7431")], "http://evil.example/"), "an absolute address");
    }

    #[test]
    fn several_hosts_or_origins_are_refused() {
        let mut headers = HeaderMap::new();
        headers.append(HOST, HeaderValue::from_static("localhost:7431"));
        assert!(check(&headers, &Uri::from_static("/"), 7431).is_ok());
        headers.append(HOST, HeaderValue::from_static("localhost:7431"));
        assert!(check(&headers, &Uri::from_static("/"), 7431).is_err());
        let mut headers = HeaderMap::new();
        headers.append(HOST, HeaderValue::from_static("localhost:7431"));
        headers.append(ORIGIN, HeaderValue::from_static("http://localhost:7431"));
        headers.append(ORIGIN, HeaderValue::from_static("http://evil.example"));
        assert!(check(&headers, &Uri::from_static("/"), 7431).is_err());
    }

    #[test]
    fn a_foreign_origin_is_refused() {
        let host = ("host", "localhost:7431");
        for origin in [
            "null",
            "",
            "http://evil.example",
            "https://localhost:7431",
            "http://localhost",
            "http://localhost:3000",
            "http://localhost:7431/",
            "http://localhost:7431.evil.example",
            "tauri://localhost",
            "file://",
            "*",
        ] {
            assert!(!judge(&[host, ("origin", origin)], "/"), "{origin:?}");
        }
    }

    #[test]
    fn a_request_that_another_site_made_is_refused() {
        let host = ("host", "127.0.0.1:7431");
        for site in ["cross-site", "same-site", "", "Same-Origin", "anything"] {
            assert!(!judge(&[host, ("sec-fetch-site", site)], "/"), "{site:?}");
        }
    }

    proptest! {
        #[test]
        fn no_host_passes_but_our_own(host in "[ -~]{0,40}") {
            let ours = ["127.0.0.1:7431", "localhost:7431", "[::1]:7431"].contains(&host.as_str());
            prop_assert_eq!(judge(&[("host", &host)], "/"), ours);
        }
    }
}
