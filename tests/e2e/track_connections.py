#!/usr/bin/python3
"""Turns connection tracking on in the network namespace that it is run in, as any firewall with a rule on connections'
states does; with netlink alone, so that no firewall's program is needed. What nf_tables(7) calls

    table ip loadstar { chain input { type filter hook input priority 0; ct state ... } }

The rule decides nothing: what it reads is enough for the kernel to track. It is gone with the namespace.
"""

import socket
import struct
import sys

NETLINK_NETFILTER = 12
NFTABLES = 10
BATCH_BEGIN, BATCH_END = 0x10, 0x11
NEW_TABLE, NEW_CHAIN, NEW_RULE = (NFTABLES << 8 | kind for kind in (0, 3, 6))
REQUEST, ACK, CREATE = 0x1, 0x4, 0x400
IPV4, LOCAL_IN = 2, 1


def attribute(kind, payload):
    if isinstance(payload, str):
        payload = payload.encode() + b"\0"
    elif isinstance(payload, int):
        payload = struct.pack(">I", payload)
    elif isinstance(payload, list):
        kind, payload = kind | 0x8000, b"".join(payload)
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + b"\0" * (-length % 4)


def message(kind, flags, sequence, family, resource, attributes=()):
    body = struct.pack(">BBH", family, 0, resource) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def main():
    flags = REQUEST | ACK | CREATE
    # The state (key 0) of the packet's connection goes to register 1.
    state = attribute(1, [attribute(1, "ct"), attribute(2, [attribute(1, 1), attribute(2, 0)])])
    batch = b"".join([
        message(BATCH_BEGIN, REQUEST, 1, 0, NFTABLES),
        message(NEW_TABLE, flags, 2, IPV4, 0, [attribute(1, "loadstar")]),
        message(NEW_CHAIN, flags, 3, IPV4, 0, [
            attribute(1, "loadstar"), attribute(3, "input"), attribute(4, [attribute(1, LOCAL_IN), attribute(2, 0)]),
            attribute(7, "filter")]),
        message(NEW_RULE, flags, 4, IPV4, 0, [attribute(1, "loadstar"), attribute(2, "input"), attribute(4, [state])]),
        message(BATCH_END, REQUEST, 5, 0, NFTABLES),
    ])
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        netlink.bind((0, 0))
        netlink.settimeout(5)
        netlink.send(batch)
        waiting = {2, 3, 4}
        while waiting:
            answers = netlink.recv(1 << 16)
            while answers:
                length, _, _, sequence, _ = struct.unpack("=IHHII", answers[:16])
                error = struct.unpack("=i", answers[16:20])[0]
                if error != 0:
                    sys.exit(f"nf_tables refused step {sequence}: error {-error}")
                waiting.discard(sequence)
                answers = answers[(length + 3) & ~3:]


if __name__ == "__main__":
    main()
