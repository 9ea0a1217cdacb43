// 3×3 convolution with stride 1 by Winograd's F(TILE×TILE, 3×3), TILE 2 or 4: y = Aᵀ·(Σ_ci U ∘ V)·A
// with U = G·g·Gᵀ and V = Bᵀ·d·B (Lavin & Gray 2016; `cpu::winograd` on the points of F(4×4)).
// Layout: U [points][Co/BLOCK][Ci][BLOCK], V [points][tiles][Ci], M [points][tiles][Co], in groups of 4
// channels; all three are f32, for in f16 they would be rounded twice. points = (TILE + 2)², M is Σ_ci U ∘ V, made by the tiled product with a slice per point.
// The weights' gradient goes the same way back: dW = Gᵀ·(Σ_tiles V ∘ D)·G with D = A·dy·Aᵀ
// [points][tiles][Co], the sum N [points][Ci][Co] and dW [3,3,Ci,Co], Co in groups of 4; f32 as well.
// Grid: weights: a thread per group of U at all points; input, output, gradient: a thread per tile and
// group; weights_gradient: a thread per group of dW at all taps.

struct Params {
    h: u32,
    w: u32,
    groups_in: u32,
    out_h: u32,
    out_w: u32,
    groups_out: u32,
    top: i32,
    left: i32,
    replicate: u32,
    activation: u32,
    slope: f32,
    bias: u32,
    residual: u32,
    first: u32,
    tiles: u32,
    c_in: u32,
    c_out: u32,
    block: u32,
    turned: u32,
}

override TILE: u32 = 4u;

// A polynomial of degree 2 at the points 0, ±3/4, ±3/2, ∞ (0, ±1, ∞), over the distances to the others.
fn evaluate(g: array<vec4f, 3>) -> array<vec4f, 6> {
    if TILE == 2u {
        let even = 0.5 * (g[0] + g[2]);
        let odd = 0.5 * g[1];
        return array<vec4f, 6>(g[0], even + odd, even - odd, g[2], vec4f(), vec4f());
    }
    let near = -0.5267489711934156; // 1 / (2·(3/4)²·((3/4)² − (3/2)²))
    let far = 0.1316872427983539; // 1 / (2·(3/2)²·((3/2)² − (3/4)²))
    let even1 = near * (g[0] + 0.5625 * g[2]);
    let odd1 = near * 0.75 * g[1];
    let even2 = far * (g[0] + 2.25 * g[2]);
    let odd2 = far * 1.5 * g[1];
    return array<vec4f, 6>(0.7901234567901234 * g[0], even1 + odd1, even1 - odd1, even2 + odd2, even2 - odd2, g[2]);
}

// Bᵀ·d
fn into(d: array<vec4f, 6>) -> array<vec4f, 6> {
    if TILE == 2u {
        return array<vec4f, 6>(d[0] - d[2], d[1] + d[2], d[2] - d[1], d[3] - d[1], vec4f(), vec4f());
    }
    let even1 = d[4] - 2.25 * d[2];
    let odd1 = 0.75 * d[3] - 1.6875 * d[1];
    let even2 = d[4] - 0.5625 * d[2];
    let odd2 = 1.5 * d[3] - 0.84375 * d[1];
    return array<vec4f, 6>(
        1.265625 * d[0] - 2.8125 * d[2] + d[4], even1 + odd1, even1 - odd1, even2 + odd2, even2 - odd2,
        1.265625 * d[1] - 2.8125 * d[3] + d[5]);
}

// Aᵀ·m
fn back(m: array<vec4f, 6>) -> array<vec4f, 4> {
    let sum1 = m[1] + m[2];
    let dif1 = m[1] - m[2];
    if TILE == 2u {
        return array<vec4f, 4>(m[0] + sum1, dif1 + m[3], vec4f(), vec4f());
    }
    let sum2 = m[3] + m[4];
    let dif2 = m[3] - m[4];
    return array<vec4f, 4>(
        m[0] + sum1 + sum2, 0.75 * dif1 + 1.5 * dif2, 0.5625 * sum1 + 2.25 * sum2,
        0.421875 * dif1 + 3.375 * dif2 + m[5]);
}

// A·y
fn back_transposed(y: array<vec4f, 4>) -> array<vec4f, 6> {
    if TILE == 2u {
        return array<vec4f, 6>(y[0], y[0] + y[1], y[0] - y[1], y[1], vec4f(), vec4f());
    }
    let even1 = y[0] + 0.5625 * y[2];
    let odd1 = 0.75 * y[1] + 0.421875 * y[3];
    let even2 = y[0] + 2.25 * y[2];
    let odd2 = 1.5 * y[1] + 3.375 * y[3];
    return array<vec4f, 6>(y[0], even1 + odd1, even1 - odd1, even2 + odd2, even2 - odd2, y[3]);
}

