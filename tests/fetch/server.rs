//! A small server on 127.0.0.1 that misbehaves as it is told.

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The lines of a request: `GET /w.pth HTTP/1.1`, then headers in lower case.
pub type Request = Vec<String>;

/// A connection, secure or not.
pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// What is done with one connection.
pub type Answer = Box<dyn Fn(&Request, &mut dyn Stream) -> std::io::Result<()> + Send + Sync>;

pub struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Each request gets the next answer; the last one is given again and again.
    pub fn start(answers: Vec<Answer>) -> Self {
        Self::with("http", answers, |stream| Box::new(stream))
    }

    /// The same behind TLS, and the certificate of who vouches for it, as PEM.
    pub fn secure(answers: Vec<Answer>) -> (Self, String) {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key);
        let config = Arc::new(config.unwrap());
        let server = Self::with("https", answers, move |stream| {
            let connection = ServerConnection::new(config.clone()).unwrap();
            Box::new(StreamOwned::new(connection, stream))
        });
        (server, own.cert.pem())
    }

    fn with(
        scheme: &str,
        answers: Vec<Answer>,
        wrap: impl Fn(TcpStream) -> Box<dyn Stream> + Send + Sync + 'static,
    ) -> Self {
        let wrap = Arc::new(wrap);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answers) = (requests.clone(), Arc::new(answers));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answers, wrap) = (seen.clone(), answers.clone(), wrap.clone());
                std::thread::spawn(move || {
                    let mut stream = wrap(stream.unwrap());
                    let request = read(&mut *stream);
                    let number = {
                        let mut seen = seen.lock().unwrap();
                        seen.push(request.clone());
                        seen.len() - 1
                    };
                    // A client that hangs up is no failure of the server.
                    let _ = answers[number.min(answers.len() - 1)](&request, &mut *stream);
                });
            }
        });
        Self { address, requests }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The bytes that each request asked for: all of them, or those from one on.
    pub fn ranges(&self) -> Vec<Option<String>> {
        let requests = self.requests();
        requests.iter().map(|r| header(r, "range")).collect()
    }
}

fn read(stream: &mut dyn Stream) -> Request {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let lines = lines.take_while(|line| !line.is_empty());
    lines
        .enumerate()
        .map(|(i, line)| match i {
            0 => line,
            _ => line.to_lowercase(),
        })
        .collect()
}

pub fn header(request: &Request, name: &str) -> Option<String> {
    let start = format!("{name}: ");
    request
        .iter()
        .find_map(|line| line.strip_prefix(&start))
        .map(String::from)
}

/// A status line, headers and a body of which only the first `sent` bytes are sent.
fn send(stream: &mut dyn Stream, head: &str, body: &[u8], sent: usize) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&body[..sent.min(body.len())])?;
    stream.flush()
}

/// The file, or the range that is asked for if `etag` is still right, cut after `sent` bytes.
fn serve(
    request: &Request,
    stream: &mut dyn Stream,
    bytes: &[u8],
    etag: &str,
    sent: usize,
) -> std::io::Result<()> {
    let same = header(request, "if-range").is_none_or(|tag| tag == etag);
    let start = header(request, "range").filter(|_| same).map(|range| {
        let start = range.strip_prefix("bytes=").unwrap();
        start.strip_suffix('-').unwrap().parse::<usize>().unwrap()
    });
    let common = format!("ETag: {etag}\r\nContent-Type: application/octet-stream");
    let total = bytes.len();
    match start {
        None => send(
            stream,
            &format!("200 OK\r\n{common}\r\nContent-Length: {total}"),
            bytes,
            sent,
        ),
        Some(start) if start >= total => send(
            stream,
            &format!(
                "416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0"
            ),
            &[],
            0,
        ),
        Some(start) => send(
            stream,
            &format!(
                "206 Partial Content\r\n{common}\r\nContent-Range: bytes {start}-{}/{total}\r\n\
                 Content-Length: {}",
                total - 1,
                total - start
            ),
            &bytes[start..],
            sent,
        ),
    }
}

/// As a server should.
pub fn file(bytes: &'static [u8], etag: &'static str) -> Answer {
    Box::new(move |request, stream| serve(request, stream, bytes, etag, usize::MAX))
}

/// The connection ends after so many bytes of the body.
pub fn cut(bytes: &'static [u8], etag: &'static str, sent: usize) -> Answer {
    Box::new(move |request, stream| serve(request, stream, bytes, etag, sent))
}

/// Silence after so many bytes.
pub fn stall(bytes: &'static [u8], etag: &'static str, sent: usize) -> Answer {
    Box::new(move |request, stream| {
        serve(request, stream, bytes, etag, sent)?;
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    })
}

/// This head, whatever was asked, and this body, of which so many bytes are sent.
pub fn raw(head: String, body: &'static [u8], sent: usize) -> Answer {
    Box::new(move |_, stream| send(stream, &head, body, sent))
}

pub fn status(line: &str) -> Answer {
    raw(format!("{line}\r\nContent-Length: 0"), &[], 0)
}

pub fn redirect(to: &str) -> Answer {
    status(&format!("302 Found\r\nLocation: {to}"))
}
