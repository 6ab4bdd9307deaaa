"""concurrent.futures or loky as a peer of the side-by-side benchmark.

The arguments are the number of workers and the module's name.
"""

import os
import sys

from common import calls, converse


class Executor:
    """Both have the interface of `concurrent.futures.Executor`, whose maps have one item a chunk."""

    def __init__(self, executor):
        self.executor = executor

    def submit(self, f, x):
        return self.executor.submit(f, x)

    def result(self, submitted):
        return submitted.result()

    def apply(self, f, x):
        return self.executor.submit(f, x).result()

    def map(self, f, xs):
        return list(self.executor.map(f, xs))

    def map_in_chunks(self, f, xs, size):
        return list(self.executor.map(f, xs, chunksize=size))


def start(module, processes):
    if module == "loky":
        from loky import get_reusable_executor

        return get_reusable_executor(max_workers=processes, timeout=None)
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    return ProcessPoolExecutor(processes, mp_context=get_context("fork"))


def main():
    with start(sys.argv[2], int(sys.argv[1])) as executor:
        pool = Executor(executor)

        def answer(word, count, argument):
            if word == "worker_pid":
                return executor.submit(os.getpid).result()
            return calls(pool, word, count, argument)

        converse(answer)


if __name__ == "__main__":
    main()
