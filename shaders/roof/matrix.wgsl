enable wgpu_cooperative_matrix;

// What matrix units can do at best, for the profiler's roof: sum = sum + left·right for eight pairs of matrices,
// which stay in registers, in each of `rounds`.
// Layout: source has 4 left and then 2 right matrices SIDE × SIDE; sums 8 for each subgroup, SIDE × SIDE.
// Grid: `count` workgroups of 8 subgroups.

struct Params { count: u32, rounds: u32 }

@group(0) @binding(0) var<storage, read> source: array<real4>;
@group(0) @binding(1) var<storage, read_write> sums: array<vec4f>;

override THREADS: u32 = 256u;
// In groups of 4.
const ROW = SIDE / 4u;
const MATRIX = SIDE * ROW;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let x0 = coopLoadT<Left>(&source[0], ROW);
    let x1 = coopLoadT<Left>(&source[MATRIX], ROW);
    let x2 = coopLoadT<Left>(&source[2u * MATRIX], ROW);
    let x3 = coopLoadT<Left>(&source[3u * MATRIX], ROW);
    let w0 = coopLoadT<Right>(&source[4u * MATRIX], ROW);
    let w1 = coopLoadT<Right>(&source[5u * MATRIX], ROW);
    var s00: Sum;
    var s01: Sum;
    var s10: Sum;
    var s11: Sum;
    var s20: Sum;
    var s21: Sum;
    var s30: Sum;
    var s31: Sum;
    for (var round = 0u; round < params.rounds; round++) {
        s00 = coopMultiplyAdd(x0, w0, s00);
        s01 = coopMultiplyAdd(x0, w1, s01);
        s10 = coopMultiplyAdd(x1, w0, s10);
        s11 = coopMultiplyAdd(x1, w1, s11);
        s20 = coopMultiplyAdd(x2, w0, s20);
        s21 = coopMultiplyAdd(x2, w1, s21);
        s30 = coopMultiplyAdd(x3, w0, s30);
        s31 = coopMultiplyAdd(x3, w1, s31);
    }
    let at = (group.x * 8u + lane / (THREADS / 8u)) * 8u * MATRIX;
    coopStoreT(s00, &sums[at], ROW);
    coopStoreT(s01, &sums[at + MATRIX], ROW);
    coopStoreT(s10, &sums[at + 2u * MATRIX], ROW);
    coopStoreT(s11, &sums[at + 3u * MATRIX], ROW);
    coopStoreT(s20, &sums[at + 4u * MATRIX], ROW);
    coopStoreT(s21, &sums[at + 5u * MATRIX], ROW);
    coopStoreT(s30, &sums[at + 6u * MATRIX], ROW);
    coopStoreT(s31, &sums[at + 7u * MATRIX], ROW);
}
