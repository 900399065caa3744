"""Fetch one commit of a repository of the Hugging Face hub, or of a mirror that speaks as it does."""

import hashlib
import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO

import httpx2
from huggingface_hub import HfApi, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff
from tqdm.auto import tqdm

from nemotron_api.build import FileEntry
from nemotron_api.errors import ChecksumMismatch, InvalidSpec, SourceError, SourceNotFound, SourceRefused
from nemotron_build.digest import CHUNK_BYTES, hash_file
from nemotron_build.progress import OnBytes
from nemotron_build.source import FORMS

TAKEN = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.md")
"""Files of a repository that belong to a checkpoint; not the same weights in other formats, and no code."""
AT_ONCE = 4
"""Files fetched side by side."""
TRIES = 5
"""Connections that may break while one file is read."""

_URI = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40})")

# What was fetched and how far it is, the Job says itself.
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Listed:
    """One file as the hub has it."""

    bytes: int
    sha256: str | None
    """Of files in large storage."""
    blob: str
    """git's own hash, of those that are not."""


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository at one commit, which never changes."""

    repository: str
    commit: str
    files: Mapping[str, Listed]
    endpoint: str | None
    token: str | None

    def sizes(self) -> Mapping[str, int]:
        return {path: listed.bytes for path, listed in self.files.items()}

    def open(self, path: str) -> BinaryIO:
        """The file from its beginning; what is not read is not sent."""
        what = f"{path} of {self.repository}"
        url = hf_hub_url(self.repository, path, revision=self.commit, endpoint=self.endpoint)

        def ask(start: int) -> AbstractContextManager[httpx2.Response]:
            headers = build_hf_headers(token=self._sent) | {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}
            answer: AbstractContextManager[httpx2.Response] = http_stream_backoff("GET", url, headers=headers)
            return answer

        return io.BufferedReader(_Body(ask, what), CHUNK_BYTES)

    def fetch(self, into: Path, partial: Path, on_bytes: OnBytes) -> tuple[FileEntry, ...]:
        """Download every file into `partial`, going on where an earlier attempt stopped, hash it, and move all `into`.

        Raises ChecksumMismatch naming the file whose content is not what the hub says; it is removed, so that the next
        attempt fetches it anew. Raises SourceError where a file cannot be had after several tries.
        """
        with ThreadPoolExecutor(AT_ONCE) as threads:
            # The largest last would leave the others idle.
            order = sorted(self.files, key=lambda path: -self.files[path].bytes)
            entries = threads.map(lambda path: self._fetch(path, partial, on_bytes), order)
            fetched = {entry.path: entry for entry in entries}
        for path in self.files:
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            (partial / path).rename(into / path)
        return tuple(fetched[path] for path in self.files)

    @property
    def _sent(self) -> str | bool:
        # Never a token that happens to lie on the machine.
        return self.token or False

    def _fetch(self, path: str, partial: Path, on_bytes: OnBytes) -> FileEntry:
        with _telling(f"{path} of {self.repository}"):
            hf_hub_download(
                self.repository,
                path,
                revision=self.commit,
                local_dir=partial,
                endpoint=self.endpoint,
                token=self._sent,
                tqdm_class=_listener(on_bytes),
            )
        found = hash_file(partial, path)
        if wrong := _difference(found, self.files[path], partial / path):
            (partial / path).unlink()
            raise ChecksumMismatch(f"{path} of {self.repository} {wrong}: it is fetched anew by the next attempt")
        return found


def open_hub(rest: str, endpoint: str | None, token: str | None) -> Hub:
    """The repository that `owner/name@commit` names.

    Raises InvalidSpec for another form, SourceNotFound, SourceRefused, or SourceError where no hub answers.
    """
    match = _URI.fullmatch(rest)
    if not match:
        raise InvalidSpec(
            f"hf://{rest} names no commit of a repository: write {FORMS['hf']} with the 40 hex digits of a commit; "
            "a branch may change any time"
        )
    repository, commit = match["repository"], match["commit"]
    with _telling(f"{repository} at {commit[:12]}"):
        api = HfApi(endpoint=endpoint, token=token or False)
        siblings = api.model_info(repository, revision=commit, files_metadata=True).siblings or ()
    taken = {each.rfilename: each for each in siblings if any(fnmatch(each.rfilename, kind) for kind in TAKEN)}
    files = {path: _listed(taken[path]) for path in sorted(taken) if not _is_hidden(path)}
    return Hub(repository, commit, files, endpoint, token)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _listed(sibling: Any) -> Listed:
    return Listed(sibling.size or 0, sibling.lfs.sha256 if sibling.lfs else None, sibling.blob_id or "")


def _difference(found: FileEntry, listed: Listed, file: Path) -> str:
    """What is wrong with a file; empty where nothing is."""
    if found.bytes != listed.bytes:
        return f"has {found.bytes} bytes, and the hub says {listed.bytes}"
    if listed.sha256 is not None:
        wrong = found.sha256 != listed.sha256
        return f"has sha256 {found.sha256}, and the hub says {listed.sha256}" if wrong else ""
    content = file.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return f"has git hash {blob}, and the hub says {listed.blob}" if listed.blob and blob != listed.blob else ""


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Say what to do about what the hub answers, or about its silence."""
    try:
        yield
    except GatedRepoError as error:
        raise SourceRefused(f"the hub refuses {what}: accept its licence there, and {_WITH_TOKEN}") from error
    except RevisionNotFoundError as error:
        raise SourceNotFound(f"there is no {what}: check the commit") from error
    except RepositoryNotFoundError as error:
        # The hub does not tell strangers what is there.
        if error.response.status_code in (401, 403):
            raise SourceRefused(f"the hub refuses {what}, or has none of that name: {_WITH_TOKEN}") from error
        raise SourceNotFound(f"there is no {what}: check the name; if it is private, {_WITH_TOKEN}") from error
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise SourceRefused(f"the hub refuses {what}: {_WITH_TOKEN}") from error
        raise SourceError(f"{what}: the hub answers {error.response.status_code}: try again later") from error
    except (EntryNotFoundError, httpx2.HTTPError) as error:
        raise SourceError(f"{what} cannot be had: {_cause(error)}") from error
    except OSError as error:
        if error.errno is not None:
            raise  # the disk's, which the store explains
        raise SourceError(f"{what} cannot be had: {_cause(error)}") from error


