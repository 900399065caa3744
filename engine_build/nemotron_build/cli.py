"""Build artifacts from the command line, as the build Job does."""

import argparse
import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, get_args

from nemotron_api.build import BUILD_REQUEST, EngineRequest, Limits, WeightsRequest
from nemotron_api.catalogue import member
from nemotron_api.errors import Interrupted, InvalidSpec, NemotronError
from nemotron_api.formats import WeightFormat
from nemotron_api.sizing import StateFormat
from nemotron_api.solver import Ask
from nemotron_build import job, outcome, sealed, size, weights
from nemotron_build.progress import silent
from nemotron_build.source import Access, open_source
from nemotron_build.store import Store

TERMINATION_LOG = Path("/dev/termination-log")

DEFAULT_CONTEXT = 8192

_STOP = (signal.SIGTERM, signal.SIGINT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 or the error's line in `outcome.EXIT_CODES`."""
    arguments = _parser().parse_args(argv)
    with _signals_interrupt():
        try:
            answer: bytes = arguments.command(arguments)
            code = 0
        except Exception as error:  # noqa: BLE001 - the last frame: whatever it is gets a reason and an exit code
            ours = outcome.named(error)
            if ours.reason == NemotronError.reason:
                traceback.print_exc()
            answer, code = outcome.failure_message(ours), outcome.exit_code(ours)
    print(answer.decode(), flush=True)
    if arguments.command is _run:
        _report_termination(arguments.termination_log, answer)
    return code


def _run(arguments: argparse.Namespace) -> bytes:
    request = _request(arguments.request)
    access = Access(
        claim=arguments.source_mount,
        files=arguments.allow_file_uris,
        hub_endpoint=os.environ.get("HF_ENDPOINT") or None,
        hub_token=os.environ.get("HF_TOKEN") or None,
    )
    return outcome.success_message(job.run(request, Store(arguments.store_root), access, _log))


def _engine(arguments: argparse.Namespace) -> bytes:
    made = job.make_engine(
        arguments.checkpoint,
        Store(arguments.store_root),
        _log,
        model=arguments.model,
        precision=arguments.precision,
        limits=Limits(max_batch=arguments.max_batch, max_sequence_tokens=arguments.max_sequence_tokens),
    )
    return str(made.directory).encode()


def _digest(arguments: argparse.Namespace) -> bytes:
    source = open_source(arguments.directory.resolve().as_uri(), Access(files=True))
    return weights.digest_of_source(source, silent).encode()


def _verify(arguments: argparse.Namespace) -> bytes:
    found = sealed.read(arguments.directory)
    sealed.verify(found, _log)
    return f"{found.manifest.kind} {found.manifest.fingerprint} is intact: {found.manifest.digest}".encode()


def _size(arguments: argparse.Namespace) -> bytes:
    if arguments.all:
        return size.overview(Ask(arguments.context or DEFAULT_CONTEXT, arguments.sequences, arguments.state)).encode()
    if not (arguments.model and arguments.gpu):
        raise InvalidSpec("nemotron-build size takes a model and --gpu, or --all for every model on every GPU")
    chosen = member(arguments.model)
    context = arguments.context or min(DEFAULT_CONTEXT, chosen.context)
    ask = Ask(context, arguments.sequences, arguments.state, arguments.precision, arguments.gpus)
    show = size.as_json if arguments.json else size.page
    return show(chosen, size.gpu(arguments.gpu), ask).encode()


def _request(text: str) -> WeightsRequest | EngineRequest:
    """The request in `text`, or in the file that `@file` names; raises InvalidSpec or ValidationError."""
    if not text.startswith("@"):
        return BUILD_REQUEST.validate_json(text)
    try:
        return BUILD_REQUEST.validate_json(Path(text[1:]).read_bytes())
    except OSError as error:
        raise InvalidSpec(f"{text} cannot be read ({error}): write --request @<file>, or the JSON itself") from error


def _report_termination(path: Path | None, answer: bytes) -> None:
    """Leave the answer where the kubelet picks it up; by hand, outside a pod, there is no such place."""
    if path is None and not TERMINATION_LOG.exists():
        return
    try:
        (path or TERMINATION_LOG).write_bytes(answer)
    except OSError as error:
        _log(f"the termination message cannot be written: {error}")


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Inside, a request to stop unwinds the build, so that its draft is removed."""
    before = {number: signal.signal(number, _interrupt) for number in _STOP}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Once: a second signal must not stop the cleaning up.
    for each in _STOP:
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(f"the build got {signal.Signals(number).name} before it was done: run it again")


def _log(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nemotron-build", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="do what a request (JSON) asks for and report as a Job does")
    run.add_argument("--request", required=True, help="a WeightsRequest or EngineRequest as JSON, or @file")
    run.add_argument("--store-root", type=Path, default=Path("/store"), help="where the store's volume is mounted")
    run.add_argument("--source-mount", type=Path, help="where the claim of a pvc:// source is mounted")
    run.add_argument("--allow-file-uris", action="store_true", help="take file:// sources as well; never set in a Job")
    run.add_argument("--termination-log", type=Path, help=f"where the result goes (default: {TERMINATION_LOG})")
    run.set_defaults(command=_run)

    engine = commands.add_parser("engine", help="make weights and engine from a directory, and print the engine's")
    engine.add_argument("checkpoint", type=Path, help="a checkpoint in Hugging Face layout")
    engine.add_argument("--store-root", type=Path, required=True, help="where artifacts are kept")
    engine.add_argument("--model", required=True, help="the name clients will ask for")
    engine.add_argument("--precision", choices=("FP32", "BF16"), default="BF16")
    engine.add_argument("--max-batch", type=int, default=Limits().max_batch)
    engine.add_argument("--max-sequence-tokens", type=int, default=Limits().max_sequence_tokens)
    engine.set_defaults(command=_engine)

    _add_size(commands)
    for name, command, text in (
        ("digest", _digest, "print the digest of a checkpoint, as spec.model.source.digest takes it"),
        ("verify", _verify, "read a sealed artifact and say whether every byte is right"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("directory", type=Path)
        one.set_defaults(command=command)
    return parser


def _add_size(commands: Any) -> None:
    fit = commands.add_parser("size", help="say what a model takes of which GPU, and how it is best served there")
    fit.add_argument("model", nargs="?", help="a model of the family, such as nemotron-3-super")
    fit.add_argument("--gpu", help="a GPU, such as H100-SXM")
    fit.add_argument("--context", type=_positive, help=f"tokens of a sequence (default: {DEFAULT_CONTEXT})")
    fit.add_argument("--sequences", type=_positive, default=1, help="such sequences at once (default: 1)")
    fit.add_argument("--precision", choices=get_args(WeightFormat), help="format of the weights (default: what suits)")
    fit.add_argument("--gpus", type=_positive, help="GPUs that share every layer (default: the fewest that suffice)")
    fit.add_argument("--state", choices=get_args(StateFormat), default="FP32", help="format of the recurrent state")
    fit.add_argument("--all", action="store_true", help="every model on every GPU instead")
    fit.add_argument("--json", action="store_true", help="for programs; sizes in bytes")
    fit.set_defaults(command=_size)


def _positive(text: str) -> int:
    """A whole number from 1 on, as argparse wants it."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number
