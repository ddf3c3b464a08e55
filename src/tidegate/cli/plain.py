"""What others wrote, as a terminal may show it.

Logs, reasons, versions and names come from clusters, and not only from one's own: whoever shares one with somebody, or
is looked after by an administrator, could put sequences into them that move the cursor, rename the window or make a
line read otherwise than it is.
"""

from __future__ import annotations

import re

import click

_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but for line feed and tab, and those that turn the direction of what follows."""


def plain(text: str) -> str:
    """Return ``text`` without colours, and with a question mark for every other character that does something.

    >>> plain("\\x1b[31mred\\x1b[0m\\r\\nbell\\x07")
    'red\\nbell?'
    """
    lines = click.unstyle(text).replace("\r\n", "\n").replace("\r", "\n")
    return _HARMFUL.sub("?", lines)
