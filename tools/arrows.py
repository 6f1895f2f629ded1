#!/usr/bin/env python3
"""Asserts which workspace crate may depend on which, from `cargo metadata`, and that unsafe code stands in one place.

    tools/arrows.py              check the workspace; exit 1 and one line per finding
    tools/arrows.py --self-test  forge metadata with each forbidden arrow and expect each to be caught

Development dependencies are exempt: a test may stand anywhere.
"""

import json
import pathlib
import re
import subprocess
import sys

ALLOWED = {
    "tierline": {"tierline-archive", "tierline-indexer", "tierline-ingest", "tierline-tiering", "tierline-http"},
    "tierline-ingest": {"tierline-indexer", "tierline-archive"},
    "tierline-tiering": {"tierline-indexer", "tierline-archive"},
    "tierline-http": {"tierline-indexer", "tierline-archive"},
    "tierline-indexer": {"tierline-archive"},
    "tierline-archive": set(),
}

# Where the lint against unsafe code may be switched off; the workspace denies it everywhere else.
UNSAFE = {"archive/src/sha256/two.rs"}
SWITCHED_OFF = re.compile(r"\b(allow|expect|warn)\s*\([^\]]*\bunsafe_code\b")


def lifted(sources):
    """One sentence for each source, a path and a text, that lifts the lint without having a place for it."""
    return [
        f"{path} must not hold unsafe code"
        for path, text in sources
        if SWITCHED_OFF.search(text) and path not in UNSAFE
    ]


def unlinted(manifests):
    """One sentence for each manifest, a path and a text, that does not take over the workspace's lints."""
    return [f"{path} must inherit the lints" for path, text in manifests if "[lints]\nworkspace = true" not in text]


def sources(root):
    """The tracked Rust sources of the workspace; `vendor` is not part of it."""
    command = ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.rs"]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().split("\0")
    paths = [path for path in listed if path and not path.startswith("vendor/")]
    return [(path, (root / path).read_text()) for path in paths if (root / path).is_file()]


def broken(metadata):
    """One sentence for each arrow that the house does not have."""
    findings = []
    members = {p["name"]: p for p in metadata["packages"] if p["id"] in set(metadata["workspace_members"])}
    for missing in sorted(ALLOWED.keys() - members.keys()):
        findings.append(f"{missing} is not in the workspace")
    for name in sorted(members.keys() - ALLOWED.keys()):
        findings.append(f"{name} is in the workspace but has no place in tools/arrows.py")
    for name in sorted(members.keys() & ALLOWED.keys()):
        for dependency in members[name]["dependencies"]:
            if dependency["kind"] == "dev":
                continue
            local = dependency.get("path") is not None or dependency["name"] in ALLOWED
            if local and dependency["name"] not in ALLOWED[name]:
                findings.append(f"{name} must not depend on {dependency['name']}")
    return findings


def forged(arrows, kind=None):
    """Metadata of a workspace that has exactly the given (from, to) arrows."""
    packages = [
        {
            "id": name,
            "name": name,
            "dependencies": [
                {"name": to, "kind": kind, "path": f"/{to}", "rename": "alias"} for source, to in arrows if source == name
            ],
        }
        for name in ALLOWED
    ]
    return {"packages": packages, "workspace_members": list(ALLOWED)}


def self_test():
    """The check passes the house as drawn and catches every other arrow, one at a time."""
    drawn = [(source, to) for source, targets in ALLOWED.items() for to in targets]
    assert broken(forged(drawn)) == [], broken(forged(drawn))
    forbidden = [(a, b) for a in ALLOWED for b in ALLOWED if a != b and (a, b) not in drawn]
    for arrow in forbidden:
        expected = [f"{arrow[0]} must not depend on {arrow[1]}"]
        assert broken(forged(drawn + [arrow])) == expected, arrow
        assert broken(forged(drawn + [arrow], "build")) == expected, arrow
    assert broken(forged(forbidden, "dev")) == []
    stray = forged(drawn)
    stray["packages"].append({"id": "stray", "name": "stray", "dependencies": []})
    stray["workspace_members"].append("stray")
    assert len(broken(stray)) == 1
    for text in ("#![allow(unsafe_code)]", "#[warn(unsafe_code)]", '#[expect(dead_code, reason = "f()", unsafe_code)]'):
        assert len(lifted([("http/src/lib.rs", text)])) == 1, text
        assert lifted([(path, text) for path in UNSAFE]) == []
    assert len(unlinted([("a", "[lints]\nworkspace = true\n"), ("b", "[dependencies]\n")])) == 1
    print(f"arrows: self-test caught all {len(forbidden)} forbidden arrows")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if sys.argv[1:]:
        sys.exit(__doc__)
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    findings = broken(metadata)
    manifests = [pathlib.Path(package["manifest_path"]) for package in metadata["packages"]]
    findings += unlinted([(path, path.read_text()) for path in manifests])
    findings += lifted(sources(pathlib.Path(__file__).resolve().parent.parent))
    for finding in findings:
        print(f"arrows: {finding}", file=sys.stderr)
    if findings:
        sys.exit(1)
    print("arrows: every crate depends only on those below it, and unsafe code stands in one place")


if __name__ == "__main__":
    main()
