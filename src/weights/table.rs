//! The public files that can be loaded: names, addresses, checksums, licences.

use super::shipped;
use crate::models::efficientnet::Scheme;
use crate::{Error, Result};

/// One public file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As `--weights` takes it: `efficientnet-b5`, `timm:efficientnet-b5`.
    pub name: String,
    /// As `backbone.name` takes it.
    pub network: String,
    /// Who published it: tensor names and padding follow.
    pub scheme: Scheme,
    pub url: String,
    /// What its sha256 begins with, lower-case hex: all 64 digits where they are published.
    pub sha256: String,
    /// About so large.
    pub mib: f32,
    pub licence: &'static str,
    /// What it was trained on.
    pub training: &'static str,
}

/// The files of one publisher, B0 to B7.
struct Publisher {
    scheme: Scheme,
    folder: &'static str,
    licence: &'static str,
    training: &'static str,
    /// File names. They end in the first eight digits of the sha256, PyTorch's convention.
    files: [&'static str; 8],
    /// The whole sha256, where it is published.
    sha256: [Option<&'static str>; 8],
}

/// Sizes of B0 to B7 as torchvision tells them; the others' differ by parts of a percent.
const MIB: [f32; 8] = [20.5, 30.1, 35.2, 47.2, 74.5, 116.9, 165.4, 254.7];

/// The first one's files need no prefix.
const PUBLISHERS: [Publisher; 3] = [
    // Addresses: torchvision 0.29, models/efficientnet.py. Whole checksums: pytorch/vision#7744.
    Publisher {
        scheme: Scheme::Torchvision,
        folder: "https://download.pytorch.org/models/",
        licence: "BSD-3-Clause",
        training: "ImageNet-1k",
        files: [
            "efficientnet_b0_rwightman-7f5810bc.pth",
            "efficientnet_b1_rwightman-bac287d4.pth",
            "efficientnet_b2_rwightman-c35c1473.pth",
            "efficientnet_b3_rwightman-b3899882.pth",
            "efficientnet_b4_rwightman-23ab8bcd.pth",
            "efficientnet_b5_lukemelas-1a07897c.pth",
            "efficientnet_b6_lukemelas-24a108a5.pth",
            "efficientnet_b7_lukemelas-c5b4e57e.pth",
        ],
        sha256: [
            Some("7f5810bc96def8f7552d5b7e68d53c4786f81167d28291b21c0d90e1fca14934"),
            None,
            Some("c35c147384e385a5bab5a8eabdabbe5a3df0487ee4a554108626ae474a5bf755"),
            Some("b3899882250c22946d0229d266049fcd133c169233530b36b9ffa7983988362f"),
            Some("23ab8bcd5bdbef61a7a43b91adcad81f622fd7f36fb4935a569828d77888c44e"),
            Some("1a07897c0d357db7981640f6be44a63420f11deb932344a69768b62ebe272946"),
            Some("24a108a596a00ad522bdfb9a2d98a9bd31819dfd7e37dd96bad6bb5bc00d6015"),
            Some("c5b4e57e0da1a10bb4f8a5b410dd3b7b6e7461f9b757209be29409707c3d87dd"),
        ],
    },
    // efficientnet_pytorch 0.7.1, utils.py: `url_map`.
    Publisher {
        scheme: Scheme::EfficientNetPytorch,
        folder: "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/",
        licence: "Apache-2.0",
        training: "ImageNet-1k",
        files: [
            "efficientnet-b0-355c32eb.pth",
            "efficientnet-b1-f1951068.pth",
            "efficientnet-b2-8bb594d6.pth",
            "efficientnet-b3-5fb5a3c3.pth",
            "efficientnet-b4-6ed6700e.pth",
            "efficientnet-b5-b6417697.pth",
            "efficientnet-b6-c76e70fd.pth",
            "efficientnet-b7-dcc49843.pth",
        ],
        sha256: [None; 8],
    },
    // timm 1.0, models/efficientnet.py: what `tf_efficientnet_b*` loads by default, noisy student.
    Publisher {
        scheme: Scheme::Timm,
        folder: "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/",
        licence: "Apache-2.0",
        training: "ImageNet-1k, JFT-300M without labels",
        files: [
            "tf_efficientnet_b0_ns-c0e6a31c.pth",
            "tf_efficientnet_b1_ns-99dd0c41.pth",
            "tf_efficientnet_b2_ns-00306e48.pth",
            "tf_efficientnet_b3_ns-9d44bf68.pth",
            "tf_efficientnet_b4_ns-d6313a46.pth",
            "tf_efficientnet_b5_ns-6f26d0cf.pth",
            "tf_efficientnet_b6_ns-51548356.pth",
            "tf_efficientnet_b7_ns-1dbc32de.pth",
        ],
        sha256: [None; 8],
    },
];

impl Publisher {
    fn entry(&self, variant: usize) -> Entry {
        let file = self.files[variant];
        let network = format!("efficientnet-b{variant}");
        let in_name = file.trim_end_matches(".pth").rsplit('-').next();
        Entry {
            name: match self.scheme == PUBLISHERS[0].scheme {
                true => network.clone(),
                false => format!("{}:{network}", self.scheme),
            },
            network: network.replace('-', "_"),
            scheme: self.scheme,
            url: format!("{}{file}", self.folder),
            sha256: self.sha256[variant].or(in_name).unwrap_or_default().into(),
            mib: MIB[variant],
            licence: self.licence,
            training: self.training,
        }
    }
}

impl Entry {
    /// The file's name, in the cache and at its address.
    pub fn file(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or(&self.url)
    }
}

/// Every public file that is known.
pub fn entries() -> Vec<Entry> {
    let files = |publisher: &Publisher| {
        MIB.iter()
            .enumerate()
            .map(|(i, _)| publisher.entry(i))
            .collect::<Vec<_>>()
    };
    PUBLISHERS.iter().flat_map(files).collect()
}

/// People write capitals and `_`.
pub(super) fn plain(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

/// The file of this name. `torchvision:` may be said or left out; `_` is as good as `-`.
///
/// # Errors
/// [`Error::Usage`] with the nearest name.
pub fn find(name: &str) -> Result<Entry> {
    let wanted = plain(name);
    let wanted = wanted.strip_prefix("torchvision:").unwrap_or(&wanted);
    let mut all = entries();
    if let Some(found) = all.iter().position(|entry| plain(&entry.name) == wanted) {
        return Ok(all.swap_remove(found));
    }
    let near = |known: &&str| (1000.0 * strsim::jaro_winkler(known, wanted)) as u32;
    let names = all.iter().map(|entry| entry.name.as_str());
    let own = shipped::ALL.iter().map(|shipped| shipped.name);
    let near = names.chain(own).max_by_key(near);
    Err(Error::usage(format!(
        "no public weights `{name}`; did you mean `{}`? `astray weights list` shows all",
        near.unwrap_or_default()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::efficientnet::Backbone;
    use std::collections::BTreeSet;

    #[test]
    fn every_entry_is_a_network_a_secure_address_and_a_checksum() {
        let all = entries();
        assert_eq!(all.len(), 24);
        let files: BTreeSet<&str> = all.iter().map(Entry::file).collect();
        assert_eq!(files.len(), all.len(), "two files of one name");
        for entry in &all {
            Backbone::whole(&entry.network).unwrap();
            assert!(entry.url.starts_with("https://"), "{}", entry.url);
            assert!(matches!(entry.sha256.len(), 8 | 64), "{}", entry.sha256);
            assert!(entry.sha256.bytes().all(|c| c.is_ascii_hexdigit()));
            // A whole checksum begins as the file's name ends.
            let end = format!("-{}.pth", &entry.sha256[..8]);
            assert!(entry.file().ends_with(&end), "{}", entry.file());
            let variant = entry.network.replace("efficientnet_", "");
            assert!(entry.file().contains(&variant), "{}", entry.file());
            assert_eq!(find(&entry.name).unwrap().url, entry.url);
        }
    }

    #[test]
    fn names_are_found_as_people_spell_them() {
        for (spelt, file) in [
            ("efficientnet-b5", "efficientnet_b5_lukemelas-1a07897c.pth"),
            ("EfficientNet_B5", "efficientnet_b5_lukemelas-1a07897c.pth"),
            (
                "torchvision:efficientnet-b0",
                "efficientnet_b0_rwightman-7f5810bc.pth",
            ),
            ("timm:efficientnet_b5", "tf_efficientnet_b5_ns-6f26d0cf.pth"),
            (
                "efficientnet_pytorch:efficientnet-b5",
                "efficientnet-b5-b6417697.pth",
            ),
        ] {
            assert_eq!(find(spelt).unwrap().file(), file, "{spelt}");
        }
        let error = find("efficientnet-b9").unwrap_err();
        assert!(error.to_string().contains("`efficientnet-b"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
