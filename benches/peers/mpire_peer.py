"""mpire as a peer of the side-by-side benchmark.

The first argument is the number of workers.
"""

import sys

from mpire import WorkerPool

from common import calls, converse


class Pool:
    """Two of its pools: in version 2.10, one that has run `apply` fails at its first `map` after it."""

    def __init__(self, applies, maps):
        self.applies = applies
        self.maps = maps

    def submit(self, f, x):
        return self.applies.apply_async(f, (x,))

    def result(self, submitted):
        return submitted.get()

    def apply(self, f, x):
        return self.applies.apply(f, (x,))

    def map(self, f, xs):
        return self.maps.map(f, xs)

    def map_in_chunks(self, f, xs, size):
        return self.maps.map(f, xs, chunk_size=size)


def start():
    return WorkerPool(n_jobs=int(sys.argv[1]), start_method="fork", keep_alive=True)


def main():
    with start() as applies, start() as maps:
        pool = Pool(applies, maps)
        converse(lambda word, count, argument: calls(pool, word, count, argument))


if __name__ == "__main__":
    main()
