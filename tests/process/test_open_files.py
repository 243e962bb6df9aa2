"""open-files: held in the machine's table, or kept from the target by its own limit."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from beside import SOON, Beside, beside, inject, proven, undo, unproven

from chaoskit.clock import until
from chaoskit.faults.open_files import OpenFiles, limit_for
from chaoskit.model.fault import Change, Ends, Found
from chaoskit.procfs import Process


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Beside]:
    with beside(tmp_path) as made:
        yield made


def test_a_helper_holds_so_many(target: Beside) -> None:
    fault = OpenFiles(count=3000)
    assert fault.refuse(target) is None
    changes = inject(fault, target)
    assert proven(fault, target, changes)
    (process,) = target.helpers()
    assert process.open_files() == 3003
    assert target.descriptors()[0] > 3000
    undo(fault, target, changes)
    assert not process.alive()


def test_a_helper_raises_its_own_limit(target: Beside) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fault = OpenFiles(count=300)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        changes = inject(fault, target)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert proven(fault, target, changes)


def test_it_holds_until_so_much_of_the_table_is_used(target: Beside) -> None:
    def held() -> bool:
        used, most = target.descriptors()
        fault = OpenFiles(until=(used + 1500) / most)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if fault.refuse(target):
            pytest.skip(f"of {most} descriptors, a process may open {hard}")
        changes = inject(fault, target)
        took = until(lambda: fault.took(target, changes), SOON / 4)
        assert int(target.burden_work(str(changes[0].put))[1]) > 100
        undo(fault, target, changes)
        target.binding = target.bind()
        return took

    # Others may close many files meanwhile, and then it is less than that again.
    assert any(held() for _ in range(4))


def test_fewer_than_that_are_not_enough(target: Beside) -> None:
    assert OpenFiles(count=50).felt(target, ["files", "50"], {"files": 50.0})
    assert not OpenFiles(count=50).felt(target, ["files", "50"], {"files": 49.0})
    assert not OpenFiles(until=1.0).felt(target, ["files", "50"], {"files": 50.0})


def test_a_helper_that_was_killed_holds_nothing(target: Beside) -> None:
    fault = OpenFiles(count=50)
    changes = inject(fault, target)
    assert proven(fault, target, changes)
    target.helpers()[0].signal(signal.SIGKILL)
    assert unproven(fault, target, changes)
    undo(fault, target, changes)


def test_what_cannot_be_held_is_refused(target: Beside) -> None:
    used, most = target.descriptors()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert f"may open {hard} files" in str(OpenFiles(count=hard).refuse(target)) or hard > most
    assert "must be left" in str(OpenFiles(count=most - 500).refuse(target))
    assert "must be left" in str(OpenFiles(until=1.0).refuse(target))
    assert "in use already" in str(OpenFiles(until=used / most / 2).refuse(target))


@pytest.mark.parametrize("leave", [0, 1, 5])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_the_target_can_open_so_many_more(target: Beside, leave: int, sparse: bool) -> None:
    """Also when a high number is open already: that takes no place below the limit."""
    if sparse:
        target.ask("hold", 30)
        target.ask("hold", 6)
    before = target.root.file_limit()
    assert int(target.ask("open")) > 10
    fault = OpenFiles(leave=leave)
    assert fault.refuse(target) is None
    changes = inject(fault, target)
    assert [change.was for change in changes] == [list(before)]
    assert fault.took(target, changes)
    assert int(target.ask("open")) == leave
    assert target.root.file_limit()[1] == before[1], "the hard limit is not ours to touch"
    undo(fault, target, changes)
    assert target.root.file_limit() == before
    assert int(target.ask("open")) > 10


def test_each_process_of_the_tree_gets_back_its_own(target: Beside) -> None:
    child = Process.at(int(target.ask("fork")))
    hard = resource.prlimit(child.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (77, hard))
    before = [target.root.file_limit(), (77, hard)]
    fault = OpenFiles(leave=4)
    changes = inject(fault, target)
    assert [change.key for change in changes] == [target.root.key, child.key]
    assert child.file_limit()[0] < 20
    undo(fault, target, changes)
    assert [target.root.file_limit(), child.file_limit()] == before


def test_a_child_that_is_born_meanwhile_gets_the_old_limit_back(target: Beside) -> None:
    before = target.root.file_limit()
    fault = OpenFiles(leave=20)
    changes = inject(fault, target)
    children = [Process.at(int(target.ask("fork"))) for _ in range(2)]
    assert all(child.file_limit()[0] < before[0] for child in children)
    undo(fault, target, changes)
    assert [child.file_limit() for child in children] == [before] * 2


def test_one_whose_parent_has_ended_gets_it_back_where_the_target_still_counts_it(
    target: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container whoever is left alone is given to its first process."""
    before = target.root.file_limit()
    fault = OpenFiles(leave=20)
    changes = inject(fault, target)
    orphan = Process.at(int(target.ask("fork")))
    monkeypatch.setattr(type(target), "below", lambda *_: [])
    assert orphan.key in [process.key for process in target.tree()]
    undo(fault, target, changes)
    assert orphan.file_limit() == before


def test_a_child_that_is_born_during_the_injection_is_found(target: Beside) -> None:
    before = target.root.file_limit()
    fault = OpenFiles(leave=20)
    done: list[Change] = []
    for change in fault.changes(target):
        fault.make(target, change)
        done.append(change)
        if len(done) == 1:
            child = Process.at(int(target.ask("fork")))
    assert [change.key for change in done] == [target.root.key, child.key]
    assert done[1].was == list(before) and fault.took(target, done)
    undo(fault, target, done)
    assert child.file_limit() == target.root.file_limit() == before


def test_a_limit_that_somebody_has_changed_is_not_ours(target: Beside) -> None:
    fault = OpenFiles(leave=3)
    changes = inject(fault, target)
    target.root.set_file_limit(99)
    (change,) = changes
    assert not fault.took(target, changes)
    assert fault.found(fault.look(target, change), change) is Found.FOREIGN


def test_a_limit_is_never_raised(target: Beside) -> None:
    target.root.set_file_limit(50)
    (change,) = OpenFiles(leave=1000).changes(target)
    assert change.was == change.put


def test_which_limit_leaves_how_many() -> None:
    for numbers, leave, expected in (
        ({0, 1, 2}, 0, 3),
        ({0, 1, 2}, 3, 6),
        ({0, 1, 2, 255}, 3, 6),
        ({0, 1, 2, 4, 5}, 1, 6),
        ({0, 1, 2, 4, 5}, 2, 7),
        (set[int](), 0, 0),
        ({0, 1, 2}, 5000, 1024),
    ):
        assert limit_for(numbers, leave, 1024) == expected, (numbers, leave)


def test_what_makes_no_sense_is_told(target: Beside) -> None:
    assert OpenFiles().problems() and OpenFiles(leave=1, count=1).problems()
    assert OpenFiles(count=1, until=0.5).problems()
    for fault in (OpenFiles(leave=0), OpenFiles(count=1), OpenFiles(until=0.5)):
        assert not fault.problems()
    assert OpenFiles(count=1).ends is Ends.BY_ITSELF
    assert OpenFiles(leave=0).ends is Ends.BY_RECOVER
    assert OpenFiles(leave=0).way_back() != OpenFiles(count=1).way_back()
    target.end()
    assert inject(OpenFiles(leave=1), target) == []
