//! Sizes of memory as the command line gives them.

/// Bytes: KB, MB and GB count in thousands, K or KiB and so on in 1024.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[number.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(1.0),
        "kb" => Some(1e3),
        "mb" => Some(1e6),
        "gb" => Some(1e9),
        "k" | "kib" => Some(1024.0),
        "m" | "mib" => Some(1024.0 * 1024.0),
        "g" | "gib" => Some(1024.0 * 1024.0 * 1024.0),
        _ => None,
    };
    match (number.trim().parse::<f64>(), unit) {
        (Ok(number), Some(unit)) if number > 0.0 && number.is_finite() => {
            Ok((number * unit) as u64)
        }
        _ => Err("expected a number of bytes, such as 500MB, 2GiB or 2G".into()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_has_units() {
        for (text, bytes) in [
            ("4096", 4096),
            ("2GiB", 2 << 30),
            ("1.5g", 3 << 29),
            ("500MB", 500_000_000),
            ("64 kib", 64 << 10),
        ] {
            assert_eq!(super::bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "2TB", "-1G", "0", "nan"] {
            assert!(super::bytes(text).is_err(), "{text}");
        }
    }
}
