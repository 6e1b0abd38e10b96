//! The daemon obeys programs on this machine, and no web page.
//!
//! Any page open in the user's browser can send requests to loopback. Against DNS rebinding, `Host` must be a
//! loopback name; against forged cross-site requests, whatever a browser says about the page it acts for
//! (`Origin`, `Referer`, `Sec-Fetch-Site`) must be this very API, and a POST must be JSON, which a page cannot send
//! across sites without asking first (and nobody answers that question). The Python client of 2020 sends `Host:
//! localhost:20431`, JSON bodies and none of the browser's headers.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, Uri, header};

/// Why a request is refused, in words for the 403 body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the Host header must be localhost, 127.0.0.1 or [::1]: this API serves only this machine")]
    Host,
    #[error("the Origin header names another site: web pages may not drive the daemon")]
    Origin,
    #[error("the Referer header names another site: web pages may not drive the daemon")]
    Referer,
    #[error("the Sec-Fetch-Site header says that another site is asking: web pages may not drive the daemon")]
    CrossSite,
    #[error("a POST must have the header Content-Type: application/json")]
    NotJson,
    #[error("a browser may not stop the daemon: use kachery-p2p daemon-stop")]
    BrowserHalt,
}

/// Judges a request by its head alone, before its body is read.
pub(crate) fn check(head: &Parts) -> Result<(), Refusal> {
    let own = own_authority(&head.headers, &head.uri).ok_or(Refusal::Host)?;
    if !all(&head.headers, header::ORIGIN, |origin| same_origin(origin, own)) {
        return Err(Refusal::Origin);
    }
    if !all(&head.headers, header::REFERER, |referer| same_origin(referer, own)) {
        return Err(Refusal::Referer);
    }
    let sec_fetch_site = HeaderName::from_static("sec-fetch-site");
    if !all(&head.headers, sec_fetch_site.clone(), |site| site == "same-origin" || site == "none") {
        return Err(Refusal::CrossSite);
    }
    if head.method == Method::POST && !is_json(&head.headers) {
        return Err(Refusal::NotJson);
    }
    // The one GET that changes something. A page can make a browser that sends neither Sec-Fetch-Site nor Referer
    // fetch it as an image, so no browser may; they all name themselves Mozilla.
    let browser = head.headers.contains_key(sec_fetch_site)
        || !all(&head.headers, header::USER_AGENT, |agent| !agent.starts_with("Mozilla/"));
    if browser && head.uri.path() == "/halt" {
        return Err(Refusal::BrowserHalt);
    }
    Ok(())
}

/// The request's one `Host`, if it is a loopback name; a target with a host of its own must be one as well.
fn own_authority<'a>(headers: &'a HeaderMap, uri: &Uri) -> Option<&'a str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    let target_is_local = uri.authority().is_none_or(|target| is_loopback(target.as_str()));
    (hosts.next().is_none() && is_loopback(host) && target_is_local).then_some(host)
}

/// `localhost`, `127.0.0.1` or `[::1]`, with or without a port.
fn is_loopback(authority: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| {
        let Some((start, port)) = authority.split_at_checked(name.len()) else { return false };
        let port_is_fine =
            port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok());
        start.eq_ignore_ascii_case(name) && port_is_fine
    })
}

/// `http://` + our authority, alone or followed by a path.
fn same_origin(url: &str, own: &str) -> bool {
    url.strip_prefix("http://")
        .map(|rest| rest.split(['/', '?', '#']).next().unwrap_or(rest))
        .is_some_and(|authority| authority.eq_ignore_ascii_case(own))
}

