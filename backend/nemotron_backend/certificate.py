"""Notice that the certificate on disk is no longer the one the server was started with."""

import hashlib
import logging
import random
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from nemotron_api.build import Tls
from nemotron_api.errors import InvalidSpec

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the files held when they were read."""

    chain: bytes
    key: bytes
    ca: bytes | None
    server_name: str

    @property
    def digest(self) -> str:
        parts = (self.chain, self.key, self.ca or b"")
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    @property
    def credentials(self) -> grpc.ChannelCredentials:
        """What the launcher shows its own server, and whom alone it trusts: that server."""
        own = (self.key, self.chain) if self.ca else (None, None)
        return grpc.ssl_channel_credentials(self.chain + (self.ca or b""), *own)


def read(tls: Tls) -> Certificate:
    """Raises InvalidSpec for files that are missing, or do not belong together."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key)
        ca = Path(tls.ca).read_bytes() if tls.ca else None
        return Certificate(Path(tls.certificate).read_bytes(), Path(tls.key).read_bytes(), ca, tls.server_name)
    except OSError as error:  # SSLError is one
        raise InvalidSpec(
            f"{tls.certificate} and {tls.key} are no certificate and its key ({error}): mount the secret they lie in"
        ) from error


class Watch:
    """Looks at the files now and then."""

    def __init__(self, tls: Tls, used: Certificate) -> None:
        self._tls = tls
        self._used = used.digest
        self._found = self._used
        self._looked_at = 0.0
        self._due_at: float | None = None

    def is_outdated(self, now: float) -> bool:
        """Whether it is time, at `now` seconds, to start the server with other files than it was started with."""
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            self._look(now)
        return self._due_at is not None and now >= self._due_at

    def _look(self, now: float) -> None:
        try:
            found = read(self._tls).digest
        except InvalidSpec as error:
            log.warning("the certificate in use is kept: %s", error)
            return
        if found != self._found:
            delay = random.uniform(0, self._tls.spread_seconds)
            self._due_at = None if found == self._used else now + delay
            log.info("the certificate on disk has changed; the server is started with it in %.0f s", delay)
        self._found = found
