//! Downloads from a server that cuts, lies and stalls: nothing damaged is ever kept.

pub mod server;

use astray::models::efficientnet::Scheme;
use astray::nn::weights::{Float, sha256, write_safetensors_as};
use astray::weights::{Entry, Event, Options, Receipt, fetch, read_fetched};
use serde_json::Value;
use server::{Answer, Server, cut, file, header, raw, redirect, stall, status};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempDir};

const FILE: &str = "w.safetensors";

/// Of the first version of the file, and of what came in its place.
const ETAG: &str = "\"first\"";
const OTHER: &str = "\"second\"";

/// A whole EfficientNet-B0 in half precision, as timm names it.
fn good() -> &'static [u8] {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let text = include_str!("reference/state_dicts.json");
        let dicts: Value = serde_json::from_str(text).unwrap();
        let tensors = dicts["timm b0"].as_object().unwrap().iter();
        let tensors: Vec<_> = tensors
            .map(|(name, shape)| {
                let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
                let data = vec![0.5; shape.iter().product()];
                (name.clone(), shape, data)
            })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        write_safetensors_as(Float::F16, &path, &tensors, HashMap::new()).unwrap();
        std::fs::read(path).unwrap()
    })
}

/// As long as the good file, one bit of a weight changed.
fn flipped() -> &'static [u8] {
    static FLIPPED: OnceLock<Vec<u8>> = OnceLock::new();
    FLIPPED.get_or_init(|| {
        let mut bytes = good().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    })
}

fn half() -> usize {
    good().len() / 2
}

/// A cache and a server.
struct Place {
    folder: TempDir,
    server: Server,
    entry: Entry,
    options: Options,
    /// Holds the certificates that `options` name.
    trusted: NamedTempFile,
}

