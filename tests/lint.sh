#!/usr/bin/env bash
# Checks that need no compilation: buf over the API, clang-format over C++, shellcheck over scripts. With --tidy:
# clang-tidy over our C++, which needs a built tree (it reads what each file includes from there).
set -uo pipefail

usage() {
  cat <<'TEXT'
usage: tests/lint.sh [--fix | --tidy [--jobs N] [--build-dir DIR]]

  --fix            let clang-format rewrite files
  --tidy           clang-tidy alone; results are cached by content
  --jobs N         parallel clang-tidy processes (default: the number of cores)
  --build-dir DIR  built tree that --tidy reads (default build/release)
TEXT
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
mode=check jobs=$(nproc) build_dir=build/release
while [ $# -gt 0 ]; do
  case $1 in
    --fix) mode=fix ;;
    --tidy) mode=tidy ;;
    --jobs) jobs=${2:?--jobs takes a number}; shift ;;
    --build-dir) build_dir=${2:?--build-dir takes a folder}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "lint.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

if [ "$mode" = tidy ]; then
  exec python3 tests/tidy.py --build-dir "$build_dir" --jobs "$jobs"
fi

# Files that git knows or would add, so that build trees and results are left alone.
files() { git ls-files --cached --others --exclude-standard -- "$@" | while read -r file; do [ -f "$file" ] && echo "$file"; done; }

mapfile -t sources < <(files '*.cc' '*.h')
if [ "$mode" = fix ]; then
  clang-format-14 -i "${sources[@]}"
  exit
fi

status=0
# check NAME COMMAND...
check() {
  local name=$1
  shift
  if "$@"; then
    echo "$name: clean"
  else
    echo "$name: FAILED"
    status=1
  fi
}

mapfile -t scripts < <(
  files '*.sh' '.ci/*'
  files | while read -r file; do head -c 64 "$file" | head -n 1 | grep -aqE '^#!.*\b(ba)?sh\b' && echo "$file"; done
)
mapfile -t scripts < <(printf '%s\n' "${scripts[@]}" | sort -u)

check "clang-format (${#sources[@]} files)" clang-format-14 --dry-run --Werror "${sources[@]}"
check "shellcheck (${#scripts[@]} scripts)" shellcheck --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
buf=tests/tools/node_modules/.bin/buf
if [ -x "$buf" ]; then
  check "buf lint" "$buf" lint proto
else
  echo "buf lint: FAILED: buf is not installed; run deploy/install-dependencies.sh --lint"
  status=1
fi
exit "$status"
