"""How often somebody may come: a token bucket for each, refilled by the clock; bounded however many come."""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from runtime.clock import Clock

KEPT_MAX = 4096
"""Of so many the bucket is remembered; the one that came least lately is forgotten first."""
IPV6_SITE = 64
"""So many bits of an address are one customer's; the rest he chooses."""


class _Bucket(NamedTuple):
    level: float
    at_s: float


class Limit:
    """Lets each come `per_s` times a second in the long run.

    Args:
        per_s: above 0.
        burst_s: as often as may be in so many seconds may be at once; once in any case.
        clock: refills the buckets.
        kept_max: so many buckets are remembered.
    """

    def __init__(self, per_s: float, burst_s: float, clock: Clock, kept_max: int = KEPT_MAX) -> None:
        self._per_s = per_s
        self._burst = max(1.0, per_s * burst_s)
        self._clock = clock
        self._kept_max = kept_max
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, who: str) -> float:
        """Count that it comes, if it may; how long until it may [s], 0 if it could now."""
        level = self._level(who)
        wait_s = max(0.0, 1.0 - level) / self._per_s
        if wait_s == 0:
            self._buckets[who] = _Bucket(level - 1.0, self._clock.monotonic())
            self._buckets.move_to_end(who)
            if len(self._buckets) > self._kept_max:
                self._buckets.popitem(last=False)
        return wait_s

    def _level(self, who: str) -> float:
        bucket = self._buckets.get(who)
        if bucket is None:
            return self._burst
        passed_s = self._clock.monotonic() - bucket.at_s
        return min(self._burst, bucket.level + passed_s * self._per_s)


def peer_of(host: str) -> str:
    """The one behind an address: of IPv6 a network, as one customer has 2^64 of them."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Address(int(address) >> IPV6_SITE << IPV6_SITE))
    return str(address)
