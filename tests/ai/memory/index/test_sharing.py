"""The shared lock: readers side by side, whoever changes alone, and nobody is starved."""

import threading

from aico.ai.memory.index.sharing import SharedLock


def test_readers_are_inside_together() -> None:
    lock, together = SharedLock(), threading.Barrier(3, timeout=30)

    def read() -> None:
        with lock.shared():
            together.wait()

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken


def test_who_changes_is_alone_and_comes_before_readers_that_come_later() -> None:
    lock, order = SharedLock(), list[str]()
    inside, waiting = threading.Event(), threading.Event()

    def change() -> None:
        waiting.set()
        with lock.alone():
            order.append("changed")

    def read() -> None:
        with lock.shared():
            order.append("read")

    with lock.shared():
        inside.set()
        writer = threading.Thread(target=change)
        writer.start()
        waiting.wait(30)
        while not lock._waiting:
            pass
        reader = threading.Thread(target=read)
        reader.start()
        reader.join(0.05)
        assert order == []
    writer.join()
    reader.join()
    assert order == ["changed", "read"]


def test_an_error_inside_gives_the_lock_back() -> None:
    lock = SharedLock()
    for side in (lock.shared, lock.alone, lock.shared):
        try:
            with side():
                raise KeyError
        except KeyError:
            pass
    with lock.alone():
        pass
