#!/usr/bin/env bash
# The tests with programs that others wrote. Needs a built `weir` and `tests/setup.sh external`.
#
# Every server is on a free port of 127.0.0.1 and ends with its part.
set -uo pipefail
cd "$(dirname "$0")/.."

readonly TARGET=${CARGO_TARGET_DIR:-target}
TRUST_PYTHON=$(realpath -s "$TARGET/venv-trust/bin/python")
readonly TRUST_PYTHON
# What is on this machine is asked directly, whatever proxy the environment names.
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
# A part takes seconds; this is for the busiest of machines.
readonly SECONDS_EACH=180
passed=0 failed=0

# part NAME TEST...: a part passes if all its tests do.
part() {
    local name=$1 start=$SECONDS outcome=passed test output
    shift
    for test in "$@"; do
        # --foreground would leave what a test has started; without it the whole group is ended.
        if ! output=$(timeout --kill-after=20 "$SECONDS_EACH" "$TARGET/venv/bin/python" "$test" 2>&1); then
            printf '%s\n' "$output"
            outcome=FAILED
        elif [[ $output != *"Ran "[1-9]* ]]; then
            printf '%s: no test ran\n' "$test"
            outcome=FAILED
        fi
        grep -o 'Ran [0-9]* tests*' <<<"$output" | sed "s|^|  $test: |"
    done
    printf '%s: %s in %d s\n' "$name" "$outcome" $((SECONDS - start))
    if [[ $outcome == passed ]]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

part "official Python SDKs" tests/sdk/test_openai.py tests/sdk/test_anthropic.py tests/sdk/test_google_genai.py
part "metering before vidaimock" tests/tools/test_vidaimock.py
part "metrics under promtool" tests/tools/test_promtool.py
part "rules and dashboard under Prometheus" tests/tools/test_prometheus.py
part "the admin API under schemathesis" tests/tools/test_schemathesis.py
part "messages for NSQ under pynsq" tests/tools/test_nsq.py
part "curl lines of the demo" tests/tools/test_demo.py
part "the unit for systemd" tests/tools/test_systemd.py

# The console, in a browser: what it does, and how soon it shows what a full gateway has.
in_a_browser() {
    local name=$1 start=$SECONDS output outcome=passed
    if output=$(timeout --kill-after=20 600 node --test "$2" 2>&1); then
        passed=$((passed + 1))
    else
        printf '%s\n' "$output"
        failed=$((failed + 1)) outcome=FAILED
    fi
    printf '%s: %s in %d s\n' "$name" "$outcome" $((SECONDS - start))
}
in_a_browser "the console in a browser" tests/browser/console.test.mjs
in_a_browser "the console of ten thousand keys and a million records" tests/browser/full.test.mjs

# The short versions of the scorecard's tests.
start=$SECONDS
if (cd tests && timeout --kill-after=20 900 "$TRUST_PYTHON" -m trust); then
    passed=$((passed + 1)) outcome=passed
else
    failed=$((failed + 1)) outcome=FAILED
fi
printf 'scorecard, short: %s in %d s\n' "$outcome" $((SECONDS - start))

printf '%d passed, %d failed\n' "$passed" "$failed"
[[ $failed == 0 ]]
