"""Connect the controller to Kopf: events, probes, start and stop, nothing else."""

from typing import Any

import kopf

from nemotron_operator.controller import SELECTORS, Controller
from nemotron_operator.settings import Settings


def registry(controller: Controller) -> kopf.OperatorRegistry:
    """Kopf's handlers around one controller. None of them keeps state on objects, so none writes to any."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    async def login(**of_pod: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**of_pod) or kopf.login_with_kubeconfig(**of_pod)

    # An operator that cannot start must end, to be started again: Kopf alone would wait a minute and try half of it.
    @kopf.on.startup(registry=handlers, errors=kopf.ErrorsMode.PERMANENT)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings)
        await controller.start()

    @kopf.on.cleanup(registry=handlers)
    async def stop(**_: Any) -> None:
        await controller.stop()

    @kopf.on.probe(registry=handlers, id="workers")
    async def workers(**_: Any) -> str:
        if not controller.is_alive():
            raise RuntimeError("a worker of the operator ended")
        return "alive"

    for kind, _selector in SELECTORS:
        group_version = kind.api_version.rpartition("/")

        @kopf.on.event(group=group_version[0], version=group_version[2], plural=kind.plural, registry=handlers)
        async def event(event: kopf.RawEvent, **_: Any) -> None:
            controller.saw(event["type"], event["object"])

    return handlers


def configure(settings: kopf.OperatorSettings) -> None:
    """Watch only what is ours, keep nothing on objects, post nothing."""
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.chunk_size = 500
    for kind, selector in SELECTORS:
        if selector:
            group_version = kind.api_version.rpartition("/")
            settings.watching.label_selectors[group_version[0], group_version[2], kind.plural] = selector


async def run(settings: Settings) -> None:
    """Be the operator until a signal says otherwise."""
    operator_settings = kopf.OperatorSettings()
    configure(operator_settings)
    await kopf.operator(
        registry=registry(Controller(settings)),
        settings=operator_settings,
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=list(settings.namespaces),
        liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz",
    )