/// True if every value of a header passes; a value that is not text does not.
fn all(headers: &HeaderMap, name: HeaderName, good: impl Fn(&str) -> bool) -> bool {
    headers.get_all(name).iter().all(|value| value.to_str().is_ok_and(&good))
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let first = types.next().and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = first.split(';').next().unwrap_or("").trim();
    types.next().is_none() && media_type.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn judge(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn the_python_clients_of_both_generations_pass() {
        for host in ["localhost:20431", "127.0.0.1:20431", "[::1]:20431", "localhost", "LOCALHOST:1"] {
            let requests = ("User-Agent", "python-requests/2.24.0");
            assert_eq!(judge("GET", "/halt", &[("Host", host), requests]), Ok(()), "{host}");
            let json = ("Content-Type", "application/json");
            assert_eq!(judge("POST", "/findFile", &[("Host", host), requests, json]), Ok(()), "{host}");
        }
        let with_charset = ("Content-Type", "Application/JSON; charset=utf-8");
        assert_eq!(judge("POST", "/x", &[("Host", "localhost"), with_charset]), Ok(()));
    }

    #[test]
    fn a_host_that_is_not_loopback_is_refused() {
        let hosts = [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.2:20431",
            "localhost:",
            "localhost:99999",
            "localhost:20431@evil.example",
            "localhost.",
            "::1",
            "0.0.0.0",
            "",
        ];
        for host in hosts {
            assert_eq!(judge("GET", "/probe", &[("Host", host)]), Err(Refusal::Host), "{host:?}");
        }
        assert_eq!(judge("GET", "/probe", &[]), Err(Refusal::Host), "no Host at all");
        let two = [("Host", "localhost"), ("Host", "evil.example")];
        assert_eq!(judge("GET", "/probe", &two), Err(Refusal::Host), "two hosts");
        let absolute = judge("GET", "http://evil.example/probe", &[("Host", "localhost")]);
        assert_eq!(absolute, Err(Refusal::Host), "absolute target");
    }

    #[test]
    fn another_sites_page_is_refused_by_each_header_that_betrays_it() {
        let host = ("Host", "localhost:20431");
        for origin in ["http://evil.example", "null", "https://localhost:20431", "http://localhost:8888", ""]
        {
            assert_eq!(judge("GET", "/probe", &[host, ("Origin", origin)]), Err(Refusal::Origin), "{origin}");
        }
        for referer in ["http://evil.example/page", "http://localhost:20431.evil.example/", "x"] {
            let got = judge("GET", "/probe", &[host, ("Referer", referer)]);
            assert_eq!(got, Err(Refusal::Referer), "{referer}");
        }
        for site in ["cross-site", "same-site", "bogus"] {
            let got = judge("GET", "/probe", &[host, ("Sec-Fetch-Site", site)]);
            assert_eq!(got, Err(Refusal::CrossSite), "{site}");
        }
        let own_page = [
            host,
            ("Origin", "http://localhost:20431"),
            ("Referer", "http://localhost:20431/x"),
            ("Sec-Fetch-Site", "same-origin"),
        ];
        assert_eq!(judge("GET", "/probe", &own_page), Ok(()));
    }

    #[test]
    fn a_post_that_is_not_json_is_refused() {
        let host = ("Host", "localhost");
        assert_eq!(judge("POST", "/joinChannel", &[host]), Err(Refusal::NotJson));
        for kind in ["text/plain", "application/x-www-form-urlencoded", "text/plain; application/json", ""] {
            let got = judge("POST", "/joinChannel", &[host, ("Content-Type", kind)]);
            assert_eq!(got, Err(Refusal::NotJson), "{kind}");
        }
        let two = [host, ("Content-Type", "application/json"), ("Content-Type", "text/plain")];
        assert_eq!(judge("POST", "/joinChannel", &two), Err(Refusal::NotJson));
    }

    #[test]
    fn no_browser_may_halt_the_daemon() {
        let host = ("Host", "localhost:20431");
        for betrayal in [("User-Agent", "Mozilla/5.0 (Macintosh)"), ("Sec-Fetch-Site", "none")] {
            assert_eq!(judge("GET", "/halt", &[host, betrayal]), Err(Refusal::BrowserHalt));
            assert_eq!(judge("GET", "/probe", &[host, betrayal]), Ok(()));
        }
    }
}
