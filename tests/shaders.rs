//! Every shader is validated by naga and translated to SPIR-V, MSL and HLSL.

use naga::back::pipeline_constants::process_overrides;
use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::path::Path;

/// (path below `shaders/`, text) of those that are kernels.
fn shaders() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    found.retain(|(name, _)| !["prelude.wgsl", "conv2d/product.wgsl"].contains(&&**name));
    found.sort();
    assert!(found.len() > 3, "shaders are gone: {found:?}");
    found
}

#[test]
fn translate_to_every_backend() {
    let capabilities =
        Capabilities::IMMEDIATES | Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX;
    for (name, text) in shaders() {
        for (immediates, half, half_result, matrix_side) in [
            (true, false, false, 8),
            (false, false, false, 8),
            (true, true, false, 16),
            (true, true, true, 16),
            (true, true, true, 8),
        ] {
            let scalars = astray::gpu::Scalars {
                immediates,
                half,
                half_result,
                matrix_side,
            };
            let source = astray::gpu::source(&text, scalars);
            let module = naga::front::wgsl::parse_str(&source)
                .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&source, &name)));
            let checked = Validator::new(ValidationFlags::all(), capabilities)
                .validate(&module)
                .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&source, &name)));
            let constants = &Default::default();
            let (module, info) = process_overrides(&module, &checked, None, constants)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            spv::write_vec(&module, &info, &spv::Options::default(), None)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            // Of the others only Metal has matrix units, since version 2.3 and of 8 rows.
            let matrices = text.starts_with("enable wgpu_cooperative_matrix;");
            if matrices && matrix_side != 8 {
                continue;
            }
            let mut options = msl::Options::default();
            if matrices {
                options.lang_version = (2, 3);
            }
            let (_, made) = msl::write_string(&module, &info, &options, &Default::default())
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            made.entry_point_names
                .iter()
                .for_each(|n| assert!(n.is_ok(), "{name}: {n:?}"));
            if matrices {
                continue;
            }
            let mut text = String::new();
            let options = hlsl::Options {
                shader_model: hlsl::ShaderModel::V6_2,
                immediates_target: Some(hlsl::BindTarget::default()),
                ..Default::default()
            };
            hlsl::Writer::new(&mut text, &options, &Default::default())
                .write(&module, &info, None)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}
