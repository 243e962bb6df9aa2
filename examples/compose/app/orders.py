"""Orders, and all that is asked of the database about them.

It bears the schema before, during and after the migration (see migrate.py): what is written is put
into those columns that there are, what is read comes from those that there are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import pg

WAITING = "orders:waiting"
TAKEN = "orders:taken"
"""Lists in the cache: an order is moved from one to the other, and is always in one of them."""

HOST = "database"


class Order(NamedTuple):
    id: str
    item: str
    side: str


def to_text(order: Order) -> str:
    return json.dumps(order._asdict())


def from_text(text: str) -> Order:
    return Order(**json.loads(text))


def price(item: str, patience: float) -> str | None:
    with pg.Connection(HOST, patience) as database:
        rows = database.query("select price from items where name = %s", item)
    return rows[0][0] if rows else None


def write(made: Sequence[Order], patience: float) -> None:
    """All of them or none; one that is there already is left as it is."""
    given = json.dumps([order._asdict() for order in made])
    with pg.Connection(HOST, patience) as database:
        database.query(_WRITE, given, given)


_WRITE = """
insert into slips
select given.one ->> 'id', rpad(concat_ws(' ', given.one ->> 'item', given.one ->> 'id'), 1900, '.')
from jsonb_array_elements(%s) as given (one)
on conflict do nothing;

insert into orders
select (jsonb_populate_record(null::orders, given.one || jsonb_build_object(
    'price', items.price, 'cents', (items.price * 100)::integer, 'placed', now()))).*
from jsonb_array_elements(%s) as given (one) join items on items.name = given.one ->> 'item'
on conflict do nothing
"""


def forget(patience: float) -> None:
    """Orders of long ago, as the disk is small."""
    with pg.Connection(HOST, patience) as database:
        database.query(_FORGET)


_FORGET = """
create temporary table old on commit drop as
select id from orders where placed < now() - interval '10 minutes';
delete from slips where id in (select id from old);
delete from orders where id in (select id from old)
"""


def written(ids: Sequence[str], patience: float) -> list[str]:
    """Those of them that are in the database."""
    wanted = json.dumps(ids)
    with pg.Connection(HOST, patience) as database:
        rows = database.query(
            "select id from orders where id in (select jsonb_array_elements_text(%s))", wanted
        )
    return [str(one) for (one,) in rows]


def sales(patience: float) -> tuple[int, int]:
    """How many there are, and how many of them have no price, neither an old one nor a new one."""
    with pg.Connection(HOST, patience) as database:
        ((count, unpriced),) = database.query(_SALES)
    return int(count or 0), int(unpriced or 0)


_SALES = """
select count(*), count(*) filter (where
    coalesce(to_jsonb(orders) ->> 'cents', to_jsonb(orders) ->> 'price') is null)
from orders
"""
