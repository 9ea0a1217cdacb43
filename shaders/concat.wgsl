// y[pixel] = a[pixel] ++ b[pixel] along channels.
// Layout: a [pixels,Ca], b [pixels,Cb], y [pixels,Ca+Cb]. Grid: one thread per element of y.

struct Params {
    pixels: u32,
    first: u32,
    second: u32,
}

@group(0) @binding(0) var<storage, read> a: array<real>;
@group(0) @binding(1) var<storage, read> b: array<real>;
@group(0) @binding(2) var<storage, read_write> y: array<real>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    let channels = params.first + params.second;
    if i >= params.pixels * channels {
        return;
    }
    let pixel = i / channels;
    let c = i % channels;
    if c < params.first {
        y[i] = a[pixel * params.first + c];
    } else {
        y[i] = b[pixel * params.second + c - params.first];
    }
}
