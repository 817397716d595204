"""`wattbus broker`: the embedded MQTT broker alone, to try services one by one."""

import sys
from collections.abc import Sequence

from runtime.clock import SystemClock
from runtime.errors import UsageError
from runtime.flags import OneLineParser, port
from runtime.logs import configure
from runtime.process import Context, run_process


def main(argv: Sequence[str] | None = None) -> int:
    """Run the broker until stopped; returns the exit code."""
    parser = OneLineParser(
        prog="wattbus broker",
        description="An MQTT 3.1.1 broker for trying things out on this machine. It keeps nothing on disk, "
        "nor for readers who are away: use RabbitMQ, HiveMQ or Mosquitto for houses.",
        epilog="example: wattbus broker --port 1884",
    )
    parser.add_argument("--port", type=port, default=1883, metavar="PORT", help="MQTT on 127.0.0.1 [1883]")
    parser.add_argument("--ws-port", type=port, default=8083, metavar="PORT", help="over WebSocket [8083]")
    given = parser.parse_args(argv)
    clock = SystemClock()
    try:
        from broker.window import open_broker
    except ModuleNotFoundError as error:
        sys.stderr.write(f"wattbus: {error.name} is not installed: pip install 'wattbus[server]'\n")
        return UsageError.exit_code

    async def serve(context: Context) -> None:
        async with open_broker(clock, port=given.port, ws_port=given.ws_port):
            sys.stdout.write(
                f"MQTT at mqtt://127.0.0.1:{given.port} and ws://127.0.0.1:{given.ws_port}; Ctrl-C ends it\n"
            )
            sys.stdout.flush()
            await context.life.wait()

    configure((), clock, "INFO", None)
    return run_process(serve, clock)


if __name__ == "__main__":
    sys.exit(main())
