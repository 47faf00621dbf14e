#!/usr/bin/env bash
# Installs what Loadstar needs on Debian 12: the packages of deploy/packages.txt, and with --lint also buf (from npm,
# pinned in tests/tools/), with --bench the tools that tests/bench/ compares with. Does nothing, quickly, when everything is
# there.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: deploy/install-dependencies.sh [--lint] [--bench] [--check | --authorize]

  --lint    also install what only tests/lint.sh needs: buf, through npm (npm itself from Debian when it is missing, which
            brings some 360 packages with it)
  --bench   also install what only tests/bench/ needs (tests/bench/packages.txt): the tools that it compares with. One of
            them is nginx, which Debian starts as a service on port 80
  --check   install nothing; say what is missing and exit 1 when something is
  --authorize
            install nothing; when packages are missing and this user is not root, let sudo ask for the password now, on the
            terminal, so that a later installation from the same terminal need not
TEXT
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
list=$root/deploy/packages.txt
with_lint=false
with_bench=false
check_only=false
authorize_only=false
for argument in "$@"; do
  case $argument in
    --lint) with_lint=true ;;
    --bench) with_bench=true ;;
    --check) check_only=true ;;
    --authorize) authorize_only=true ;;
    -h | --help) usage; exit 0 ;;
    *) echo "install-dependencies.sh: unknown argument '$argument'" >&2; usage >&2; exit 2 ;;
  esac
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "install-dependencies.sh: this system has no apt-get. Loadstar is built on Debian 12; elsewhere install the" >&2
  echo "equivalents of $list yourself and run the CMake build as CONTRIBUTING.md says." >&2
  exit 1
fi

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "install-dependencies.sh: installing packages needs root; run it as root or install sudo" >&2
    exit 1
  fi
}

# authorize PACKAGE...: root, a sudo that needs no password, or the password asked for now.
authorize() {
  [ "$(id -u)" -ne 0 ] || return 0
  if command -v sudo >/dev/null; then
    ! sudo -n true 2>/dev/null || return 0
    echo "${#} Debian packages are missing, and installing them needs root: sudo asks for your password now. They are: $*"
  fi
  as_root -v || {
    echo "install-dependencies.sh: sudo did not grant it; install the packages above as root, then run this again" >&2
    exit 1
  }
}

# The packages among the arguments that are not installed, one a line.
missing_of() {
  dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null | awk -v wanted="$*" '
    $2 == "installed" { have[$1] = 1 }
    END { n = split(wanted, names, " "); for (i = 1; i <= n; i++) if (!(names[i] in have)) print names[i] }'
}

install_packages() {
  local missing
  mapfile -t missing < <(missing_of "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0
  if $check_only; then
    echo "missing packages: ${missing[*]}"
    exit 1
  fi
  if $authorize_only; then
    authorize "${missing[@]}"
    exit 0
  fi
  echo "installing ${#missing[@]} packages: ${missing[*]}"
  local name
  for name in "${missing[@]}"; do
    # A package without a candidate means that the lists were never fetched, or are those of another release.
    if ! apt-cache policy "$name" 2>/dev/null | grep -q 'Candidate: [0-9]'; then
      as_root apt-get update -q
      break
    fi
  done
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends)
  # Lists that are too old name versions that the mirror no longer has: fetch them and try once more.
  as_root "${apt[@]}" "${missing[@]}" || { as_root apt-get update -q && as_root "${apt[@]}" "${missing[@]}"; }
}

lists=("$list")
! $with_bench || lists+=("$root/tests/bench/packages.txt")
mapfile -t packages < <(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "${lists[@]}")
install_packages "${packages[@]}"

if $with_lint; then
  tools=$root/tests/tools
  command -v npm >/dev/null || install_packages nodejs npm
  # npm writes this file last, so that an interrupted installation is done again.
  if [ ! "$tools/node_modules/.package-lock.json" -nt "$tools/package-lock.json" ]; then
    ! $authorize_only || exit 0
    if $check_only; then
      echo "missing: buf (npm ci in tests/tools)"
      exit 1
    fi
    echo "installing buf with npm"
    (cd "$tools" && npm ci --ignore-scripts --no-progress)
  fi
fi
