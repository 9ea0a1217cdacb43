//! One request for a file, into `FILE.part`: whole, or the rest of what is there.

use super::cache::beside;
use super::fetch::Event;
use crate::files::write_atomic;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// More than any weights have: who sends more does not send weights.
const MOST_BYTES: u64 = 1 << 30;

/// Redirects that are followed.
const REDIRECTS: u32 = 5;

/// Why an attempt ended without the whole file.
pub(super) enum Failure {
    /// Worth another attempt: a cut connection, a time-out, a busy server.
    Passing(String),
    /// Nothing is to be had at this address.
    Lasting(String),
    /// Here, not there: the file cannot be written.
    Here(Error),
}

pub(super) type Outcome<T> = std::result::Result<T, Failure>;

/// What is known of the file at an address, in `FILE.part.json`: whether the rest still fits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Origin {
    url: String,
    /// A strong ETag.
    etag: Option<String>,
    bytes: Option<u64>,
}

/// The part of a file that is there.
pub(super) struct Part {
    pub(super) path: PathBuf,
    origin: PathBuf,
}

impl Part {
    pub(super) fn of(file: &Path) -> Self {
        Self {
            path: beside(file, ".part"),
            origin: beside(file, ".part.json"),
        }
    }

    /// Bytes from `url` that are there, and what was told of the whole.
    fn from(&self, url: &str) -> Option<(u64, Origin)> {
        let origin: Origin = serde_json::from_slice(&std::fs::read(&self.origin).ok()?).ok()?;
        let bytes = self.path.metadata().ok()?.len();
        (origin.url == url && bytes > 0).then_some((bytes, origin))
    }

    /// Nothing of it is kept.
    pub(super) fn discard(&self) {
        // What is not there need not be removed; what cannot be is truncated by the next attempt.
        let _ = std::fs::remove_file(&self.origin);
        let _ = std::fs::remove_file(&self.path);
    }

    fn unwritable(&self, error: &std::io::Error) -> Failure {
        let message = format!(
            "cannot be written: {error}; free some space, or name another folder with {}",
            crate::files::CACHE
        );
        Failure::Here(Error::file(&self.path, message))
    }

    /// Opens it for what follows byte `start`.
    fn open(&self, start: u64, origin: &Origin) -> Outcome<File> {
        if start == 0 {
            let text = serde_json::to_vec(origin).unwrap_or_default();
            write_atomic(&self.origin, &text).map_err(Failure::Here)?;
        }
        let mut options = OpenOptions::new();
        let options = match start {
            0 => options.write(true).create(true).truncate(true),
            _ => options.append(true),
        };
        options.open(&self.path).map_err(|e| self.unwritable(&e))
    }
}

