// What the device can do at best, for the profiler's roof.
// copy: to[i] = from[i]. arithmetic: x = x·a + b on 8 independent numbers per thread, 16 times in each of
// `rounds`. Elements are vec4; one thread per vec4.

struct Params { count: u32, rounds: u32 }

@group(0) @binding(0) var<storage, read> source: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> copied: array<vec4f>;

@compute @workgroup_size(64)
fn copy(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
        @builtin(num_workgroups) groups: vec3u) {
    let i = index(group, groups, lane);
    if (i < params.count) { copied[i] = source[i]; }
}

// Numbers in the text: multiply-adds of three different registers read them too slowly on NVIDIA. The
// limit is 1; nothing becomes infinite or denormal.
fn once(x: vec4f) -> vec4f {
    return fma(x, vec4f(0.999), vec4f(0.001));
}

@compute @workgroup_size(64)
fn arithmetic(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
              @builtin(num_workgroups) groups: vec3u) {
    let i = index(group, groups, lane);
    if (i >= params.count) { return; }
    var x = source[i];
    var y = x + 1;
    // Few numbers, for CPUs have few registers; many in a round, for the loop's own work takes time, too.
    for (var round = 0u; round < params.rounds; round++) {
        x = once(x); y = once(y); x = once(x); y = once(y); x = once(x); y = once(y); x = once(x); y = once(y);
        x = once(x); y = once(y); x = once(x); y = once(y); x = once(x); y = once(y); x = once(x); y = once(y);
        x = once(x); y = once(y); x = once(x); y = once(y); x = once(x); y = once(y); x = once(x); y = once(y);
        x = once(x); y = once(y); x = once(x); y = once(y); x = once(x); y = once(y); x = once(x); y = once(y);
    }
    copied[i] = x + y;
}
