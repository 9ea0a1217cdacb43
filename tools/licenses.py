"""Writes the list of crates that `astray licenses` prints, from what cargo knows.

    python tools/licenses.py            # writes src/cli/licenses/crates.txt
    python tools/licenses.py --check    # status 1 where that is not what is there

A line for every package of Cargo.lock: name, version, licence, and the systems whose program it is linked into;
none where it is for building and testing alone. A test compares names and versions with Cargo.lock. Where cargo cannot
get the packages that it has to look into, `--check` says so and checks nothing.
"""

import argparse
import pathlib
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIST = ROOT / "src/cli/licenses/crates.txt"
SYSTEMS = {"linux": "x86_64-unknown-linux-gnu", "macos": "aarch64-apple-darwin", "windows": "x86_64-pc-windows-msvc"}


def tree(edges, target):
    """(name, version) → licence of what cargo sees along these edges."""
    options = ["--edges", edges, "--target", target, "--prefix", "none", "--format", "{p}|{l}|"]
    command = ["cargo", "tree", "--locked", "--quiet", *options]
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {}
    for line in filter(None, text.splitlines()):
        package, licence, _ = line.split("|")
        name, version = package.split()[:2]
        found[name, version.removeprefix("v")] = licence.replace("/", " OR ") or "-"
    return found


def listed():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    licences = tree("normal,build,dev", "all")
    linked = {system: tree("normal,no-proc-macro", target) for system, target in SYSTEMS.items()}
    lines = []
    for package in lock["package"]:
        key = package["name"], package["version"]
        if "source" in package:
            systems = [system for system, found in linked.items() if key in found]
            # What no system and no feature of ours ever builds is in the lock file, too.
            lines.append("\t".join([*key, licences.get(key, "-"), " ".join(systems)]).rstrip("\t") + "\n")
    return "".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    options = parser.parse_args()
    try:
        text = listed()
    except subprocess.CalledProcessError as error:
        if not options.check:
            raise
        print(f"licenses.py: {error}: not reached: the list of crates was NOT CHECKED", file=sys.stderr)
        return
    if not options.check:
        LIST.parent.mkdir(exist_ok=True)
        LIST.write_text(text)
    elif LIST.read_text() != text:
        sys.exit(f"{LIST.relative_to(ROOT)} is stale: python tools/licenses.py writes it anew")


if __name__ == "__main__":
    main()
