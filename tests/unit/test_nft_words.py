"""What nft complains of is told with the line of ours that it complains of."""

from __future__ import annotations

import pytest

from chaoskit import nft
from chaoskit.errors import ChaoskitError

TOLD = """\
/dev/stdin:7:31-45: Error: Could not process rule: No such file or directory
    oifname "eth0" fib daddr type local drop
                   ^^^^^^^^^^^^^^^
"""


@pytest.mark.parametrize(("printed", "told"), [
    (TOLD, 'nft: Could not process rule: No such file or directory: `oifname "eth0" fib daddr '
           "type local drop`"),
    ("netlink: Error: cache initialization failed\n", "nft: cache initialization failed"),
    ("something else\n", "nft: something else"),
    ("", "nft: no reason was given"),
])  # fmt: skip
def test_the_line_is_named(printed: str, told: str) -> None:
    with pytest.raises(ChaoskitError) as raised:
        nft.checked(1, "", printed)
    assert str(raised.value) == told
