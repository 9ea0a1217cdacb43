// Rearranges what the tiled convolutions read. Channels beyond the last are zeros.
// pack: weight [kh,kw,Ci,Co] → [Co/BLOCK][kh·kw·Ci'][BLOCK], Ci' = 4⌈Ci/4⌉. `turned`: the taps from the
// other end and the channels swapped, [kh,kw,Co,Ci], as the gradient of the input needs it.
// copy: rows of `c_in` elements → rows of `c_out`.
// Grid: pack: a thread per 4 neighbours of the result, BLOCK being a multiple of 4; copy: per element.

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
    let first = index(group, groups, lane) * 4u;
    if first >= params.count {
        return;
    }
    let p = params;
    let wide = (p.c_in + 3u) / 4u * 4u;
    var i = first / p.block;
    let ci = i % wide;
    i /= wide;
    let tap = i % p.taps;
    let co = i / p.taps * p.block + first % p.block;
    // Of column co, and on to the next.
    var at = (tap * p.c_in + ci) * p.c_out + co;
    var next = 1u;
    if p.turned == 1u {
        at = ((p.taps - 1u - tap) * p.c_out + co) * p.c_in + ci;
        next = p.c_in;
    }
    for (var j = 0u; j < 4u; j++) {
        var value = real(0.0);
        if ci < p.c_in && co + j < p.c_out {
            value = given[at + j * next];
        }
        made[first + j] = value;
    }
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
