// What the device can do at best, for the profiler's roof.
// copy: to[i] = from[i]. fma: x = x·a + b on 32 independent numbers per thread, `rounds` times.
// Elements are vec4; one thread per vec4.

struct Params { count: u32, rounds: u32 }

@group(0) @binding(0) var<storage, read> source: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> copied: array<vec4f>;

@compute @workgroup_size(64)
fn copy(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
        @builtin(num_workgroups) groups: vec3u) {
    let i = index(group, groups, lane);
    if (i < params.count) { copied[i] = source[i]; }
}

@compute @workgroup_size(64)
fn arithmetic(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
              @builtin(num_workgroups) groups: vec3u) {
    let i = index(group, groups, lane);
    if (i >= params.count) { return; }
    let a = source[0];
    let b = source[1];
    var x0 = a; var x1 = a + 1; var x2 = a + 2; var x3 = a + 3;
    var x4 = a + 4; var x5 = a + 5; var x6 = a + 6; var x7 = a + 7;
    for (var round = 0u; round < params.rounds; round++) {
        x0 = fma(x0, a, b); x1 = fma(x1, a, b); x2 = fma(x2, a, b); x3 = fma(x3, a, b);
        x4 = fma(x4, a, b); x5 = fma(x5, a, b); x6 = fma(x6, a, b); x7 = fma(x7, a, b);
    }
    copied[i] = x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7;
}