impl Place {
    fn new(answers: Vec<Answer>) -> Self {
        let server = Server::start(answers);
        let entry = Entry {
            name: "efficientnet-b0".into(),
            network: "efficientnet_b0".into(),
            scheme: Scheme::Timm,
            url: server.url(FILE),
            sha256: sha256(good())[..8].into(),
            mib: 10.0,
            licence: "none",
            training: "nothing",
        };
        let options = Options {
            offline: false,
            mirrors: Vec::new(),
            certificates: None,
            timeout: Duration::from_secs(10),
            retries: 2,
            pause: Duration::from_millis(1),
        };
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            server,
            entry,
            options,
            trusted: NamedTempFile::new().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn fetch(&self) -> astray::Result<(PathBuf, Vec<Event>)> {
        let mut events = Vec::new();
        let mut tell = |event| events.push(event);
        let file = fetch(&self.entry, self.folder.path(), &self.options, &mut tell)?;
        Ok((file, events))
    }

    /// It comes, whole, and nothing else stays.
    fn succeeds(&self) -> Vec<Event> {
        let (path, events) = self.fetch().unwrap();
        assert_eq!(path, self.path(FILE));
        assert!(std::fs::read(&path).unwrap() == good(), "other bytes");
        assert_eq!(
            self.names(),
            [FILE, &format!("{FILE}.json"), &format!("{FILE}.lock")]
        );
        read_fetched(&self.entry, self.folder.path()).unwrap();
        events
    }

    /// It does not come, the message says why, and what is left is a part that can go on, of `kept`
    /// bytes, or nothing.
    fn fails(&self, words: &[&str], kept: Option<usize>) {
        let message = self.fetch().unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
        assert!(!message.contains('\n'), "{message}");
        assert!(!self.path(FILE).exists(), "a damaged file was kept");
        let part = self.path(&format!("{FILE}.part"));
        let left = part.metadata().ok().map(|m| m.len() as usize);
        assert_eq!(left, kept, "{message}");
        let left = self.names().len();
        assert_eq!(
            left,
            if kept.is_some() { 3 } else { 1 },
            "{:?}",
            self.names()
        );
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let name = |e: std::io::Result<std::fs::DirEntry>| e.unwrap().file_name().into_string();
        let mut names: Vec<_> = entries.map(|e| name(e).unwrap()).collect();
        names.sort();
        names
    }
}

fn whole(head: &str, bytes: &'static [u8]) -> Answer {
    raw(format!("200 OK\r\n{head}"), bytes, usize::MAX)
}

fn from_half() -> Option<String> {
    Some(format!("bytes={}-", half()))
}

#[test]
fn a_file_that_comes_is_kept_and_not_asked_for_again() {
    let place = Place::new(vec![file(good(), ETAG)]);
    let total = Some(good().len() as u64);
    let events = place.succeeds();
    let last = Event::Progress {
        done: good().len() as u64,
        total,
    };
    assert_eq!(events.last(), Some(&last));
    let receipt = std::fs::read(place.path("w.safetensors.json")).unwrap();
    let receipt: Receipt = serde_json::from_slice(&receipt).unwrap();
    assert_eq!(receipt.sha256, sha256(good()));
    assert_eq!(
        (receipt.url, Some(receipt.bytes)),
        (place.entry.url.clone(), total)
    );
    assert_eq!(place.succeeds(), []);
    assert_eq!(place.server.requests().len(), 1);
}

#[test]
fn a_cut_connection_goes_on_where_it_ended() {
    let place = Place::new(vec![cut(good(), ETAG, half()), file(good(), ETAG)]);
    let events = place.succeeds();
    assert_eq!(place.server.ranges(), [None, from_half()]);
    let second = &place.server.requests()[1];
    assert_eq!(header(second, "if-range").as_deref(), Some(ETAG));
    let note = format!("after {} of {} bytes", half(), good().len());
    let told = |e: &Event| matches!(e, Event::Note(n) if n.contains(&note));
    assert!(events.iter().any(told), "{events:?}");
}

#[test]
fn the_next_call_goes_on_too() {
    let mut place = Place::new(vec![cut(good(), ETAG, half()), file(good(), ETAG)]);
    place.options.retries = 0;
    let kept = format!("{} bytes are kept", half());
    place.fails(
        &["efficientnet-b0 could not be fetched", &kept],
        Some(half()),
    );
    place.succeeds();
    assert_eq!(place.server.ranges(), [None, from_half()]);
}

#[test]
fn a_part_that_is_whole_is_only_checked() {
    let place = Place::new(vec![file(good(), ETAG)]);
    let (path, url, bytes) = (
        place.path("w.safetensors.part"),
        &place.entry.url,
        good().len(),
    );
    std::fs::write(&path, good()).unwrap();
    let origin = serde_json::json!({ "url": url, "etag": null, "bytes": bytes });
    std::fs::write(place.path("w.safetensors.part.json"), origin.to_string()).unwrap();
    place.succeeds();
    assert_eq!(place.server.requests().len(), 0);
}

#[test]
fn a_server_that_ignores_ranges_begins_anew() {
    let length = format!("Content-Length: {}", good().len());
    let first = raw(format!("200 OK\r\n{length}"), good(), half());
    let place = Place::new(vec![first, whole(&length, good())]);
    place.succeeds();
    // Without an ETag the rest is asked for all the same: the sha256 has the last word.
    assert_eq!(place.server.ranges(), [None, from_half()]);
    assert_eq!(header(&place.server.requests()[1], "if-range"), None);
}

#[test]
fn a_wrong_range_is_not_taken() {
    let total = good().len();
    for range in [
        format!("bytes 0-{}/{total}", total - 1),
        format!("bytes {}-{}/{}", half(), total - 1, total + 1),
        "pages 1-2/3".into(),
    ] {
        let head =
            format!("206 Partial Content\r\nContent-Range: {range}\r\nContent-Length: {total}");
        let answers = vec![
            cut(good(), ETAG, half()),
            raw(head.clone(), good(), usize::MAX),
            file(good(), ETAG),
        ];
        let place = Place::new(answers);
        place.succeeds();
        assert_eq!(place.server.ranges(), [None, from_half(), None], "{range}");

        // And where it stays so: the message says what was sent and expected.
        let mut place = Place::new(vec![
            cut(good(), ETAG, half()),
            raw(head, good(), usize::MAX),
        ]);
        place.options.retries = 1;
        let expected = format!("expected `bytes {}-…/{total}`", half());
        place.fails(&[&format!("sent the range `{range}`"), &expected], None);
    }
    // A range that nobody asked for.
    let head =
        format!("206 Partial Content\r\nContent-Range: bytes 0-9/{total}\r\nContent-Length: 10");
    Place::new(vec![raw(head, good(), 10)]).fails(&["answered 206"], None);
}

#[test]
fn a_file_that_changed_meanwhile_begins_anew() {
    // By the rules: the ETag is another one, so the whole file comes.
    let place = Place::new(vec![cut(flipped(), OTHER, half()), file(good(), ETAG)]);
    place.succeeds();
    assert_eq!(place.server.requests().len(), 2);
    // The rest of another file, with its own ETag, although only the same one was wanted.
    let rest = raw(
        format!(
            "206 Partial Content\r\nETag: {ETAG}\r\nContent-Range: bytes {}-{}/{}\r\nContent-Length: {}",
            half(),
            good().len() - 1,
            good().len(),
            good().len() - half()
        ),
        &good()[half()..],
        usize::MAX,
    );
    let place = Place::new(vec![
        cut(flipped(), OTHER, half()),
        rest,
        file(good(), ETAG),
    ]);
    place.succeeds();
    assert_eq!(place.server.ranges(), [None, from_half(), None]);
}

/// The first half is of a damaged file, the second of the good one, and nothing tells.
#[test]
fn two_halves_of_different_files_are_not_kept() {
    static DAMAGED: OnceLock<Vec<u8>> = OnceLock::new();
    let damaged = DAMAGED.get_or_init(|| {
        let mut bytes = good().to_vec();
        bytes[half() - 1] ^= 1;
        bytes
    });
    let answers = || vec![cut(damaged, ETAG, half()), file(good(), ETAG)];
    let place = Place::new(answers());
    place.succeeds();
    assert_eq!(place.server.ranges(), [None, from_half(), None]);
    let mut place = Place::new(answers());
    place.options.retries = 1;
    place.fails(&["sent something else", "sha256"], None);
}

#[test]
fn lies_about_the_length() {
    let total = good().len();
    let long = format!("Content-Length: {}", total + 100);
    let place = Place::new(vec![whole(&long, good())]);
    let words = format!("ended after {total} of {} bytes", total + 100);
    place.fails(&[&words], Some(total));

    let short = format!("Content-Length: {}", total - 100);
    let place = Place::new(vec![whole(&short, good())]);
    place.fails(
        &[&format!("{} bytes of sha256 ", total - 100), "cut short"],
        None,
    );

    let absurd = format!("Content-Length: {}", 1_u64 << 40);
    let place = Place::new(vec![whole(&absurd, good())]);
    place.fails(
        &["sends 1099511627776 bytes", "no weights have 1024 MiB"],
        None,
    );

    // No length at all: the end of the connection is the end of the file.
    let place = Place::new(vec![whole("X: y", good())]);
    place.succeeds();
    let place = Place::new(vec![raw("200 OK".into(), good(), half())]);
    place.fails(&[&format!("{} bytes of sha256 ", half())], None);
}

#[test]
fn chunks_that_end_early_are_cut() {
    let place = Place::new(vec![
        raw(
            "200 OK\r\nTransfer-Encoding: chunked".into(),
            b"5\r\nhello\r\n",
            10,
        ),
        file(good(), ETAG),
    ]);
    place.succeeds();
}

#[test]
fn wrong_bytes_of_the_right_length_are_not_kept() {
    let place = Place::new(vec![file(flipped(), ETAG)]);
    let found = sha256(flipped());
    let expected = format!("expected {}", place.entry.sha256);
    place.fails(&["sent something else", &found, &expected], None);
    // The same bytes would come again.
    assert_eq!(place.server.requests().len(), 1);
}

#[test]
fn the_right_bytes_of_another_network_are_not_kept() {
    let mut place = Place::new(vec![file(good(), ETAG)]);
    place.entry.network = "efficientnet_b1".into();
    place.fails(
        &[
            "of efficientnet_b1 is missing",
            "looks like efficientnet_b0",
        ],
        None,
    );
    place.entry.network = "efficientnet_b0".into();
    place.entry.scheme = Scheme::Torchvision;
    place.fails(&["not named as torchvision names them"], None);
}

#[test]
fn a_web_page_is_not_kept() {
    const PAGE: &[u8] = b"<!DOCTYPE html><title>Please log in</title>";
    let length = format!("Content-Length: {}", PAGE.len());
    let html = format!("Content-Type: text/html; charset=utf-8\r\n{length}");
    Place::new(vec![whole(&html, PAGE)]).fails(&["a web page instead of weights"], None);
    // It need not say so.
    Place::new(vec![whole(&length, PAGE)]).fails(&["43 bytes", "not a weight file"], None);
}

#[test]
fn a_busy_server_is_asked_again_and_a_missing_file_is_not() {
    let busy = ["500 Internal Server Error", "503 Service Unavailable"];
    let answers = busy.map(status).into_iter().chain([file(good(), ETAG)]);
    Place::new(answers.collect()).succeeds();
    let place = Place::new(vec![status(busy[1])]);
    place.fails(&["answered 503 Service Unavailable"], None);
    assert_eq!(place.server.requests().len(), 3);
    for (line, requests) in [
        ("404 Not Found", 1),
        ("403 Forbidden", 1),
        ("429 Too Many Requests", 3),
    ] {
        let place = Place::new(vec![status(line)]);
        place.fails(&[&place.entry.url, &format!("answered {line}")], None);
        assert_eq!(place.server.requests().len(), requests, "{line}");
    }
    // A connection that is closed without a word.
    Place::new(vec![Box::new(|_, _| Ok(())), file(good(), ETAG)]).succeeds();
}

#[test]
fn redirects_are_followed_for_a_while() {
    let answers = vec![redirect("/elsewhere/w"), file(good(), ETAG)];
    let place = Place::new(answers);
    place.succeeds();
    assert!(place.server.requests()[1][0].starts_with("GET /elsewhere/w "));
    // After a cut the rest is asked for by the same way.
    let place = Place::new(vec![
        redirect("/a"),
        cut(good(), ETAG, half()),
        redirect("/b"),
        file(good(), ETAG),
    ]);
    place.succeeds();
    assert_eq!(place.server.ranges()[3], from_half());
    let place = Place::new(vec![redirect("/round")]);
    place.fails(&["redirects more than 5 times"], None);
    assert_eq!(place.server.requests().len(), 6);
}

/// A place that asks `answers` over TLS and trusts their server.
fn secure(answers: Vec<Answer>) -> (Place, Server) {
    let (server, certificate) = Server::secure(answers);
    let mut place = Place::new(vec![file(good(), ETAG)]);
    place.entry.url = server.url(FILE);
    std::fs::write(place.trusted.path(), certificate).unwrap();
    place.options.certificates = Some(place.trusted.path().into());
    (place, server)
}

#[test]
fn a_secure_connection_stays_secure() {
    let (place, server) = secure(vec![redirect("/elsewhere/w"), file(good(), ETAG)]);
    place.succeeds();
    assert_eq!(server.requests().len(), 2);
    // The way leads to the same file without TLS: it is not taken.
    let open = Server::start(vec![file(good(), ETAG)]);
    let (place, _server) = secure(vec![redirect(&open.url(FILE))]);
    place.fails(&[&open.url(FILE), "not secure"], None);
    assert_eq!(open.requests().len(), 0);
}

#[test]
fn a_server_that_nobody_vouches_for_sends_nothing() {
    let (mut place, server) = secure(vec![file(good(), ETAG)]);
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).unwrap();
    let other = other.cert.pem();
    let nothing = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in [&other, nothing] {
        std::fs::write(place.trusted.path(), text).unwrap();
        place.fails(&["not who it says it is", "SSL_CERT_FILE"], None);
    }
    place.options.certificates = None;
    place.fails(&["not who it says it is", "SSL_CERT_FILE"], None);
    assert!(server.requests().iter().all(Vec::is_empty));
    place.options.certificates = Some(place.trusted.path().into());
    for text in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAA"] {
        std::fs::write(place.trusted.path(), text).unwrap();
        let path = place.trusted.path().to_str().unwrap();
        place.fails(
            &[path, "SSL_CERT_FILE", "expected certificates in PEM"],
            None,
        );
    }
}

