// y[n, pixel, c] = x[n, pixel, c] · gate[n, c], the scaling of squeeze-and-excite.
// Layout: x, y [N,pixels,C], gate [N,C]. Grid: one thread per element.

struct Params {
    n: u32,
    pixels: u32,
    channels: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> gate: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    if i < params.n * params.pixels * params.channels {
        let sample = i / (params.pixels * params.channels);
        y[i] = x[i] * gate[sample * params.channels + i % params.channels];
    }
}
