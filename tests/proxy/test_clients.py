"""Clients that were written for Toxiproxy drive our server as they drive the real one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import peers
import pytest

NODE_CLIENT = "toxiproxy-node-client@4.1.0"

PYTHON_SCRIPT = """
import json, sys
from toxiproxy import Toxiproxy
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

server = Toxiproxy()
server.update_api_consumer("127.0.0.1", int(sys.argv[1]))
seen = []

def see(what, value):
    seen.append([what, value])

def shown(proxy):
    return [proxy.name, proxy.upstream, proxy.enabled, sorted(proxy.toxics())]

see("running", server.running())
server.destroy_all()
proxy = server.create(name="redis", upstream="127.0.0.1:9", listen="127.0.0.1:0")
see("created", shown(proxy))
try:
    server.create(name="redis", upstream="127.0.0.1:9")
except ProxyExists as error:
    see("exists", str(error))
see("missing", server.get_proxy("nobody") is None)
proxy.add_toxic(type="latency", attributes={"latency": 50, "jitter": 5})
proxy.add_toxic(type="bandwidth", name="thin", stream="upstream", toxicity=0.5,
                attributes={"rate": 100})
see("toxics", [[t.name, t.type, t.stream, t.toxicity, t.attributes]
               for t in proxy.toxics().values()])
try:
    proxy.add_toxic(type="nonsense")
except InvalidToxic as error:
    see("invalid", str(error))
try:
    proxy.add_toxic(type="latency", stream="sideways")
except InvalidToxic as error:
    see("stream", str(error))
see("one", proxy.get_toxic("thin").attributes)
proxy.destroy_toxic("thin")
see("left", list(proxy.toxics()))
proxy.disable()
see("disabled", server.get_proxy("redis").enabled)
proxy.enable()
see("enabled", server.get_proxy("redis").enabled)
with proxy.down():
    see("down", server.get_proxy("redis").enabled)
see("up", server.get_proxy("redis").enabled)
see("populated", [shown(p) for p in server.populate([
    {"name": "a", "upstream": "127.0.0.1:9", "listen": "127.0.0.1:0"},
    {"name": "b", "upstream": "127.0.0.1:9", "listen": "127.0.0.1:0"},
])])
see("proxies", sorted(server.proxies()))
server.reset()
see("reset", list(server.get_proxy("redis").toxics()))
see("destroyed", server.destroy(proxy))
try:
    proxy.destroy()
except NotFound as error:
    see("gone", str(error))
server.destroy_all()
see("nothing", server.proxies())
print(json.dumps(seen))
"""

NODE_SCRIPT = """
const { Toxiproxy } = require("toxiproxy-node-client");
const seen = [];
const see = (what, value) => seen.push([what, value]);
const shown = (proxy) => [proxy.name, proxy.upstream, proxy.enabled];
const failed = (what) => (error) => see(what, String(error.message));

(async () => {
  const server = new Toxiproxy(process.argv.at(-1));
  const proxy = await server.createProxy(
    { name: "redis", upstream: "127.0.0.1:9", listen: "127.0.0.1:0" });
  see("created", shown(proxy));
  await server.createProxy({ name: "redis", upstream: "127.0.0.1:9" }).catch(failed("exists"));
  const toxic = await proxy.addToxic(
    { name: "slow", type: "latency", attributes: { latency: 50, jitter: 5 } });
  see("added", toxic.toJson());
  see("updated", (await toxic.update({ attributes: { latency: 70 }, toxicity: 0.5 })).toJson());
  see("toxic", (await proxy.getToxic("slow")).toJson());
  await proxy.addToxic({ type: "nonsense", attributes: {} }).catch(failed("invalid"));
  await server.get("nobody").catch(failed("missing"));
  await toxic.remove();
  await proxy.getToxic("slow").catch(failed("removed"));
  see("disabled", shown(await proxy.update({ ...proxy.toJson(), enabled: false })));
  await proxy.addToxic({ type: "timeout", stream: "upstream", attributes: { timeout: 1 } });
  await server.reset();
  see("reset", shown(await server.get("redis")));
  await proxy.getToxic("timeout_upstream").catch(failed("reset toxic"));
  see("populated", Object.values(await server.populate([
    { name: "a", upstream: "127.0.0.1:9", listen: "127.0.0.1:0" },
    { name: "b", upstream: "127.0.0.1:9", listen: "127.0.0.1:0" }])).map(shown));
  see("all", Object.keys(await server.getAll()));
  see("version", Object.keys(JSON.parse(await server.getVersion()))[0]);
  for (const name of ["redis", "a", "b"]) await (await server.get(name)).remove();
  see("nothing", Object.keys(await server.getAll()));
  console.log(JSON.stringify(seen));
})().catch((error) => { console.error(error); process.exit(1); });
"""


def test_toxiproxy_python(ours: peers.Running, toxiproxy: peers.Running) -> None:
    real = _python(toxiproxy)
    assert [what for what, _ in real][-1] == "nothing"
    assert _python(ours) == real


def test_toxiproxy_node_client(
    ours: peers.Running, toxiproxy: peers.Running, node_client: Path
) -> None:
    real = _node(toxiproxy, node_client)
    assert [what for what, _ in real][-1] == "nothing"
    assert _node(ours, node_client) == real


def _python(server: peers.Running) -> list[tuple[str, object]]:
    # A process of its own: the client keeps host and port on its class.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PYTHON_SCRIPT, str(server.port)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def _node(server: peers.Running, folder: Path) -> list[tuple[str, object]]:
    done = subprocess.run(
        ["node", "-e", NODE_SCRIPT, "--", server],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@pytest.fixture(scope="session")
def node_client() -> Path:
    """A folder in which Node finds the client of Toxiproxy."""
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("Node and npm are needed for Toxiproxy's Node client")
    folder = peers.CACHE / re.sub("[^a-z0-9.]+", "-", NODE_CLIENT)
    with peers.locked("node-client"):
        if not (folder / "installed").exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "package.json").write_text('{"private": true}\n')
            done = subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", NODE_CLIENT],
                cwd=folder,
                env={**os.environ, "npm_config_update_notifier": "false"},
                capture_output=True,
                text=True,
                timeout=300,
            )
            if done.returncode:
                pytest.skip(f"npm cannot install {NODE_CLIENT}: {done.stderr.strip()[-300:]}")
            (folder / "installed").touch()
    return folder
