"""Keep a number of streams open against a deployment: the demo's load, run inside the cluster beside client.py."""

import argparse
import asyncio
import time

from client import GenerationError, connect, stream  # type: ignore[import-not-found]  # lies beside this file


async def one(url: str, model: str, number: int, until: float, counts: dict[str, int]) -> None:
    async with connect(url) as client:
        while time.monotonic() < until:
            settings = {"text_input": f"The license {number} ", "max_tokens": 256, "temperature": 1.0, "seed": number}
            try:
                async for _ in stream(client, model, {**settings, "ignore_eos": True}):
                    pass
                counts["completed"] += 1
            except GenerationError as error:
                counts["failed"] += 1
                print(error)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    counts = {"completed": 0, "failed": 0}
    until = time.monotonic() + options.seconds
    await asyncio.gather(*(one(options.url, options.model, n, until, counts) for n in range(options.streams)))
    print(f"{counts['completed']} streams completed, {counts['failed']} failed")


asyncio.run(main())
