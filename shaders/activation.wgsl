// y = f(x), and dx = dy · f'(x), for f one of leaky ReLU, SiLU, sigmoid, ReLU6 (see `activate`).
// Layout: any, contiguous. Grid: see `Pass::sweep`.

struct Params {
    count: u32,
    kind: u32,
    slope: f32,
}

@group(0) @binding(0) var<storage, read> x: array<real>;
@group(0) @binding(1) var<storage, read_write> y: array<real>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    for (var i = index(group, groups, lane); i < params.count; i += threads(groups)) {
        y[i] = real(activate(params.kind, params.slope, f32(x[i])));
    }
}

@group(0) @binding(1) var<storage, read> dy: array<real>;
@group(0) @binding(2) var<storage, read_write> dx: array<real>;

fn derivative(x: f32) -> f32 {
    let sigmoid = 1.0 / (1.0 + exp(-x));
    switch params.kind {
        case 1u: { return select(params.slope, 1.0, x > 0.0); }
        case 2u: { return sigmoid * (1.0 + x * (1.0 - sigmoid)); }
        // Not σ·(1 - σ), which cancels where σ is near 1.
        case 3u: {
            let e = exp(-abs(x));
            return e / ((1.0 + e) * (1.0 + e));
        }
        case 4u: { return select(0.0, 1.0, x > 0.0 && x < 6.0); }
        default: { return 1.0; }
    }
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(local_invocation_index) lane: u32) {
    for (var i = index(group, groups, lane); i < params.count; i += threads(groups)) {
        dx[i] = real(f32(dy[i]) * derivative(f32(x[i])));
    }
}
