// Rearranges what the tiled convolutions read. Channels beyond the last are zeros.
// pack: weight [kh,kw,Ci,Co] → [Co/BLOCK][kh·kw·Ci'][BLOCK], Ci' = 4⌈Ci/4⌉. `turned`: the taps from the
// other end and the channels swapped, [kh,kw,Co,Ci], as the gradient of the input needs it.
// copy: rows of `c_in` elements → rows of `c_out`.
// Grid: a thread per element of the result.

struct Params {
    taps: u32,
    c_in: u32,
    c_out: u32,
    block: u32,
    turned: u32,
    count: u32,
}

@group(0) @binding(0) var<storage, read> given: array<real>;
@group(0) @binding(1) var<storage, read_write> made: array<real>;

@compute @workgroup_size(64)
fn pack(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let element = index(group, groups, lane);
    if element >= params.count {
        return;
    }
    let p = params;
    let wide = (p.c_in + 3u) / 4u * 4u;
    var i = element;
    let column = i % p.block;
    i /= p.block;
    let ci = i % wide;
    i /= wide;
    let tap = i % p.taps;
    let co = i / p.taps * p.block + column;
    var value = real(0.0);
    if ci < p.c_in && co < p.c_out {
        if p.turned == 1u {
            value = given[((p.taps - 1u - tap) * p.c_out + co) * p.c_in + ci];
        } else {
            value = given[(tap * p.c_in + ci) * p.c_out + co];
        }
    }
    made[element] = value;
}

@compute @workgroup_size(64)
fn copy(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    if i >= params.count {
        return;
    }
    let column = i % params.c_out;
    if column < params.c_in {
        made[i] = given[i / params.c_out * params.c_in + column];
    } else {
        made[i] = real(0.0);
    }
}
