enable wgpu_cooperative_matrix;

// The gradient of a convolution's weights on matrix units (types and sizes as in matrix.wgsl):
// dW[ky,kx,ci,co] = Σ x[…]·dy[…] over output pixels, the product Xᵀ·dY of a tap. dW and x are as wide as
// groups of 4 make them; a slice sums some rows of the output, see sum.wgsl.
// Layout: x [N,H,W,Ci], dy [N,oH,oW,Co], dW [slices,kh,kw,Ci,Co], which is f32.
// Grid: T = 8·SIDE input channels (a tap's blocks, then the next tap's), T output channels, slices. A
// workgroup is 2 × 4 subgroups and makes T × T elements, each subgroup 4 × 2 matrices. While a step is
// multiplied the next one is on its way from memory; it goes into the other half of the tiles.

struct Params {
    n: u32,
    h: u32,
    w: u32,
    groups_in: u32,
    out_h: u32,
    out_w: u32,
    groups_out: u32,
    kh: u32,
    kw: u32,
    stride: u32,
    top: u32,
    left: u32,
    replicate: u32,
    rows: u32,
}

@group(0) @binding(0) var<storage, read> x: array<real4>;
@group(0) @binding(1) var<storage, read> dy: array<real4>;
@group(0) @binding(2) var<storage, read_write> dw: array<vec4f>;

// Threads of a subgroup.
const LANES = 32u;
const THREADS = 8u * LANES;
const T = 8u * SIDE;
// Pixels of a step: two matrices deep.
const DEPTH = 2u * SIDE;
// A little more than T, in groups: rows begin in different banks, at multiples of 16 bytes.
const ROW = T / 4u + 2u;
// Threads that bring a pixel, and the groups of x, and of dy, that each of them brings: 4, or 1 where
// SIDE is 8.
const APART = THREADS / DEPTH;
const SHARE = T / 4u / APART;
// Outside of x.
const NONE = 0xffffffffu;

var<workgroup> tile_x: array<real4, 2u * DEPTH * ROW>;
var<workgroup> tile_dy: array<real4, 2u * DEPTH * ROW>;
// A matrix of every subgroup.
var<workgroup> tile_dw: array<vec4f, 8u * SIDE * (SIDE / 4u + 1u)>;

fn origin(out: u32, tap: u32, before: u32, size: u32) -> i32 {
    let at = i32(out * params.stride + tap) - i32(before);
    if params.replicate == 1u {
        return clamp(at, 0, i32(size) - 1);
    }
    return select(-1, at, at >= 0 && at < i32(size));
}

// An output pixel, and its number.
struct Pixel {
    number: u32,
    n: u32,
    y: u32,
    x: u32,
}

fn locate(number: u32) -> Pixel {
    let row = number / params.out_w;
    return Pixel(number, row / params.out_h, row % params.out_h, number % params.out_w);
}

fn advance(from_pixel: Pixel) -> Pixel {
    var p = from_pixel;
    p.number += DEPTH;
    p.x += DEPTH;
    while p.x >= params.out_w {
        p.x -= params.out_w;
        p.y += 1u;
        if p.y == params.out_h {
            p.y = 0u;
            p.n += 1u;
        }
    }
    return p;
}

// What a thread brings of a pixel, as found in memory; the first alone where SHARE is 1. Nothing waits
// for it before it goes into the tiles. Groups beyond the last are those of results that nobody stores.
struct Share {
    a: real4,
    b: real4,
    c: real4,
    d: real4,
}

// Where a tap finds the pixel's groups of input channels; somewhere where it is outside of x.
fn under(p: Pixel, ky: u32, kx: u32, end: u32) -> u32 {
    let iy = origin(p.y, ky, params.top, params.h);
    let ix = origin(p.x, kx, params.left, params.w);
    let found = ((p.n * params.h + u32(iy)) * params.w + u32(ix)) * params.groups_in;
    return select(NONE, found, p.number < end && iy >= 0 && ix >= 0);
}

fn share(at: u32, group: u32) -> Share {
    let from_x = select(at, 0u, at == NONE);
    let i = from_x + min(group + APART * vec4u(0u, 1u, 2u, 3u), vec4u(params.groups_in - 1u));
    if SHARE == 1u {
        return Share(x[i.x], real4(), real4(), real4());
    }
    return Share(x[i.x], x[i.y], x[i.z], x[i.w]);
}

// Pixels beyond the last one meet zeros of x.
fn share_dy(number: u32, group: u32, last: u32) -> Share {
    let from_dy = min(number, last) * params.groups_out;
    let i = from_dy + min(group + APART * vec4u(0u, 1u, 2u, 3u), vec4u(params.groups_out - 1u));
    if SHARE == 1u {
        return Share(dy[i.x], real4(), real4(), real4());
    }
    return Share(dy[i.x], dy[i.y], dy[i.z], dy[i.w]);
}

