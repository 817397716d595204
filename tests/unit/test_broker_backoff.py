import pytest

from broker.backoff import redact, wait_for_broker
from broker.errors import BusRefusedError, BusUnavailableError, BusUrlError
from runtime.logs import get_log

LOG = get_log("broker")


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("amqp://user:secret@rabbit.example/vhost", "rabbit.example:5672"),
        ("amqps://user:secret@rabbit.example", "rabbit.example:5671"),
        ("mqtt://user:s%2Fecret@10.0.0.1:1884?version=5", "10.0.0.1:1884"),
        ("wss://user@broker.example/mqtt", "broker.example:443"),
        ("mqtt://[::1]:1883", "[::1]:1883"),
    ],
)
def test_a_broker_is_named_without_its_credentials(url: str, where: str) -> None:
    assert redact(url) == where


@pytest.mark.parametrize("url", ["amqp://", "mqtt://user:se/cret@host", "mqtt://host:99999", "http://x"])
def test_a_url_that_cannot_be_read_is_not_quoted(url: str) -> None:
    with pytest.raises(BusUrlError) as caught:
        redact(url)
    assert "cret" not in str(caught.value)
    assert "99999" not in str(caught.value)
    assert caught.value.__cause__ is None


class Broker:
    """There from the third try on."""

    def __init__(self, refusal: Exception) -> None:
        self.tries = 0
        self.refusal = refusal

    async def connect(self) -> int:
        self.tries += 1
        if self.tries < 3:
            raise self.refusal
        return self.tries


async def test_a_broker_that_comes_late_is_waited_for() -> None:
    assert await wait_for_broker(Broker(BusUnavailableError("no")).connect, "here:1", 30, LOG) == 3


@pytest.mark.parametrize("refusal", [BusUnavailableError("gone"), BusRefusedError("wrong password")])
async def test_without_patience_or_when_refused_it_is_tried_once(refusal: Exception) -> None:
    broker = Broker(refusal)
    wait_s = 0 if isinstance(refusal, BusUnavailableError) else 30
    with pytest.raises(type(refusal), match=str(refusal)):
        await wait_for_broker(broker.connect, "here:1", wait_s, LOG)
    assert broker.tries == 1
