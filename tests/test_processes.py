"""A function in a process of its own: its result or its exception comes back, and a process that dies is told."""

import os
from concurrent.futures.process import BrokenProcessPool

import pytest
from own_process_tasks import die, process_id, refuse

from algpt2.errors import UserError
from algpt2.processes import in_own_process


def test_the_result_comes_from_another_process_each_time():
    ids = [in_own_process(process_id) for _ in range(2)]
    assert len({os.getpid(), *ids}) == 3


def test_an_exception_comes_back_as_it_was_raised():
    with pytest.raises(UserError, match=r"^a rule, 7: a remedy\.$"):
        in_own_process(refuse, 7)


def test_a_process_that_is_ended_from_outside_is_told():
    with pytest.raises(BrokenProcessPool):
        in_own_process(die)
