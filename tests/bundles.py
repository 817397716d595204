"""Bundles as the operator makes them, of a test's own authority."""

from contracts.instant import Instant
from wattbus.access.authority import client_identity
from wattbus.access.bundle import Bundle
from wattbus.access.identity import Identity


def house_bundle(
    authority: Identity, user: str, now: Instant, *, house: str = "house-d", signed_by: Identity | None = None
) -> Bundle:
    """A house's, with one meter, on one MQTT broker.

    Args:
        authority: what the bundle says vouches for it.
        user: whose certificate it is.
        now: when that was made.
        house: whose bundle it is.
        signed_by: who signed the certificate, if not the authority.
    """
    identity = client_identity(signed_by or authority, user, now)
    return Bundle(
        role="house",
        id=house,
        number=1,
        meters=["main"],
        live_url="mqtts://hive.example",
        readings_url="",
        login="{client}",
        password="of-no-use",  # noqa: S106
        authority=authority.certificate.decode(),
        certificate=identity.certificate.decode(),
        key=identity.key.decode(),
    )
