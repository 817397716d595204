"""Asking another system over HTTP: time-outs, retries, and every failure as one error with one line."""

from typing import TypeVar

import httpx
import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from runtime.clock import Clock

CONNECTIONS_MAX = 400
TRIES = 3
TRY_WITHIN_S = 3.0
"""Real seconds, as all here: the other side does not know how fast our clock runs."""
FAILURES = 3
LEAVE_ALONE_S = 60.0
"""After so many failures in a row the other side is not asked for so long, by our clock, then once."""
ANSWER_MAX_BYTES = 1_000_000
SERVER_ERROR = 500

T = TypeVar("T")


class RemoteError(Exception):
    """The other side did not do what was asked; the line says which, what, and why."""


class _PassingError(RemoteError):
    """One that may be over at the next try."""


def open_client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client for all that is asked here; proxies in the environment are for the internet, not for these.

    Args:
        transport: how it reaches the other side; None: over the network.
    """
    limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
    return httpx.AsyncClient(timeout=TRY_WITHIN_S, trust_env=False, limits=limits, transport=transport)


class Asker:
    """Asks one other side.

    Args:
        who: what it is called in the line of an error.
        base_url: where it is.
        http: the client, of `open_client`.
        clock: the service's.
        token: the bearer token that it asks for; empty: none. Told in no error.
        leave_alone_s: how long it is not asked after some failures in a row; None: a minute.
    """

    def __init__(
        self,
        who: str,
        base_url: str,
        http: httpx.AsyncClient,
        clock: Clock,
        *,
        token: str = "",
        leave_alone_s: float | None = None,
    ) -> None:
        self._who = who
        self._base = base_url.rstrip("/")
        self._http = http
        self._clock = clock
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._leave_alone_s = LEAVE_ALONE_S if leave_alone_s is None else leave_alone_s
        self._failures = 0
        self._last_failure = ""
        self._left_alone_until_s = 0.0

    @property
    def name(self) -> str:
        """Whom it asks, and where."""
        return f"{self._who} at {self._base}"

    async def ask(self, kind: type[T], method: str, path: str, body: bytes | None = None) -> T:
        """The answer to one question.

        Args:
            kind: what the answer must be.
            method: of HTTP.
            path: behind the base, with its query.
            body: JSON.

        Raises:
            RemoteError: no answer, or none that makes sense.
        """

        async def once() -> T:
            return self._decode(kind, path, await self._once(method, path, body))

        if self._failures >= FAILURES and self._clock.monotonic() < self._left_alone_until_s:
            raise RemoteError(f"{self._last_failure}: left alone for {self._leave_alone_s:g} s")
        try:
            answer: T = await AsyncRetrying(
                retry=retry_if_exception_type(_PassingError),
                wait=wait_random_exponential(multiplier=0.2, max=2.0),
                # One that has been away for long gets one try: many of those must not crowd out the others.
                stop=stop_after_attempt(TRIES if self._failures < FAILURES else 1),
                sleep=lambda seconds: self._clock.sleep(seconds * self._clock.speed),
                reraise=True,
            )(once)
        except _PassingError as error:
            self._failures += 1
            self._last_failure = str(error)
            self._left_alone_until_s = self._clock.monotonic() + self._leave_alone_s
            raise
        except RemoteError:
            self._failures = 0
            raise
        self._failures = 0
        return answer

    async def _once(self, method: str, path: str, body: bytes | None) -> bytes:
        headers = self._headers
        if body is not None:
            headers = {**headers, "content-type": "application/json"}
        request = self._http.stream(method, self._base + path, content=body, headers=headers)
        try:
            # The library's own time-out starts anew with every byte.
            async with self._clock.timeout(TRY_WITHIN_S * self._clock.speed), request as response:
                answer = b""
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > ANSWER_MAX_BYTES:
                        raise self._error(path, f"more than {ANSWER_MAX_BYTES} bytes")
        except TimeoutError as error:
            raise self._passing(path, f"no answer within {TRY_WITHIN_S:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._passing(path, f"{type(error).__name__} {error}".strip()) from error
        if response.status_code >= SERVER_ERROR:
            raise self._passing(path, f"answers {response.status_code}")
        if not response.is_success:
            raise self._error(
                path, f"answers {response.status_code}: {answer[:200].decode(errors='replace')}"
            )
        return answer

    def _decode(self, kind: type[T], path: str, answer: bytes) -> T:
        try:
            return msgspec.json.decode(answer, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._error(path, f"makes no sense: {error}") from error

    def _error(self, path: str, why: str) -> RemoteError:
        return RemoteError(self._line(path, why))

    def _passing(self, path: str, why: str) -> _PassingError:
        return _PassingError(self._line(path, why))

    def _line(self, path: str, why: str) -> str:
        return f"{self.name}{path.partition('?')[0]}: {why}"
