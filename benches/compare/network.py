"""The network that everything is measured in: a namespace of its own, where that is permitted.

There a proxy's sockets, too, take plain congestion control. One that paces, as BBR does, holds back on loopback what
has been written, where there is no congestion.
"""

import ctypes
import fcntl
import socket
import struct
from pathlib import Path

CONGESTION_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")
PLAIN = "reno"
# From linux/sched.h, linux/sockios.h and linux/if.h.
CLONE_NEWNET = 0x4000_0000
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
IFF_UP = 1


def enter() -> dict:
    """Lets this thread, and what it starts from now on, have a network of its own; returns what is in force."""
    own = ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
    if own:
        bring_up(b"lo")
        CONGESTION_CONTROL.write_text(PLAIN)
    return {"namespace": "own" if own else "the machine's", "congestion_control": CONGESTION_CONTROL.read_text().strip()}


def bring_up(interface: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        # struct ifreq: a name of 16 bytes, then a union of which the flags are the first two.
        request = struct.pack("16sh14x", interface, 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", interface, flags | IFF_UP))
