"""Who may come in, and how often: tokens from files, addresses that others reach, token buckets on a clock."""

from pathlib import Path

import pytest

from runtime.clock import ManualClock
from runtime.door import Door, Doorman, ServedSettings, is_from_a_page_elsewhere, open_door
from runtime.errors import UsageError
from runtime.limit import KEPT_MAX, Limit, peer_of
from runtime.settings import load
from runtime.token import SITE, Principal, Tokens
from tests.conftest import START
from tests.secret_files import write_secret

LONG = "a-token-of-the-tests"
OTHER = "another-of-the-tests"
ANYWHERE = "0.0.0.0"  # noqa: S104 - what is refused
HERE = (b"host", b"localhost:8003")


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [HERE, (b"authorization", f"Bearer {token}".encode())]


def test_a_bucket_is_emptied_and_fills_again() -> None:
    clock = ManualClock(START)
    limit = Limit(2.0, 5.0, clock)
    assert [limit.take("a") for _ in range(11)] == [0.0] * 10 + [0.5]
    assert limit.take("b") == 0.0
    clock.advance(0.5)
    assert (limit.take("a"), limit.take("a")) == (0.0, 0.5)
    clock.advance(3600)
    assert [limit.take("a") for _ in range(11)] == [0.0] * 10 + [0.5]


def test_a_slow_limit_lets_one_come() -> None:
    limit = Limit(0.01, 5.0, ManualClock(START))
    assert (limit.take("a"), limit.take("a")) == (0.0, 100.0)


def test_however_many_come_only_so_many_are_kept() -> None:
    limit = Limit(1.0, 10.0, ManualClock(START))
    for number in range(3 * KEPT_MAX):
        limit.take("always here")
        limit.take(str(number))
    assert len(limit) == KEPT_MAX
    assert limit.take("always here") > 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_who_is_behind_an_address(one: str, other: str, *, same: bool) -> None:
    assert (peer_of(one) == peer_of(other)) is same


def test_who_comes_too_often_waits_and_hinders_nobody_else() -> None:
    clock = ManualClock(START)
    tokens = Tokens({LONG: SITE, OTHER: Principal(house="house-a")})
    doorman = Doorman(Door(tokens=tokens), 1.0, clock)
    turned = [doorman.turned_away("127.0.0.1", "192.0.2.1", [HERE]) for _ in range(11)]
    assert turned[:10] == [None] * 10
    assert turned[10] == (429, "too many requests: come again in 1 s", 1)
    for address, headers in (
        ("192.0.2.2", [HERE]),
        ("192.0.2.1", bearer(LONG)),
        ("192.0.2.1", bearer(OTHER)),
    ):
        assert doorman.turned_away("127.0.0.1", address, headers) is None
    # A token's own limit holds wherever it comes from.
    for number in range(9):
        assert doorman.turned_away("127.0.0.1", f"192.0.2.{number}", bearer(LONG)) is None
    assert doorman.turned_away("127.0.0.1", "192.0.2.77", bearer(LONG)) is not None
    clock.advance(1.0)
    assert doorman.turned_away("127.0.0.1", "192.0.2.1", [HERE]) is None


def test_wrong_tokens_count_for_more_and_lock_no_right_one_out() -> None:
    clock = ManualClock(START)
    doorman = Doorman(Door(tokens=Tokens({LONG: SITE})), 50.0, clock)

    def comes(token: str, address: str = "192.0.2.1") -> str:
        told = doorman.turned_away("127.0.0.1", address, bearer(token))
        return "" if told is None else told.why

    assert [comes(f"guess-{number}") for number in range(6)] == [
        *[""] * 5,
        "too many wrong tokens: come again in 2 s",
    ]
    assert comes("guess-6", "192.0.2.2") == ""
    assert comes(LONG) == ""  # behind a proxy it comes from where they come from
    clock.advance(2.0)
    assert comes("guess-7") == ""


def test_tokens_stand_in_files(tmp_path: Path) -> None:
    write_secret(tmp_path / "users" / "ana", OTHER)
    write_secret(tmp_path / "houses" / "house-a", "the-one-of-house-a")
    write_secret(tmp_path / "houses" / ".hidden", "")
    settings = ServedSettings(
        token_file=write_secret(tmp_path / "token", LONG),
        user_tokens=tmp_path / "users",
        house_tokens=tmp_path / "houses",
    )
    door = open_door(settings)
    assert door.tokens.who(bearer(LONG)) == SITE
    assert door.tokens.who(bearer(OTHER)) == Principal(user="ana")
    assert door.tokens.who(bearer("the-one-of-house-a")) == Principal(house="house-a")
    assert door.reader([HERE]) is None
    for wrong in (*bearer("")[1:], (b"authorization", LONG.encode()), (b"authorization", b"\xff")):
        assert door.tokens.who([wrong]) is None
    assert door.tokens.who([*bearer(LONG), *bearer(LONG)]) is None


