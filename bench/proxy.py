"""The fault proxy beside haproxy, nginx and the real Toxiproxy, all in the same run: what it
carries without a toxic, how true its toxics are, and what it costs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from common import table
from proxy_load.measures import FULL, MEASURES, QUICK
from proxy_load.peers import Field
from proxy_load.results import Result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--rounds", type=int, help="how often each is measured (5)")
    parser.add_argument("--only", nargs="+", choices=MEASURES, metavar="MEASURE",
                        help=f"some of: {', '.join(MEASURES)}")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--also", default="", metavar="COMMAND",
                        help="another build of ours, measured beside it")  # fmt: skip
    args = parser.parse_args()
    effort = QUICK if args.quick else FULL
    if args.rounds:
        effort = dataclasses.replace(effort, rounds=args.rounds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder, Field(Path(folder), args.also) as field:
        results = {}
        if not args.json:
            head(field, effort.rounds)
        for name in args.only or MEASURES:
            results[name] = MEASURES[name](field, effort)
            if not args.json:
                show(results[name])
        if args.json:
            json.dump({"missing": field.missing, "measures": {
                name: result.document() for name, result in results.items()
            }}, sys.stdout, indent=1)  # fmt: skip
            print()
        else:
            judged(list(results.values()))


def head(field: Field, rounds: int) -> None:
    busy = os.getloadavg()[0]
    print(f"{os.cpu_count()} processors, load {busy:.1f} before; medians of {rounds}")
    if busy > 1:
        print("BUSY: others work on this machine; ratios mean more than limits, and neither much")
    print("load: Python, send(2) of 1 MiB; service: Python, recv(2) with MSG_TRUNC, one epoll loop")
    for name, why in field.missing.items():
        print(f"MISSING: {name} ({why}); nothing is compared with it")


def show(result: Result) -> None:
    heads, rows = result.rows()
    table(result.title, heads, rows)


def judged(results: list[Result]) -> None:
    judgements = [one for result in results for one in result.judgements]
    table("Judged", ["", "what", "ours", "limit"], [one.row() for one in judgements])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
