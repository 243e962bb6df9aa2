"""Actions, journaled and undone as faults are: a marker in the run's folder is their cell.

The marker is made before the action, so that an action which may have begun is always undone; and
taken away only when its undo has succeeded, so an undo that was interrupted runs again, and so does
one of which nothing is known as the folder was lost. An undo of the user's must bear to run twice.
"""

from __future__ import annotations

import contextlib
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from chaoskit.commands import NotStarted, TimedOut, run_command
from chaoskit.errors import ChaoskitError
from chaoskit.model.binding import Binding
from chaoskit.model.experiment import HttpAction, RunAction
from chaoskit.model.fault import Change, Fault
from chaoskit.model.units import Json

_ANSWERED = "answered"
"""What the marker of a request says once that is over."""
SHOWN = 200
"""Characters of a failed command's output that are told."""


class ActionFailed(ChaoskitError):
    """The action did not do what it should: the method cannot go on."""


@runtime_checkable
class Markable(Protocol):
    """What an action acts on."""

    binding: Binding
    begun: bool | None
    request: threading.Thread | None

    @property
    def key(self) -> str: ...

    @property
    def marker(self) -> Path: ...

    def workplace(self) -> Path | None:
        """The folder to work in; None where this process is."""


@dataclass(frozen=True)
class _Action(Fault[Markable]):
    needs = Markable

    def changes(self, target: Markable) -> Iterator[Change]:
        yield Change(target.key, "not done", "done")

    def look(self, target: Markable, change: Change) -> Json:
        begun = target.marker.exists() if target.begun is None else target.begun
        return "done" if begun else "not done"

    def make(self, target: Markable, change: Change) -> None:
        target.marker.touch()
        target.begun = True
        self.act(target)

    def unmake(self, target: Markable, change: Change) -> None:
        self.take_back(target)
        with contextlib.suppress(OSError):  # A folder that was lost, a disk that is read-only now.
            target.marker.unlink()
        target.begun = False

    def took(self, target: Markable, changes: Sequence[Change]) -> bool:
        return True

    @abstractmethod
    def act(self, target: Markable) -> None: ...

    @abstractmethod
    def take_back(self, target: Markable) -> None: ...


@dataclass(frozen=True)
class RunCommand(_Action):
    """Run a command."""

    command: str | tuple[str, ...]
    timeout: float
    env: Mapping[str, str] = field(default_factory=dict)
    undo: str | tuple[str, ...] | None = None
    name = "run"

    def way_back(self) -> str | None:
        return None if self.undo is None else f"run {_words(self.undo)}"

    @property
    def undo_takes(self) -> float:
        return self.timeout

    def act(self, target: Markable) -> None:
        self._run(self.command, target, cancellable=True)

    def take_back(self, target: Markable) -> None:
        assert self.undo is not None
        self._run(self.undo, target, cancellable=False)

    def _run(self, command: str | tuple[str, ...], target: Markable, *, cancellable: bool) -> None:
        binding = target.binding
        mark = binding.mark if cancellable else f"{binding.mark}-undo"
        try:
            done = run_command(
                command,
                timeout=self.timeout,
                # The mark is how a command is found whose runner died under it.
                environment={**binding.environment, **self.env, "CHAOSKIT_COMMAND": mark},
                cancel=binding.cancel if cancellable else None,
                cwd=target.workplace(),
            )
        except (NotStarted, TimedOut) as error:
            raise ActionFailed(f"`{_words(command)}` {error}") from error
        if done.exit:
            said = binding.redactor.text(" ".join((done.errors or done.output).split()))[-SHOWN:]
            raise ActionFailed(f"`{_words(command)}` ended with exit code {done.exit}: {said}")


@dataclass(frozen=True)
class SendRequest(_Action):
    """Send an HTTP request."""

    url: str
    method: str
    timeout: float
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    undo: Mapping[str, Json] | None = None
    name = "http-request"

    def way_back(self) -> str | None:
        return None if self.undo is None else f"{self.undo['method']} {self.undo['url']}"

    @property
    def undo_takes(self) -> float:
        return 2 * self.timeout

    @property
    def patience(self) -> float:  # type: ignore[override]  # It depends on the file.
        """The request is waited for before its undo is tried, again and again."""
        return Fault.patience + self.timeout

    def act(self, target: Markable) -> None:
        """In a thread of its own, so that an abort need not wait for an answer."""
        failed: list[Exception] = []

        def ask() -> None:
            try:
                _send(self.method, self.url, self.headers, self.body, self.timeout)
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=ask, name="http action", daemon=True)
        target.request = thread
        thread.start()
        while thread.is_alive():
            target.binding.cancel.check()
            thread.join(0.01)
        if failed:
            raise failed[0]
        with contextlib.suppress(OSError):
            target.marker.write_text(_ANSWERED)

    def take_back(self, target: Markable) -> None:
        """Not before the request has been answered, or its time is over: it would be done after its
        own undo."""
        assert self.undo is not None
        if target.request is not None:
            target.request.join(self.timeout)
        else:
            time.sleep(self._on_its_way(target))
        headers, body = self.undo.get("headers"), self.undo.get("body")
        _send(
            str(self.undo["method"]),
            str(self.undo["url"]),
            {k: str(v) for k, v in headers.items()} if isinstance(headers, dict) else {},
            None if body is None else str(body),
            self.timeout,
        )

    def _on_its_way(self, target: Markable) -> float:
        """Seconds for which a request may still be that its dead sender left."""
        try:
            if target.marker.read_text() == _ANSWERED:
                return 0.0
            sent = target.marker.stat().st_mtime
        except OSError:
            return 0.0  # Nothing is known any more; it was lost some time ago.
        return max(0.0, min(self.timeout, sent + self.timeout - time.time()))


def _send(
    method: str, url: str, headers: Mapping[str, str], body: str | None, timeout: float
) -> None:
    from chaoskit.web import RequestFailed, send

    try:
        status = send(method, url, headers=headers, body=body, timeout=timeout).status
    except RequestFailed as error:
        raise ActionFailed(f"{method} {url}: {error}") from error
    if not 200 <= status < 400:
        raise ActionFailed(f"{method} {url} answered {status}")


def action_for(step: RunAction | HttpAction) -> RunCommand | SendRequest:
    """The fault that carries out this step of a file."""
    if isinstance(step, RunAction):
        return RunCommand(step.command, step.timeout, step.env, step.undo)
    undo: dict[str, Json] | None = None
    if step.undo is not None:
        undo = {
            "method": step.undo.method,
            "url": step.undo.url,
            "headers": dict(step.undo.headers),
            "body": step.undo.body,
        }
    return SendRequest(step.url, step.method, step.timeout, step.headers, step.body, undo)


def _words(command: str | tuple[str, ...]) -> str:
    return command if isinstance(command, str) else " ".join(command)
