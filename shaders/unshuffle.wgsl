// Pixel-unshuffle: y[n, h, w, c·d² + dy·d + dx] = x[n, h·d + dy, w·d + dx, c], and its inverse.
// Layout: large [N,H·d,W·d,C], small [N,H,W,C·d²]. Grid: one thread per element.

struct Params {
    n: u32,
    h: u32,
    w: u32,
    c: u32,
    d: u32,
}

@group(0) @binding(0) var<storage, read> x: array<real>;
@group(0) @binding(1) var<storage, read_write> y: array<real>;

// Where element i of the small layout lies in the large one.
fn large_index(i: u32) -> u32 {
    let p = params;
    var rest = i;
    let dx = rest % p.d;
    rest /= p.d;
    let dy = rest % p.d;
    rest /= p.d;
    let c = rest % p.c;
    rest /= p.c;
    let w = rest % p.w;
    rest /= p.w;
    return ((rest * p.d + dy) * p.w * p.d + w * p.d + dx) * p.c + c;
}

fn elements() -> u32 {
    return params.n * params.h * params.w * params.c * params.d * params.d;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    if i < elements() {
        y[i] = x[large_index(i)];
    }
}

@compute @workgroup_size(64)
fn shuffle(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    if i < elements() {
        y[large_index(i)] = x[i];
    }
}
