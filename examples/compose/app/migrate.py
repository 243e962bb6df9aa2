"""Moves the orders' prices from `price`, in euros, to `cents`, while the market is open.

    python3 migrate.py            expand, migrate, contract
    python3 migrate.py --back     the same the other way round
    python3 migrate.py --status   which columns there are

Expand adds the new column, migrate fills it, a few orders at a time, contract drops the old one.
The market writes both while there are both. Each statement may be said twice: when the database
does not answer, nobody knows whether it has heard the last one, so it is said again. The client's
own patience is what ends its waiting, as a database that is paused keeps no time-out.

Who is told to go back while another is still going forward (`docker exec` that is killed leaves it
running) waits until that one is through.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from collections.abc import Callable

import orders
import pg

PATIENCE = 0.7
"""Seconds of silence after which a statement is said again."""
GIVE_UP = 15.0
"""Seconds in which a statement has to succeed; all of them may be said again later."""
REST = 0.1
BATCH = 100

FORWARD = ("price", "numeric(10, 2)", "cents", "integer", "(price * 100)::integer")
BACK = ("cents", "integer", "price", "numeric(10, 2)", "cents / 100.0")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--back", action="store_true")
    parser.add_argument("--status", action="store_true")
    words = parser.parse_args()
    try:
        if not words.status:
            with open("/tmp/migration", "w") as alone:
                fcntl.flock(alone, fcntl.LOCK_EX)
                migrate(*(BACK if words.back else FORWARD))
        print("columns:", ", ".join(sorted(columns() & {"price", "cents"})))
    except Exhausted as error:
        print(f"given up: {error}", file=sys.stderr)
        return 1
    return 0


class Exhausted(Exception):
    """The database has not done it in time."""


def migrate(old: str, old_type: str, new: str, new_type: str, value: str) -> None:
    if old not in columns():
        print(f"there is no column {old} any more: nothing to do")
        return
    # Whoever waits for the table's lock has everybody else wait behind: not for long.
    say(f"set lock_timeout = '500ms'; alter table orders add column if not exists {new} {new_type}")
    print(f"expanded: there is a column {new}", flush=True)
    moved = 0
    while rows := say(_MOVE.format(old=old, new=new, value=value, batch=BATCH)):
        moved += len(rows)
        time.sleep(REST)
    print(f"migrated: {moved} orders, besides those whose answer went unheard", flush=True)
    say(_CONTRACT.format(old=old, new=new))
    print(f"contracted: there is no column {old} any more", flush=True)


_MOVE = """
update orders set {new} = {value} where id in (
    select id from orders where {new} is null and {old} is not null
    limit {batch} for update skip locked)
returning 1
"""


# Never the last of the two, whoever else is at it.
_CONTRACT = """
set lock_timeout = '500ms';
begin;
lock table orders;
do $$ begin
    if exists (select from information_schema.columns
               where table_name = 'orders' and column_name = '{new}') then
        alter table orders drop column if exists {old};
    end if;
end $$;
commit
"""


def columns() -> set[str | None]:
    rows = say("select column_name from information_schema.columns where table_name = 'orders'")
    return {name for (name,) in rows}


def say(sql: str) -> list[pg.Row]:
    """Say it until it is done. Raises Exhausted."""
    return _again(lambda: _once(sql))


def _once(sql: str) -> list[pg.Row]:
    with pg.Connection(orders.HOST, PATIENCE) as database:
        return database.query(sql)


def _again(done: Callable[[], list[pg.Row]]) -> list[pg.Row]:
    end = time.monotonic() + GIVE_UP
    while True:
        try:
            return done()
        except (OSError, pg.Refused) as error:
            if time.monotonic() > end:
                raise Exhausted(str(error)) from error
            print(f"again, since: {error}", flush=True)
            time.sleep(REST)


if __name__ == "__main__":
    sys.exit(main())
