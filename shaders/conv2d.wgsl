// y[n,oy,ox,co] = f(bias[co] + Σ x[n, oy·s+ky-top, ox·s+kx-left, ci] · weight[ky,kx,ci,co]) (+ residual)
// Layout: x [N,H,W,Ci], weight [kh,kw,Ci,Co], y and residual [N,oH,oW,Co].
// Padding: zeros, or the border repeated. f: see `activate`.
// Grid: forward: a thread makes 4 output columns × 4 channels; gradients: a thread per element.

struct Params {
    n: u32,
    h: u32,
    w: u32,
    c_in: u32,
    out_h: u32,
    out_w: u32,
    c_out: u32,
    kh: u32,
    kw: u32,
    stride: u32,
    top: u32,
    left: u32,
    replicate: u32,
    activation: u32,
    slope: f32,
    residual: u32,
}

@group(0) @binding(0) var<storage, read> x: array<real>;
@group(0) @binding(1) var<storage, read> weight: array<real>;
@group(0) @binding(2) var<storage, read> bias: array<real>;
@group(0) @binding(3) var<storage, read> residual: array<real>;
@group(0) @binding(4) var<storage, read_write> y: array<real>;

// Input row or column of an output and a tap; -1 in zero padding.
fn origin(out: u32, tap: u32, before: u32, size: u32) -> i32 {
    let at = i32(out * params.stride + tap) - i32(before);
    if params.replicate == 1u {
        return clamp(at, 0, i32(size) - 1);
    }
    return select(-1, at, at >= 0 && at < i32(size));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let p = params;
    let channel_tiles = (p.c_out + 3u) / 4u;
    let column_tiles = (p.out_w + 3u) / 4u;
    var i = index(group, groups, lane);
    let co = (i % channel_tiles) * 4u;
    i /= channel_tiles;
    let ox = (i % column_tiles) * 4u;
    i /= column_tiles;
    let oy = i % p.out_h;
    let n = i / p.out_h;
    if n >= p.n {
        return;
    }
    // The last tile's spare lanes repeat the last channel and column; they are not stored.
    let last = p.c_out - 1u;
    let cs = min(vec4u(co, co + 1u, co + 2u, co + 3u), vec4u(last));
    let start = vec4f(real4(bias[cs.x], bias[cs.y], bias[cs.z], bias[cs.w]));
    var acc = array<vec4f, 4>(start, start, start, start);
    for (var ky = 0u; ky < p.kh; ky++) {
        let iy = origin(oy, ky, p.top, p.h);
        if iy < 0 {
            continue;
        }
        let row = (n * p.h + u32(iy)) * p.w;
        for (var kx = 0u; kx < p.kw; kx++) {
            var at: array<u32, 4>;
            var inside: vec4f;
            for (var j = 0u; j < 4u; j++) {
                let ix = origin(min(ox + j, p.out_w - 1u), kx, p.left, p.w);
                inside[j] = select(0.0, 1.0, ix >= 0);
                at[j] = (row + u32(max(ix, 0))) * p.c_in;
            }
            let tap = (ky * p.kw + kx) * p.c_in;
            for (var ci = 0u; ci < p.c_in; ci++) {
                let base = (tap + ci) * p.c_out;
                let w = vec4f(real4(weight[base + cs.x], weight[base + cs.y], weight[base + cs.z], weight[base + cs.w]));
                acc[0] += inside.x * f32(x[at[0] + ci]) * w;
                acc[1] += inside.y * f32(x[at[1] + ci]) * w;
                acc[2] += inside.z * f32(x[at[2] + ci]) * w;
                acc[3] += inside.w * f32(x[at[3] + ci]) * w;
            }
        }
    }
    for (var j = 0u; j < min(4u, p.out_w - ox); j++) {
        let base = ((n * p.out_h + oy) * p.out_w + ox + j) * p.c_out;
        for (var c = co; c < min(co + 4u, p.c_out); c++) {
            var value = activate(p.activation, p.slope, acc[j][c - co]);
            if p.residual == 1u {
                value += f32(residual[base + c]);
            }
            y[base + c] = real(value);
        }
    }
}

