"""A link with faults for the tests of other programs: a proxy of chaoskit's in front of a service.

    with link("127.0.0.1:6379") as redis:
        client = connect(redis.host, redis.port)
        with redis.fault("latency", delay="200ms"):
            ...

The proxy is a process of its own, so that it shares no interpreter lock with the test, and it ends
with whoever started it, however that ends. pytest users have it as the fixture `chaos_link`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from chaoskit.clock import backoff, now
from chaoskit.errors import ChaoskitError, InputError
from chaoskit.faults.network import Network
from chaoskit.targets import toxics
from chaoskit.targets.proxy_client import Client

UP_WITHIN = 15.0
"""Seconds that the proxy may take to answer."""
LONGEST = 24 * 3600.0
"""Seconds after which it ends by itself, should a fork of the test process hold on to it."""
_numbers = itertools.count(1)


class ProxiedLink:
    """A proxy in front of a service. address: where to connect to, as `host:port`."""

    def __init__(self, client: Client, name: str, address: str, protocol: str) -> None:
        self.address = address
        self.protocol = protocol
        self._client = client
        self._name = name
        self._guard = threading.Lock()
        self._placed: set[str] = set()

    @property
    def host(self) -> str:
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @contextlib.contextmanager
    def fault(self, name: str, **keys: Any) -> Iterator[None]:
        """Have a network fault in while the block runs, written as in an experiment's file.

        name: `latency`, `drop-network`, `http-error`: see `chaoskit faults`. keys: as in the file,
        with `_` for `-`; units are texts (`delay="200ms"`, `toxicity="30%"`). The fault works on
        live connections from the first statement of the block, and is gone behind it, whatever
        happens in between; faults may be nested, and put in from several threads.

        Raises ValueError when the fault makes no sense, ChaoskitError when the proxy has died.
        """
        added: list[str] = []
        try:
            for toxic in self._toxics(name, keys):
                # Noted first: it may be in although nobody has heard the answer.
                added.append(str(toxic["name"]))
                with self._guard:
                    self._placed.add(added[-1])
                self._client.add(self._name, toxic)
            yield
        except BaseException:
            # What the block raised is what its reader needs to see.
            with contextlib.suppress(ChaoskitError):
                self._remove(reversed(added))
            raise
        self._remove(reversed(added))

    def clear(self) -> None:
        """Take out every fault that was put in here and is still in."""
        with self._guard:
            placed = list(self._placed)
        self._remove(placed)

    def _remove(self, names: Sequence[str] | Iterator[str]) -> None:
        """Each of them, also when another cannot be had out; raises what was the last trouble."""
        trouble: ChaoskitError | None = None
        for name in names:
            try:
                self._client.remove(self._name, name)
            except ChaoskitError as error:
                trouble = error
                continue
            with self._guard:
                self._placed.discard(name)
        if trouble is not None:
            raise trouble

    def _toxics(self, name: str, keys: dict[str, Any]) -> list[dict[str, Any]]:
        found = []
        for what in _fault(name, keys, self.protocol).impairments():
            if told := toxics.why_not(what, ours=True, protocol=self.protocol):
                raise ValueError(told)
            own = f"chaoskit-{name}-{what.direction}-{next(_numbers)}"
            found.append(dict(toxics.toxic_for(what, own, ours=True)))
        return found


@contextlib.contextmanager
def link(
    upstream: str, *, listen: str = "127.0.0.1:0", protocol: str = "tcp", seed: int | None = None
) -> Iterator[ProxiedLink]:
    """A proxy in front of the service at `upstream` (host:port) while the block runs.

    listen: where the proxy listens; a free port of the loopback by default. protocol: tcp or udp.
    seed: of whatever draws lots (jitter, shares); another one each time when absent.

    Raises ChaoskitError when the proxy does not come up, with its reason.
    """
    draws = int.from_bytes(os.urandom(4), "big") if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="chaoskit-") as folder:
        place, said = Path(folder) / "s", Path(folder) / "said"
        with said.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "chaoskit.proxy",
                 "--mark", f"chaoskit-tests-{os.getpid()}", "--control", f"unix:{place}",
                 "--link", listen, upstream, protocol,
                 "--ends-at", f"{now() + LONGEST:.3f}", "--seed", str(draws)],
                # Its lifeline: the kernel closes our end when we end.
                stdin=subprocess.PIPE, stdout=errors, stderr=errors, start_new_session=True,
            )  # fmt: skip
        try:
            client = Client("http://localhost", str(place))
            name, address = _wait(process, client, said)
            yield ProxiedLink(client, name, address, protocol)
        finally:
            process.terminate()
            process.communicate()


def _wait(process: subprocess.Popen[bytes], client: Client, said: Path) -> tuple[str, str]:
    """The only link's name and address, as soon as the proxy answers."""
    for pause in backoff(UP_WITHIN):
        time.sleep(pause)
        with contextlib.suppress(ChaoskitError):
            (only,) = client.links()
            return str(only["name"]), str(only["listen"])
        if process.poll() is not None:
            words = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
            raise ChaoskitError(f"the proxy did not come up: {words[-1] if words else 'no reason'}")
    raise ChaoskitError(f"the proxy did not answer within {UP_WITHIN:g}s")


def _fault(name: str, keys: dict[str, Any], protocol: str) -> Network:
    """Read as the file is, so that the same words mean the same here."""
    from chaoskit.spec import load_text

    document = {
        "chaoskit": 1,
        "title": "a test",
        "steady-state": [
            {"name": "there", "file": {"path": "/"}, "expect": {"exists": True}},
        ],
        "method": [
            {
                "fault": name,
                "target": {
                    "proxy": {"listen": "127.0.0.1:1", "upstream": "127.0.0.1:2",
                              "protocol": protocol}
                },
                **{key.replace("_", "-"): value for key, value in keys.items()},
            }
        ],
    }  # fmt: skip
    try:
        (step,) = load_text(json.dumps(document), "fault", environ={}).fault_steps()
    except InputError as error:
        told = "; ".join(getattr(one, "message", str(one)) for one in error.problems)
        raise ValueError(f"{name}: {told}") from None
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None
    assert isinstance(step.fault, Network)
    return step.fault
