// y[n, pixel, c] = x[n, pixel, c] · gate[n, c], the scaling of squeeze-and-excite.
// Layout: x, y [N,pixels,C], gate [N,C].
// Grid: one thread per 4 channels, C being a multiple of 4; narrow: one thread per element.

struct Params {
    n: u32,
    pixels: u32,
    channels: u32,
}

@group(0) @binding(0) var<storage, read> x4: array<real4>;
@group(0) @binding(1) var<storage, read> gate4: array<real4>;
@group(0) @binding(2) var<storage, read_write> y4: array<real4>;

// The gate of element i, of which a pixel has `channels`.
fn gate_of(i: u32, channels: u32) -> u32 {
    return i / (params.pixels * channels) * channels + i % channels;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    let channels = params.channels / 4u;
    if i < params.n * params.pixels * channels {
        y4[i] = x4[i] * gate4[gate_of(i, channels)];
    }
}

@group(0) @binding(0) var<storage, read> x: array<real>;
@group(0) @binding(1) var<storage, read> gate: array<real>;
@group(0) @binding(2) var<storage, read_write> y: array<real>;

@compute @workgroup_size(64)
fn narrow(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    if i < params.n * params.pixels * params.channels {
        y[i] = x[i] * gate[gate_of(i, params.channels)];
    }
}
