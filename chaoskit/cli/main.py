"""The entry of `chaoskit`: answers `--version` at once and leaves the rest to `dispatch`."""

import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code. argv: without the program's name; sys.argv's when None."""
    argv = sys.argv[1:] if argv is None else argv
    if argv == ["--version"]:
        from chaoskit.version import __version__

        # Whoever reads no further has what it asked for.
        try:
            print(f"chaoskit {__version__}", flush=True)
        except OSError:
            return 0
        return 0
    from chaoskit.cli.dispatch import dispatch

    return dispatch(argv)