#[test]
fn a_silent_server_is_given_up() {
    let mut place = Place::new(vec![stall(good(), ETAG, half()), file(good(), ETAG)]);
    place.options.timeout = Duration::from_millis(300);
    let started = Instant::now();
    place.succeeds();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(place.server.ranges(), [None, from_half()]);
    let mut place = Place::new(vec![Box::new(|_, _| {
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    })]);
    place.options.timeout = Duration::from_millis(300);
    place.options.retries = 0;
    place.fails(&["timeout"], None);
}

#[test]
fn mirrors_are_asked_first_and_in_order() {
    let mut place = Place::new(vec![file(good(), ETAG)]);
    let mirrors = [
        status("404 Not Found"),
        file(flipped(), ETAG),
        cut(good(), ETAG, 9),
    ];
    let mirrors = mirrors.map(|answer| Server::start(vec![answer]));
    place.options.mirrors = mirrors.iter().map(|m| m.url("copies/")).collect();
    let events = place.succeeds();
    for (mirror, requests) in mirrors.iter().zip([1, 1, 3]) {
        let seen = mirror.requests();
        assert_eq!(seen.len(), requests);
        assert!(
            seen[0][0].starts_with("GET /copies/w.safetensors "),
            "{seen:?}"
        );
        let told = |e: &Event| matches!(e, Event::Note(n) if n.starts_with(&mirror.url("copies/")));
        assert!(events.iter().any(told), "{events:?}");
    }
    // What a mirror had sent is not joined to what the address itself sends.
    assert_eq!(place.server.ranges(), [None]);

    // A mirror that has it is enough.
    let mut place = Place::new(vec![status("404 Not Found")]);
    let mirror = Server::start(vec![file(good(), ETAG)]);
    place.options.mirrors = vec![mirror.url("")];
    place.succeeds();
    assert_eq!(place.server.requests().len(), 0);
    let mut place = Place::new(vec![status("404 Not Found")]);
    place.options.mirrors = vec!["ftp://127.0.0.1/".into()];
    let error = place.fetch().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("ASTRAY_WEIGHTS_MIRROR: found `ftp:"),
        "{error}"
    );
}

