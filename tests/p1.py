"""Telegrams as a smart meter's P1 port says them."""


def telegram(used_kw: float, returned_kw: float, currents_a: tuple[int, int, int] = (0, 0, 0)) -> bytes:
    """One of version 5, with its checksum."""
    lines = [
        "/WAT5\\wattbus-test",
        "",
        "1-3:0.2.8(50)",
        "0-0:1.0.0(260101120000W)",
        f"1-0:1.7.0({used_kw:06.3f}*kW)",
        f"1-0:2.7.0({returned_kw:06.3f}*kW)",
        *(f"1-0:{31 + 20 * i}.7.0({current:03d}*A)" for i, current in enumerate(currents_a)),
        "!",
    ]
    body = "\r\n".join(lines).encode()
    return body + b"%04X\r\n" % _crc(body)


def _crc(content: bytes) -> int:
    """CRC-16/ARC, as DSMR 5 wants it."""
    crc = 0
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc
