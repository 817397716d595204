"""The systemd units of what an account runs: they come back after anything, and may do nothing else."""

import sys
from pathlib import Path
from typing import NamedTuple

from wattbus.access.bundle import Bundle

WATCHDOG_S = 60
"""An event loop that stood still for so long is killed and started anew."""
RESTART_S = 5
HOUSE_MB, SERVICE_MB = 128, 1024
"""A meter takes about 45 MB; a plan of many houses several hundred."""


class Part(NamedTuple):
    """One process of an account."""

    name: str
    """Of its unit, without `wattbus-` and `.service`."""
    arguments: tuple[str, ...]
    memory_mb: int

    @property
    def unit(self) -> str:
        """Its unit's name."""
        return f"wattbus-{self.name}.service"


def parts_of(bundle: Bundle) -> list[Part]:
    """The processes an account runs; a person's runs none."""
    name = bundle.id
    match bundle.role:
        case "house":
            parts = [
                Part(f"meter-{name}-{meter}", ("meter", "--meter", meter), HOUSE_MB)
                for meter in bundle.meters
            ]
            if bundle.ders:
                parts.append(Part(f"der-controller-{name}", ("der-controller",), HOUSE_MB))
            return parts
        case "service":
            return [Part(name, (name,), SERVICE_MB)]
        case "plant":
            return [Part(f"plant-poller-{name}", ("plant-poller",), HOUSE_MB)]
        case _:
            return []


def unit_text(part: Part, config: Path, folder: str, user: str) -> str:
    """The unit of one process.

    Args:
        config: its wattbus.toml.
        folder: of its state and logs, below /var/lib and /var/log.
        user: whom it runs as.
    """
    command = (sys.executable, "-m", "wattbus", *part.arguments, "--config", str(config))
    homes = ("/home/", "/root/", "/run/user/")
    return UNIT.format(
        what=" ".join(part.arguments),
        command=" ".join(map(_quoted, command)),
        folder=folder,
        user=user,
        memory=part.memory_mb,
        # Only where Python itself stands in a home must homes be seen.
        home="read-only" if sys.executable.startswith(homes) else "yes",
        watchdog=WATCHDOG_S,
        restart=RESTART_S,
    )


def _quoted(argument: str) -> str:
    """As systemd reads an argument."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


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
TimeoutStopSec=10
User={user}
UMask=0077
StateDirectory={folder}
StateDirectoryMode=0700
LogsDirectory={folder}
LogsDirectoryMode=0700
WorkingDirectory=/var/lib/{folder}
MemoryMax={memory}M
TasksMax=64
LimitCORE=0

NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
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
