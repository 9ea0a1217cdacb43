//! Reading a configuration: files and `--set` override single values, and a key or value that
//! means nothing is refused with what was probably meant.

use std::path::Path;

use toml::{Table, Value};

use super::Config;
use crate::{Error, Result};

impl Config {
    /// The preset that is used where none is named.
    pub const DEFAULT_PRESET: &str = "tiny";

    /// Preset, then file, then `key=value` settings; validated. A preset named here wins over the
    /// one that the file names in its `preset` key.
    ///
    /// # Errors
    /// An unreadable file, an unknown key or value, or a combination that cannot work.
    pub fn load(preset: Option<&str>, file: Option<&Path>, settings: &[String]) -> Result<Self> {
        let mut config = Self::preset(preset.unwrap_or(Self::DEFAULT_PRESET))?;
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
            let table = parse(&text, path)?;
            if preset.is_none() {
                config = base_of(&table, path)?;
            }
            config.merge(table, path)?;
        }
        for setting in settings {
            config.set(setting)?;
        }
        config.validate()?;
        Ok(config)
    }

    /// Reads a configuration file's text; keys that it leaves out are those of the preset that it
    /// names. `path` is only for messages.
    ///
    /// # Errors
    /// Broken TOML, an unknown key or value, or a combination that cannot work.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self> {
        let table = parse(text, path)?;
        let mut config = base_of(&table, path)?;
        config.merge(table, path)?;
        config.validate().map_err(|e| in_file(path, e))?;
        Ok(config)
    }

    /// Overrides one value: `teacher.hidden=64`. Strings need no quotes and lists no brackets.
    /// Combinations are not checked until [`Config::validate`].
    ///
    /// # Errors
    /// An unknown key, with the nearest known one, or a value of the wrong kind.
    pub fn set(&mut self, setting: &str) -> Result<()> {
        let Some((key, text)) = setting.split_once('=') else {
            return Err(Error::usage(format!(
                "setting `{setting}`: expected key=value, such as teacher.hidden=64"
            )));
        };
        let (key, text) = (key.trim(), text.trim());
        let mut table = self.to_table()?;
        let is_list = find(&mut table, key).is_some_and(|slot| slot.is_array());
        self.replace(table, key, value_of(text, is_list))
    }

    /// Every key that [`Config::set`] knows, as `section.key`.
    pub fn keys() -> Vec<String> {
        // A preset always fits into TOML, so the empty table stands for nothing that occurs.
        let table = Self::mvtec2d().to_table().unwrap_or_default();
        let mut keys = Vec::new();
        for (section, content) in &table {
            if let Value::Table(content) = content {
                keys.extend(content.keys().map(|key| format!("{section}.{key}")));
            }
        }
        keys
    }

    /// Takes over every value of `table`.
    fn merge(&mut self, table: Table, path: &Path) -> Result<()> {
        for (section, content) in table {
            match content {
                Value::Table(content) => {
                    for (key, value) in content {
                        let own = self.to_table()?;
                        self.replace(own, &format!("{section}.{key}"), value)
                            .map_err(|e| in_file(path, e))?;
                    }
                }
                // Read by `base_of`; where `--preset` was given it is overridden.
                _ if section == "preset" => {}
                _ => return Err(in_file(path, unknown(&section))),
            }
        }
        Ok(())
    }

    /// Puts `value` at `key` of `table`, which holds this configuration, and reads it back.
    fn replace(&mut self, mut table: Table, key: &str, value: Value) -> Result<()> {
        let Some(slot) = find(&mut table, key) else {
            return Err(unknown(key));
        };
        let old = std::mem::replace(slot, value.clone());
        *self = table.try_into().map_err(|e: toml::de::Error| {
            Error::usage(format!("{key} = {value}: {}", expected(key, &old, &e)))
        })?;
        Ok(())
    }

    fn to_table(&self) -> Result<Table> {
        Table::try_from(self).map_err(|e| Error::usage(format!("configuration: {e}")))
    }
}

fn parse(text: &str, path: &Path) -> Result<Table> {
    text.parse::<Table>()
        .map_err(|e| Error::usage(format!("{}: not valid TOML: {e}", path.display())))
}

/// The preset that a file builds on.
fn base_of(table: &Table, path: &Path) -> Result<Config> {
    match table.get("preset") {
        None => Config::preset(Config::DEFAULT_PRESET),
        Some(Value::String(name)) => Config::preset(name).map_err(|e| in_file(path, e)),
        Some(other) => Err(Error::usage(format!(
            "{}: preset = {other}: expected one of {}",
            path.display(),
            Config::PRESETS.join(", ")
        ))),
    }
}

fn in_file(path: &Path, error: Error) -> Error {
    Error::usage(format!("{}: {error}", path.display()))
}

/// The place of `section.key`; whole sections are not values.
fn find<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Value> {
    let (section, key) = key.split_once('.')?;
    table.get_mut(section)?.as_table_mut()?.get_mut(key)
}

/// A TOML value, where `is_list` or commas ask for it one in brackets, or the text itself as a string where it is none.
fn value_of(text: &str, is_list: bool) -> Value {
    let parse = |text: &str| {
        let table = format!("value = {text}").parse::<Table>();
        table.ok()?.remove("value")
    };
    let list = || parse(&format!("[{text}]"));
    let plain = || parse(text);
    let value = match is_list && !text.starts_with('[') {
        true => list().or_else(plain),
        false => plain().or_else(|| text.contains(',').then(list)?),
    };
    value.unwrap_or_else(|| Value::String(text.into()))
}

fn unknown(key: &str) -> Error {
    let keys = Config::keys();
    // `hidden` alone most likely means `teacher.hidden`.
    let ends_alike = |known: &&String| known.split_once('.').is_some_and(|(_, k)| k == key);
    let hint = match keys.iter().find(ends_alike) {
        Some(known) => format!("; did you mean `{known}`?"),
        None => did_you_mean(key, keys.iter().map(String::as_str)),
    };
    Error::usage(format!("unknown configuration key `{key}`{hint}"))
}

/// `; did you mean ...?` with the candidate nearest to `word`, or nothing where none is near.
pub(super) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    let near = candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((similarity, candidate)) if similarity > 0.75 => {
            format!("; did you mean `{candidate}`?")
        }
        _ => String::new(),
    }
}

/// What a key takes, in words, from the value that stood there before.
fn expected(key: &str, old: &Value, error: &toml::de::Error) -> String {
    if key == "backbone.tap" {
        return "expected \"auto\", \"joined\", a block index counted from 0, such as 35, or a list of them, such \
                as [10, 14]"
            .into();
    }
    if key == "input.image_size" {
        return "expected \"auto\" or a whole number of pixels, such as 384".into();
    }
    if key == "input.white" {
        return "expected \"auto\" or the value of white, such as 4095 for 12 bits".into();
    }
    let message = error.message();
    if let Some((_, variants)) = message.split_once(", expected ")
        && message.starts_with("unknown variant")
    {
        return format!("expected {}", variants.replace('`', "\""));
    }
    match old {
        Value::Integer(_) => format!("expected a whole number of at least 0, such as {old}"),
        Value::Float(_) => format!("expected a number, such as {old}"),
        Value::Boolean(_) => "expected true or false".into(),
        Value::Array(_) => format!("expected a list of whole numbers, such as {old}"),
        _ => format!("expected a text, such as {old}"),
    }
}
