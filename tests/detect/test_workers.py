from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
import weakref

import pytest

from spherecv.detect.workers import Workers


def slowly(number: int) -> tuple[int, str]:
    time.sleep(0.002)
    return number, threading.current_thread().name


def test_one_worker_is_no_thread():
    assert set(Workers(1).map(lambda _: threading.current_thread(), range(3))) == {threading.current_thread()}


def test_answers_come_in_the_order_of_the_items_from_several_threads():
    both = threading.Barrier(2)  # one begins with the first item, the caller with the last

    def work(number: int) -> tuple[int, str]:
        if number in (0, 29):
            both.wait(30)
        return slowly(number)

    answers = list(Workers(2).map(work, range(30)))
    assert [number for number, _ in answers] == list(range(30))
    assert {name for _, name in answers} == {"spherecv-detect", threading.current_thread().name}


def test_the_threads_stand_by_for_the_next_call_and_end_with_the_object():
    before = set(threading.enumerate())
    workers = Workers(3)
    assert set(threading.enumerate()) <= before  # none before the first call
    for _ in range(5):
        list(workers.map(slowly, range(6)))
        standing_by = set(threading.enumerate()) - before
        assert len(standing_by) == 2
    del workers
    gc.collect()
    for thread in standing_by:
        thread.join(30)
        assert not thread.is_alive()


def test_the_first_item_is_begun_before_the_second_is_made():
    begun = threading.Event()

    def items():
        yield begun
        assert begun.wait(30)
        yield begun

    assert list(Workers(2).map(threading.Event.set, items())) == [None, None]


def test_an_error_of_one_item_is_raised_and_the_threads_go_on():
    workers = Workers(2)
    with pytest.raises(ZeroDivisionError):
        list(workers.map(lambda number: 1 / number, [1, 0, 2]))
    assert list(workers.map(lambda number: 1 / number, [1, 2, 4])) == [1, 0.5, 0.25]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_call_that_is_broken_off_leaves_no_thread_at_work(error: type[BaseException]):
    workers, started, begun, ended = Workers(2), threading.Event(), [], []

    def work(number: int) -> None:
        begun.append(number)
        started.set()
        time.sleep(0.05)
        ended.append(number)

    def items():
        yield from range(8)
        assert started.wait(30)
        raise error

    with pytest.raises(error):
        workers.map(work, items())
    assert sorted(begun) == sorted(ended)
    at_the_end = list(begun)
    list(workers.map(slowly, range(8)))
    assert begun == at_the_end


def test_an_interrupt_of_the_caller_is_no_other_items_error():
    failing = threading.Event()

    def work(number: int) -> None:
        if threading.current_thread() is threading.main_thread():
            assert failing.wait(30)
            raise KeyboardInterrupt
        failing.set()
        raise ValueError

    with pytest.raises(KeyboardInterrupt):
        Workers(2).map(work, range(8))


def test_an_error_keeps_nothing_alive_once_it_was_caught():
    class Item:
        pass

    def fail(item: Item) -> None:
        raise ValueError

    workers, items = Workers(2), [Item() for _ in range(6)]
    alive = [weakref.ref(item) for item in items]
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            workers.map(fail, items)
        del items
        list(workers.map(slowly, range(8)))  # by then the threads have let go of theirs
        assert [one for one in alive if one() is not None] == []
    finally:
        gc.enable()


def test_calls_within_each_other_and_from_many_threads_all_end():
    workers, answers = Workers(2), []

    def outer(number: int) -> list[int]:
        return [inner for inner, _ in workers.map(slowly, range(number))]

    def call() -> None:
        answers.append(list(workers.map(outer, [3, 4, 5])))

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [[list(range(3)), list(range(4)), list(range(5))]] * 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_has_threads_of_its_own():
    workers = Workers(2)
    list(workers.map(slowly, range(4)))
    child = os.fork()
    if child == 0:
        both = threading.Barrier(2)  # which one thread alone never passes
        os._exit(0 if len(list(workers.map(lambda _: both.wait(30), range(2)))) == 2 else 1)
    until = time.monotonic() + 60
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
        time.sleep(0.01)
    if done == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert done == (child, 0)
