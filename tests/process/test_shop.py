"""The example shop does what its walk-through says: it bears a lot, and closes without a trace."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from shops import HOME, Shop

from chaoskit.clock import until


def drained(shop: Shop) -> bool:
    return shop.queue() <= 1


def sold(shop: Shop, times: int) -> list[dict[str, Any]]:
    return [shop.ask("/buy?item=tea", "POST") for _ in range(times)]


def whole(shop: Shop, times: int) -> bool:
    """So many are sold at a cart's own price; on a busy machine a cart may be given up once."""
    return until(lambda: not any(order["degraded"] for order in sold(shop, times)), 20)


def clean(shop: Shop) -> bool:
    return "lost 0, twice 0" in shop.audit()


def test_sells_and_writes_every_order_once(shop: Shop) -> None:
    orders = sold(shop, 5)
    assert [order["http"] for order in orders] == [202] * 5
    assert whole(shop, 5)
    assert until(lambda: all(o["order"] in shop.text("ledger/orders.jsonl") for o in orders), 10)
    assert clean(shop), shop.audit()
    assert shop.tell_ledger("HEALTH").startswith("OK")


def test_the_same_order_is_written_once(shop: Shop) -> None:
    first = shop.tell_ledger('APPEND twice {"item": "tea"}')
    assert first.startswith("OK")
    assert shop.tell_ledger('APPEND twice {"item": "tea"}').startswith("OK")
    assert shop.text("ledger/orders.jsonl").count('"twice"') == 1
    assert shop.tell_ledger("APPEND broken {").startswith("ERROR")


def test_audit_sees_what_is_lost_and_what_is_twice(closed_shop: Shop) -> None:
    shop = closed_shop
    shop.start("--rate", "0", wait=False)
    assert until(lambda: _answers(shop), 20), shop.told()
    assert until(lambda: sold(shop, 1)[0]["http"] == 202, 20)
    (order,) = sold(shop, 1)
    assert until(lambda: shop.queue() == 0, 10)
    (shop.data / "logs" / "receipts-me.log").write_text(f"{order['order']}\nnever-written\n")
    with (shop.data / "ledger" / "orders.jsonl").open("a") as file:
        file.write(f'{{"id": "{order["order"]}"}}\n')
    assert shop.audit() == "receipts 2, lost 1, twice 1"


def _answers(shop: Shop) -> bool:
    try:
        return bool(shop.ask("/health")["http"] == 200)
    except OSError:
        return False


@pytest.mark.parametrize("name", ["worker-1", "cart-2", "web", "ledger"])
def test_what_is_killed_is_started_again_and_nothing_is_lost(shop: Shop, name: str) -> None:
    (before,) = shop.pids(name)
    os.kill(before, signal.SIGKILL)
    assert until(lambda: shop.pids(name) not in ([], [before]), 10)
    assert until(shop.is_open, 20), shop.told()
    assert until(lambda: shop.text(f"pids/{name}.pid") == f"{shop.pids(name)[0]}\n", 10)
    assert until(lambda: clean(shop), 10), shop.audit()
    assert f"{name} ended by signal 9" in shop.text("logs/supervisor.log")


def test_orders_of_a_dead_worker_are_written_by_its_successor(shop: Shop) -> None:
    shop.signal("ledger", signal.SIGSTOP)
    taken = shop.data / "spool" / "taken" / "worker-1"

    def caught() -> bool:
        """It is frozen with an order in its hands; a worker that runs puts it back soon."""
        shop.signal("worker-1", signal.SIGSTOP)
        if any(taken.iterdir()):
            return True
        shop.signal("worker-1", signal.SIGCONT)
        return False

    assert until(caught, 20)
    (order,) = [path.name for path in taken.iterdir()]
    shop.signal("worker-1", signal.SIGKILL)
    shop.signal("ledger", signal.SIGCONT)
    # The ledger may have it already: then it is asked a second time, and the queue lets go of it.
    assert until(lambda: not (taken / order).exists(), 10)
    assert until(lambda: order in shop.text("ledger/orders.jsonl"), 10)
    assert clean(shop), shop.audit()


def test_one_frozen_cart_costs_no_sale(shop: Shop) -> None:
    shop.signal("cart-1", signal.SIGSTOP)
    orders = sold(shop, 10)
    assert {order["http"] for order in orders} == {202}
    assert whole(shop, 5)
    assert shop.ask("/metrics")["cart_failures"] > 0


