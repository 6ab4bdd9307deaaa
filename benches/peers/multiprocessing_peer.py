"""Python's multiprocessing as a peer of the side-by-side benchmark.

The first argument is the number of workers.
"""

import multiprocessing
import os
import sys
from multiprocessing.shared_memory import SharedMemory

from common import BLOCK, calls, converse, each, p50
from managers import Managers

BLOCKS_UNDER_WAY = 8
CROWD = 4

context = multiprocessing.get_context("fork")


def nothing():
    pass


def start_and_join(method):
    process = multiprocessing.get_context(method).Process(target=nothing)
    process.start()
    process.join()


def take(messages, reports):
    """Takes messages until None, and reports twice: when it is there, and how many came."""
    reports.put(0)
    taken = 0
    while messages.get() is not None:
        taken += 1
    reports.put(taken)


def one_to_one(messages, everything):
    reports = context.SimpleQueue()
    consumer = context.Process(target=take, args=(messages, reports))
    consumer.start()
    reports.get()

    def work():
        for message in everything:
            messages.put(message)
        messages.put(None)
        assert reports.get() == len(everything)

    nanos = each(len(everything), work)
    consumer.join()
    return nanos


def produce(messages, numbers, gate):
    gate.wait()
    for number in numbers:
        messages.put(number)


def count_and_sum(messages, reports, gate):
    gate.wait()
    taken = total = 0
    while (number := messages.get()) is not None:
        taken += 1
        total += number
    reports.put((taken, total))


def crowd(count):
    messages, reports, gate = context.Queue(), context.SimpleQueue(), context.Event()
    producers = []
    for i in range(CROWD):
        numbers = range(count * i // CROWD, count * (i + 1) // CROWD)
        producers.append(context.Process(target=produce, args=(messages, numbers, gate)))
    consumers = [
        context.Process(target=count_and_sum, args=(messages, reports, gate)) for _ in range(CROWD)
    ]
    for process in producers + consumers:
        process.start()
    results = []

    def work():
        gate.set()
        for process in producers:
            process.join()
        for _ in consumers:
            messages.put(None)
        results.extend(reports.get() for _ in consumers)

    nanos = each(count, work)
    for process in consumers:
        process.join()
    assert sum(taken for taken, _ in results) == count
    assert sum(total for _, total in results) == sum(range(count))
    return nanos


def answer(numbers):
    while (number := numbers.recv()) is not None:
        numbers.send(number)


def round_trip(count):
    ours, theirs = context.Pipe()
    process = context.Process(target=answer, args=(theirs,))
    process.start()

    def there_and_back():
        ours.send(1)
        ours.recv()

    nanos = p50(count, there_and_back)
    ours.send(None)
    process.join()
    return nanos


def lock_and_unlock(lock, count):
    # Faster than `with lock`, which goes through two methods written in Python.
    acquire, release = lock.acquire, lock.release
    for _ in range(count):
        acquire()
        release()


def add(lock, value, count):
    for _ in range(count):
        with lock:
            value.value += 1


def lock_contended(count):
    lock, value = context.Lock(), context.RawValue("q", 0)
    processes = [context.Process(target=add, args=(lock, value, count // 2)) for _ in range(2)]

    def work():
        for process in processes:
            process.start()
        for process in processes:
            process.join()

    nanos = each(count, work)
    assert value.value == count // 2 * 2
    return nanos


def update(value, count):
    for _ in range(count):
        with value.get_lock():
            value.value += 1


def share(block):
    memory = SharedMemory(create=True, size=BLOCK)
    memory.buf[:] = block
    opened = SharedMemory(name=memory.name)
    assert opened.buf[BLOCK - 1] == 1
    opened.close()
    memory.close()
    memory.unlink()


class Pool:
    def __init__(self, pool):
        self.pool = pool

    def submit(self, f, x):
        return self.pool.apply_async(f, (x,))

    def result(self, submitted):
        return submitted.get()

    def apply(self, f, x):
        return self.pool.apply(f, (x,))

    def map(self, f, xs):
        return self.pool.map(f, xs)

    def map_in_chunks(self, f, xs, size):
        return self.pool.map(f, xs, chunksize=size)


def own(pool, word, count):
    """The rows that are about more than calls; None for others."""
    if word == "start_and_join":
        return p50(count, lambda: start_and_join("fork"))
    if word == "start_spawn":
        return p50(count, lambda: start_and_join("spawn"))
    if word == "start_forked":
        return p50(count, lambda: start_and_join("forkserver"))
    if word == "worker_pid":
        return pool.apply(os.getpid)
    if word == "queue":
        return one_to_one(context.Queue(), range(count))
    if word == "simple_queue":
        return one_to_one(context.SimpleQueue(), range(count))
    if word == "queue_blocks":
        return one_to_one(context.Queue(BLOCKS_UNDER_WAY), [bytes([1]) * BLOCK] * count)
    if word == "simple_queue_blocks":
        return one_to_one(context.SimpleQueue(), [bytes([1]) * BLOCK] * count)
    if word == "queue_crowd":
        return crowd(count)
    if word == "pipe":
        return round_trip(count)
    if word == "lock":
        return each(count, lambda: lock_and_unlock(context.Lock(), count))
    if word == "lock_contended":
        return lock_contended(count)
    if word == "value":
        return each(count, lambda: update(context.Value("q", 0), count))
    if word == "share":
        block = bytes([1]) * BLOCK
        return p50(count, lambda: share(block))
    return None


def main():
    with context.Pool(int(sys.argv[1])) as pool:
        peer, managers = Pool(pool), Managers(context)

        def answer(word, count, argument):
            result = own(pool, word, count)
            if result is None:
                result = managers.run(word, count, argument)
            return calls(peer, word, count, argument) if result is None else result

        converse(answer)
        managers.shutdown()


if __name__ == "__main__":
    main()
