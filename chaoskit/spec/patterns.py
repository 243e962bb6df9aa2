"""What is wrong with a regular expression, a JSON path or a share, without a traceback."""

from __future__ import annotations

from chaoskit.model.units import parse_percent


def regex_problem(text: str) -> str:
    """Why that is no regular expression, or ""."""
    import re
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        return str(error) or type(error).__name__
    return ""


def json_path_problem(text: str) -> str:
    """Why that is no JSON path, or ""."""
    import jsonpath

    try:
        jsonpath.compile(text)
    except (jsonpath.JSONPathError, RecursionError, ValueError) as error:
        return str(error).splitlines()[0] if str(error) else "it cannot be read"
    return ""


def parse_share(text: str) -> float:
    """A fraction above 0 and not above 1 from `25%`. Raises ValueError."""
    fraction = parse_percent(text)
    if not 0 < fraction <= 1:
        raise ValueError("expected a percentage above 0% and up to 100%")
    return fraction
