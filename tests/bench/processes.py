"""What /proc says of processes: their descendants, CPU, memory and descriptors."""

import os
import pathlib
import re


class Stat:
    """/proc/PID/stat (proc_pid_stat(5)); OSError when the process is gone."""

    def __init__(self, pid):
        self.name, rest = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").split(
            "(", 1)[1].rsplit(")", 1)
        fields = rest.split()
        self.parent, self.user_ticks, self.kernel_ticks = int(fields[1]), int(fields[11]), int(fields[12])


def tree(pid):
    """The process and its descendants."""
    found, parents = [pid], {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = Stat(entry).parent
            except OSError:
                pass
    for child in sorted(parents):
        if parents[child] in found:
            found.append(child)
    return found


def cpu_seconds(*pids):
    """User and kernel time of the processes themselves so far."""
    ticks = sum(stat.user_ticks + stat.kernel_ticks for stat in map(Stat, pids))
    return ticks / os.sysconf("SC_CLK_TCK")


def anonymous(pid):
    """Anonymous memory of one process, bytes; 0 when it is gone."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))
