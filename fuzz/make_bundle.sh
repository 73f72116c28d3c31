#!/usr/bin/env bash
# make_bundle.sh FOLDER PROGRAM...: puts copies of the programs without symbols, their corpora, dictionaries and run_all.sh into
# FOLDER, which then runs anywhere with the same C library or a newer one.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}") folder=$1
shift
rm -rf "$folder"
mkdir -p "$folder/bin" "$folder/corpus" "$folder/dictionaries"
for program in "$@"; do
  name=$(basename "$program")
  strip -o "$folder/bin/$name" "$program"
  mkdir -p "$folder/corpus/$name"
  [[ ! -d $here/corpus/$name ]] || cp -r "$here/corpus/$name/." "$folder/corpus/$name/"
done
cp "$here"/dictionaries/*.dict "$folder/dictionaries/"
cp "$here/run_all.sh" "$folder/"
