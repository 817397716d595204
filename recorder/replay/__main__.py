"""`wattbus replay`: flags, files, bus and service put together."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec

from broker.bus import PlanesBus
from broker.connect import open_bus, presence_of
from broker.memory import MemoryTransport
from broker.port import Bus
from broker.quarantine import Quarantine
from broker.transport import Filter, Incoming
from contracts import topics
from contracts.topics import SITE
from recorder.replay.options import Options, parse_options
from recorder.replay.rows import StoppedError
from recorder.replay.service import ReplayService
from recorder.replay.show import Faults, progress, summary, working
from recorder.replay.survey import survey
from runtime.clock import Clock, SystemClock
from runtime.errors import RuntimeFaultError, UsageError
from runtime.logs import configure
from runtime.process import Context, run_process
from runtime.settings import CommonSettings, load

LAST_LOOK_S = 0.5
"""So long the window stays open after the last row, for what clients have not been sent yet."""


def main(argv: Sequence[str] | None = None) -> int:
    """Replay; returns the exit code: 1 if a file was left out."""
    clock = SystemClock()
    try:
        options = parse_options(argv)
        settings = load("replay", CommonSettings, options.settings).base
        configure(("replay",), clock, settings.log_level, None)
    except RuntimeFaultError as error:
        sys.stderr.write(f"wattbus: {error}\n")
        return error.exit_code
    faults = Faults()
    code = run_process(lambda context: serve(options, settings, context, faults), clock)
    return code or int(len(faults) > 0)


async def serve(options: Options, settings: CommonSettings, context: Context, faults: Faults) -> None:
    """Look at the files, then play them on the bus the settings name.

    Raises:
        UsageError: nothing to replay.
    """
    clock, life = context
    looking = asyncio.get_running_loop().run_in_executor(
        None, survey, options, settings.seed, faults.tell, lambda: life.stopping
    )
    try:
        with working("looking at the files"):
            found = await looking
    except StoppedError:
        return
    async with _open(options, settings, clock, found.run) as bus:
        replay = ReplayService(
            found,
            bus,
            clock,
            life,
            speed=options.speed,
            loop=options.loop,
            rebase=options.rebase,
            fault=faults.tell,
        )
        begin_s = clock.monotonic()
        try:
            async with progress(replay, clock):
                await replay.run()
        finally:
            sys.stdout.write(summary(replay, len(faults), clock.monotonic() - begin_s))
            sys.stdout.flush()


@asynccontextmanager
async def _open(options: Options, settings: CommonSettings, clock: Clock, run: str) -> AsyncIterator[Bus]:
    """The bus of the settings' URLs; without any, one of its own that MQTT clients here look at."""
    if settings.readings_url or settings.live_url:
        presence = presence_of(SITE, "replay", "main")
        async with open_bus(settings, clock, client=f"replay-{run}"[:64], presence=presence) as bus:
            yield bus
        return
    if find_spec("amqtt") is None:
        raise UsageError(
            "no broker: set WATTBUS_LIVE_URL, e.g. mqtt://127.0.0.1:1883, "
            "or have a window of its own: pip install 'wattbus[server]'"
        )
    from broker.window import open_window

    transport = MemoryTransport()
    async with AsyncExitStack() as stack:
        window = open_window(transport, clock, port=options.window_port, ws_port=options.window_ws_port)
        await stack.enter_async_context(window)
        sys.stderr.write(
            f"wattbus: no broker is named: MQTT clients look in at mqtt://127.0.0.1:{options.window_port} "
            f"and ws://127.0.0.1:{options.window_ws_port}\n"
        )
        await stack.enter_async_context(_taken(transport))
        yield PlanesBus(transport, transport, clock, client="replay", quarantine=Quarantine(None, clock))
        await clock.sleep(LAST_LOOK_S)


@asynccontextmanager
async def _taken(transport: MemoryTransport) -> AsyncIterator[None]:
    """Somebody takes the readings from a bus that has no recorder: they are only to be seen."""
    wanted = tuple(
        Filter(topic.filter, topic.delivery) for topic in (topics.METER_READING, topics.PV_READING)
    )

    async def take(incoming: AsyncIterator[Incoming]) -> None:
        async for reading in incoming:
            await reading.ack()

    async with transport.subscribe(wanted, topics.RECORDER) as incoming:
        taking = asyncio.create_task(take(incoming))
        try:
            yield
        finally:
            taking.cancel()
            await asyncio.wait([taking])


if __name__ == "__main__":
    sys.exit(main())
