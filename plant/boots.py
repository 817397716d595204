"""How often a plant or its poller has started: the first part of its readings' identity."""

from pathlib import Path

import msgspec

from runtime.store import Store


class Boots(msgspec.Struct, frozen=True):
    """The starts so far."""

    boot: int = 0


def next_boot(path: Path | None) -> int:
    """This life's number, stored before its first use: two lives never share an identity.

    Raises:
        StoreError: it can't be read or stored.
    """
    store = Store(path, Boots, Boots())
    boot = store.load().boot + 1
    store.save(Boots(boot))
    return boot
