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
# Enough that the libraries' headers are a small part of a batch, few enough that both cores have work to the end.
FILES_TOGETHER = 8


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


def arguments_of(entry):
    """The compiler's arguments without what names this one file: equal for files that may be checked together."""
    words = shlex.split(entry["command"])
    words = words[next(i for i, word in enumerate(words) if pathlib.Path(word).name in ("g++", "c++", "clang++")) + 1:]
    kept, skip = [], False
    for word in words:
        if skip or word in ("-c", "-MD"):
            skip = False
        elif word in ("-o", "-MF", "-MT"):
            skip = True
        elif not word.endswith(entry["file"]):
            kept.append(word)
    return tuple(kept)


class Batch:
    """Files that are checked as one: most of clang-tidy's time goes into the libraries' headers, once for each of its runs.

    Where they do not compile together (two of them use a name in an unnamed namespace, say), halves are tried, down to
    single files.
    """

    def __init__(self, folder, files, arguments):
        self.folder, self.files, self.arguments = folder, files, arguments

    def run(self):
        """Returns [(files, complaints)], where complaints are empty when all of the files are clean."""
        if len(self.files) == 1:
            unit = self.files[0]
        else:
            name = hashlib.sha256("\0".join(map(str, self.files)).encode()).hexdigest()[:16]
            unit = self.folder / f"{name}.cc"
            unit.write_text("".join(f'#include "{file}"\n' for file in self.files))
        # Sources are headers of a batch.
        command = [TIDY, "--quiet", "--extra-arg=-Wno-unknown-warning-option", "--checks=-bugprone-suspicious-include",
                   r"--header-filter=/(lib|server|agent|client|target|tests)/[^ ]*\.(h|cc)$", str(unit), "--",
                   *self.arguments]
        try:
            result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S * len(self.files),
                                    check=False)
        except subprocess.TimeoutExpired:
            return [(self.files, f"took longer than {LIMIT_S * len(self.files)} s\n")]
        if result.returncode == 0:
            return [(self.files, "")]
        if len(self.files) > 1 and "clang-diagnostic-error" in result.stdout:
            half = len(self.files) // 2
            return (Batch(self.folder, self.files[:half], self.arguments).run()
                    + Batch(self.folder, self.files[half:], self.arguments).run())
        complaints = result.stdout.replace(str(ROOT) + "/", "") + "".join(
            line + "\n" for line in result.stderr.splitlines() if "error" in line)
        return [(self.files, complaints)]


def batches(todo, folder):
    """Batches of files with equal arguments, in the order of their names."""
    by_arguments = {}
    for file, entry, _ in todo:
        by_arguments.setdefault(arguments_of(entry), []).append(file)
    for arguments, files in by_arguments.items():
        files.sort()
        for i in range(0, len(files), FILES_TOGETHER):
            yield Batch(folder, files[i:i + FILES_TOGETHER], arguments)


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
    folder = build_dir / "tidy"
    folder.mkdir(exist_ok=True)

    key = Key(build_dir)
    wanted = {}
    for file, entry in sources(build_dir):
        if arguments.only in str(file.relative_to(ROOT)):
            wanted.setdefault(file, (entry, key.of(file, entry)))
    todo = [(file, entry, name) for file, (entry, name) in wanted.items() if not (name and (cache / name).exists())]
    print(f"clang-tidy: {len(wanted)} files, {len(wanted) - len(todo)} unchanged since they were found clean", flush=True)

    bad = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(batch.run) for batch in batches(todo, folder)]):
            for files, complaints in done.result():
                names = [str(file.relative_to(ROOT)) for file in files]
                # A finding in a header may be any file's; else those are clean that it does not name.
                blamed = [name for name in names if f"{name}:" in complaints] or (names if complaints else [])
                if complaints:
                    bad += len(blamed)
                    print(f"{' '.join(blamed)}:\n{complaints}", flush=True)
                in_header = any(".h:" in line and "error:" in line for line in complaints.splitlines())
                for file, name in zip(files, names):
                    if name not in blamed and not in_header and wanted[file][1]:
                        (cache / wanted[file][1]).touch()
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
