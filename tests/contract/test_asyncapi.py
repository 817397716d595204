"""The contract that others build on: valid, complete, rendered as it is, and never broken for the last release."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import decode, encode
from contracts.errors import BadMessageError
from contracts.topics import TOPICS, Topic
from tests.asyncapi_parser import parse
from tests.schema_breaks import Schema, breaks
from tests.schema_values import referred, values_like
from wattbus.__main__ import main
from wattbus.asyncapi.document import alone, document, message_schemas
from wattbus.asyncapi.page import page

REPOSITORY = Path(__file__).parent.parent.parent
KEPT = sorted((REPOSITORY / "schemas").glob("*/asyncapi.json"))
NOW = document()
SCHEMAS = message_schemas()
HARMLESS = "asyncapi-latest-version"
"""The parser's advice to use the newest minor version, which fewer tools read."""


def test_the_official_parser_takes_the_document() -> None:
    is_document, lines = parse(NOW)
    assert is_document
    assert [line for line in lines if HARMLESS not in line] == []


def test_the_official_parser_would_find_an_error() -> None:
    broken = copy.deepcopy(NOW)
    broken["channels"]["meter.reading"]["messages"]["MeterReading"]["$ref"] = "#/components/messages/None"
    is_document, lines = parse(broken)
    assert not is_document
    assert any(line.startswith("error") for line in lines)


@pytest.mark.parametrize("topic", TOPICS, ids=repr)
def test_each_topic_is_in_the_document_with_its_message(topic: Topic[Any]) -> None:
    (channel,) = (c for c in NOW["channels"].values() if c["address"] == topic.pattern)
    assert channel["x-delivery-class"] == topic.delivery.name
    assert list(channel["messages"]) == [topic.message.__name__]
    assert list(channel["parameters"]) == list(topic.slots)


@pytest.mark.parametrize("topic", TOPICS, ids=repr)
def test_examples_are_messages_and_fit_their_schema(topic: Topic[Any]) -> None:
    schema = alone(topic.message.__name__, SCHEMAS)
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    assert schema["examples"]
    for example in schema["examples"]:
        validator.validate(example)
        message = decode(topic.message, msgspec.json.encode(example))
        # What our services write fits too.
        validator.validate(json.loads(encode(message)))


def test_signs_and_units_are_told() -> None:
    told = {
        f"{name}.{field}": schema.get("description", "")
        for name, of_message in SCHEMAS.items()
        for field, schema in of_message["properties"].items()
    }
    assert told["MeterReading.power_w"].startswith("W.")
    assert "+ import / - export" in told["MeterReading.power_w"]
    assert "+ charging" in told["DerTelemetry.current_output"]
    units = {"_w": "W", "_kw": "kW", "_kwh": "kWh", "_percent": "%", "_a": "A"}
    for name, text in told.items():
        for ending, unit in units.items():
            if name.endswith(ending):
                assert text.startswith(unit), f"{name}: {text!r} does not tell its unit"


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.parent.name)
def test_nothing_breaks_what_was_written_for_a_release(path: Path) -> None:
    assert breaks(json.loads(path.read_text()), NOW) == []


def test_a_release_is_kept() -> None:
    assert KEPT


BY_PATTERN = {topic.pattern: topic for topic in TOPICS}
OLD = {path.parent.name: json.loads(path.read_text()) for path in KEPT}
KEPT_TOPICS = [
    (release, channel["address"]) for release, old in OLD.items() for channel in old["channels"].values()
]


def kept(release: str, address: str) -> Schema:
    """The schema that a release had of what travels there, with all it refers to."""
    old = OLD[release]
    name = next(name for c in old["channels"].values() if c["address"] == address for name in c["messages"])
    return {"$ref": f"#/components/schemas/{name}", "components": old["components"]}


@pytest.mark.parametrize(("release", "address"), KEPT_TOPICS)
def test_recorded_examples_of_a_release_are_read_today(release: str, address: str) -> None:
    schema = kept(release, address)
    for example in referred(schema, schema)["examples"]:
        jsonschema_rs.validator_for(schema).validate(example)
        decode(BY_PATTERN[address].message, msgspec.json.encode(example))


@settings(max_examples=25)
@given(data=st.data())
@pytest.mark.parametrize(("release", "address"), KEPT_TOPICS)
def test_whatever_fits_a_schema_of_a_release_is_read_today(
    data: st.DataObject, release: str, address: str
) -> None:
    schema = kept(release, address)
    example = referred(schema, schema)["examples"][0]
    message = data.draw(values_like(example, schema, schema))
    jsonschema_rs.validator_for(schema).validate(message)
    decode(BY_PATTERN[address].message, msgspec.json.encode(message))


def test_an_example_that_is_no_message_is_noticed() -> None:
    with pytest.raises(BadMessageError):
        decode(TOPICS[0].message, b'{"house": "house-a"}')


def test_the_page_in_docs_is_what_the_code_makes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["asyncapi", "--markdown"]) == 0
    assert capsys.readouterr().out == page()
    written = (REPOSITORY / "docs" / "asyncapi.md").read_text(encoding="utf-8")
    assert written == page(), "write it again: wattbus asyncapi --markdown > docs/asyncapi.md"


def test_the_table_in_the_readme_is_what_the_code_makes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "--markdown"]) == 0
    table = capsys.readouterr().out
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert table in readme, "put what `wattbus topics --markdown` prints into README.md"


def test_the_command_writes_the_document_and_the_schemas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["asyncapi"]) == 0
    assert json.loads(capsys.readouterr().out) == NOW
    assert main(["asyncapi", "--out", str(tmp_path / "contract")]) == 0
    assert json.loads((tmp_path / "contract" / "asyncapi.json").read_text()) == NOW
    for topic in TOPICS:
        schema = json.loads((tmp_path / "contract" / f"{topic.message.__name__}.json").read_text())
        jsonschema_rs.meta.validate(schema)


def test_a_folder_that_cant_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["asyncapi", "--out", str(tmp_path / "file" / "contract")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
