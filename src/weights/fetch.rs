//! From a name to a checked file in the cache: several addresses, several attempts each.

use super::cache::{Receipt, beside, receipt, verify};
use super::download::{Failure, Outcome, Part, agent, download};
use super::table::Entry;
use crate::files::write_atomic;
use crate::{Error, Result};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How to fetch.
#[derive(Clone, Debug)]
pub struct Options {
    /// No socket is opened.
    pub offline: bool,
    /// Folders with copies of the files, asked first and in this order: `https://host/folder`.
    pub mirrors: Vec<String>,
    /// Certificates (PEM) of who may vouch for a server, instead of Mozilla's list.
    pub certificates: Option<PathBuf>,
    /// The longest silence, and the longest way to a connection.
    pub timeout: Duration,
    /// Attempts at each address after the first.
    pub retries: u32,
    /// Before the second attempt; doubled before each one after it.
    pub pause: Duration,
}

/// What happens meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Progress {
        done: u64,
        total: Option<u64>,
    },
    /// Something that the user may want to know.
    Note(String),
}

/// The checked file of `entry` in `folder`, which is made. It is downloaded where it is missing or
/// damaged: to `FILE.part`, and renamed when its sha256 is right and the network can be built from
/// it. A part whose connection was cut is kept, and the next call goes on from there; a part that is
/// wrong is removed.
///
/// # Errors
/// No address had it: what each of them did. Offline, and it is not there. A folder that cannot be
/// written. Certificates that cannot be read.
pub fn fetch(
    entry: &Entry,
    folder: &Path,
    options: &Options,
    tell: &mut dyn FnMut(Event),
) -> Result<PathBuf> {
    let file = folder.join(entry.file());
    if is_good(entry, &file, tell)? {
        return Ok(file);
    }
    if options.offline {
        return Err(missing(entry, &file));
    }
    std::fs::create_dir_all(folder).map_err(|e| Error::file(folder, e))?;
    let _lock = lock(&file, tell)?;
    if is_good(entry, &file, tell)? {
        return Ok(file); // another process was first
    }
    let part = Part::of(&file);
    let agent = agent(options.timeout, options.certificates.as_deref())?;
    let mut problems = Vec::new();
    for url in addresses(entry, &options.mirrors)? {
        let mut attempt = |tell: &mut dyn FnMut(Event)| {
            let resumed = download(&agent, &url, &part, tell)?;
            keep(entry, &url, &part, &file).map_err(|problem| match (problem, resumed) {
                // The two pieces may be of two files: the whole is worth an attempt.
                (Failure::Lasting(problem), true) => Failure::Passing(problem),
                (problem, _) => problem,
            })
        };
        match attempts(options, &mut attempt, tell) {
            Ok(()) => return Ok(file),
            Err(Failure::Here(error)) => return Err(error),
            Err(Failure::Passing(problem) | Failure::Lasting(problem)) => {
                let problem = format!("{url}: {problem}");
                tell(Event::Note(problem.clone()));
                problems.push(problem);
            }
        }
    }
    let kept = match part.path.metadata() {
        Ok(kept) if kept.len() > 0 => format!(
            "; {} bytes are kept, and the next attempt goes on from there",
            kept.len()
        ),
        _ => String::new(),
    };
    Err(Error::failed(format!(
        "{} could not be fetched: {}{kept}",
        entry.name,
        problems.join("; ")
    )))
}

/// One try of a download, telling what happens.
type Attempt<'a> = dyn FnMut(&mut dyn FnMut(Event)) -> Outcome<()> + 'a;

/// Until one succeeds, or is not worth another, or there have been enough.
fn attempts(options: &Options, attempt: &mut Attempt, tell: &mut dyn FnMut(Event)) -> Outcome<()> {
    let mut pause = options.pause;
    for left in (0..options.retries).rev() {
        match attempt(tell) {
            Err(Failure::Passing(problem)) => {
                let seconds = pause.as_secs_f32();
                tell(Event::Note(format!(
                    "{problem}; again in {seconds} s, {} attempts left",
                    left + 1
                )));
                std::thread::sleep(pause);
                pause *= 2;
            }
            done => return done,
        }
    }
    attempt(tell)
}

/// Checks a part that is whole, notes where it came from and gives it its name.
fn keep(entry: &Entry, url: &str, part: &Part, file: &Path) -> Outcome<()> {
    let sha256 = match verify(entry, &part.path) {
        Ok(sha256) => sha256,
        Err(problem) => {
            part.discard();
            return Err(Failure::Lasting(format!("sent something else: {problem}")));
        }
    };
    let rename = || -> Result<()> {
        let bytes = part
            .path
            .metadata()
            .map_err(|e| Error::file(&part.path, e))?;
        let receipt = Receipt {
            url: url.into(),
            bytes: bytes.len(),
            sha256,
        };
        let text = serde_json::to_vec_pretty(&receipt).map_err(|e| Error::file(file, e))?;
        write_atomic(&beside(file, ".json"), &text)?;
        std::fs::rename(&part.path, file).map_err(|e| Error::file(file, e))
    };
    rename().map_err(Failure::Here)?;
    part.discard();
    Ok(())
}

/// Is the file there, and what it should be? One that is not is removed.
fn is_good(entry: &Entry, file: &Path, tell: &mut dyn FnMut(Event)) -> Result<bool> {
    if !file.is_file() {
        return Ok(false);
    }
    let problem = match verify(entry, file) {
        Ok(sha256) => match receipt(file) {
            Some(noted) if noted.sha256 != sha256 => {
                format!("sha256 {sha256}, but it was {} when it came", noted.sha256)
            }
            _ => return Ok(true),
        },
        Err(problem) => problem,
    };
    std::fs::remove_file(file).map_err(|e| Error::file(file, e))?;
    let file = file.display();
    tell(Event::Note(format!(
        "{file} was damaged and is removed: {problem}"
    )));
    Ok(false)
}

fn missing(entry: &Entry, file: &Path) -> Error {
    let (name, url, file) = (&entry.name, &entry.url, file.display());
    Error::failed(format!(
        "{name} is not in the cache, and offline nothing is downloaded: leave out --offline and \
         ASTRAY_OFFLINE, or get {url} by other means, put it at {file} and run `astray weights fetch \
         {name}` to check it"
    ))
}

/// Waits until no other process fetches the same file. The lock ends with the process, its empty
/// file stays.
fn lock(file: &Path, tell: &mut dyn FnMut(Event)) -> Result<File> {
    let path = beside(file, ".lock");
    let failed = |e: std::io::Error| Error::file(&path, format!("cannot be locked: {e}"));
    let lock = File::create(&path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            tell(Event::Note("another process fetches it: waiting".into()));
            lock.lock().map_err(failed)?;
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    Ok(lock)
}

fn addresses(entry: &Entry, mirrors: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for mirror in mirrors {
        if !mirror.starts_with("http://") && !mirror.starts_with("https://") {
            return Err(Error::usage(format!(
                "ASTRAY_WEIGHTS_MIRROR: found `{mirror}`, expected addresses of folders that begin \
                 with https:// or http://, with commas between them"
            )));
        }
        all.push(format!("{}/{}", mirror.trim_end_matches('/'), entry.file()));
    }
    all.push(entry.url.clone());
    Ok(all)
}