// Gᵀ·m, with the numbers of `evaluate`.
fn evaluate_transposed(m: array<vec4f, 6>) -> array<vec4f, 3> {
    if TILE == 2u {
        let sum = 0.5 * (m[1] + m[2]);
        return array<vec4f, 3>(m[0] + sum, 0.5 * (m[1] - m[2]), sum + m[3]);
    }
    let sum1 = -0.5267489711934156 * (m[1] + m[2]);
    let dif1 = -0.5267489711934156 * (m[1] - m[2]);
    let sum2 = 0.1316872427983539 * (m[3] + m[4]);
    let dif2 = 0.1316872427983539 * (m[3] - m[4]);
    return array<vec4f, 3>(
        0.7901234567901234 * m[0] + sum1 + sum2, 0.75 * dif1 + 1.5 * dif2, 0.5625 * sum1 + 2.25 * sum2 + m[5]);
}

@group(0) @binding(0) var<storage, read> weight: array<real>;
@group(0) @binding(1) var<storage, read_write> u: array<result4>;

fn tap(ky: u32, kx: u32, ci: u32, co: u32) -> f32 {
    if ci >= params.c_in || co >= params.c_out {
        return 0.0;
    }
    let t = ky * 3u + kx;
    if params.turned == 1u {
        return f32(weight[((8u - t) * params.c_out + co) * params.c_in + ci]);
    }
    return f32(weight[(t * params.c_in + ci) * params.c_out + co]);
}

fn tap4(ky: u32, kx: u32, ci: u32, co: u32) -> vec4f {
    return vec4f(tap(ky, kx, ci, co), tap(ky, kx, ci, co + 1u), tap(ky, kx, ci, co + 2u), tap(ky, kx, ci, co + 3u));
}

@compute @workgroup_size(64)
fn weights(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    let wide = params.groups_in * 4u;
    let columns = params.block / 4u;
    let blocks = (params.c_out + params.block - 1u) / params.block;
    if i >= blocks * wide * columns {
        return;
    }
    let ci = i / columns % wide;
    let co = i / columns / wide * params.block + i % columns * 4u;
    var rows: array<array<vec4f, 6>, 3>;
    for (var ky = 0u; ky < 3u; ky++) {
        rows[ky] = evaluate(array<vec4f, 3>(tap4(ky, 0u, ci, co), tap4(ky, 1u, ci, co), tap4(ky, 2u, ci, co)));
    }
    for (var px = 0u; px < TILE + 2u; px++) {
        var column = evaluate(array<vec4f, 3>(rows[0][px], rows[1][px], rows[2][px]));
        for (var py = 0u; py < TILE + 2u; py++) {
            u[(py * (TILE + 2u) + px) * blocks * wide * columns + i] = result4(column[py]);
        }
    }
}

@group(0) @binding(0) var<storage, read> x: array<real4>;
@group(0) @binding(1) var<storage, read_write> v: array<result4>;

fn origin(out: u32, before: i32, size: u32) -> i32 {
    let at = i32(out) - before;
    if params.replicate == 1u {
        return clamp(at, 0, i32(size) - 1);
    }
    return select(-1, at, at >= 0 && at < i32(size));
}

// Picture, row and column of the first output of a tile.
fn place(tile: u32) -> vec3u {
    let across = (params.out_w + TILE - 1u) / TILE;
    let down = (params.out_h + TILE - 1u) / TILE;
    return vec3u(tile / across / down, tile / across % down * TILE, tile % across * TILE);
}

@compute @workgroup_size(64)
fn input(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    if i >= params.tiles * params.groups_in {
        return;
    }
    let at = place(params.first + i / params.groups_in);
    let channel = i % params.groups_in;
    var rows: array<array<vec4f, 6>, 6>;
    for (var dy = 0u; dy < TILE + 2u; dy++) {
        let iy = origin(at.y + dy, params.top, params.h);
        var d: array<vec4f, 6>;
        for (var dx = 0u; dx < TILE + 2u; dx++) {
            let ix = origin(at.z + dx, params.left, params.w);
            if iy >= 0 && ix >= 0 {
                let pixel = (at.x * params.h + u32(iy)) * params.w + u32(ix);
                d[dx] = vec4f(x[pixel * params.groups_in + channel]);
            }
        }
        rows[dy] = into(d);
    }
    for (var px = 0u; px < TILE + 2u; px++) {
        let d = array<vec4f, 6>(rows[0][px], rows[1][px], rows[2][px], rows[3][px], rows[4][px], rows[5][px]);
        var column = into(d);
        for (var py = 0u; py < TILE + 2u; py++) {
            v[(py * (TILE + 2u) + px) * params.tiles * params.groups_in + i] = result4(column[py]);
        }
    }
}

