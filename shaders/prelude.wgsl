
// Appended to every shader, after the declaration of `params` (immediate or uniform), of `real`, the
// type of activations and weights in memory (f32 or f16), of `result`, which is f32 where a kernel for
// f16 writes sums that another one finishes, and of REAL_MAX. Sums are f32.

alias real4 = vec4<real>;
alias result4 = vec4<result>;

// The linear index of a thread in a launch made by `Pass::run` (workgroups of 64, folded grid).
fn index(group: vec3u, groups: vec3u, lane: u32) -> u32 {
    return (group.y * groups.x + group.x) * 64u + lane;
}

// Threads of a launch: how far it is to a thread's next element in one made by `Pass::sweep`.
fn threads(groups: vec3u) -> u32 {
    return groups.x * groups.y * 64u;
}

// Kinds as in `cpu::activation::Activation`; `slope` is for leaky ReLU. By comparisons that are false for NaN, so
// that NaN stays NaN where a device has it: WGSL lets a compiler take it that there are neither NaN nor infinities.
fn activate(kind: u32, slope: f32, x: f32) -> f32 {
    switch kind {
        case 1u: { return select(slope * x, x, x > 0.0); }
        case 2u: { return x / (1.0 + exp(-x)); }
        case 3u: { return 1.0 / (1.0 + exp(-x)); }
        case 4u: { return select(select(x, 0.0, x < 0.0), 6.0, x > 6.0); }
        case 5u: { return select(x, 0.0, x < 0.0); }
        default: { return x; }
    }
}

fn activate4(kind: u32, slope: f32, x: vec4f) -> vec4f {
    switch kind {
        case 1u: { return select(slope * x, x, x > vec4f()); }
        case 2u: { return x / (1.0 + exp(-x)); }
        case 3u: { return 1.0 / (1.0 + exp(-x)); }
        case 4u: { return select(select(x, vec4f(), x < vec4f()), vec4f(6.0), x > vec4f(6.0)); }
        case 5u: { return select(x, vec4f(), x < vec4f()); }
        default: { return x; }
    }
}