_WITH_TOKEN = "name a Secret with a token that may read it, under the key HF_TOKEN, in source.secretRef"


def _cause(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class _Body(io.RawIOBase):
    """The body of a file that is asked for from some byte on; it is asked for again where a connection breaks."""

    def __init__(self, ask: Callable[[int], AbstractContextManager[httpx2.Response]], what: str) -> None:
        self._ask, self._what, self._read, self._tries = ask, what, 0, TRIES
        self._open_now = ExitStack()
        self._left = b""
        with _telling(what):
            self._open()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            with _telling(self._what):
                self._left = self._next()
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count

    def close(self) -> None:
        self._open_now.close()
        super().close()

    def _open(self) -> None:
        self._open_now.close()
        answer = self._open_now.enter_context(self._ask(self._read))
        hf_raise_for_status(answer)
        if self._read and answer.status_code != httpx2.codes.PARTIAL_CONTENT:
            raise SourceError(f"{self._what} broke off, and the hub cannot go on in the middle: try again")
        self._chunks = answer.iter_bytes()

    def _next(self) -> bytes:
        while True:
            try:
                chunk = next(self._chunks, b"")
                self._read += len(chunk)
                return chunk
            except httpx2.TransportError:
                self._tries -= 1
                if not self._tries:
                    raise
                self._open()


def _listener(on_bytes: OnBytes) -> type[tqdm]:
    """A progress bar that shows nothing and tells of bytes."""

    class Listener(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            named.pop("name", None)
            super().__init__(*arguments, **{**named, "disable": True})
            if named.get("initial"):
                on_bytes(int(named["initial"]))

        def update(self, n: float | None = 1) -> bool | None:
            on_bytes(int(n or 0))
            return None

    return Listener
