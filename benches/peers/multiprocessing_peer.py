"""Python's multiprocessing as a peer of the side-by-side benchmark.

Reads lines of a word and a count; answers each with the nanoseconds for one each. The only argument is
the number of workers.
"""

import multiprocessing
import sys
from statistics import median
from time import perf_counter_ns

BLOCK = 1 << 20


def nothing():
    pass


def increment(x):
    return x + 1


def echo(block):
    return block


def each(count, work):
    began = perf_counter_ns()
    work()
    return (perf_counter_ns() - began) / count


def p50(count, work):
    return median(each(1, work) for _ in range(count))


def start_and_join(method):
    process = multiprocessing.get_context(method).Process(target=nothing)
    process.start()
    process.join()


def run(pool, word, count):
    if word == "start_fork":
        return p50(count, lambda: start_and_join("fork"))
    if word == "start_spawn":
        return p50(count, lambda: start_and_join("spawn"))
    if word == "apply":
        return p50(count, lambda: pool.apply(increment, (1,)))
    if word == "map":
        return each(count, lambda: pool.map(increment, range(count)))
    if word == "map_one_by_one":
        return each(count, lambda: pool.map(increment, range(count), chunksize=1))
    if word == "apply_async":

        def submit_and_get():
            results = [pool.apply_async(increment, (x,)) for x in range(count)]
            return sum(result.get() for result in results)

        return each(count, submit_and_get)
    if word == "blocks":
        blocks = [bytes([1]) * BLOCK for _ in range(count)]
        return each(count, lambda: pool.map(echo, blocks))
    raise ValueError(word)


def main():
    with multiprocessing.get_context("fork").Pool(int(sys.argv[1])) as pool:
        for line in sys.stdin:
            word, count = line.split()
            print(run(pool, word, int(count)), flush=True)


if __name__ == "__main__":
    main()
