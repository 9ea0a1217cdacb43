// One step of Adam with L2 decay added to the gradient (torch.optim.Adam):
//   g = grad + decay·p;  m = mix(g, m, β1);  v = mix(g², v, β2)
//   p -= rate·m / (√v/√(1-β2ᵗ) + ε),  rate = lr/(1-β1ᵗ)
// scaled: p is the f32 copy of a parameter in f16, which is written, too; the gradient is a multiple, and
// where one of the step's gradients overflowed nothing changes.
// check: has a gradient overflowed? (torch.amp.GradScaler)
// Layout: any, contiguous; p, m and v change in place. Grid: see `Pass::sweep`.

struct Params {
    count: u32,
    rate: f32,
    beta1: f32,
    beta2: f32,
    // 1 - β1 and 1 - β2, rounded once.
    new1: f32,
    new2: f32,
    epsilon: f32,
    decay: f32,
    // √(1-β2ᵗ)
    correction: f32,
    // What a gradient is multiplied by in `scaled`.
    unscale: f32,
}

@group(0) @binding(0) var<storage, read_write> p: array<f32>;
@group(0) @binding(1) var<storage, read_write> m: array<f32>;
@group(0) @binding(2) var<storage, read_write> v: array<f32>;
@group(0) @binding(3) var<storage, read> grad: array<f32>;

fn change(i: u32, gradient: f32) {
    let g = gradient + params.decay * p[i];
    m[i] = params.beta1 * m[i] + params.new1 * g;
    v[i] = params.beta2 * v[i] + params.new2 * g * g;
    p[i] -= params.rate * m[i] / (sqrt(v[i]) / params.correction + params.epsilon);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    for (var i = index(group, groups, lane); i < params.count; i += threads(groups)) {
        change(i, grad[i]);
    }
}

@group(0) @binding(4) var<storage, read> overflow: array<u32>;
@group(0) @binding(5) var<storage, read_write> rounded: array<real>;

@compute @workgroup_size(64)
fn scaled(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    if overflow[0] != 0u {
        return;
    }
    for (var i = index(group, groups, lane); i < params.count; i += threads(groups)) {
        change(i, grad[i] * params.unscale);
        rounded[i] = real(p[i]);
    }
}

@group(0) @binding(0) var<storage, read> checked: array<u32>;
@group(0) @binding(1) var<storage, read_write> found: atomic<u32>;

// By its bits: a compiler may take it that numbers are finite. `found` becomes 1.0.
@compute @workgroup_size(64)
fn check(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) lane: u32) {
    let exponent = 0x7f800000u;
    for (var i = index(group, groups, lane); i < params.count; i += threads(groups)) {
        if (checked[i] & exponent) == exponent {
            atomicStore(&found, 0x3f800000u);
        }
    }
}
