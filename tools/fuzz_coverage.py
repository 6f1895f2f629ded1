#!/usr/bin/env python3
"""What the kept inputs of the fuzz targets reach, by function.

    tools/fuzz_coverage.py PROGRAMS    the folder of the programs, built with AddressSanitizer

Each program runs its inputs once and tells which branches of each function they took; `llvm-symbolizer` names them.
Prints a line for each file of ours: the branches taken, of those in functions that any target reaches, and functions
that none does although they are in the same file. A function counts with the target that takes most of it.
"""

import collections
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINE = re.compile(r"^(UN)?COVERED_FUNC: hits: \d+ edges: (\d+)/(\d+) (.+) (\S+):(\d+)$")


def reached(program):
    """(file, line, name) → (taken, all) of one target."""
    folders = [ROOT / "fuzz" / kind / program.name for kind in ("corpus", "regressions")]
    environment = os.environ | {"ASAN_SYMBOLIZER_PATH": shutil.which("llvm-symbolizer") or ""}
    done = subprocess.run(
        [program, "-runs=0", "-print_coverage=1", *[folder for folder in folders if folder.is_dir()]],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment,
    )
    found = {}
    for line in done.stdout.splitlines():
        match = LINE.match(line)
        if match and match[5].startswith(f"{ROOT}/"):
            file = match[5].removeprefix(f"{ROOT}/")
            name = re.sub(r"::h[0-9a-f]{16}$", "", match[4])
            found[file, int(match[6]), name] = (int(match[2]), int(match[3]))
    return found


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    targets = sorted(path.stem for path in (ROOT / "fuzz" / "fuzz_targets").glob("*.rs"))
    programs = [pathlib.Path(sys.argv[1]) / target for target in targets]
    best = collections.defaultdict(lambda: (0, 0))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(reached, programs):
            for where, (taken, of) in found.items():
                best[where] = max(best[where], (taken, of))
    files = collections.defaultdict(list)
    for (file, line, name), (taken, of) in best.items():
        files[file].append((line, name, taken, of))
    for file, functions in sorted(files.items()):
        hit = [one for one in functions if one[2]]
        missed = sorted({(line, name) for line, name, taken, _ in functions if not taken})
        if not hit or "fuzzing" in file:
            continue
        taken, of = sum(one[2] for one in hit), sum(one[3] for one in hit)
        print(f"{file}: {taken} of {of} branches in {len(hit)} functions, {len(missed)} functions not reached")
        for line, name in missed:
            print(f"    {line}: {name}")


if __name__ == "__main__":
    main()
