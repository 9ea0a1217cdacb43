enable wgpu_cooperative_matrix;

// y = f(bias + A·W) (+ residual): convolution as a matrix product on matrix units, for adapters that
// list them: SIDE×SIDE×SIDE, 8 in f32 and 16 in f16 with sums in f32 (the types Left, Right and Sum are
// declared beside `real`).
// A [rows, kh·kw·Ci] is x seen through the taps and never written down. Channels come in groups of 4.
// Layout: x [N,H,W,Ci], weight [Co/T][kh·kw·Ci][T] with T = 4·SIDE (see pack.wgsl), bias [Co], y and
// residual [N,oH,oW,Co].
// Grid: T pixels, T channels, slices. A workgroup is one subgroup and makes T × T outputs, 4 × 4
// matrices; they go through shared memory, where each thread finds the outputs it finishes.

struct Params {
    rows: u32,
    h: u32,
    w: u32,
    groups_in: u32,
    out_h: u32,
    out_w: u32,
    groups_out: u32,
    kh: u32,
    kw: u32,
    stride: u32,
    dilation: u32,
    top: i32,
    left: i32,
    replicate: u32,
    activation: u32,
    slope: f32,
    bias: u32,
    residual: u32,
    steps: u32,
    split: u32,
    batched: u32,
}

@group(0) @binding(0) var<storage, read> x: array<real4>;
@group(0) @binding(1) var<storage, read> weight: array<real4>;
@group(0) @binding(2) var<storage, read> bias: array<real4>;
@group(0) @binding(3) var<storage, read> residual: array<real4>;
@group(0) @binding(4) var<storage, read_write> y: array<result4>;

override LANES: u32 = 32u;
// Can a tap fall outside of x?
override MASKED: bool = true;
// Groups of input channels between two barriers.
const DEPTH = 4u;
const T = 4u * SIDE;
// A little more than T and 4·DEPTH: rows begin in different banks, and at multiples of 16 bytes.
const ROW = T + SIDE / 2u;
const DEEP = 4u * DEPTH + SIDE / 2u;

var<workgroup> tile_x: array<real, T * DEEP>;
var<workgroup> tile_w: array<real, 4u * DEPTH * ROW>;
var<workgroup> tile_y: array<f32, T * ROW>;

// Input row or column under a tap; -1 in zero padding and between the pixels of a dilated input.
fn origin(out: u32, tap: u32, before: i32, size: u32) -> i32 {
    let at = i32(out * params.stride + tap) - before;
    if params.replicate == 1u {
        return clamp(at, 0, i32(size) - 1);
    }
    let d = i32(params.dilation);
    return select(-1, at / d, at >= 0 && at % d == 0 && at / d < i32(size));
}

struct Pixel {
    n: u32,
    y: u32,
    x: u32,
}

fn pixel(row: u32) -> Pixel {
    return Pixel(row / params.out_w / params.out_h, row / params.out_w % params.out_h, row % params.out_w);
}

fn load(p: Pixel, tap: u32, group: u32) -> real4 {
    let iy = origin(p.y, tap / params.kw, params.top, params.h);
    let ix = origin(p.x, tap % params.kw, params.left, params.w);
    if MASKED && (iy < 0 || ix < 0) {
        return real4();
    }
    return x[((p.n * params.h + u32(iy)) * params.w + u32(ix)) * params.groups_in + group];
}

