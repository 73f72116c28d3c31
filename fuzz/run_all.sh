#!/usr/bin/env bash
# Runs fuzz targets side by side from this bundle (made by `fuzz/run`), which needs nothing else but glibc.
# Usage: run_all.sh SECONDS OUTDIR [TARGET...]
#   SECONDS  for each target, which are all run at once, WORKERS processes each
#   OUTDIR   gets findings/TARGET/ (inputs that crash, time out or take too much memory, with their logs), results.txt
#            and corpus.tar.gz: what each target's corpus came to, minimised
# Environment: WORKERS, processes for each target (default: cores / targets, at least 1).
# A finding does not end the run: the target goes on with other random numbers. Exit status 1: there were findings.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
(($# >= 2)) || { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; }
seconds=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
shift 2
targets=("$@")
((${#targets[@]})) || mapfile -t targets < <(ls "$here/bin")
workers=${WORKERS:-$(($(nproc) / ${#targets[@]}))}
((workers >= 1)) || workers=1
export ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=0}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
# Where a container forbids one process to look into another, leaks cannot be looked for.
first=$here/bin/${targets[0]}
if "$first" -runs=1 < /dev/null 2>&1 | grep -q 'LeakSanitizer has encountered a fatal error'; then
  echo "run_all: leaks are not looked for (no ptrace here)"
  ASAN_OPTIONS+=:detect_leaks=0
fi
trap 'kill $(jobs -p) 2> /dev/null; exit 130' INT TERM

# One process of one target until the time is over. A crash ends libFuzzer, so it is started again.
worker() {
  local target=$1 number=$2 end=$((SECONDS + seconds)) round=0
  local work=$out/work/$target findings=$out/findings/$target
  local options=(-timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 -reload=1
    -artifact_prefix="$findings/")
  [[ ! -f $here/dictionaries/$target.dict ]] || options+=(-dict="$here/dictionaries/$target.dict")
  while ((SECONDS < end && round < 50)); do
    local log=$out/logs/$target.$number.$round.log
    "$here/bin/$target" "${options[@]}" -max_total_time=$((end - SECONDS)) -seed=$((number * 1000 + round + RANDOM)) \
      "$work" "$here/corpus/$target" > "$log" 2>&1 && break
    cp "$log" "$findings/run.$number.$round.log"
    round=$((round + 1))
  done
}

rm -rf "$out/work" "$out/findings" "$out/logs"
for target in "${targets[@]}"; do
  [[ -x $here/bin/$target ]] || { echo "run_all: no target $target in $here/bin" >&2; exit 2; }
  mkdir -p "$out/work/$target" "$out/findings/$target" "$out/logs"
  for ((i = 0; i < workers; ++i)); do worker "$target" "$i" & done
done
wait

sum() { awk -v key="$1" '$1 == key { total += $2 } END { printf "%d", total }' "${@:2}"; }
last_coverage() { grep -ho 'cov: [0-9]*' "$@" | awk '$2 > most { most = $2 } END { printf "%d", most }'; }

minimise() {
  local target=$1
  mkdir -p "$out/corpus/$target"
  "$here/bin/$target" -merge=1 -timeout=10 -rss_limit_mb=1024 "$out/corpus/$target" "$here/corpus/$target" \
    "$out/work/$target" > "$out/logs/$target.merge.log" 2>&1
}
rm -rf "$out/corpus"
for target in "${targets[@]}"; do
  while (($(jobs -rp | wc -l) >= $(nproc))); do wait -n; done
  minimise "$target" &
done
wait

total=0
{
  printf '%-20s %14s %9s %9s %7s %9s\n' target runs seconds coverage corpus findings
  for target in "${targets[@]}"; do
    logs=("$out"/logs/"$target".[0-9]*.log)
    found=$(find "$out/findings/$target" -type f ! -name '*.log' | wc -l)
    total=$((total + found))
    printf '%-20s %14s %9s %9s %7s %9s\n' "$target" "$(sum stat::number_of_executed_units: "${logs[@]}")" \
      $((seconds * workers)) "$(last_coverage "${logs[@]}")" "$(find "$out/corpus/$target" -type f | wc -l)" "$found"
  done
} | tee "$out/results.txt"
find "$out/findings" -type d -empty -delete
# Small inputs first, up to 1 MB a target: they are enough to reach the same code again, and keep the archive small.
(cd "$out" && for target in "${targets[@]}"; do
  find "corpus/$target" -type f -size -64k -printf '%s %p\n' | sort -n |
    awk '{ total += $1; if (total < 1000000) print $2 }'
done | tar -czf corpus.tar.gz -T -)
total=$(find "$out/findings" -type f ! -name '*.log' 2> /dev/null | wc -l)
echo "findings: $total"
((total == 0))
