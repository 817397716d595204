"""The role table, and what the brokers are told of it: nothing but what stands in it, whatever an id may hold."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.bridge import CARRIED, DURABLE
from broker.topology import key_of
from broker.transport import matches
from contracts import topics
from contracts.errors import BadIdError
from contracts.topics import TOPICS, Topic
from der_controller.service import DerControllerService
from home_assistant.messages import config_at, der_state_at, house_state_at
from home_assistant.service import HEARD as HOME_ASSISTANT_HEARS
from optimizer.service import HEARD as OPTIMIZER_HEARS
from orchestrator.service import HEARD as ORCHESTRATOR_HEARS
from recorder.diary import KEPT
from runtime.clock import SystemClock
from wattbus.access import hivemq, mosquitto, rabbitmq
from wattbus.access.authority import new_authority, server_identity
from wattbus.access.bundle import user_of
from wattbus.access.identity import CertificateError
from wattbus.access.password import new_password, verifier_of
from wattbus.access.roles import (
    BRIDGE,
    QUEUES,
    SERVICES,
    Account,
    Devices,
    Rights,
    checked,
    house_account,
    operator_account,
    plant_account,
    service_account,
    viewer_account,
)

VERIFIER = verifier_of("correct horse")
HOUSE = house_account("house-d", Devices(("main",), ("battery", "ev")))
HOSTILE = (
    ".*",
    "a|b",
    "../x",
    "+",
    "#",
    "a\0b",
    "house-d\n",
    "\nuser x",
    "h\u043euse-d",  # a Cyrillic o
    "house\u2010d",
    "\uff48ouse",
    "x" * 5000,
    "",
    "$SYS",
    "a b",
    "a.b",
    "a/b",
    "{house}",
    "%c",
    "-x",
)


def everybody(house: Account = HOUSE) -> list[tuple[Account, Any]]:
    found = [house, *(service_account(name) for name in SERVICES), plant_account("plant-p")]
    return [(one, VERIFIER) for one in (*found, viewer_account("wall"), operator_account("ann"))]


# --- the table ------------------------------------------------------------------


def test_a_house_may_do_this_and_no_more() -> None:
    assert {topic.filter for topic in HOUSE.rights.publish} == {
        "wattbus/house-d/meter/main/reading",
        "wattbus/house-d/alert/meter-main/raised",
        "wattbus/house-d/meter/main/status",
        "wattbus/house-d/der/battery/telemetry",
        "wattbus/house-d/der/battery/ack",
        "wattbus/house-d/der/battery/status",
        "wattbus/house-d/der/ev/telemetry",
        "wattbus/house-d/der/ev/ack",
        "wattbus/house-d/der/ev/status",
        "wattbus/house-d/controller/der/status",
        "wattbus/house-d/bus/check/get",
    }
    assert {topic.filter for topic in HOUSE.rights.subscribes} == {
        "wattbus/house-d/pv/main/reading",
        "wattbus/house-d/der/+/command",
        "wattbus/house-d/bus/check/get",
        "wattbus/site/bus/+/get",
    }
    assert {"meter-house-d-main", "der-controller-house-d"} <= set(HOUSE.clients)
    assert all("house-d" in client for client in HOUSE.clients)


def test_the_orchestrator_alone_commands_and_an_operator_asks_in_their_own_name() -> None:
    def who_may(topic: Topic[Any]) -> set[str]:
        return {
            account.name
            for account, _ in everybody()
            if any(right.levels[2:] == topic.levels[2:] for right in account.rights.publish)
        }

    assert who_may(topics.DER_COMMAND) == {"service.orchestrator"}
    assert who_may(topics.SCHEDULE) == {"service.optimizer"}
    assert who_may(topics.OPERATOR_REQUEST.of(user="ann")) == {"operator.ann"}
    assert who_may(topics.OPERATOR_REQUEST) == set()
    for_viewers = {topic.filter for topic in viewer_account("wall").rights.publish}
    assert for_viewers == {"wattbus/site/dashboard/main/status", "wattbus/site/bus/+/get"}


def test_every_service_may_hear_what_it_subscribes_to() -> None:
    def hears(name: str, wanted: tuple[Topic[Any], ...]) -> None:
        rights = service_account(name).rights
        assert {topic.filter for topic in wanted} <= {topic.filter for topic in rights.hear}

    hears("optimizer", OPTIMIZER_HEARS)
    hears("orchestrator", ORCHESTRATOR_HEARS)
    hears("recorder", KEPT)
    assert DURABLE == BRIDGE
    assert set(CARRIED) == set(QUEUES[BRIDGE]) == set(QUEUES[topics.RECORDER])
    assert DerControllerService  # its one filter is wattbus/HOUSE/der/+/command: see above


# --- hostile ids ------------------------------------------------------------------


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(
    "account_of",
    [
        lambda text: house_account(text, Devices(("main",), ())),
        lambda text: house_account("house-d", Devices((text,), ())),
        lambda text: house_account("house-d", Devices((), (text,))),
        plant_account,
        viewer_account,
        operator_account,
    ],
)
def test_a_hostile_id_is_no_account(account_of: Callable[[str], Account], hostile: str) -> None:
    with pytest.raises(BadIdError) as refused:
        account_of(hostile)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("name", ["site", "replay", "SITE"])
def test_a_reserved_house_is_no_account(name: str) -> None:
    for account_of in (lambda text: house_account(text, Devices()), plant_account):
        with pytest.raises(BadIdError, match="taken by wattbus"):
            account_of(name)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_an_account_made_by_hand_is_refused_too(hostile: str) -> None:
    strange = topics.METER_READING.of(house="house-d")
    strange.levels = ("wattbus", hostile or "#", "meter", "main", "reading")
    by_hand = (
        HOUSE._replace(name=hostile),
        HOUSE._replace(name=f"house.{hostile}"),
        HOUSE._replace(clients=(hostile,)),
        HOUSE._replace(rights=Rights(publish=(strange,))),
        HOUSE._replace(rights=Rights(hear=(strange,))),
    )
    for account in by_hand:
        if hostile == "{house}" and account.rights.publish + account.rights.hear == (strange,):
            continue  # an open slot
        for broker in (rabbitmq.definitions, mosquitto.files, hivemq.access_file):
            with pytest.raises(BadIdError):
                broker([(account, VERIFIER)])


def test_two_accounts_of_one_client_are_refused() -> None:
    one = house_account("a-b", Devices(("c",), ()))
    other = house_account("a", Devices(("b-c",), ()))
    with pytest.raises(BadIdError, match=r"house\.a and house\.a-b would both connect as meter-a-b-c"):
        checked([one, other])
    checked([one, one._replace(name="house.a-b.2")])  # the same, with a second identity


ids = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z").filter(lambda text: text.isascii())


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_whatever_the_ids_no_rule_says_more_than_one_thing(house: str, meter: str, der_id: str) -> None:
    refuse_or_check(house, meter, der_id)


@given(ids, ids, ids)
def test_good_ids_stand_in_the_rules_literally(house: str, meter: str, der_id: str) -> None:
    refuse_or_check(house, meter, der_id)


def refuse_or_check(house: str, meter: str, der_id: str) -> None:
    try:
        account = house_account(house, Devices((meter,), (der_id,)))
        users = [(account, VERIFIER)]
        told = json.loads(rabbitmq.definitions(users))
    except BadIdError:
        return
    own = f"wattbus.from.house.{house}"
    [live] = [rule for rule in told["topic_permissions"] if rule["exchange"] == own]
    bound = {rule["routing_key"] for rule in told["bindings"] if rule["source"] == own}
    assert bound == {key_of(topic.filter) for topic in account.rights.publish}
    mine = topics.METER_READING.at(house=house, meter=meter).name
    assert re.fullmatch(python(live["write"]), key_of(mine))
    for other in (f"{house}x", f"x{house}", house.swapcase() + "0"):
        theirs = topics.METER_READING.pattern.replace("{house}", other).replace("{meter}", meter)
        assert not re.fullmatch(python(live["write"]), key_of(theirs))
    assert not re.fullmatch(python(live["write"]), f"{key_of(mine)}\n")
    acl = mosquitto.files(users).acl.decode()
    assert all(
        re.fullmatch(r"(user [\w.-]+|topic (read|write) wattbus(/([\w-]+|\+)){4})", line, re.ASCII)
        for line in acl.splitlines()
    )
    for line in hivemq.access_file(users).decode().splitlines()[:-1]:
        assert re.fullmatch(
            r"(user|client) [\w.-]+|(publish|retain|subscribe) wattbus(/([\w-]+|\+)){4}", line, re.ASCII
        )


def python(pattern: str) -> str:
    return pattern.replace(r"\z", r"\Z")


# --- what the brokers are told ------------------------------------------------------


def test_every_rabbitmq_pattern_is_anchored_and_every_exchange_has_one() -> None:
    told = json.loads(rabbitmq.definitions(everybody(), vhost="site"))
    names = {user["name"] for user in told["users"]}
    patterns = [rule[what] for rule in told["permissions"] for what in ("configure", "write", "read")]
    patterns += [rule[what] for rule in told["topic_permissions"] for what in ("write", "read")]
    assert all(pattern == "(?!)" or re.fullmatch(r"\\A\(\?:.+\)\\z", pattern) for pattern in patterns)
    assert not any(re.search(python(pattern), hostile) for pattern in patterns for hostile in HOSTILE)
    assert {rule["vhost"] for rule in (*told["permissions"], *told["topic_permissions"])} == {"site"}
    for user in told["permissions"]:
        may = [python(user[what]) for what in ("write", "read")]
        # Where RabbitMQ knows no topic permission for an exchange it allows everything there.
        exchanges = {one["name"] for one in told["exchanges"] if one["type"] == "topic"}
        reached = {name for name in exchanges for pattern in may if re.search(pattern, name)}
        ruled = {rule["exchange"] for rule in told["topic_permissions"] if rule["user"] == user["user"]}
        assert reached == ruled
        owner = user["user"]
        written = {name for name in exchanges if re.search(may[0], name)}
        assert written <= {f"wattbus.from.{owner}", f"wattbus.readings.from.{owner}"}
    assert {rule["user"] for rule in told["permissions"]} == names
    assert not any(re.search(python(rule["configure"]), "wattbus.recorder") for rule in told["permissions"])
    assert not any(re.search(python(rule["write"]), "amq.default") for rule in told["permissions"])


def test_no_secret_stands_in_what_the_brokers_are_told() -> None:
    password = new_password()
    users = [(HOUSE, verifier_of(password))]
    told = (rabbitmq.definitions(users), *mosquitto.files(users), hivemq.access_file(users))
    assert all(password.encode() not in content for content in told)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", password)
    assert verifier_of(password) != verifier_of(password)


def test_mosquittos_users_are_its_connections() -> None:
    second = HOUSE._replace(name="house.house-d.2")
    assert mosquitto.names(HOUSE) == ("house.house-d", *HOUSE.clients)
    assert mosquitto.names(second) == ("house.house-d.2", *(f"{client}.2" for client in HOUSE.clients))
    recorder = service_account("recorder")._replace(name="service.recorder.2")
    assert mosquitto.names(recorder) == (
        "service.recorder.2",
        "recorder",
        "check-service-recorder",
        "wattbus-recorder",
    )
    for tool in (viewer_account("wall"), service_account("replay")):
        assert set(mosquitto.names(tool)) == {tool.name}  # its client ids are not known beforehand


def test_the_tenth_identity_of_a_durable_reader_is_newer_than_the_ninth() -> None:
    """One session, so one password: the newest's, whatever the order of the letters."""
    for older, newer in ((1, 2), (9, 10), (99, 100)):
        passwords = {number: verifier_of(new_password()) for number in (older, newer)}
        account = service_account("recorder")
        users = [(account._replace(name=user_of(account.name, n)), v) for n, v in passwords.items()]
        for content in (mosquitto.files(users).passwords, mosquitto.files(users[::-1]).passwords):
            lines = dict(line.split(":", 1) for line in content.decode().splitlines())
            assert lines["recorder"] == lines["wattbus-recorder"] == passwords[newer].mosquitto


