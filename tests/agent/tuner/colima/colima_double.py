#!/usr/bin/env python3
"""A strict double of Colima's command line, as its source has it: `colima`, `limactl` and `docker` are links to this file,
put in front of PATH by install(). What the real one would refuse, and what Loadstar has no business to call, ends with exit
code 64, a message on standard error and a line in the folder's file `violations`. Every call is a line of JSON in `calls`.

It is Colima on Linux: macOS's flags are unknown. Its virtual machine is the network namespace of the settings, made anew at
each start, as a machine's kernel forgets at a reboot. What `colima ssh` and the configuration's provision scripts run is run
there for real, by this user, with everything else that can be written under /proc/sys made read-only first. Inside, `sudo`
runs what it is given, the engine's daemon.json is what the configuration said at the last start, and `docker ps` shows what
the file `containers` says. Each start has a boot id of its own.

The setting `start_takes` makes a start take so many seconds. A file `hang`, "before KEY" or "after KEY", makes the next write
of that key never end, before or after it is done; then there is a file `hanging`.
"""

import fcntl
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid

import yaml

GIB = 1 << 30
# Colima reads its configuration into a structure: what it does not know is gone when it writes it back.
KNOWN_KEYS = ("cpu", "disk", "memory", "arch", "cpuType", "forwardAgent", "network", "env", "hostname", "mounts", "mountType",
              "runtime", "autoActivate", "kubernetes", "docker", "vmType", "provision", "sshConfig")
DEFAULTS = {"cpu": 2, "memory": 2, "disk": 60, "arch": "x86_64", "runtime": "docker", "vmType": "qemu", "mountType": "sshfs",
            "docker": {}, "provision": []}
FIXED = ("arch", "runtime", "vmType", "mountType")
NAME = r"[a-z0-9][a-z0-9-]{0,62}"
KEY = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+"
# What may be run inside, word by word; the last pattern of "+" is that of one or more words.
INSIDE = (
    (r"sudo", r"sysctl", r"-e", "+", KEY),
    (r"sudo", r"sysctl", r"-w", KEY + r"=( |[0-9][0-9 ,-]*)"),
    (r"sudo", r"modprobe", r"--", r"[A-Za-z0-9_][A-Za-z0-9_-]*"),
    (r"sudo", r"cat", r"/etc/docker/daemon\.json"),
    (r"sudo", r"cat", r"/proc/sys/kernel/random/boot_id"),
    (r"sudo", r"docker", r"ps", r"-q"),
    (r"sudo", r"prlimit", r"--nofile=[0-9]+:[0-9]+", r"sh", r"-c", r"ulimit -Sn; ulimit -Hn"),
)
GUEST_PROGRAMS = {
    "sudo": 'exec "$@"',
    "cat": """case "$*" in
  /etc/docker/daemon.json) set -- "$COLIMA_DOUBLE/daemon.json" ;;
  /proc/sys/kernel/random/boot_id) set -- "$COLIMA_DOUBLE/boot_id" ;;
esac
exec /bin/cat "$@\"""",
    "docker": '[ "$*" = "ps -q" ] || exit 64\nexec /bin/cat "$COLIMA_DOUBLE/containers"',
    "modprobe": 'echo "modprobe: FATAL: Module $2 not found." >&2\nexit 1',
}
ENTER = """for part in fs kernel vm; do
  mount --bind "/proc/sys/$part" "/proc/sys/$part" && mount -o remount,bind,ro "/proc/sys/$part" || exit 64
done
exec "$@"
"""


