"""numpy's legacy permutations, which the teacher's blocks use."""

import hashlib
import json

import numpy as np


def write(folder):
    """random_state.json: head and sha256 (of little-endian u32) of RandomState(seed).permutation(count)."""
    entries = []
    for count in (12, 64, 192, 304, 368):
        for seed in range(8):
            order = np.random.RandomState(seed).permutation(count)
            digest = hashlib.sha256(order.astype("<u4").tobytes()).hexdigest()
            entries.append({"count": count, "seed": seed, "head": order[:16].tolist(), "sha256": digest})
    lines = ",\n".join("  " + json.dumps(entry) for entry in entries)
    text = '{"made_by": "tools/reference.py", "numpy": "%s", "permutations": [\n%s\n]}\n' % (
        np.__version__,
        lines,
    )
    (folder / "random_state.json").write_text(text)
    print(f"random_state.json: {len(entries)} permutations", flush=True)
