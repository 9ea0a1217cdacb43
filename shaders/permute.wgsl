// y[pixel, c] = x[pixel, order[c]]
// Layout: x, y [pixels,C]; order [C], integers kept as f32. Grid: one thread per element.

struct Params {
    pixels: u32,
    channels: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> order: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    if i < params.pixels * params.channels {
        let c = i % params.channels;
        y[i] = x[i - c + u32(order[c])];
    }
}
