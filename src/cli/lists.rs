//! Paths of parts: files, folders of them, and lists.

use crate::data::list_images;
use crate::{Error, Result};
use std::ffi::OsString;
use std::io::BufRead;
use std::path::{Path, PathBuf};

/// Stands for standard input.
pub const LIST: &str = "-";

/// Files, folders, and `-` for a list of paths on standard input.
///
/// # Errors
/// A folder without pictures; a list that cannot be read.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in paths {
        if path.as_os_str() != LIST {
            add(path.clone(), &mut all)?;
            continue;
        }
        for line in Lines::new(std::io::stdin().lock()) {
            add(existing(line?), &mut all)?;
        }
    }
    Ok(all)
}

fn add(path: PathBuf, all: &mut Vec<PathBuf>) -> Result<()> {
    match path.is_dir() {
        true => all.extend(list_images(&path)?),
        false => all.push(path),
    }
    Ok(())
}

/// The lines of a list as they come, without their ends and without those that are blank. A byte order mark is no
/// part of a path, and a list in UTF-16, as some shells write them, is read whole.
pub struct Lines<R> {
    from: R,
    is_first: bool,
    decoded: std::vec::IntoIter<String>,
}

impl<R: BufRead> Lines<R> {
    pub fn new(from: R) -> Self {
        Self {
            from,
            is_first: true,
            decoded: Vec::new().into_iter(),
        }
    }

    fn read(&mut self) -> Result<Option<OsString>> {
        if let Some(line) = self.decoded.next() {
            return Ok(Some(line.into()));
        }
        let fail = |e: std::io::Error| Error::failed(format!("standard input: {e}"));
        let mut line = Vec::new();
        if self.from.read_until(b'\n', &mut line).map_err(fail)? == 0 {
            return Ok(None);
        }
        if std::mem::take(&mut self.is_first) {
            let to_char: Option<fn([u8; 2]) -> u16> = match line[..] {
                [0xff, 0xfe, ..] => Some(u16::from_le_bytes),
                [0xfe, 0xff, ..] => Some(u16::from_be_bytes),
                _ => None,
            };
            if let Some(to_char) = to_char {
                self.from.read_to_end(&mut line).map_err(fail)?;
                let units: Vec<u16> = line[2..]
                    .as_chunks()
                    .0
                    .iter()
                    .map(|pair| to_char(*pair))
                    .collect();
                let text = String::from_utf16_lossy(&units);
                self.decoded = text
                    .lines()
                    .map(String::from)
                    .collect::<Vec<_>>()
                    .into_iter();
                return self.read();
            }
            if line.starts_with(b"\xef\xbb\xbf") {
                line.drain(..3);
            }
        }
        while line.last().is_some_and(|end| b"\r\n".contains(end)) {
            line.pop();
        }
        os_string(line).map(Some)
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<OsString>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = self.read().transpose()?;
            let is_blank = |line: &OsString| line.as_encoded_bytes().trim_ascii().is_empty();
            if !line.as_ref().is_ok_and(is_blank) {
                return Some(line);
            }
        }
    }
}

/// A path as it stands in a list; where there is no such file, without the blanks around it.
pub fn existing(line: OsString) -> PathBuf {
    let path = PathBuf::from(&line);
    if path.exists() {
        return path;
    }
    match line.to_str() {
        Some(text) => text.trim().into(),
        None => path,
    }
}

/// The picture and the depth map of a line that names both, with a tab between them.
///
/// # Errors
/// A line with one path, or not in UTF-8.
pub fn pair(line: &OsString) -> Result<(PathBuf, PathBuf)> {
    let pair = line.to_str().and_then(|text| text.split_once('\t'));
    let (rgb, depth) = pair.ok_or_else(|| {
        let message = "expected a picture and its depth map, with a tab between them";
        Error::file(Path::new(line), message)
    })?;
    Ok((existing(rgb.into()), existing(depth.into())))
}

#[cfg(unix)]
fn os_string(line: Vec<u8>) -> Result<OsString> {
    Ok(std::os::unix::ffi::OsStringExt::from_vec(line))
}

#[cfg(not(unix))]
fn os_string(line: Vec<u8>) -> Result<OsString> {
    let text = String::from_utf8(line);
    text.map(OsString::from)
        .map_err(|e| Error::failed(format!("standard input: a path that is not UTF-8: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<OsString> {
        Lines::new(bytes).map(Result::unwrap).collect()
    }

    #[test]
    fn lists_of_any_encoding_give_their_lines() {
        let expected = ["größe 1.png", "b.png"];
        let text = "größe 1.png\r\n\r\n \t\nb.png";
        let le: Vec<u8> = "\u{feff}"
            .encode_utf16()
            .chain(text.encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        let be: Vec<u8> = "\u{feff}"
            .encode_utf16()
            .chain(text.encode_utf16())
            .flat_map(u16::to_be_bytes)
            .collect();
        for bytes in [
            text.as_bytes(),
            format!("\u{feff}{text}").as_bytes(),
            &le,
            &be,
        ] {
            assert_eq!(lines(bytes), expected, "{bytes:?}");
        }
        assert_eq!(lines(b""), Vec::<OsString>::new());
        #[cfg(unix)]
        assert_eq!(lines(b"gr\xfcn\nb\n")[0].as_encoded_bytes(), b"gr\xfcn");
    }

    #[test]
    fn blanks_around_a_path_belong_to_it_where_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a.png ");
        std::fs::write(&odd, "").unwrap();
        assert_eq!(existing(odd.clone().into()), odd);
        assert_eq!(existing("  b.png ".into()), PathBuf::from("b.png"));
        assert_eq!(pair(&"a\tb c".into()).unwrap(), ("a".into(), "b c".into()));
        assert!(pair(&"a".into()).unwrap_err().to_string().contains("tab"));
    }
}
