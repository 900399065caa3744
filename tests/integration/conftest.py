"""Give integration tests a sealed engine of the demo's checkpoint and a server for it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from nemotron_api.build import ServingConfig
from nemotron_build.job import make_engine
from nemotron_build.sealed import Sealed
from nemotron_build.store import Store
from tests.builders.paced_engine import Pace
from tests.integration.client import MODEL
from tests.integration.serving import CHECKPOINT, LIMITS, Serving, StartServing, a_paced_engine, launch


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's root folder, which any user may read, as a volume's."""
    root = tmp_path_factory.mktemp("volume") / "store"
    root.mkdir()
    return root


@pytest.fixture(scope="session")
def engine(store: Path) -> Sealed:
    """The demo's checkpoint, built as a deployment's would be."""
    torch.set_num_threads(1)
    return make_engine(CHECKPOINT, Store(store), print, model=MODEL, precision="FP32", limits=LIMITS)


@pytest.fixture(scope="session")
def engine_dir(engine: Sealed) -> Path:
    return engine.directory


@pytest.fixture(scope="session")
def config(engine: Sealed, store: Path) -> ServingConfig:
    """What a pod that serves `engine` is told; it drains faster than a real one."""
    return ServingConfig(
        model=MODEL,
        engine=str(engine.directory.relative_to(store)),
        manifest_sha256=engine.manifest_sha256,
        drain_seconds=4,
        connection_age_seconds=30,
    )


@pytest.fixture(scope="session")
def serving(store: Path, config: ServingConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A ready server that tests share: leave it as it was."""
    started = launch(store, config, tmp_path_factory.mktemp("serving"))
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A ready server whose engine has no model: 256 slots, a token each every 20 ms. Leave it as it was."""
    root = tmp_path_factory.mktemp("paced")
    config = a_paced_engine(root, Pace(0.02, slots=256))
    started = launch(root, config, root / "serving")
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.stop()


@pytest.fixture
def start_paced(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Starts servers of a pace, for one test to break; fields of ServingConfig as keywords."""
    started: list[Serving] = []

    def start(pace: Pace, **changed: object) -> Serving:
        root = tmp_path / f"paced-{len(started)}"
        config = a_paced_engine(root, pace)
        started.append(launch(root, config.model_copy(update=changed), root / "serving"))
        started[-1].wait_until_ready()
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def start_serving(store: Path, config: ServingConfig, tmp_path: Path) -> Iterator[StartServing]:
    """Starts servers of the test's own, which it may break; fields of ServingConfig as keywords."""
    started: list[Serving] = []

    def start(*, store: Path = store, wrapper: tuple[str, ...] = (), **changed: object) -> Serving:
        own = config.model_copy(update=changed)
        started.append(launch(store, own, tmp_path / f"serving-{len(started)}", wrapper=wrapper))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()