/// Blocking, with the proxy that `HTTPS_PROXY` and its kin name. No step may take longer than
/// `timeout`; the whole may.
///
/// # Errors
/// A file of certificates that cannot be read or has none.
pub(super) fn agent(timeout: Duration, certificates: Option<&Path>) -> Result<Agent> {
    let timeout = Some(timeout);
    let trusted = match certificates {
        Some(path) => RootCerts::Specific(Arc::new(read_certificates(path)?)),
        None => RootCerts::WebPki,
    };
    let tls = TlsConfig::builder().root_certs(trusted).build();
    Ok(Agent::config_builder()
        .tls_config(tls)
        .user_agent(concat!("astray/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects(REDIRECTS)
        .timeout_resolve(timeout)
        .timeout_connect(timeout)
        .timeout_recv_response(timeout)
        .timeout_per_read(timeout)
        .build()
        .into())
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let wrong = |found: &str| {
        let message = format!(
            "SSL_CERT_FILE: {found}, expected certificates in PEM format; name such a file, or unset it"
        );
        Error::file(path, message)
    };
    let bytes = std::fs::read(path).map_err(|e| wrong(&e.to_string()))?;
    let items: std::result::Result<Vec<_>, _> = parse_pem(&bytes).collect();
    let items = items.map_err(|e| wrong(&format!("no PEM: {e}")))?;
    let certificates = items.into_iter().filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    match certificates.collect::<Vec<_>>() {
        none if none.is_empty() => Err(wrong("no certificate in it")),
        some => Ok(some),
    }
}

/// Fills `part` from `url`. Returns whether some of it was there before.
pub(super) fn download(
    agent: &Agent,
    url: &str,
    part: &Part,
    tell: &mut dyn FnMut(Event),
) -> Outcome<bool> {
    let known = part.from(url);
    if let Some((bytes, origin)) = &known
        && origin.bytes == Some(*bytes)
    {
        return Ok(true); // it was whole when the program ended
    }
    let response = request(agent, url, known.as_ref()).map_err(|e| broken(&e))?;
    let origin = Origin {
        url: url.into(),
        etag: text(response.headers(), "etag")
            .filter(|etag| etag.starts_with('"'))
            .map(String::from),
        bytes: response.body().content_length(),
    };
    let start = begin(&response, part, known.as_ref(), &origin)?;
    let total = origin.bytes.map(|bytes| start + bytes);
    let mut file = part.open(start, &origin)?;
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    let mut done = start;
    loop {
        tell(Event::Progress { done, total });
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(Failure::Passing(cut(done, total, &e.to_string()))),
        };
        done += count as u64;
        if done > MOST_BYTES {
            part.discard();
            return Err(too_large(done));
        }
        file.write_all(&buffer[..count])
            .map_err(|e| part.unwritable(&e))?;
    }
    if total.is_some_and(|total| done < total) {
        return Err(Failure::Passing(cut(done, total, "closed")));
    }
    file.sync_all().map_err(|e| part.unwritable(&e))?;
    Ok(start > 0)
}

/// Asks for the file, or for what follows the bytes that are there if it is still the same file.
fn request(
    agent: &Agent,
    url: &str,
    known: Option<&(u64, Origin)>,
) -> std::result::Result<Response<Body>, ureq::Error> {
    let mut request = agent.get(url).header("Accept-Encoding", "identity");
    if let Some((bytes, origin)) = known {
        request = request.header("Range", format!("bytes={bytes}-"));
        if let Some(etag) = &origin.etag {
            request = request.header("If-Range", etag);
        }
    }
    // Nor may a redirect leave a secure connection.
    let secure = url.starts_with("https:");
    request.config().https_only(secure).build().call()
}

/// The byte at which the body begins, once the header shows that it may hold weights. A part that
/// it does not go on from is discarded.
fn begin(
    response: &Response<Body>,
    part: &Part,
    known: Option<&(u64, Origin)>,
    origin: &Origin,
) -> Outcome<u64> {
    let status = response.status();
    let anew = |problem: String| {
        part.discard();
        Err(Failure::Passing(problem))
    };
    let start = match (status, known) {
        (StatusCode::OK, _) => 0,
        (StatusCode::PARTIAL_CONTENT, Some((bytes, before))) => {
            let range = text(response.headers(), "content-range").unwrap_or_default();
            if !goes_on(range, *bytes, before.bytes) {
                let total = before.bytes.map_or("*".into(), |total| total.to_string());
                return anew(format!(
                    "sent the range `{range}`, expected `bytes {bytes}-…/{total}`"
                ));
            }
            if origin.etag.is_some() && origin.etag != before.etag {
                return anew("the file has changed meanwhile".into());
            }
            *bytes
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, Some((bytes, _))) => {
            return anew(format!(
                "has nothing behind the {bytes} bytes that are there"
            ));
        }
        (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS, _) => {
            return Err(Failure::Passing(format!("answered {status}")));
        }
        _ if status.is_server_error() => {
            return Err(Failure::Passing(format!("answered {status}")));
        }
        _ => return Err(Failure::Lasting(format!("answered {status}"))),
    };
    if text(response.headers(), "content-type").is_some_and(|kind| kind.starts_with("text/html")) {
        return Err(Failure::Lasting(
            "sent a web page instead of weights: does a proxy want a login?".into(),
        ));
    }
    match origin.bytes {
        Some(bytes) if start.saturating_add(bytes) > MOST_BYTES => Err(too_large(bytes)),
        _ => Ok(start),
    }
}

/// Is `range` (`bytes 100-199/200`) what follows `start` bytes of a file of `total`?
fn goes_on(range: &str, start: u64, total: Option<u64>) -> bool {
    let parse = || {
        let (bounds, whole) = range.strip_prefix("bytes ")?.split_once('/')?;
        let first: u64 = bounds.split_once('-')?.0.parse().ok()?;
        let fits = |total: u64| whole == "*" || whole.parse() == Ok(total);
        Some(first == start && total.is_none_or(fits))
    };
    parse() == Some(true)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn too_large(bytes: u64) -> Failure {
    let most = MOST_BYTES >> 20;
    Failure::Lasting(format!(
        "sends {bytes} bytes, and no weights have {most} MiB"
    ))
}

fn cut(done: u64, total: Option<u64>, why: &str) -> String {
    let total = total.map_or("an unknown number of".into(), |total| total.to_string());
    format!("the connection ended after {done} of {total} bytes: {why}")
}

/// No answer came.
fn broken(error: &ureq::Error) -> Failure {
    match error {
        ureq::Error::RequireHttpsOnly(url) => Failure::Lasting(format!(
            "leads to {url}, which is not secure, and is not followed"
        )),
        ureq::Error::TooManyRedirects => {
            Failure::Lasting(format!("redirects more than {REDIRECTS} times"))
        }
        // The only trace that rustls leaves of it; other garbage may be passing.
        ureq::Error::Io(error) if error.to_string().contains("peer certificate") => {
            Failure::Lasting(format!(
                "is not who it says it is: {error}; where a company looks into its connections, \
                 SSL_CERT_FILE names a file with its certificate"
            ))
        }
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            Failure::Lasting(format!("is no address: {error}"))
        }
        _ => Failure::Passing(error.to_string()),
    }
}
