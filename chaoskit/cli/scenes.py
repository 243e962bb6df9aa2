"""The two experiments of `chaoskit demo`: one that holds, and one whose gate aborts."""

from __future__ import annotations

from dataclasses import dataclass

from chaoskit.model.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Scene:
    """file: its name. expected: the verdict that a healthy demo comes to. said: what is about to
    happen, and text: the experiment."""

    file: str
    expected: Verdict
    said: tuple[str, ...]
    text: str


SCENES = (
    Scene(
        "a-cart-freezes.yaml",
        Verdict.HELD,
        (
            "First: one of the shop's two carts is frozen for four seconds.",
            "The web front should ask the other one, and customers should notice nothing.",
        ),
        """\
chaoskit: 1
title: Customers can buy while one of two carts is frozen
hypothesis: The web front asks the other cart. Nobody is turned away, and buying stays quick.
variables: {SHOP: {}, SHOP_URL: {}}

steady-state:
  - name: customers can buy
    http: {url: "${SHOP_URL}/buy?item=tea", method: POST, timeout: 1s}
    expect: {status: 202, latency: {below: 600ms}}
  - name: both carts run
    process: {cmdline: "cart\\\\.py --shop ${SHOP} "}
    expect: {count: {equals: 2}}

method:
  - fault: pause
    target: {process: {cmdline: "cart\\\\.py --shop ${SHOP} "}, pick: 1}
    for: 4s

gates:
  - {check: customers can buy, every: 500ms, consecutive: 3}
blast-radius: {max-targets: 1, max-percent: 50%, max-duration: 1m}
verify: [{check: steady-state, within: 20s}]
""",
    ),
    Scene(
        "the-web-front-freezes.yaml",
        Verdict.ABORTED,
        (
            "Second: the only web front is frozen for thirty seconds. That must hurt.",
            "Watch the gate see it and let go long before that.",
        ),
        """\
chaoskit: 1
title: Customers can buy while the web front is frozen
hypothesis: There is no second web front, so this is wrong. The gate must end it within seconds.
variables: {SHOP: {}, SHOP_URL: {}}

steady-state:
  - name: customers can buy
    http: {url: "${SHOP_URL}/buy?item=tea", method: POST, timeout: 500ms}
    expect: {status: 202}

method:
  - fault: pause
    target: {process: {cmdline: "web\\\\.py --shop ${SHOP} "}}
    for: 30s

gates:
  - {check: customers can buy, every: 500ms, consecutive: 2}
blast-radius: {max-targets: 1, max-duration: 1m}
verify: [{check: steady-state, within: 20s}]
""",
    ),
)