def test_without_carts_it_sells_at_the_last_price_and_says_so(shop: Shop) -> None:
    price = sold(shop, 1)[0]["price"]
    shop.signal("cart", signal.SIGSTOP)
    # Each cart is found out by its own time-out.
    assert until(lambda: shop.ask("/health")["status"] == "degraded", 10)
    (order,) = sold(shop, 1)
    assert (order["http"], order["price"], order["degraded"]) == (202, price, True)
    shop.signal("cart", signal.SIGCONT)
    assert until(lambda: shop.ask("/health")["status"] == "ok", 10)


def test_a_frozen_ledger_makes_orders_wait_and_none_is_written_twice(shop: Shop) -> None:
    shop.signal("ledger", signal.SIGSTOP)
    assert until(lambda: shop.queue() > 10, 20)
    assert sold(shop, 1)[0]["http"] == 202
    shop.signal("ledger", signal.SIGCONT)
    assert until(lambda: drained(shop), 20), shop.told()
    assert clean(shop), shop.audit()


def test_a_full_disk_is_refused_politely_and_orders_wait(shop: Shop) -> None:
    filler = shop.data / "ledger" / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 40 * 1024 * 1024)
    assert until(lambda: shop.queue() > 5, 20)
    assert shop.tell_ledger("HEALTH").startswith("FULL")
    assert sold(shop, 1)[0]["http"] == 202
    filler.unlink()
    assert until(lambda: drained(shop), 20), shop.told()
    assert clean(shop), shop.audit()
    log = shop.text("logs/ledger.log")
    assert "full: orders are refused" in log
    assert "there is room again" in log


def test_customers_are_sent_away_when_too_many_orders_wait(closed_shop: Shop) -> None:
    shop = closed_shop
    shop.start("--rate", "200")
    shop.signal("ledger", signal.SIGSTOP)
    assert until(lambda: sold(shop, 1)[0]["http"] == 503, 30)
    (order,) = sold(shop, 1)
    assert (order["error"], order["again"]) == ("too many orders are waiting", "1")
    assert shop.queue() < 250
    assert '"happy": false' in shop.text("traffic.json") or until(
        lambda: '"happy": false' in shop.text("traffic.json"), 10
    )


def test_a_torn_order_in_the_ledger_is_written_over(shop: Shop) -> None:
    shop.signal("traffic", signal.SIGSTOP)
    assert until(lambda: shop.queue() == 0, 10)
    book = shop.data / "ledger" / "orders.jsonl"
    with book.open("a") as file:
        file.write('{"id": "torn", "it')
    (before,) = shop.pids("ledger")
    shop.signal("ledger", signal.SIGKILL)
    assert until(lambda: shop.pids("ledger") not in ([], [before]) and _talks(shop), 10)
    (order,) = sold(shop, 1)
    assert until(lambda: order["order"] in book.read_text(), 10)
    assert "torn" not in book.read_text()
    assert clean(shop), shop.audit()


def _talks(shop: Shop) -> bool:
    try:
        return shop.tell_ledger("HEALTH").startswith("OK")
    except OSError:
        return False


def test_a_cart_without_descriptors_keeps_nobody_from_buying(shop: Shop) -> None:
    (pid,) = shop.pids("cart-1")
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    assert until(lambda: "too many open files" in shop.text("logs/cart-1.log"), 20)
    assert {order["http"] for order in sold(shop, 5)} == {202}
    assert shop.pids("cart-1") == [pid]


def test_it_can_be_closed_and_opened_again(shop: Shop) -> None:
    assert shop.ask("/closed", "PUT")["closed"] is True
    assert shop.ask("/health")["status"] == "closed"
    assert sold(shop, 1)[0]["http"] == 503
    for _ in range(2):
        assert shop.ask("/closed", "DELETE")["closed"] is False
    assert sold(shop, 1)[0]["http"] == 202
    assert shop.ask("/nothing")["http"] == shop.ask("/nothing", "POST")["http"] == 404


def test_customers_who_have_gone_come_back_only_when_they_are_called(shop: Shop) -> None:
    shop.signal("traffic", signal.SIGKILL)
    assert until(lambda: "given up" in shop.text("logs/supervisor.log"), 10)
    assert shop.pids("traffic") == []
    called = subprocess.Popen(shop.command("traffic.py", "--name", "traffic", "--rate", "10"))
    try:
        assert until(lambda: shop.pids("traffic") == [called.pid], 10)
        assert until(shop.is_open, 20), shop.told()
        # They are no child of the supervisor, and go when the shop closes all the same.
        assert shop.stop() == []
        assert called.wait(10) == 0
    finally:
        called.kill()
        called.wait()