// Stores a matrix of the subgroup: `base` is the row of dW where the tap begins, `ci` an input channel.
fn finish(sum: Sum, lane: u32, base: u32, ci: u32, group: u32) {
    let from_dw = lane / LANES * SIDE * (SIDE / 4u + 1u);
    workgroupBarrier();
    coopStoreT(sum, &tile_dw[from_dw], SIDE / 4u + 1u);
    workgroupBarrier();
    for (var i = lane % LANES; i < SIDE * SIDE / 4u; i += LANES) {
        let row = ci + i / (SIDE / 4u);
        let column = i % (SIDE / 4u);
        if row < 4u * params.groups_in && group + column < params.groups_out {
            let value = tile_dw[from_dw + i / (SIDE / 4u) * (SIDE / 4u + 1u) + column];
            dw[(base + row) * params.groups_out + group + column] = value;
        }
    }
}

@compute @workgroup_size(THREADS)
fn weight(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
    let blocks = (4u * params.groups_in + T - 1u) / T;
    let tap = tile.x / blocks;
    let ky = tap / params.kw;
    let kx = tap % params.kw;
    let end = min((tile.z + 1u) * params.rows, params.n * params.out_h) * params.out_w;
    let start = tile.z * params.rows * params.out_w;
    // What this thread brings of a step: some groups of a pixel.
    let mine = lane % APART;
    let ci = tile.x % blocks * (T / 4u) + mine;
    let co = tile.y * (T / 4u) + mine;
    let to = lane / APART * ROW + mine;
    var p = locate(start + lane / APART);
    var from_x = under(p, ky, kx, end);
    var xs = share(from_x, ci);
    var dys = share_dy(p.number, co, end - 1u);
    // The matrices of this subgroup.
    let down = lane / LANES / 4u * 4u * SIDE;
    let across = lane / LANES % 4u * 2u * SIDE;
    var s00: Sum;
    var s01: Sum;
    var s10: Sum;
    var s11: Sum;
    var s20: Sum;
    var s21: Sum;
    var s30: Sum;
    var s31: Sum;
    var half = 0u;
    for (var step = start; step < end; step += DEPTH) {
        let at = half * DEPTH * ROW + to;
        tile_x[at] = select(real4(), xs.a, from_x != NONE);
        tile_dy[at] = dys.a;
        if SHARE == 4u {
            tile_x[at + APART] = select(real4(), xs.b, from_x != NONE);
            tile_x[at + 2u * APART] = select(real4(), xs.c, from_x != NONE);
            tile_x[at + 3u * APART] = select(real4(), xs.d, from_x != NONE);
            tile_dy[at + APART] = dys.b;
            tile_dy[at + 2u * APART] = dys.c;
            tile_dy[at + 3u * APART] = dys.d;
        }
        workgroupBarrier();
        p = advance(p);
        from_x = under(p, ky, kx, end);
        xs = share(from_x, ci);
        dys = share_dy(p.number, co, end - 1u);
        for (var k = 0u; k < DEPTH; k += SIDE) {
            let at_x = (half * DEPTH + k) * ROW + down / 4u;
            let at_dy = (half * DEPTH + k) * ROW + across / 4u;
            let d0 = coopLoadT<Right>(&tile_dy[at_dy], ROW);
            let d1 = coopLoadT<Right>(&tile_dy[at_dy + SIDE / 4u], ROW);
            let x0 = coopLoad<Left>(&tile_x[at_x], ROW);
            let x1 = coopLoad<Left>(&tile_x[at_x + SIDE / 4u], ROW);
            let x2 = coopLoad<Left>(&tile_x[at_x + 2u * (SIDE / 4u)], ROW);
            let x3 = coopLoad<Left>(&tile_x[at_x + 3u * (SIDE / 4u)], ROW);
            s00 = coopMultiplyAdd(x0, d0, s00);
            s01 = coopMultiplyAdd(x0, d1, s01);
            s10 = coopMultiplyAdd(x1, d0, s10);
            s11 = coopMultiplyAdd(x1, d1, s11);
            s20 = coopMultiplyAdd(x2, d0, s20);
            s21 = coopMultiplyAdd(x2, d1, s21);
            s30 = coopMultiplyAdd(x3, d0, s30);
            s31 = coopMultiplyAdd(x3, d1, s31);
        }
        half = 1u - half;
    }
    let base = (tile.z * params.kh * params.kw + tap) * params.groups_in * 4u;
    let row = tile.x % blocks * T + down;
    let group = (tile.y * T + across) / 4u;
    finish(s00, lane, base, row, group);
    finish(s01, lane, base, row, group + SIDE / 4u);
    finish(s10, lane, base, row + SIDE, group);
    finish(s11, lane, base, row + SIDE, group + SIDE / 4u);
    finish(s20, lane, base, row + 2u * SIDE, group);
    finish(s21, lane, base, row + 2u * SIDE, group + SIDE / 4u);
    finish(s30, lane, base, row + 3u * SIDE, group);
    finish(s31, lane, base, row + 3u * SIDE, group + SIDE / 4u);
}