def install(folder, **settings):
    """Makes the folder: returns what the environment of a program has to have to find the double and nothing else of Colima."""
    folder = pathlib.Path(folder)
    for name in ("bin", "guest-bin", "colima-home", "home"):
        (folder / name).mkdir(parents=True)
    for name in ("colima", "limactl", "docker"):
        (folder / "bin" / name).symlink_to(pathlib.Path(__file__).resolve())
    for name, text in GUEST_PROGRAMS.items():
        program = folder / "guest-bin" / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    for name in ("calls", "violations", "containers"):
        (folder / name).touch()
    (folder / "settings").write_text(json.dumps(settings))
    (folder / "machines").write_text("{}")
    (folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
    return {"COLIMA_DOUBLE": str(folder), "COLIMA_HOME": str(folder / "colima-home"), "HOME": str(folder / "home"),
            "PATH": f"{folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class Double:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.settings = json.loads((self.folder / "settings").read_text())
        self.machines = json.loads((self.folder / "machines").read_text())
        self.version = tuple(int(part) for part in self.settings["colima"].split("."))

    def refuse(self, why):
        text = f"double: {pathlib.Path(sys.argv[0]).name} {sys.argv[1:]}: {why}"
        with open(self.folder / "violations", "a", encoding="utf-8") as file:
            file.write(text + "\n")
        print(text, file=sys.stderr)
        sys.exit(64)

    def save(self):
        (self.folder / "machines").write_text(json.dumps(self.machines))

    def config_path(self, name):
        return pathlib.Path(os.environ["COLIMA_HOME"]) / name / "colima.yaml"

    def guest(self, command, **options):
        environment = {**os.environ, "PATH": f"{self.folder}/guest-bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        return subprocess.run(["ip", "netns", "exec", self.settings["namespace"], "sh", "-c", ENTER, "sh", *command],
                              env=environment, stdin=subprocess.DEVNULL, timeout=60, check=False, **options)

    # ---- Arguments

    def profile(self, arguments):
        """Takes `--profile NAME`, which Loadstar says first of all; returns the name and the rest."""
        if len(arguments) < 2 or arguments[0] != "--profile":
            self.refuse("--profile NAME is expected first")
        if not re.fullmatch(NAME, arguments[1]):
            self.refuse(f"{arguments[1]!r} is no name of a profile")
        return arguments[1], arguments[2:]

    def flags(self, arguments, known):
        """Takes flags with or without a value: {flag: pattern of the value, or None}."""
        found = {}
        while arguments:
            flag, *arguments = arguments
            if flag not in known:
                self.refuse(f"unknown flag: {flag}")
            if flag in found:
                self.refuse(f"{flag} is there twice")
            found[flag] = True
            if known[flag] is not None:
                if not arguments or not re.fullmatch(known[flag], arguments[0]):
                    self.refuse(f"{flag} needs a value such as {known[flag]}")
                found[flag], *arguments = arguments
        return found

    # ---- Verbs

    def verb_version(self, arguments):
        self.flags(arguments, {})
        print(f"colima version {self.settings['colima']}\ngit commit: 0123456789abcdef")

    def verb_list(self, arguments):
        if "--json" not in self.flags(arguments, {"--json": None}):
            self.refuse("people's table is not for programs")
        for name, machine in sorted(self.machines.items()):
            shown = {"name": name, "status": machine["status"], "arch": machine["arch"], "cpus": machine["cpu"],
                     "memory": machine["memory"] * GIB, "disk": machine["disk"] * GIB}
            if machine["status"] == "Running":
                shown["runtime"] = machine["runtime"]
            print(json.dumps(shown))

    def running(self, name, what):
        if self.machines.get(name, {}).get("status") != "Running":
            print(f"FATA[0000] colima [profile={name}] {what}", file=sys.stderr)
            sys.exit(1)
        return self.machines[name]

    def verb_status(self, arguments):
        name, rest = self.profile(arguments)
        if "--json" not in self.flags(rest, {"--json": None}):
            self.refuse("people's text is not for programs")
        machine = self.running(name, "is not running")
        print(json.dumps({"display_name": f"colima [profile={name}]", "driver": "QEMU", "arch": machine["arch"],
                          "runtime": machine["runtime"], "mount_type": machine["mountType"],
                          "docker_socket": f"unix://{self.config_path(name).parent}/docker.sock", "kubernetes": False,
                          "cpu": machine["cpu"], "memory": machine["memory"] * GIB, "disk": machine["disk"] * GIB}))

    def verb_start(self, arguments):
        name, rest = self.profile(arguments)
        number = r"[1-9][0-9]*"
        known = {"--runtime": "docker|containerd|incus", "--memory": number, "--disk": number, "--arch": "x86_64|aarch64",
                 "--cpu": number}
        if self.version >= (0, 10, 0):
            known["--cpus"] = number
        flags = self.flags(rest, known)
        path = self.config_path(name)
        config = dict(DEFAULTS)
        if path.exists():
            written = yaml.safe_load(path.read_text()) or {}
            config |= {key: value for key, value in written.items() if key in KNOWN_KEYS and value is not None}
        for flag, key in (("--cpu", "cpu"), ("--cpus", "cpu"), ("--memory", "memory"), ("--disk", "disk")):
            if flag in flags:
                config[key] = int(flags[flag])
        config["runtime"] = flags.get("--runtime", config["runtime"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# number of CPUs to be allocated to the virtual machine\n" + yaml.safe_dump(config, sort_keys=True))
        machine = self.machines.get(name)
        if machine and machine["status"] == "Running":
            print('WARN[0000] already running, ignoring', file=sys.stderr)
            return
        if self.settings.get("start_fails"):
            print("INFO[0000] starting colima\nFATA[0001] error starting vm: exit status 1", file=sys.stderr)
            sys.exit(1)
        time.sleep(self.settings.get("start_takes", 0))
        made = {key: config[key] for key in ("cpu", "memory", "disk", *FIXED)}
        if machine:
            made |= {key: machine[key] for key in FIXED}
            made["disk"] = max(made["disk"], machine["disk"])
        if self.settings.get("start_ignores_sizes"):
            made |= {"cpu": 2, "memory": 2, "disk": 60}
        self.machines[name] = {**made, "status": "Running"}
        self.save()
        print(f"INFO[0000] starting colima [profile={name}]", file=sys.stderr)
        namespace = self.settings["namespace"]
        subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True, timeout=20)
        subprocess.run(["ip", "netns", "add", namespace], check=True, timeout=20)
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (self.folder / "daemon.json").write_text(json.dumps({"exec-opts": ["native.cgroupdriver=cgroupfs"], **config["docker"]}))
        for script in config["provision"]:
            if script["mode"] == "system":
                with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
                    file.write(script["script"])
                    file.flush()
                    self.guest(["sh", file.name], stdout=sys.stderr)
        print("INFO[0009] done", file=sys.stderr)

    def verb_stop(self, arguments):
        name, rest = self.profile(arguments)
        self.flags(rest, {})
        if name not in self.machines:
            print("FATA[0000] error stopping vm: exit status 1", file=sys.stderr)
            sys.exit(1)
        self.machines[name]["status"] = "Stopped"
        (self.folder / "containers").write_text("")
        self.save()

    def verb_delete(self, arguments):
        known = {"--force": None, "--data": None} if self.version >= (0, 9, 0) else {"--force": None}
        if arguments == ["--help"]:
            print("Usage:\n  colima delete [profile] [flags]\n\nFlags:\n" + "".join(f"      {flag}\n" for flag in known))
            return
        name, rest = self.profile(arguments)
        if "--force" not in self.flags(rest, known):
            self.refuse("it would prompt")
        if "--data" in known and "--data" not in rest:
            self.refuse("the containers' data would stay on a disk of its own")
        self.machines.pop(name, None)
        shutil.rmtree(self.config_path(name).parent, ignore_errors=True)
        self.save()

    def verb_ssh(self, arguments):
        name, rest = self.profile(arguments)
        if not rest or rest[0] != "--":
            self.refuse("-- is expected before the command")
        self.running(name, "not running")
        if not any(fits(rest[1:], patterns) for patterns in INSIDE):
            self.refuse(f"this is no command that is run inside: {rest[1:]}")
        self.hang_at(rest[1:])
        sys.exit(self.guest(rest[1:]).returncode)

    def hang_at(self, command):
        file = self.folder / "hang"
        if command[1:3] != ["sysctl", "-w"] or not file.exists():
            return
        when, key = file.read_text().split()
        if not command[3].startswith(f"{key}="):
            return
        file.unlink()
        if when == "after":
            self.guest(command)
        (self.folder / "hanging").touch()
        time.sleep(600)

    def colima(self, arguments):
        verb, *rest = arguments or [""]
        run = getattr(self, f"verb_{verb}", None)
        if run is None:
            self.refuse(f"unknown command {verb!r}")
        run(rest)

    def limactl(self, arguments):
        if arguments != ["--version"]:
            self.refuse("nothing but --version is asked")
        print(f"limactl version {self.settings['lima']}")

    def docker(self, arguments):
        if arguments != ["--version"]:
            self.refuse("nothing but --version is asked")
        print("Docker version 27.5.1, build 9f9e405")


def fits(words, patterns):
    if len(patterns) > 1 and patterns[-2] == "+":
        fixed, last = patterns[:-2], patterns[-1]
        return (len(words) > len(fixed) and fits(words[:len(fixed)], fixed) and
                all(re.fullmatch(last, word) for word in words[len(fixed):]))
    return len(words) == len(patterns) and all(re.fullmatch(p, word) for p, word in zip(patterns, words))


def main():
    double = Double(os.environ["COLIMA_DOUBLE"])
    name = pathlib.Path(sys.argv[0]).name
    with open(double.folder / "calls", "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps([name, *sys.argv[1:]]) + "\n")
    getattr(double, name)(sys.argv[1:])


if __name__ == "__main__":
    main()
