#!/usr/bin/env python3
"""clang-tidy over the sources of a built tree, with results cached by content.

A file is checked again only when something that could change the result did: the file, a header of ours that it
includes (as ninja recorded them when it built the file), its compile command, .clang-tidy, or the versions of the
compiler's and libraries' packages. Only clean results are cached.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIDY = "clang-tidy-14"
LIMIT_S = 600


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout


def sources(build_dir):
    """Our own sources among the compile commands; generated code is not ours."""
    for entry in json.loads((build_dir / "compile_commands.json").read_text()):
        file = pathlib.Path(entry["file"])
        if file.is_relative_to(ROOT) and not file.is_relative_to(ROOT / "build"):
            yield file, entry


def recorded_dependencies(build_dir):
    """Object file -> files it was built from, out of ninja's log."""
    dependencies, current = {}, None
    for line in run("ninja", "-C", str(build_dir), "-t", "deps").splitlines():
        if line.startswith("    "):
            current.append(line.strip())
        elif ": #deps" in line:
            current = dependencies.setdefault(line.split(": #deps")[0], [])
    return dependencies


class Key:
    """What a result depends on, as a hash."""

    def __init__(self, build_dir):
        self.build_dir = build_dir
        self.dependencies = recorded_dependencies(build_dir)
        self.contents = {}
        packages = [line.strip() for line in (ROOT / "deploy/packages.txt").read_text().splitlines() if line.strip()]
        versions = subprocess.run(["dpkg-query", "-W", "-f", "${Package}=${Version}\n", *packages],
                                  capture_output=True, text=True, timeout=60, check=False).stdout
        self.common = hashlib.sha256("\0".join(
            [(ROOT / ".clang-tidy").read_text(), versions, run(TIDY, "--version")]).encode()).digest()

    def content(self, path):
        if path not in self.contents:
            self.contents[path] = hashlib.sha256(path.read_bytes()).digest() if path.exists() else b"absent"
        return self.contents[path]

    def of(self, file, entry):
        digest = hashlib.sha256(self.common)
        digest.update(entry["command"].replace(str(ROOT), "ROOT").encode())
        digest.update(self.content(file))
        words = shlex.split(entry["command"])
        recorded = self.dependencies.get(words[words.index("-o") + 1])
        if recorded is None:
            return None  # never built: what it includes is not known, so it is checked
        for name in sorted(recorded):
            path = pathlib.Path(os.path.normpath(self.build_dir / name))
            if path.is_relative_to(ROOT):
                digest.update(str(path.relative_to(ROOT)).encode())
                digest.update(self.content(path))
        return digest.hexdigest()


def check(file, entry, build_dir):
    """Returns clang-tidy's complaints, empty when there are none."""
    result = subprocess.run([TIDY, "-p", str(build_dir), "--quiet", "--extra-arg=-Wno-unknown-warning-option", str(file)], cwd=ROOT, capture_output=True,
                            text=True, timeout=LIMIT_S, check=False)
    if result.returncode == 0:
        return ""
    return result.stdout.replace(str(ROOT) + "/", "") + "".join(
        line + "\n" for line in result.stderr.splitlines() if "error" in line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build-dir", default="build/release", help="tree that was built (default build/release)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    parser.add_argument("--only", default="", help="check only files whose path contains this")
    arguments = parser.parse_args()

    build_dir = (ROOT / arguments.build_dir).resolve()
    if not (build_dir / "compile_commands.json").exists():
        sys.exit(f"tidy.py: {arguments.build_dir} is not configured; run cmake --preset release and build it first")
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "loadstar" / "tidy"
    cache.mkdir(parents=True, exist_ok=True)

    key = Key(build_dir)
    wanted = {}
    for file, entry in sources(build_dir):
        if arguments.only in str(file.relative_to(ROOT)):
            wanted.setdefault(file, (entry, key.of(file, entry)))
    todo = [(file, entry, name) for file, (entry, name) in wanted.items() if not (name and (cache / name).exists())]
    print(f"clang-tidy: {len(wanted)} files, {len(wanted) - len(todo)} unchanged since they were found clean", flush=True)

    bad = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        pending = {pool.submit(check, file, entry, build_dir): (file, name) for file, entry, name in todo}
        for done in concurrent.futures.as_completed(pending):
            file, name = pending[done]
            try:
                complaints = done.result()
            except subprocess.TimeoutExpired:
                complaints = f"took longer than {LIMIT_S} s\n"
            if complaints:
                bad += 1
                print(f"{file.relative_to(ROOT)}:\n{complaints}", flush=True)
            elif name:
                (cache / name).touch()
    forget_old(cache)
    if bad:
        sys.exit(f"clang-tidy: {bad} files with findings")
    print("clang-tidy: clean")


def forget_old(cache, keep_s=30 * 24 * 3600):
    """Results of a month ago are of sources that are gone."""
    for entry in cache.iterdir():
        if entry.stat().st_mtime < time.time() - keep_s:
            entry.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
