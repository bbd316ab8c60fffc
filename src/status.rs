//! The status page: what a browser, a script or Prometheus is answered.
//!
//! What it is: from the bytes of one HTTP request to those of its response. What it is not: a socket,
//! or a web server: it reads, knows five paths, and closes.
//!
//! What is shown is no secret to who may connect, but a page in the same browser must not read it:
//! there is no CORS header, and a request must name the head by address or as `localhost`, or else a
//! name that an attacker points here (DNS rebinding) would do. The page loads nothing from elsewhere
//! and runs no script but its own file.
//!
//! Invariant: any bytes at all give at most one response, and nothing is changed by asking.

mod metrics;

use httparse::{EMPTY_HEADER, Error, Request, Status};

use crate::limits::STATUS_REQUEST_BYTES_MAX;
use crate::network::is_address_or_localhost;
use crate::overview::Overview;
use crate::report;

const HEADERS_MAX: usize = 64;

/// What a browser must know of each response; the page's own files are all it may use.
const HEADERS: &str = "Connection: close\r\n\
    Cache-Control: no-store\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Referrer-Policy: no-referrer\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'\r\n";

/// The response to `request`; `None` while that is incomplete. `look` is called only for what it is
/// asked for.
pub fn answer<'a>(request: &[u8], look: impl FnOnce() -> Overview<'a>) -> Option<Vec<u8>> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = Request::new(&mut headers);
    let response = match parsed.parse(request) {
        Ok(Status::Complete(_)) => respond(&parsed, look),
        Ok(Status::Partial) if request.len() < STATUS_REQUEST_BYTES_MAX => return None,
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => {
            Response::refusal("431 Request Header Fields Too Large", "too long a request")
        }
        Err(_) => Response::refusal("400 Bad Request", "this is no HTTP request"),
    };
    Some(response.encode(parsed.method == Some("HEAD")))
}

struct Response {
    status: &'static str,
    content_type: &'static str,
    extra: &'static str,
    body: Vec<u8>,
}

impl Response {
    fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Response {
        Response {
            status: "200 OK",
            content_type,
            extra: "",
            body: body.into(),
        }
    }

    fn refusal(status: &'static str, reason: &str) -> Response {
        Response {
            status,
            content_type: "text/plain",
            extra: "",
            body: format!("{reason}\n").into(),
        }
    }

    fn encode(self, is_head: bool) -> Vec<u8> {
        let Response {
            status,
            content_type,
            extra,
            body,
        } = self;
        let length = body.len();
        let mut bytes = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}; charset=utf-8\r\n\
             Content-Length: {length}\r\n{extra}{HEADERS}\r\n"
        )
        .into_bytes();
        if !is_head {
            bytes.extend(body);
        }
        bytes
    }
}

fn respond<'a>(request: &Request<'_, '_>, look: impl FnOnce() -> Overview<'a>) -> Response {
    if !names_this_machine(request) {
        return Response::refusal(
            "403 Forbidden",
            "name the head by its address, or as localhost: any other name might be somebody \
             else's idea of it",
        );
    }
    if !matches!(request.method, Some("GET" | "HEAD")) {
        let mut refusal = Response::refusal("405 Method Not Allowed", "this only reads");
        refusal.extra = "Allow: GET, HEAD\r\n";
        return refusal;
    }
    let target = request.path.unwrap_or_default();
    match target.split('?').next().unwrap_or_default() {
        "/" => Response::ok("text/html", include_str!("status/page.html")),
        "/page.js" => Response::ok("text/javascript", include_str!("status/page.js")),
        "/page.css" => Response::ok("text/css", include_str!("status/page.css")),
        "/status.json" => {
            let mut body = Vec::new();
            report::json(&look(), None, &mut body);
            Response::ok("application/json", body)
        }
        // The version of the format has to be said.
        "/metrics" => Response::ok("text/plain; version=0.0.4", metrics::text(&look())),
        _ => Response::refusal("404 Not Found", "there are /, /status.json and /metrics"),
    }
}

/// Whether the one `Host` header names an address or `localhost`.
fn names_this_machine(request: &Request<'_, '_>) -> bool {
    let mut hosts = request
        .headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("host"));
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    str::from_utf8(host.value).is_ok_and(is_address_or_localhost)
}

#[cfg(test)]
mod tests;
