// y[pixel, c] = x[pixel, start + c]: a slice of the channels.
// Layout: x [pixels,C], y [pixels,count]. Grid: one thread per element of y.

struct Params {
    pixels: u32,
    channels: u32,
    start: u32,
    count: u32,
}

@group(0) @binding(0) var<storage, read> x: array<real>;
@group(0) @binding(1) var<storage, read_write> y: array<real>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    if i < params.pixels * params.count {
        y[i] = x[i / params.count * params.channels + params.start + i % params.count];
    }
}
