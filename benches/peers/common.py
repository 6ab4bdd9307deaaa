"""What the peers in Python have in common: the work, how it is timed, and the conversation.

A question is a line of a word, a count and an argument; the answer is the nanoseconds for one each, or
`-` for what the peer doesn't do, and after it what a program's result came to.
"""

import hashlib
import os
import re
import sys
from functools import partial
from statistics import median
from time import perf_counter_ns, sleep

BLOCK = 1 << 20
LARGE = 64 << 20
PAUSE = 0.005
LINES = 2_500
PATTERN = re.compile(r"(\w+)=(\d+)")


def increment(x):
    return x + 1


def echo(block):
    return block


def spin(nanos):
    end = perf_counter_ns() + nanos
    while perf_counter_ns() < end:
        pass


def each(count, work):
    began = perf_counter_ns()
    work()
    return (perf_counter_ns() - began) / count


def p50(count, work):
    return median(each(1, work) for _ in range(count))


def p50_asleep(count, work):
    times = []
    for _ in range(count):
        sleep(PAUSE)
        times.append(each(1, work))
    return median(times)


def row(picture, y):
    width, height, steps = picture
    im = y / height * 2.0 - 1.0
    pixels = bytearray(width)
    for pixel in range(width):
        re = pixel / width * 3.0 - 2.0
        a = b = 0.0
        for step in range(steps):
            a, b = a * a - b * b + re, 2.0 * a * b + im
            if a * a + b * b > 4.0:
                break
        else:
            step = steps
        pixels[pixel] = step
    return bytes(pixels)


def mandelbrot(pool, argument):
    picture = tuple(map(int, argument.split(",")))
    rows = pool.map(partial(row, picture), range(picture[1]))
    return sum(sum(row) for row in rows)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).digest()


def hash_tree(pool, argument):
    paths = sorted(os.path.join(folder, name) for folder, _, names in os.walk(argument) for name in names)
    digests = pool.map(digest, paths)
    return sum(int.from_bytes(digest[:8], "little") for digest in digests) % (1 << 64)


def find(chunk):
    count = total = 0
    for found in PATTERN.finditer(chunk):
        count += 1
        total += int(found[2])
    return count, total


def matches(pool, argument):
    with open(argument, encoding="utf-8") as file:
        lines = file.read().splitlines()
    chunks = ["\n".join(lines[i : i + LINES]) for i in range(0, len(lines), LINES)]
    return sum(total for _, total in pool.map(find, chunks))


PROGRAMS = {"mandelbrot": mandelbrot, "hash_tree": hash_tree, "matches": matches}


def calls(pool, word, count, argument):
    """The rows about calls, maps and programs; None for others.

    A pool has `apply(f, x)`, `submit(f, x)` and `result(submitted)`, `map(f, xs)` and
    `map_in_chunks(f, xs, size)`.
    """
    if word == "apply":
        return p50(count, lambda: pool.apply(increment, 1))
    if word == "apply_asleep":
        return p50_asleep(count, lambda: pool.apply(increment, 1))
    if word == "apply_async":

        def submit_and_get():
            results = [pool.submit(increment, x) for x in range(count)]
            return sum(pool.result(result) for result in results)

        return each(count, submit_and_get)
    if word == "submit":
        results = []
        nanos = each(count, lambda: results.extend(pool.submit(increment, x) for x in range(count)))
        for result in results:
            pool.result(result)
        return nanos
    if word == "map":
        return each(count, lambda: pool.map(increment, range(count)))
    if word == "map_one_by_one":
        return each(count, lambda: pool.map_in_chunks(increment, range(count), 1))
    if word == "map_by_sixty_four":
        return each(count, lambda: pool.map_in_chunks(increment, range(count), 64))
    if word == "map_thousand":
        return p50(count, lambda: pool.map(increment, range(1000)))
    if word == "blocks":
        blocks = [bytes([1]) * BLOCK for _ in range(count)]
        return each(count, lambda: pool.map(echo, blocks))
    if word in ("bulk_1", "bulk_64"):
        block = bytes([1]) * (BLOCK if word == "bulk_1" else LARGE)
        return p50(count, lambda: pool.apply(echo, block))
    if word == "spin":
        lengths = [int(length) for length in argument.split(",")]
        return each(1, lambda: pool.map(spin, lengths))
    if word in PROGRAMS:
        results = []
        nanos = each(1, lambda: results.append(PROGRAMS[word](pool, argument)))
        return f"{nanos} {results[0]}"
    return None


def converse(answer):
    """Answers questions by `answer(word, count, argument)` until there are no more."""
    for line in sys.stdin:
        word, count, argument = line.rstrip("\n").split(" ", 2)
        result = answer(word, int(count), argument)
        print("-" if result is None else result, flush=True)
