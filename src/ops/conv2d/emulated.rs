//! The kernels for matrix units on adapters without: every matrix is a small array, and a subgroup is two
//! threads, which do the same with them. It shows that what is loaded, multiplied and stored is right;
//! not that a driver's matrices are.

use super::{gradient, tiles};

/// `conv2d/matrix.wgsl` with matrices of `side` × `side`.
pub(super) fn matrix(side: u32) -> &'static str {
    let names = [
        "coopLoadT<Left>(&tile_x[",
        "coopLoadT<Right>(&tile_w[",
        "&tile_y[from_y]",
    ];
    let left = "tile_x[at + i / SIDE * stride + i % SIDE / 4u][i % 4u]";
    emulated(tiles::MATRIX, side, names, left)
}

/// `conv2d/gradient_matrix.wgsl`; its matrices of x are read by columns.
pub(super) fn gradient(side: u32) -> &'static str {
    let names = [
        "coopLoad<Left>(&tile_x[",
        "coopLoadT<Right>(&tile_dy[",
        "&tile_dw[from_dw]",
    ];
    let left = "tile_x[at + i % SIDE * stride + i / SIDE / 4u][i / SIDE % 4u]";
    emulated(gradient::MATRIX_SHADER, side, names, left)
}

fn emulated(text: &str, side: u32, [left, right, sums]: [&str; 3], element: &str) -> &'static str {
    let tile = |name: &str| name.split(['&', '[']).nth(1).unwrap().to_string();
    let (_enable, text) = text.split_once('\n').unwrap();
    let put = format!("coopStoreT(sum, {sums},");
    let put_to = format!("put(sum, {},", sums.split(['[', ']']).nth(1).unwrap());
    let mut text = text.to_string();
    for (from, to) in [
        ("const LANES = 32u;", "const LANES = 2u;"),
        (left, "left(("),
        (right, "right(("),
        ("coopMultiplyAdd(", "multiply_add("),
        (&put, &put_to),
        ("], ROW)", "), ROW)"),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let text = text.replace("], DEEP)", "), DEEP)");
    let (right, sums, count) = (tile(right), tile(sums), side * side);
    format!(
        "{text}\nconst SIDE = {side}u;\nalias Sum = array<f32, {count}>;\n\
         fn left(at: u32, stride: u32) -> Sum {{ var m: Sum; for (var i = 0u; i < {count}u; i++) {{ \
         m[i] = f32({element}); }} return m; }}\n\
         fn right(at: u32, stride: u32) -> Sum {{ var m: Sum; for (var i = 0u; i < {count}u; i++) {{ \
         m[i] = f32({right}[at + i / SIDE * stride + i % SIDE / 4u][i % 4u]); }} return m; }}\n\
         fn put(sum: Sum, at: u32, stride: u32) {{ var m = sum; for (var i = 0u; i < {count}u; i++) {{ \
         {sums}[at + i / SIDE * stride + i % SIDE / 4u][i % 4u] = m[i]; }} }}\n\
         fn multiply_add(left: Sum, right: Sum, sum: Sum) -> Sum {{ var a = left; var b = right; \
         var c = sum; for (var i = 0u; i < {count}u; i++) {{ for (var k = 0u; k < SIDE; k++) {{ \
         c[i] += a[i / SIDE * SIDE + k] * b[k * SIDE + i % SIDE]; }} }} return c; }}\n"
    )
    .leak()
}