@pytest.mark.parametrize(
    ("name", "token", "mode", "says"),
    [
        ("users/ana", "short", 0o600, "16 letters or more"),
        ("users/ana", "", 0o600, "16 letters or more"),
        ("users/ana", LONG, 0o644, "chmod 600"),
        ("users/ana", LONG, 0o640, "chmod 600"),
        ("users/a b", LONG, 0o600, "is not an id"),
        ("houses/site", LONG, 0o600, "taken by wattbus"),
        ("houses/house-a", "of-the-tests\x00-----", 0o600, "printable ASCII"),
        ("houses/house-a", "tokén-of-the-tests", 0o600, "printable ASCII"),
        ("houses/house-a", OTHER, 0o600, "somebody else has this token"),
    ],
)
def test_a_bad_token_is_refused_and_not_shown(
    tmp_path: Path, name: str, token: str, mode: int, says: str
) -> None:
    for folder in ("users", "houses"):
        (tmp_path / folder).mkdir()
    write_secret(tmp_path / name, token, mode)
    settings = ServedSettings(token=OTHER, user_tokens=tmp_path / "users", house_tokens=tmp_path / "houses")
    with pytest.raises(UsageError, match=says) as caught:
        open_door(settings)
    assert "\n" not in str(caught.value)
    assert not token or token not in str(caught.value)


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"house_tokens .*can't be read: No such file"):
        open_door(ServedSettings(house_tokens=tmp_path / "none"))


def test_where_others_come_a_token_must_be_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"0\.0\.0\.0: whoever reaches this address could read all"):
        open_door(ServedSettings(service_host=ANYWHERE))
    with pytest.raises(UsageError, match="could read all"):  # a folder without any token is none
        open_door(ServedSettings(service_host=ANYWHERE, house_tokens=tmp_path))
    assert not open_door(ServedSettings(service_host=ANYWHERE, token=LONG)).is_open
    assert open_door(ServedSettings(service_host=ANYWHERE, open_reading=True)).is_open


def test_reading_is_open_on_this_machine_until_houses_have_tokens(tmp_path: Path) -> None:
    assert open_door(ServedSettings(token=LONG)).is_open
    assert not open_door(ServedSettings(token=LONG, house_tokens=tmp_path)).is_open  # the last was taken back
    assert not open_door(ServedSettings(token=LONG, house_tokens=tmp_path, open_reading=True)).is_open


@pytest.mark.parametrize(
    ("named", "answered"),
    [
        ("localhost", True),
        ("127.0.0.1:8003", True),
        ("[::1]:8003", True),
        ("evil.example", False),
        ("", False),
    ],
)
def test_a_name_that_only_leads_here(named: str, *, answered: bool) -> None:
    headers = [(b"host", named.encode())]
    assert Door().answers_to("127.0.0.1", headers) is answered
    assert not Door().answers_to("127.0.0.1", [*headers, *headers])
    assert Door(is_open=False).answers_to("127.0.0.1", headers)


@pytest.mark.parametrize(
    ("told", "elsewhere"),
    [
        ({}, False),  # no browser
        ({"origin": "http://localhost:8003"}, False),
        ({"origin": "http://localhost:9"}, True),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "https://evil.example/?localhost:8003"}, True),
        ({"origin": "null"}, True),
        ({"origin": ""}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://energy.example"}, False),  # a proxy renames us
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "origin": "null"}, True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, True),
        ({"sec-fetch-site": "same-site", "origin": "http://localhost:8003"}, True),
        ({"sec-fetch-site": "same-site"}, True),
    ],
)
def test_a_page_elsewhere(told: dict[str, str], *, elsewhere: bool) -> None:
    headers = [HERE, *((name.encode(), value.encode()) for name, value in told.items())]
    assert is_from_a_page_elsewhere(headers) is elsewhere


def test_a_page_elsewhere_is_refused_where_nobody_needs_a_token() -> None:
    evil = (b"origin", b"https://evil.example")
    tokens = Tokens({LONG: SITE})
    for door in (Door(), Door(tokens=tokens), Door(is_local=False)):
        told = Doorman(door).turned_away("127.0.0.1", "127.0.0.1", [HERE, evil])
        assert told is not None
        assert (told.status, told.wait_s) == (403, 0)
        assert Doorman(door).turned_away("127.0.0.1", "127.0.0.1", [HERE]) is None
    assert Doorman(Door(tokens=tokens)).turned_away("127.0.0.1", "127.0.0.1", [*bearer(LONG), evil]) is None
    # Where all need one, whoever shows none or a wrong one is told so.
    assert (
        Doorman(Door(tokens=tokens, is_open=False)).turned_away("127.0.0.1", "127.0.0.1", [HERE, evil])
        is None
    )


def test_a_token_is_no_flag_and_in_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load("orchestrator", ServedSettings, ["--token", LONG], environ={})
    with pytest.raises(UsageError) as caught:
        load("orchestrator", ServedSettings, [], environ={"WATTBUS_ORCHESTRATOR_TOKEN": LONG * 100})
    assert LONG not in str(caught.value)
    capsys.readouterr()
