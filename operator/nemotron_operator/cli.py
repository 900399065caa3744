"""Run the operator, check that one runs, or show what it would do with a file."""

import argparse
import asyncio
import logging
import pathlib
import sys

import aiohttp
import yaml

from nemotron_api.deployment import NemotronDeployment
from nemotron_operator.observed import Observed
from nemotron_operator.plan import Delete, plan
from nemotron_operator.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="nemotron-operator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="watch NemotronDeployments and make them so")
    run.add_argument("--settings", type=pathlib.Path, required=True, help="JSON file, see nemotron_operator.settings")
    show = commands.add_parser("plan", help="print what a new deployment in FILE would need, without a cluster")
    show.add_argument("file", type=pathlib.Path)
    show.add_argument("--image", default="<the chart's image>", help="image used where the file names none")
    check = commands.add_parser(
        "check", help="ask a running operator whether it works, and the API server for its kinds"
    )
    check.add_argument("--health", required=True, help="URL of the operator's health page")
    arguments = parser.parse_args()
    if arguments.command == "run":
        _run(Settings.model_validate_json(arguments.settings.read_text()))
    elif arguments.command == "check":
        asyncio.run(_check(arguments.health))
    else:
        _plan(arguments.file, arguments.image)


def _run(settings: Settings) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for chatty in ("kopf", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    from nemotron_operator import handlers  # Kopf is slow to import, and only `run` needs it.

    asyncio.run(handlers.run(settings))


async def _check(health: str) -> None:
    from nemotron_operator.cluster import Cluster
    from nemotron_operator.objects import NA, ND

    async with aiohttp.ClientSession() as session, session.get(health) as response:
        print(f"operator: {response.status} {await response.text()}")
        response.raise_for_status()
    cluster = await Cluster.connect()
    try:
        for kind in (ND, NA):
            print(f"{kind.plural}: {len(await cluster.list(kind))}")
    finally:
        await cluster.close()


def _plan(file: pathlib.Path, image: str) -> None:
    body = yaml.safe_load(file.read_text())
    body["metadata"].setdefault("namespace", "default")
    decided = plan(NemotronDeployment.from_body(body), Observed(), Settings(runtime_image=image))
    for action in decided.actions:
        name = action.ref if isinstance(action, Delete) else _title(action.manifest)
        print(f"{type(action).__name__.lower():7} {name}")
    for condition in decided.conditions:
        print(f"{condition.type}={condition.status} {condition.reason}: {condition.message}")
    sys.exit(0 if decided.conditions[0].is_true else 1)


def _title(manifest: dict[str, object]) -> str:
    meta = manifest["metadata"]
    assert isinstance(meta, dict)
    return f"{manifest['kind']} {meta['namespace']}/{meta['name']}"


if __name__ == "__main__":
    main()
