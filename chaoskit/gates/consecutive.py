"""N failures in a row: the default gate."""

from __future__ import annotations

from chaoskit.model.gate import Decision, Gate, Sample, Sight


class Consecutive(Gate):
    """Fires at the Nth failure in a row. A reading that could not be had is a failure."""

    def __init__(self, consecutive: int) -> None:
        self.consecutive = consecutive
        self.failures = 0

    def feed(self, sample: Sample) -> Decision:
        self.failures = 0 if sample.sight is Sight.OK else self.failures + 1
        if self.failures >= self.consecutive:
            times = "once" if self.consecutive == 1 else f"{self.failures} times in a row"
            return Decision(True, f"{sample.check}: {sample.detail} ({times})")
        if self.failures:
            return Decision(False, f"{self.failures} of {self.consecutive} failures in a row")
        return Decision(False, "ok")
