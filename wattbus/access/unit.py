"""The systemd units of what an account runs: they come back after anything, and may do nothing else."""

import os
import sys
from typing import NamedTuple

from wattbus.access.bundle import Bundle
from wattbus.access.place import Place
from wattbus.access.roles import TOOLS

WATCHDOG_S = 60
"""An event loop that stood still for so long is killed and started anew."""
RESTART_S = 5


class Limits(NamedTuple):
    """What a process may use of the machine."""

    memory_mb: int
    tasks: int


HOUSE, SERVICE = Limits(128, 64), Limits(1024, 512)
"""A meter takes about 45 MB; a plan of many houses several hundred, and a thread for each core."""


class Part(NamedTuple):
    """One process of an account."""

    name: str
    """Of its unit, without `wattbus-` and `.service`."""
    arguments: tuple[str, ...]
    limits: Limits

    @property
    def unit(self) -> str:
        """Its unit's name."""
        return f"wattbus-{self.name}.service"


def parts_of(bundle: Bundle) -> list[Part]:
    """The processes an account runs; a person's, or a command's, runs none."""
    name = bundle.id
    match bundle.role:
        case "house":
            parts = [
                Part(f"meter-{name}-{meter}", ("meter", "--meter", meter), HOUSE) for meter in bundle.meters
            ]
            if bundle.ders:
                parts.append(Part(f"der-controller-{name}", ("der-controller",), HOUSE))
            return parts
        case "service" if name not in TOOLS:
            return [Part(name, (name,), SERVICE)]
        case "plant":
            return [Part(f"plant-poller-{name}", ("plant-poller",), HOUSE)]
        case _:
            return []


def unit_text(part: Part, place: Place, port: str) -> str:
    """The unit of one process.

    Args:
        place: where its account lives.
        port: a serial port that it may open; empty: none.
    """
    # -P: nothing that is written into a folder is imported in Python's place.
    command = (sys.executable, "-P", "-m", "wattbus", *part.arguments, "--config", str(place.toml))
    homes = ("/home/", "/root/", "/run/user/")
    pythons = (sys.executable, os.path.realpath(sys.executable))  # a venv's is a link
    return UNIT.format(
        what=" ".join(part.arguments),
        command=" ".join(map(_quoted, command)),
        here=str(place.settings).replace("%", "%%"),
        folder=f"wattbus/{place.name}",
        user=place.user,
        memory=part.limits.memory_mb,
        tasks=part.limits.tasks,
        # Only where Python itself stands in a home must homes be seen.
        home="read-only" if any(path.startswith(homes) for path in pythons) else "yes",
        devices=SERIAL.format(port=port) if port and part.arguments[0] == "meter" else "PrivateDevices=yes",
        watchdog=WATCHDOG_S,
        restart=RESTART_S,
    )


def is_of(text: str, place: Place) -> bool:
    """Whether a unit is one of this place's."""
    return f'"--config" {_quoted(str(place.toml))}\n' in text


def _quoted(argument: str) -> str:
    """As systemd reads an argument."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


SERIAL = """\
DevicePolicy=closed
DeviceAllow={port} rw
SupplementaryGroups=dialout"""
UNIT = """\
# Written by `wattbus install`; changes of yours belong into `systemctl edit`.
[Unit]
Description=wattbus {what}
After=network.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
Restart=always
RestartSec={restart}
WatchdogSec={watchdog}
TimeoutStopSec=20
User={user}
UMask=0077
StateDirectory={folder}
StateDirectoryMode=0700
LogsDirectory={folder}
LogsDirectoryMode=0700
WorkingDirectory={here}
MemoryMax={memory}M
MemorySwapMax=0
TasksMax={tasks}
LimitCORE=0

NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
{devices}
PrivateUsers=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
