import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.acks import Acks
from broker.errors import BusUnavailableError
from runtime.logs import get_log


class Channel:
    """A broker's side: which tags it holds for acknowledged."""

    def __init__(self) -> None:
        self.expected: list[int] = []
        self.acknowledged: set[int] = set()
        self.frames = 0
        self.is_lost = False

    async def send(self, tag: int, with_all_before: bool) -> None:  # noqa: FBT001
        if self.is_lost:
            raise BusUnavailableError("lost")
        await asyncio.sleep(0)
        self.frames += 1
        self.acknowledged |= {
            known for known in self.expected if known == tag or (with_all_before and known < tag)
        }


async def test_what_is_done_together_goes_in_one_frame() -> None:
    channel = Channel()
    acks = Acks(channel.send, get_log("test"))
    channel.expected = list(range(1, 501))
    for tag in channel.expected:
        acks.expect(tag)
    for tag in channel.expected:
        acks.done(tag)
    await acks.finish()
    assert (channel.acknowledged, channel.frames) == (set(channel.expected), 1)


@given(st.permutations(range(1, 13)), st.sets(st.integers(1, 12)), st.sets(st.integers(0, 11)))
def test_nothing_is_acknowledged_that_is_not_done_and_all_that_is(
    order: list[int], never: set[int], pauses: set[int]
) -> None:
    async def main() -> None:
        channel = Channel()
        acks = Acks(channel.send, get_log("test"))
        channel.expected = list(range(1, 13))
        for tag in channel.expected:
            acks.expect(tag)
        done: set[int] = set()
        for i, tag in enumerate(order):
            if tag not in never:
                done.add(tag)
                acks.done(tag)
            if i in pauses:
                await asyncio.sleep(0)
            assert channel.acknowledged <= done
        await acks.finish()
        assert channel.acknowledged == done

    asyncio.run(main())


async def test_a_lost_channel_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    channel = Channel()
    acks = Acks(channel.send, get_log("test"))
    channel.is_lost = True
    acks.expect(1)
    acks.done(1)
    await acks.finish()
    assert channel.acknowledged == set()
