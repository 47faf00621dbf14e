#!/usr/bin/env bash
# A Colima virtual machine that holds 100,000 connections and more: created, tuned inside, tried out, taken down.
set -uo pipefail

usage() {
  cat <<'TEXT'
usage: deploy/colima-setup.sh start|config|stop|status|clean [options]

  start    write its configuration, create or start it, make the kernel's settings inside, try them out
  config   write its configuration, and make the settings inside when it runs; never starts or restarts it
  stop     stop it; what is in it stays
  status   compare what runs with the profile; changes nothing
  clean    delete it with its containers, their data and its configuration; asks first

  --tuning FILE      profile: a path, or a name of deploy/tuning/   (default colima-100k: 12 CPUs, 16 GiB, 100 GiB)
  --profile NAME     Colima's name of the virtual machine           (default loadstar)
  --allow-restart    start: restart a running virtual machine when it has to change; its containers are interrupted
  --vm-type TYPE     qemu or vz; macOS only                         (default: Colima's)
  --yes              clean: do not ask
  --json             one JSON object a line on standard output

Builds build/release/bin/loadstar-colima when it is not there or not new, and runs it. Needs Docker's command, and Colima
0.6.0 and Lima 0.18.0 or newer; what is missing is named with how to install it.

Exit code: 0 done; 2 invalid input, nothing was done; 4 it could not be carried out, or not all of the profile is in effect.
TEXT
}

case ${1-} in
  start | config | stop | status | clean) ;;
  -h | --help) usage; exit 0 ;;
  '') echo 'colima-setup.sh: say what to do' >&2; usage >&2; exit 2 ;;
  *) echo "colima-setup.sh: unknown verb '$1'" >&2; usage >&2; exit 2 ;;
esac

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly program=$root/build/release/bin/loadstar-colima log=$root/build/release/colima-setup.log

# fail WHAT REMEDY
fail() {
  {
    echo "colima-setup.sh: $1"
    if [ -s "$log" ]; then
      echo "---- last lines of $log"
      tail -n 15 "$log"
      echo '----'
    fi
    echo "How to go on: $2"
  } >&2
  exit 4
}

if [ "$(uname -s)" != Linux ] && [ ! -x "$program" ]; then
  fail "Loadstar's programs are built on Linux only, and this is $(uname -s)" \
    'install Colima with: brew install colima docker; docs/colima.md has the calls that start makes, to be made by hand'
fi

# Who lacks Colima shall not wait for a build to be told so; the program says it of what it is given itself.
how_to_install() {
  case $1 in
    colima) echo "colima-Linux-$(uname -m) of https://github.com/abiosoft/colima/releases, as /usr/local/bin/colima" ;;
    limactl) echo 'https://github.com/lima-vm/lima/releases, unpacked in /usr/local; with QEMU (Debian: qemu-system-x86 qemu-utils)' ;;
    docker) echo "your distribution's package (Debian: docker.io)" ;;
  esac
}
if [ ! -x "$program" ]; then
  all_there=true
  for name in colima limactl docker; do
    command -v "$name" >/dev/null && continue
    echo "colima-setup.sh: $name is not installed: $(how_to_install "$name")" >&2
    all_there=false
  done
  $all_there || exit 4
fi

build() {
  local marker=$root/build/release/.made-by-quickstart
  if ! "$root/deploy/install-dependencies.sh" --check >/dev/null 2>&1; then
    echo 'installing missing Debian packages' >&2
    timeout --foreground --kill-after=10 1800 "$root/deploy/install-dependencies.sh" >&2 ||
      fail 'dependencies could not be installed' 'mend what the lines above say (network, rights), then run this again'
  fi
  if [ ! -d "$root/build/release" ]; then
    # deploy/quickstart.sh --clean then takes it away.
    mkdir -p "$root/build/release" && touch "$marker"
  fi
  : >"$log"
  [ -x "$program" ] || echo "building loadstar-colima (minutes, the first time); output goes to $log" >&2
  # Once it is configured, ninja knows itself when it has to be again.
  (cd "$root" && { [ -f build/release/build.ninja ] || timeout --foreground --kill-after=10 300 cmake --preset release; } &&
    timeout --foreground --kill-after=10 3600 ninja -C build/release loadstar-colima) >>"$log" 2>&1 </dev/null ||
    fail 'the build failed' 'mend what the log says, then run this again: it goes on where it stopped'
  rm -f "$log"
}

[ "$(uname -s)" != Linux ] || build
exec "$program" "$@"
