// The gate of squeeze-and-excite from the channels' means, two 1×1 convolutions in one launch:
//   hidden[s] = SiLU(reduce_bias[s] + Σ_c x[n,c] · reduce[c,s])
//   gate[n,c] = σ(expand_bias[c] + Σ_s hidden[s] · expand[s,c])
// Layout: x and gate [N,C], reduce [C,S], expand [S,C], S up to 1024. Grid: one workgroup per sample.

struct Params {
    n: u32,
    channels: u32,
    hidden: u32,
}

@group(0) @binding(0) var<storage, read> x: array<real>;
@group(0) @binding(1) var<storage, read> reduce: array<real>;
@group(0) @binding(2) var<storage, read> reduce_bias: array<real>;
@group(0) @binding(3) var<storage, read> expand: array<real>;
@group(0) @binding(4) var<storage, read> expand_bias: array<real>;
@group(0) @binding(5) var<storage, read_write> gate: array<real>;

const SILU = 2u;
const SIGMOID = 3u;

var<workgroup> hidden: array<f32, 1024>;
var<workgroup> partial: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let n = group.y * groups.x + group.x;
    if n >= params.n {
        return;
    }
    // Up to 256 hidden channels at a time; lanes to spare share the sum of each.
    let width = min(params.hidden, 256u);
    let shares = 256u / width;
    let share = lane / width;
    for (var first = 0u; first < params.hidden; first += width) {
        let s = first + lane % width;
        var sum = 0.0;
        if s < params.hidden && share < shares {
            for (var c = share; c < params.channels; c += shares) {
                sum += f32(x[n * params.channels + c]) * f32(reduce[c * params.hidden + s]);
            }
        }
        workgroupBarrier();
        partial[lane] = sum;
        workgroupBarrier();
        if lane < width && s < params.hidden {
            var total = f32(reduce_bias[s]);
            for (var i = 0u; i < shares; i++) {
                total += partial[i * width + lane];
            }
            hidden[s] = activate(SILU, 0.0, total);
        }
    }
    workgroupBarrier();
    for (var c = lane; c < params.channels; c += 256u) {
        var sum = f32(expand_bias[c]);
        for (var s = 0u; s < params.hidden; s++) {
            sum += hidden[s] * f32(expand[s * params.channels + c]);
        }
        gate[n * params.channels + c] = real(activate(SIGMOID, 0.0, sum));
    }
}