@group(0) @binding(0) var<storage, read> dy: array<real>;
@group(0) @binding(2) var<storage, read_write> dx: array<real>;

// The padded positions, before the padding was cut off, that show input position `at`.
fn shown(at: u32, before: u32, size: u32, padded: u32) -> vec2u {
    var range = vec2u(at + before, at + before);
    if params.replicate == 1u {
        range.x = select(range.x, 0u, at == 0u);
        range.y = select(range.y, padded - 1u, at == size - 1u);
    }
    return range;
}

// dx[n,iy,ix,ci] = Σ dy[n,oy,ox,co] · weight[ky,kx,ci,co] over the outputs that read the pixel.
@compute @workgroup_size(64)
fn backward_input(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                  @builtin(local_invocation_index) lane: u32) {
    let p = params;
    let element = index(group, groups, lane);
    if element >= p.n * p.h * p.w * p.c_in {
        return;
    }
    var i = element;
    let ci = i % p.c_in;
    i /= p.c_in;
    let ix = i % p.w;
    i /= p.w;
    let iy = i % p.h;
    let n = i / p.h;
    let ys = shown(iy, p.top, p.h, (p.out_h - 1u) * p.stride + p.kh);
    let xs = shown(ix, p.left, p.w, (p.out_w - 1u) * p.stride + p.kw);
    var sum = 0.0;
    for (var py = ys.x; py <= ys.y; py++) {
        for (var ky = 0u; ky < min(p.kh, py + 1u); ky++) {
            let oy = (py - ky) / p.stride;
            if (py - ky) % p.stride != 0u || oy >= p.out_h {
                continue;
            }
            for (var px = xs.x; px <= xs.y; px++) {
                for (var kx = 0u; kx < min(p.kw, px + 1u); kx++) {
                    let ox = (px - kx) / p.stride;
                    if (px - kx) % p.stride != 0u || ox >= p.out_w {
                        continue;
                    }
                    let start = ((n * p.out_h + oy) * p.out_w + ox) * p.c_out;
                    let tap = ((ky * p.kw + kx) * p.c_in + ci) * p.c_out;
                    for (var co = 0u; co < p.c_out; co++) {
                        sum += f32(dy[start + co]) * f32(weight[tap + co]);
                    }
                }
            }
        }
    }
    dx[element] = real(sum);
}

@group(0) @binding(1) var<storage, read> dy_of_weight: array<real>;
@group(0) @binding(2) var<storage, read_write> dweight: array<f32>;
@group(0) @binding(3) var<storage, read_write> dbias: array<f32>;

// dweight[ky,kx,ci,co] = Σ x[…] · dy[…] over all output pixels; the last c_out threads make dbias.
@compute @workgroup_size(64)
fn backward_weight(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                   @builtin(local_invocation_index) lane: u32) {
    let p = params;
    let element = index(group, groups, lane);
    let weights = p.kh * p.kw * p.c_in * p.c_out;
    if element >= weights + p.c_out {
        return;
    }
    var i = element;
    let co = i % p.c_out;
    i /= p.c_out;
    let ci = i % p.c_in;
    i /= p.c_in;
    let kx = i % p.kw;
    let ky = i / p.kw;
    var sum = 0.0;
    for (var n = 0u; n < p.n; n++) {
        for (var oy = 0u; oy < p.out_h; oy++) {
            // Summed row by row, which keeps the rounding of long sums small.
            var row = 0.0;
            let iy = origin(oy, ky, p.top, p.h);
            for (var ox = 0u; ox < p.out_w; ox++) {
                let g = f32(dy_of_weight[((n * p.out_h + oy) * p.out_w + ox) * p.c_out + co]);
                if element >= weights {
                    row += g;
                    continue;
                }
                let ix = origin(ox, kx, p.left, p.w);
                if iy >= 0 && ix >= 0 {
                    row += g * f32(x[((n * p.h + u32(iy)) * p.w + u32(ix)) * p.c_in + ci]);
                }
            }
            sum += row;
        }
    }
    if element < weights {
        dweight[element] = sum;
    } else {
        dbias[co] = sum;
    }
}