#[test]
fn two_fetches_at_once_are_one_download() {
    // Slow enough that the second begins before the first ends.
    let place = Place::new(vec![Box::new(|request, stream| {
        std::thread::sleep(Duration::from_millis(500));
        file(good(), ETAG)(request, stream)
    })]);
    let events: Vec<Vec<Event>> = std::thread::scope(|scope| {
        let two = [(); 2].map(|()| scope.spawn(|| place.fetch().unwrap().1));
        two.map(|one| one.join().unwrap()).into()
    });
    place.succeeds();
    assert_eq!(place.server.requests().len(), 1);
    let waiting = |e: &Event| matches!(e, Event::Note(n) if n.contains("another process"));
    assert_eq!(events.iter().flatten().filter(|e| waiting(e)).count(), 1);
}

#[test]
fn offline_no_connection_is_opened() {
    let mut place = Place::new(vec![file(good(), ETAG)]);
    place.options.offline = true;
    let message = place.fetch().unwrap_err().to_string();
    for word in [&place.entry.url, "--offline", "w.safetensors", "put it at"] {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    assert_eq!(place.names(), [""; 0]);
    // What was put there by hand is checked.
    std::fs::write(place.path(FILE), good()).unwrap();
    place.fetch().unwrap();
    std::fs::write(place.path(FILE), flipped()).unwrap();
    place.fetch().unwrap_err();
    assert!(!place.path(FILE).exists());
    assert_eq!(place.server.requests().len(), 0);
}

#[test]
fn a_file_that_is_damaged_later_is_refused_and_fetched_again() {
    let place = Place::new(vec![file(good(), ETAG)]);
    let read = || read_fetched(&place.entry, place.folder.path());
    let message = read().unwrap_err().to_string();
    assert!(
        message.contains("`astray weights fetch efficientnet-b0`"),
        "{message}"
    );
    place.succeeds();
    std::fs::write(place.path(FILE), flipped()).unwrap();
    let message = read().unwrap_err().to_string();
    for word in [
        "is not what was fetched",
        &sha256(flipped()),
        &sha256(good()),
        "again",
    ] {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    let events = place.succeeds();
    let told = |e: &Event| matches!(e, Event::Note(n) if n.contains("was damaged and is removed"));
    assert!(events.iter().any(told), "{events:?}");
    // The table knows eight digits, the note beside the file all of them.
    let note = place.path("w.safetensors.json");
    let text = std::fs::read_to_string(&note).unwrap();
    let other = format!("{}{}", &sha256(good())[..8], "0".repeat(56));
    std::fs::write(&note, text.replace(&sha256(good()), &other)).unwrap();
    assert!(read().unwrap_err().to_string().contains(&other));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let place = Place::new(vec![file(good(), ETAG)]);
    std::fs::write(place.path("taken"), "").unwrap();
    let folder = place.path("taken").join("weights");
    let error = fetch(&place.entry, &folder, &place.options, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("taken"), "{error}");
    assert_eq!(place.server.requests().len(), 0);
}
