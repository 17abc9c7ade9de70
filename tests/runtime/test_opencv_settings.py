"""OpenCV's settings come back, however the blocks that hold them overlap."""

from __future__ import annotations

import os
import threading

import cv2
import pytest

from spherecv.runtime.opencv_settings import keep_opencv_threads, nets, opencv_threads, silent_opencv

pytestmark = pytest.mark.runtime
logging = cv2.utils.logging
SILENT, INFO = logging.LOG_LEVEL_SILENT, logging.LOG_LEVEL_INFO


@pytest.fixture(autouse=True)
def settings():
    before = cv2.getNumThreads(), logging.getLogLevel()
    cv2.setNumThreads(2)
    logging.setLogLevel(logging.LOG_LEVEL_WARNING)
    yield
    cv2.setNumThreads(before[0])
    logging.setLogLevel(before[1])


def test_the_level_comes_back_after_an_error_too() -> None:
    levels = []

    def fail() -> None:
        with silent_opencv(cv2):
            levels.append(logging.getLogLevel())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert levels == [SILENT]
    assert logging.getLogLevel() == logging.LOG_LEVEL_WARNING


def test_nothing_is_printed_inside_a_block_alone(capfd: pytest.CaptureFixture[str]) -> None:
    def printed() -> str:
        capfd.readouterr()
        assert cv2.imread("nowhere.png") is None
        return "".join(capfd.readouterr())

    assert "nowhere.png" in printed()
    with silent_opencv(cv2):
        assert printed() == ""
    assert "nowhere.png" in printed()


def test_blocks_that_overlap_leave_the_level_as_it_was() -> None:
    first, second = silent_opencv(cv2), silent_opencv(cv2)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert logging.getLogLevel() == SILENT
    second.__exit__(None, None, None)
    assert logging.getLogLevel() == logging.LOG_LEVEL_WARNING


def test_a_net_that_starts_in_a_silent_block_and_ends_after_it_leaves_the_level_as_it_was() -> None:
    net, block = nets.running(cv2, None), silent_opencv(cv2)
    block.__enter__()
    net.__enter__()
    block.__exit__(None, None, None)
    net.__exit__(None, None, None)
    assert logging.getLogLevel() == logging.LOG_LEVEL_WARNING


def test_a_net_hides_warnings_only_where_nobody_asked_for_more() -> None:
    with nets.running(cv2, None):
        assert logging.getLogLevel() == SILENT
    logging.setLogLevel(INFO)
    with nets.running(cv2, None):
        assert logging.getLogLevel() == INFO
        with silent_opencv(cv2):
            assert logging.getLogLevel() == SILENT
        assert logging.getLogLevel() == INFO


def test_numbers_of_threads_overlap_and_come_back() -> None:
    first, second = opencv_threads(cv2, 1), opencv_threads(cv2, 3)
    first.__enter__()
    with nets.running(cv2, None):
        assert cv2.getNumThreads() == 1
    second.__enter__()
    assert cv2.getNumThreads() == 3
    first.__exit__(None, None, None)
    assert cv2.getNumThreads() == 3
    second.__exit__(None, None, None)
    assert cv2.getNumThreads() == 2


def test_a_number_kept_inside_a_block_stays_after_it() -> None:
    with opencv_threads(cv2, 1):
        keep_opencv_threads(3)
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == 3


def test_many_threads_at_once_leave_all_as_it_was() -> None:
    wrong = []

    def work() -> None:
        for _ in range(200):
            with silent_opencv(cv2):
                wrong.append(logging.getLogLevel() != SILENT)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(wrong)
    assert logging.getLogLevel() == logging.LOG_LEVEL_WARNING


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_a_process_whose_other_thread_is_in_a_block_is_not_held_up() -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with nets.running(cv2, 1), nets._queue, nets._changed:
            inside.set()
            leave.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(60)
    threading.Timer(0.5, leave.set).start()  # the fork waits until the net has ended
    child = os.fork()
    if not child:
        threading.Timer(20, os._exit, (3,)).start()
        with nets.running(cv2, 2):
            pass
        os._exit(0 if logging.getLogLevel() == logging.LOG_LEVEL_WARNING and cv2.getNumThreads() == 2 else 4)
    assert leave.is_set()
    holder.join(60)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