@group(0) @binding(0) var<storage, read> m: array<vec4f>;
@group(0) @binding(1) var<storage, read> bias: array<real4>;
@group(0) @binding(2) var<storage, read> residual: array<real4>;
@group(0) @binding(3) var<storage, read_write> y: array<real4>;

@compute @workgroup_size(64)
fn output(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    let count = params.tiles * params.groups_out;
    if i >= count {
        return;
    }
    let at = place(params.first + i / params.groups_out);
    let channel = i % params.groups_out;
    var rows: array<array<vec4f, 4>, 6>;
    for (var py = 0u; py < TILE + 2u; py++) {
        var sums: array<vec4f, 6>;
        for (var px = 0u; px < TILE + 2u; px++) {
            sums[px] = m[(py * (TILE + 2u) + px) * count + i];
        }
        rows[py] = back(sums);
    }
    var start = vec4f();
    if params.bias == 1u {
        start = vec4f(bias[channel]);
    }
    for (var dx = 0u; dx < TILE && at.z + dx < params.out_w; dx++) {
        var column = back(array<vec4f, 6>(rows[0][dx], rows[1][dx], rows[2][dx], rows[3][dx], rows[4][dx], rows[5][dx]));
        for (var dy = 0u; dy < TILE && at.y + dy < params.out_h; dy++) {
            let pixel = (at.x * params.out_h + at.y + dy) * params.out_w + at.z + dx;
            let element = pixel * params.groups_out + channel;
            var value = activate4(params.activation, params.slope, start + column[dy]);
            if params.residual == 1u {
                value += vec4f(residual[element]);
            }
            y[element] = real4(value);
        }
    }
}

@group(0) @binding(0) var<storage, read> dy: array<real4>;
@group(0) @binding(1) var<storage, read_write> spread: array<result4>;

// Zeros where a tile reaches beyond the output.
@compute @workgroup_size(64)
fn gradient(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    let count = params.tiles * params.groups_out;
    if i >= count {
        return;
    }
    let at = place(params.first + i / params.groups_out);
    let channel = i % params.groups_out;
    var rows: array<array<vec4f, 6>, 4>;
    for (var oy = 0u; oy < TILE && at.y + oy < params.out_h; oy++) {
        var row: array<vec4f, 4>;
        for (var ox = 0u; ox < TILE && at.z + ox < params.out_w; ox++) {
            let pixel = (at.x * params.out_h + at.y + oy) * params.out_w + at.z + ox;
            row[ox] = vec4f(dy[pixel * params.groups_out + channel]);
        }
        rows[oy] = back_transposed(row);
    }
    for (var px = 0u; px < TILE + 2u; px++) {
        var column = back_transposed(array<vec4f, 4>(rows[0][px], rows[1][px], rows[2][px], rows[3][px]));
        for (var py = 0u; py < TILE + 2u; py++) {
            spread[(py * (TILE + 2u) + px) * count + i] = result4(column[py]);
        }
    }
}

@group(0) @binding(0) var<storage, read> sums: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> dw: array<vec4f>;

@compute @workgroup_size(64)
fn weights_gradient(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                    @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    let count = params.c_in * params.groups_out;
    if i >= count {
        return;
    }
    // N is as wide as groups of 4 make it in both directions, dW in one.
    let apart = params.groups_in * 4u * params.groups_out;
    var rows: array<array<vec4f, 3>, 6>;
    for (var py = 0u; py < TILE + 2u; py++) {
        var row: array<vec4f, 6>;
        for (var px = 0u; px < TILE + 2u; px++) {
            row[px] = sums[(py * (TILE + 2u) + px) * apart + i];
        }
        rows[py] = evaluate_transposed(row);
    }
    for (var kx = 0u; kx < 3u; kx++) {
        let m = array<vec4f, 6>(rows[0][kx], rows[1][kx], rows[2][kx], rows[3][kx], rows[4][kx], rows[5][kx]);
        var column = evaluate_transposed(m);
        for (var ky = 0u; ky < 3u; ky++) {
            dw[(ky * 3u + kx) * count + i] = column[ky];
        }
    }
}