def test_nobody_is_let_in_where_nobody_counts() -> None:
    assert mosquitto.files([]) == (b"", b"")
    assert hivemq.access_file([]) == b"end\n"
    assert json.loads(rabbitmq.definitions([]))["users"] == []


def test_all_topics_are_somebodys() -> None:
    filters = {topic.filter for account, _ in everybody() for topic in account.rights.subscribes}
    assert {topic.filter for topic in TOPICS if topic is not topics.STATE_GET} <= filters


def test_home_assistant_publishes_its_own_and_no_more() -> None:
    rights = service_account("home-assistant").rights
    published = {topic.filter for topic in rights.publish}
    for address in (config_at("house-d"), config_at("house-d", "ev"), der_state_at("house-d", "ev")):
        assert any(matches(pattern, address.name) for pattern in published), address.name
    assert matches("homeassistant/wattbus/+/+/state", house_state_at("house-d").name)
    assert {name for name in published if name.startswith("homeassistant/")} == {
        "homeassistant/device/+/+/config",
        "homeassistant/wattbus/+/+/state",
    }
    assert {topic.filter for topic in HOME_ASSISTANT_HEARS} <= {topic.filter for topic in rights.hear}


@pytest.mark.parametrize(
    "host", ["../x", "192.168.1.5/24", "*.example", "a|b", "a b", "\u00e9", "fe80::1%../x", ""]
)
def test_what_is_no_host_gets_no_certificate(host: str) -> None:
    now = SystemClock().now()
    authority = new_authority("a site whose name is longer than a certificate's common name may be", now)
    with pytest.raises(CertificateError, match="no name or address of a host"):
        server_identity(authority, [host], now)
    server_identity(authority, [f"{'a' * 63}.{'b' * 63}.example", "192.168.1.5", "::1"], now)


@pytest.mark.parametrize(
    "pid", ["1", "0", "-1", "x", str(os.getpid())], ids=["init", "group", "all", "none", "own"]
)
def test_no_other_process_is_told_to_read_its_files(tmp_path: Path, pid: str) -> None:
    (tmp_path / "pid").write_text(pid)
    with pytest.raises(mosquitto.ReloadError):
        mosquitto.reload(tmp_path / "pid")


def test_a_name_that_no_certificate_could_hold_is_refused() -> None:
    checked([house_account("x" * 52, Devices(("m" * 58,)))])
    with pytest.raises(BadIdError, match="too long by 1"):
        checked([house_account("x" * 53, Devices(("main",)))])
    with pytest.raises(BadIdError, match="at most 58"):
        house_account("house-d", Devices(("m" * 59,)))
