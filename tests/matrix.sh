#!/bin/sh
# The build matrix: the same program with every kind of callable, in each kind of build.
#
# Usage: tests/matrix.sh [build...]    default: all of the below
#
# `cargo test` covers the debug build. This takes some minutes, so CI runs it, and whoever changes the
# dispatch table, the hook or the way callables are named. MATRIX_LIMIT is the seconds that one build may
# take (default 600).
set -eu

cd "$(dirname "$0")/fixtures"
cp ../../Cargo.lock Cargo.lock
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-../../target/fixtures}
export CARGO_TARGET_DIR
limit=${MATRIX_LIMIT:-600}
failed=

# build NAME PROFILE DIRECTORY PANIC: builds the program with a profile and runs it.
build() {
    name=$1 profile=$2 directory=$3 expected="all callables work; a panic is $4"
    if said=$(timeout "$limit" cargo build --quiet -p fixture-matrix --profile "$profile" &&
        timeout 60 "$CARGO_TARGET_DIR/$directory/fixture-matrix") && [ "$said" = "$expected" ]; then
        echo "ok      $name"
    else
        echo "FAILED  $name: $said"
        failed=1
    fi
}

# with_flags NAME FLAGS: a debug build with flags for all crates, in a directory of its own.
with_flags() {
    name=$1
    if said=$(CARGO_TARGET_DIR=$CARGO_TARGET_DIR/$name RUSTFLAGS=$2 \
        timeout "$limit" cargo run --quiet -p fixture-matrix) &&
        [ "$said" = "all callables work; a panic is unwind" ]; then
        echo "ok      $name"
    else
        echo "FAILED  $name: $said"
        failed=1
    fi
}

has() {
    command -v "$1" >/dev/null
}

one() {
    case $1 in
    debug) build debug dev debug unwind ;;
    release) build release release release unwind ;;
    fat) build fat fat fat unwind ;;
    abort) build abort abort abort abort ;;
    stripped) build stripped stripped stripped unwind ;;
    tests)
        if timeout "$limit" cargo test --quiet -p fixture-matrix --lib --tests --benches --examples &&
            timeout "$limit" cargo test --quiet -p fixture-matrix --doc; then
            echo "ok      tests"
        else
            echo "FAILED  tests"
            failed=1
        fi
        ;;
    nextest)
        if ! has cargo-nextest; then
            echo "skipped nextest: it isn't installed"
        elif timeout "$limit" cargo nextest run -p fixture-matrix --lib --tests --benches; then
            echo "ok      nextest"
        else
            echo "FAILED  nextest"
            failed=1
        fi
        ;;
    mold | lld)
        if has "$1" || has "ld.$1"; then
            with_flags "$1" "-C link-arg=-fuse-ld=$1"
        else
            echo "skipped $1: it isn't installed"
        fi
        ;;
    *)
        echo "there is no build $1" >&2
        exit 2
        ;;
    esac
}

[ $# -gt 0 ] || set -- debug release fat abort stripped tests nextest mold lld
for build in "$@"; do
    one "$build"
done
[ -z "$failed" ]
