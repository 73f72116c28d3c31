#!/usr/bin/env bash
# keep.sh FOLDER: takes over into fuzz/corpus what FOLDER/TARGET/ (the corpus of a campaign) adds to its coverage, and
# drops what adds nothing. Seeds (make_seeds.py) stay whatever they add. At most 200 files and 300 kB a target.
set -euo pipefail
[[ $# == 1 && -d $1 ]] || { sed -n '2,3s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
new=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"
merged=$(mktemp -d)
trap 'rm -rf "$merged"' EXIT
for program in ../build/fuzz/bin/*; do
  target=$(basename "$program")
  mkdir -p "corpus/$target" "$merged/$target"
  [[ -d $new/$target ]] || continue
  # Few inputs that reach all that the corpora reach. Those above 8 kB are left out: every test run replays the corpus.
  "$program" -set_cover_merge=1 -timeout=10 -max_len=8192 "$merged/$target" "corpus/$target" "$new/$target" \
    > "$merged/log" 2>&1 || { tail -n 5 "$merged/log" >&2; exit 1; }
  find "corpus/$target" -type f ! -name 'seed-*' ! -name 'finding-*' -delete
  kept=$(find "corpus/$target" -type f | wc -l) bytes=$(du -sb --apparent-size "corpus/$target" | cut -f1)
  while read -r size file; do
    ((kept < 200 && bytes + size < 300000)) || break
    cmp -s "$file" /dev/null && continue
    name=$(sha1sum < "$file" | cut -c1-16)
    cp "$file" "corpus/$target/$name"
    kept=$((kept + 1)) bytes=$((bytes + size))
  done < <(find "$merged/$target" -type f -printf '%s %p\n' | sort -k2) # by SHA-1: large and small
  printf '%-20s %4s files, %7s bytes\n' "$target" "$kept" "$bytes"
done
