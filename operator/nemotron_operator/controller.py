"""Own the running operator: fill the store, feed the queue, run the workers and the scaling loop."""

import asyncio
import logging
import time
from collections.abc import Mapping
from itertools import chain, repeat
from typing import Any

from aiohttp import ClientError
from kubernetes.aio.client.exceptions import ApiException
from prometheus_client import start_http_server
from pydantic import ValidationError

from nemotron_api import names
from nemotron_api.deployment import NemotronDeployment
from nemotron_autoscaler import Sample, demand, remember
from nemotron_operator.cluster import Cluster, explain
from nemotron_operator.metrics import Metrics
from nemotron_operator.objects import CHILDREN, CLAIM, NA, ND, POD, Kind, Ref
from nemotron_operator.plan import MISSED_SCRAPES, policy_of
from nemotron_operator.probe import Prober
from nemotron_operator.reconciler import Reconciler
from nemotron_operator.settings import Settings
from nemotron_operator.store import Key, Store
from nemotron_operator.work_queue import WorkQueue

log = logging.getLogger("nemotron.operator")

OURS = f"{names.MANAGED_BY}={names.FIELD_MANAGER}"
SELECTORS: tuple[tuple[Kind, str], ...] = (
    (ND, ""),
    (NA, ""),
    (CLAIM, ""),
    (POD, OURS),
    *((kind, OURS) for kind in CHILDREN),
)
"""What is watched, and the label selector of each: of other people's objects only claims are read."""

_WORKERS = 8
_FIRST_RELISTS_SECONDS = (5.0, 15.0)
"""Kopf's own lists follow ours within these."""
_RELIST_SECONDS = 120.0


class Controller:
    """Everything with a life of its own; made once per process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store()
        self.queue: WorkQueue[Key] = WorkQueue()
        self.metrics = Metrics()
        self._prober = Prober()
        self._missed: dict[Key, int] = {}
        """Scrapes in a row that not every replica answered."""
        self._tasks: list[asyncio.Task[None]] = []
        self._cluster: Cluster | None = None

    async def start(self) -> None:
        """List everything once, then begin to work: a plan from half a picture would write what is there already."""
        start_http_server(self.settings.metrics_port, registry=self.metrics.registry)
        self._cluster = await Cluster.connect()
        await self._prober.__aenter__()
        await self._list(self._cluster)
        self._mark_all()
        reconciler = Reconciler(self.store, self._cluster, self._prober, self.settings, self.queue.add_after)
        work = [self.queue.run(self._measured(reconciler), self._failed) for _ in range(_WORKERS)]
        self._tasks = [asyncio.create_task(job) for job in (*work, self._scale(), self._relist(self._cluster))]

    async def stop(self) -> None:
        """End between two writes; whoever comes next sees the same cluster and goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._prober.__aexit__()
        if self._cluster:
            await self._cluster.close()

    def is_alive(self) -> bool:
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def saw(self, event_type: str | None, body: Mapping[str, Any]) -> None:
        """Take in one watch event: it only marks keys, whatever it says."""
        touched = self.store.drop(body) if event_type == "DELETED" else self.store.put(body)
        for key in touched:
            self.queue.add(key)

    async def _list(self, cluster: Cluster) -> bool:
        """Take in everything there is, and forget what is not there any more; whether there was any such thing."""
        forgot = False
        for kind, selector in SELECTORS:
            before = self.store.versions(kind.kind)
            listed: list[Ref] = []
            for namespace in self.settings.namespaces or ("",):
                for body in await cluster.list(kind, namespace, selector):
                    listed.append(Ref.of(body))
                    for key in self.store.put(body):
                        self.queue.add(key)
            forgot |= self.store.drop_unlisted(before, listed)
        return forgot

    async def _relist(self, cluster: Cluster) -> None:
        """List again now and then.

        What is deleted between a list and the watch that follows it (at the start, or after the API server forgot where
        a watch was) is announced by none, and would be believed to be there for ever.
        """
        for pause in chain(_FIRST_RELISTS_SECONDS, repeat(_RELIST_SECONDS)):
            await asyncio.sleep(pause)
            try:
                if await self._list(cluster):
                    self._mark_all()
            except (ApiException, ClientError, TimeoutError) as error:
                log.warning("listing again failed: %s", explain(error))

    def _mark_all(self) -> None:
        for key in (*self.store.deployment_keys(), *self.store.artifact_keys()):
            self.queue.add(key)

    def _measured(self, reconciler: Reconciler) -> Any:
        async def work(key: Key) -> None:
            self.metrics.queue.set(len(self.queue))
            with self.metrics.seconds.time():
                await reconciler.reconcile(key)
            self.metrics.reconciles.labels(key.kind, "done").inc()

        return work

    def _failed(self, key: Key, error: Exception) -> None:
        self.metrics.reconciles.labels(key.kind, "failed").inc()
        ours = not isinstance(error, ApiException | TimeoutError | ClientError)
        log.error("%s %s/%s: %s", key.kind, key.namespace, key.name, explain(error), exc_info=error if ours else None)

    async def _scale(self) -> None:
        """Ask the replicas of every deployment that scales, and plan again with what they said."""
        while True:
            await asyncio.sleep(self.settings.metrics_interval_seconds)
            await asyncio.gather(*(self._ask_replicas(key) for key in self.store.deployment_keys()))

    async def _ask_replicas(self, key: Key) -> None:
        body = self.store.body(key)
        if body is None or "scaling" not in body["spec"]:
            return
        try:
            policy = policy_of(NemotronDeployment.from_body(body), self.settings)
        except ValidationError:
            return  # the reconcile says so in the status
        assert policy
        addresses = [pod.ip for pod in self.store.pods(key) if pod.ready and not pod.deleting]
        load = await self._prober.load(addresses)
        sample = Sample(load.replicas, load.answered, load.waiting, load.slots_used, load.slots_total)
        self._missed[key] = 0 if sample.is_complete else self._missed.get(key, 0) + 1
        if 0 < self._missed[key] < MISSED_SCRAPES:
            return  # once is no silence: what was known still holds
        self.store.load[key] = load
        if sample.is_complete:
            history = self.store.wanted.get(key, ())
            self.store.wanted[key] = remember(history, time.monotonic(), demand(sample, policy), policy)
        self.queue.add(key)