@pytest.mark.parametrize("frozen", ["", "worker-1"])
def test_closes_completely(shop: Shop, frozen: str) -> None:
    assert len(shop.pids()) == 8
    if frozen:
        shop.signal(frozen, signal.SIGSTOP)
    assert shop.supervisor is not None
    shop.supervisor.terminate()
    assert shop.supervisor.wait(20) == 0
    assert shop.pids() == []
    assert [path.name for path in (shop.data / "pids").glob("*.pid") if not frozen] == []


def test_nothing_outlives_a_supervisor_that_is_killed(shop: Shop) -> None:
    assert shop.supervisor is not None
    shop.supervisor.kill()
    shop.supervisor.wait()
    assert until(lambda: shop.pids() == [], 10), shop.pids()


def test_closes_by_itself_when_its_time_is_over(closed_shop: Shop) -> None:
    closed_shop.start("--for", "1", wait=False)
    assert closed_shop.supervisor is not None
    assert closed_shop.supervisor.wait(20) == 0
    assert closed_shop.pids() == []


def test_what_ends_at_once_is_started_later_and_later(closed_shop: Shop) -> None:
    shop = closed_shop
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", shop.port + 3))
        taken.listen()
        shop.start(wait=False)
        log = "logs/supervisor.log"
        assert until(lambda: "ledger ended by exit code 1" in shop.text(log), 20), shop.told()
        assert until(lambda: "again in 400 ms" in shop.text(log), 20), shop.told()
    lines = [line for line in shop.text(log).splitlines() if "ledger ended" in line]
    pauses = [line.rpartition("again in ")[2] for line in lines[:4]]
    assert pauses == ["50 ms", "100 ms", "200 ms", "400 ms"]


def test_what_never_stays_up_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HOME))
    supervisor, common = import_module("supervisor"), import_module("common")
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(supervisor, "MOST_PAUSE", 0.001)
    log = common.Log(tmp_path / "log")
    child = supervisor.Child("broken", ["/bin/false"])
    nothing = os.open(os.devnull, os.O_RDWR)
    starts = 0
    end = time.monotonic() + 30
    while not child.given_up and time.monotonic() < end:
        if child.look(log):
            starts += 1
            child.start(nothing, nothing)
        time.sleep(0.001)
    assert not child.look(log)
    os.close(nothing)
    log.close()
    assert starts == supervisor.MOST_STARTS
    assert "broken ended by exit code 1" in (tmp_path / "log").read_text()


def test_a_folder_with_other_things_is_not_touched(closed_shop: Shop) -> None:
    closed_shop.data.mkdir()
    mine = closed_shop.data / "logs"
    mine.write_text("mine")
    closed_shop.start(wait=False)
    assert closed_shop.supervisor is not None
    assert closed_shop.supervisor.wait(20) == 1
    assert "holds something that is no shop" in closed_shop.output.read_text()
    assert mine.read_text() == "mine"


def test_two_shops_cannot_share_a_folder(shop: Shop) -> None:
    done = subprocess.run(shop.command("supervisor.py"), capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "there is an open shop in the folder already" in done.stderr
    assert _answers(shop)


def test_the_log_rotates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HOME))
    common = import_module("common")
    monkeypatch.setattr(common, "LOG_BYTES", 1000)
    log = common.Log(tmp_path / "log")
    for number in range(100):
        log.line(f"line {number}")
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    assert (tmp_path / "log").read_text().endswith("line 99\n")
    assert 1000 < (tmp_path / "log.1").stat().st_size < 1100


def test_its_settings_may_come_from_the_environment(closed_shop: Shop) -> None:
    shop = closed_shop
    shop.output.parent.mkdir(exist_ok=True)
    shop.supervisor = subprocess.Popen(
        [sys.executable, str(HOME / "supervisor.py"), "--for", "20", "--shop", shop.name],
        env=os.environ | {"SHOP_DATA": str(shop.data), "SHOP_PORT": str(shop.port)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert shop.supervisor.stdout is not None
    with shop.supervisor.stdout as output:
        assert output.readline().decode().strip() == f"the shop is open: {shop.url}, in {shop.data}"
    assert until(shop.is_open, 20), shop.told()
