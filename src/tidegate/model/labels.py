"""Labels: what users call their tokens and links, so that they know them again in a list.

Others read them too, an administrator in a terminal or whoever follows a cluster's events. So a label is one line of
characters that can be seen: none that moves a cursor, or turns the direction in which the rest is read.
"""

from __future__ import annotations

from tidegate.model.errors import Invalid

LONGEST_LABEL = 100
"""Characters: what a line of a list has room for."""


def check_label(text: str, what: str) -> str:
    """Return the label ``text`` without blanks around it.

    Parameters
    ----------
    text : str
    what : str
        What cannot be done with another one, for the sentence.

    Raises
    ------
    Invalid
        It is too long, or not all of it can be seen.

    Examples
    --------
    >>> check_label(" for the reviewers ", "make a link")
    'for the reviewers'
    """
    label = text.strip()
    if len(label) > LONGEST_LABEL or not label.isprintable():
        rule = f"at most {LONGEST_LABEL} printable characters, on one line"
        raise Invalid(f"cannot {what}: its label must be {rule}", field="label")
    return label
