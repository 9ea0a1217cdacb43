// c = a + b. Layout: any, contiguous. Grid: see `Pass::sweep`.

struct Params {
    count: u32,
}

@group(0) @binding(0) var<storage, read> a: array<real>;
@group(0) @binding(1) var<storage, read> b: array<real>;
@group(0) @binding(2) var<storage, read_write> c: array<real>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    for (var i = index(group, groups, lane); i < params.count; i += threads(groups)) {
        c[i] = real(f32(a[i]) + f32(b[i]));
    }
}
