"""Experiment files: from YAML or JSON text to the model, with a position for all that is wrong."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from chaoskit.model.experiment import Experiment

__all__ = ["experiment_files", "load", "load_text", "schema"]


def load(
    path: Path,
    variables: Mapping[str, str] | None = None,
    var_files: Sequence[Path] = (),
    environ: Mapping[str, str] | None = None,
) -> Experiment:
    """The experiment in that file.

    variables: from the command line; they win over those in `var_files` (a later file over an
    earlier one), those over the environment (`environ`, by default this process's own), and those
    over the defaults in the file. What a `var_file` has beyond the file's variables is ignored.

    Raises InputError with everything that is wrong, in the order of the file.
    """
    from chaoskit.spec.source import read

    return load_text(read(path), str(path), variables, var_files, environ)


def load_text(
    text: str | bytes,
    name: str,
    variables: Mapping[str, str] | None = None,
    var_files: Sequence[Path] = (),
    environ: Mapping[str, str] | None = None,
) -> Experiment:
    """The experiment in that text. name: what errors and the experiment call its file; the rest as
    for `load`. Raises InputError."""
    import os

    from chaoskit.spec.loader import load_source

    return load_source(
        text, name, variables or {}, var_files, os.environ if environ is None else environ
    )


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of experiment files, with every registered fault, kind of target
    and probe."""
    from chaoskit.spec.json_schema import experiment_schema

    return experiment_schema()


def experiment_files(paths: Sequence[Path]) -> list[Path]:
    """The files that are meant: a folder stands for the *.yaml, *.yml and *.json below it, sorted;
    hidden ones are left out. Raises InputError when a folder holds none or cannot be read."""
    from chaoskit.spec.files import find

    return find(paths)
