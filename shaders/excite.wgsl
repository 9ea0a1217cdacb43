// The gate of squeeze-and-excite from the channels' means, two 1×1 convolutions in two launches:
//   hidden[n,s] = SiLU(reduce_bias[s] + Σ_c x[n,c] · reduce[c,s])
//   gate[n,c] = σ(expand_bias[c] + Σ_s hidden[n,s] · expand[s,c])
// Layout: x and gate [N,C], hidden [N,S], reduce [C,S], expand [S,C]. Reading the weights is what takes
// time, so many workgroups do it at once, and each lane has four of them under way.
// Grid: a workgroup makes OF_HIDDEN or OF_GATE outputs of a sample; its lanes share the sum of each.

struct Params {
    n: u32,
    channels: u32,
    hidden: u32,
}

const SILU = 2u;
const SIGMOID = 3u;

const LANES = 256u;
// Few where the sum is long.
const OF_HIDDEN = 4u;
const OF_GATE = 32u;

var<workgroup> partial: array<f32, LANES>;

// The sum of an output over its lanes, for the first of them.
fn over_lanes(lane: u32, outputs: u32, sum: vec4f) -> f32 {
    partial[lane] = dot(sum, vec4f(1.0));
    workgroupBarrier();
    var total = 0.0;
    if lane < outputs {
        for (var i = lane; i < LANES; i += outputs) {
            total += partial[i];
        }
    }
    return total;
}

@group(0) @binding(0) var<storage, read> x: array<real>;
@group(0) @binding(1) var<storage, read> reduce: array<real>;
@group(0) @binding(2) var<storage, read> reduce_bias: array<real>;
@group(0) @binding(3) var<storage, read_write> squeezed: array<f32>;

@compute @workgroup_size(256)
fn squeeze(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let blocks = (params.hidden + OF_HIDDEN - 1u) / OF_HIDDEN;
    let block = group.y * groups.x + group.x;
    let n = block / blocks;
    if n >= params.n {
        return;
    }
    let s = block % blocks * OF_HIDDEN + lane % OF_HIDDEN;
    let shares = LANES / OF_HIDDEN;
    let last = params.channels - 1u;
    var sum = vec4f();
    if s < params.hidden {
        for (var first = lane / OF_HIDDEN; first <= last; first += 4u * shares) {
            let c = first + shares * vec4u(0u, 1u, 2u, 3u);
            // Beyond the last: read again and left out, as a branch would wait for each.
            let k = min(c, vec4u(last));
            let of_x = n * params.channels + k;
            let at = k * params.hidden + s;
            let a = vec4f(f32(x[of_x.x]), f32(x[of_x.y]), f32(x[of_x.z]), f32(x[of_x.w]));
            let b = vec4f(f32(reduce[at.x]), f32(reduce[at.y]), f32(reduce[at.z]), f32(reduce[at.w]));
            sum += select(vec4f(), a * b, c <= vec4u(last));
        }
    }
    let total = over_lanes(lane, OF_HIDDEN, sum);
    if lane < OF_HIDDEN && s < params.hidden {
        squeezed[n * params.hidden + s] = activate(SILU, 0.0, total + f32(reduce_bias[s]));
    }
}

@group(0) @binding(0) var<storage, read> hidden: array<f32>;
@group(0) @binding(1) var<storage, read> expand: array<real>;
@group(0) @binding(2) var<storage, read> expand_bias: array<real>;
@group(0) @binding(3) var<storage, read_write> gate: array<real>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let blocks = (params.channels + OF_GATE - 1u) / OF_GATE;
    let block = group.y * groups.x + group.x;
    let n = block / blocks;
    if n >= params.n {
        return;
    }
    let c = block % blocks * OF_GATE + lane % OF_GATE;
    let shares = LANES / OF_GATE;
    let last = params.hidden - 1u;
    var sum = vec4f();
    if c < params.channels {
        for (var first = lane / OF_GATE; first <= last; first += 4u * shares) {
            let s = first + shares * vec4u(0u, 1u, 2u, 3u);
            let k = min(s, vec4u(last));
            let of_x = n * params.hidden + k;
            let at = k * params.channels + c;
            let a = vec4f(hidden[of_x.x], hidden[of_x.y], hidden[of_x.z], hidden[of_x.w]);
            let b = vec4f(f32(expand[at.x]), f32(expand[at.y]), f32(expand[at.z]), f32(expand[at.w]));
            sum += select(vec4f(), a * b, s <= vec4u(last));
        }
    }
    let total = over_lanes(lane, OF_GATE, sum);
    if lane < OF_GATE && c < params.channels {
        gate[n * params.channels + c] = real(activate(SIGMOID, 0.0, total + f32(expand_bias[c])));
    }
}
