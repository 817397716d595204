"""Prints each reading, and why each battery does what it does: python amqp_client.py URL."""

import asyncio
import json
import sys

import aio_pika


async def main(url):
    channel = await (await aio_pika.connect_robust(url)).channel()
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind("wattbus", "wattbus.*.meter.*.reading")
    await queue.bind("wattbus", "wattbus.*.orchestrator.*.decision")
    async for message in queue.iterator(no_ack=True):
        told = json.loads(message.body)
        print(told["house"], told.get("sentence") or f"{told['power_w']} W", flush=True)


asyncio.run(main(sys.argv[1]))