fn store4(at: u32, group: u32, sum: vec4f) {
    if group >= params.groups_out {
        return;
    }
    var value = sum;
    if params.bias == 1u {
        value += vec4f(bias[group]);
    }
    value = activate4(params.activation, params.slope, value);
    if params.residual == 1u {
        value += vec4f(residual[at + group]);
    }
    y[at + group] = result4(value);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
    let total = params.kh * params.kw * params.groups_in;
    let first = select(0u, tile.z * params.steps, params.split == 1u);
    let end = min(first + params.steps, total);
    let block = (tile.z * params.batched + tile.y) * total * T;
    let start = select(tile.z * params.rows, 0u, params.split == 1u);
    var s00: Sum;
    var s01: Sum;
    var s02: Sum;
    var s03: Sum;
    var s10: Sum;
    var s11: Sum;
    var s12: Sum;
    var s13: Sum;
    var s20: Sum;
    var s21: Sum;
    var s22: Sum;
    var s23: Sum;
    var s30: Sum;
    var s31: Sum;
    var s32: Sum;
    var s33: Sum;
    for (var step = first; step < end; step += DEPTH) {
        workgroupBarrier();
        for (var i = lane; i < T * DEPTH; i += LANES) {
            let at = step + i % DEPTH;
            var value = real4();
            if at < end {
                let p = pixel(start + min(tile.x * T + i / DEPTH, params.rows - 1u));
                value = load(p, at / params.groups_in, at % params.groups_in);
            }
            let to = i / DEPTH * DEEP + i % DEPTH * 4u;
            tile_x[to] = value.x;
            tile_x[to + 1u] = value.y;
            tile_x[to + 2u] = value.z;
            tile_x[to + 3u] = value.w;
        }
        for (var i = lane; i < 4u * DEPTH * SIDE; i += LANES) {
            var value = real4();
            if step + i / T < end {
                value = weight[block + step * T + i];
            }
            let to = i / SIDE * ROW + i % SIDE * 4u;
            tile_w[to] = value.x;
            tile_w[to + 1u] = value.y;
            tile_w[to + 2u] = value.z;
            tile_w[to + 3u] = value.w;
        }
        workgroupBarrier();
        for (var k = 0u; k < 4u * DEPTH; k += SIDE) {
            let x0 = coopLoadT<Left>(&tile_x[k], DEEP);
            let x1 = coopLoadT<Left>(&tile_x[SIDE * DEEP + k], DEEP);
            let x2 = coopLoadT<Left>(&tile_x[2u * SIDE * DEEP + k], DEEP);
            let x3 = coopLoadT<Left>(&tile_x[3u * SIDE * DEEP + k], DEEP);
            let w0 = coopLoadT<Right>(&tile_w[k * ROW], ROW);
            let w1 = coopLoadT<Right>(&tile_w[k * ROW + SIDE], ROW);
            let w2 = coopLoadT<Right>(&tile_w[k * ROW + 2u * SIDE], ROW);
            let w3 = coopLoadT<Right>(&tile_w[k * ROW + 3u * SIDE], ROW);
            s00 = coopMultiplyAdd(x0, w0, s00);
            s01 = coopMultiplyAdd(x0, w1, s01);
            s02 = coopMultiplyAdd(x0, w2, s02);
            s03 = coopMultiplyAdd(x0, w3, s03);
            s10 = coopMultiplyAdd(x1, w0, s10);
            s11 = coopMultiplyAdd(x1, w1, s11);
            s12 = coopMultiplyAdd(x1, w2, s12);
            s13 = coopMultiplyAdd(x1, w3, s13);
            s20 = coopMultiplyAdd(x2, w0, s20);
            s21 = coopMultiplyAdd(x2, w1, s21);
            s22 = coopMultiplyAdd(x2, w2, s22);
            s23 = coopMultiplyAdd(x2, w3, s23);
            s30 = coopMultiplyAdd(x3, w0, s30);
            s31 = coopMultiplyAdd(x3, w1, s31);
            s32 = coopMultiplyAdd(x3, w2, s32);
            s33 = coopMultiplyAdd(x3, w3, s33);
        }
    }
    coopStoreT(s00, &tile_y[SIDE * (0u * ROW + 0u)], ROW);
    coopStoreT(s01, &tile_y[SIDE * (0u * ROW + 1u)], ROW);
    coopStoreT(s02, &tile_y[SIDE * (0u * ROW + 2u)], ROW);
    coopStoreT(s03, &tile_y[SIDE * (0u * ROW + 3u)], ROW);
    coopStoreT(s10, &tile_y[SIDE * (1u * ROW + 0u)], ROW);
    coopStoreT(s11, &tile_y[SIDE * (1u * ROW + 1u)], ROW);
    coopStoreT(s12, &tile_y[SIDE * (1u * ROW + 2u)], ROW);
    coopStoreT(s13, &tile_y[SIDE * (1u * ROW + 3u)], ROW);
    coopStoreT(s20, &tile_y[SIDE * (2u * ROW + 0u)], ROW);
    coopStoreT(s21, &tile_y[SIDE * (2u * ROW + 1u)], ROW);
    coopStoreT(s22, &tile_y[SIDE * (2u * ROW + 2u)], ROW);
    coopStoreT(s23, &tile_y[SIDE * (2u * ROW + 3u)], ROW);
    coopStoreT(s30, &tile_y[SIDE * (3u * ROW + 0u)], ROW);
    coopStoreT(s31, &tile_y[SIDE * (3u * ROW + 1u)], ROW);
    coopStoreT(s32, &tile_y[SIDE * (3u * ROW + 2u)], ROW);
    coopStoreT(s33, &tile_y[SIDE * (3u * ROW + 3u)], ROW);
    workgroupBarrier();
    for (var i = lane; i < T * SIDE; i += LANES) {
        let row = tile.x * T + i / SIDE;
        if row < params.rows {
            let from_y = i / SIDE * ROW + i % SIDE * 4u;
            let sum = vec4f(tile_y[from_y], tile_y[from_y + 1u], tile_y[from_y + 2u], tile_y[from_y + 3u]);
            let at = (tile.z * params.rows + row) * params.groups_out;
            store4(at, tile.y * SIDE + i % SIDE, sum);
        }
    }
}
