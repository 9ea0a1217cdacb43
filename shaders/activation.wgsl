// y = f(x), and dx = dy · f'(x), for f one of ReLU, leaky ReLU, SiLU, sigmoid, ReLU6 (see `activate`).
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

fn gradient(x: f32, grad: f32) -> f32 {
    let sigmoid = 1.0 / (1.0 + exp(-x));
    switch params.kind {
        case 1u: { return select(params.slope * grad, grad, x > 0.0); }
        case 2u: { return grad * (sigmoid * (1.0 + x * (1.0 - sigmoid))); }
        // Not σ·(1 - σ), which cancels where σ is near 1.
        case 3u: {
            let e = exp(-abs(x));
            return grad * (e / ((1.0 + e) * (1.0 + e)));
        }
        case 4u: { return select(grad, 0.0, x <= 0.0 || x >= 6.0); }
        case 5u: { return select(grad, 0.0, x <= 0.0); }
        default: { return grad; }
    }
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(local_invocation_index) lane: u32) {
    for (var i = index(group, groups, lane); i < params.count; i += threads(groups)) {
        dx[i] = real(gradient(f32(x[i]), f32(dy[i])));
    }
}
