#!/usr/bin/env bash
# make_bundle.sh FOLDER PROGRAM...: puts copies of the programs without symbols, their corpora, dictionaries and
# run_all.sh into FOLDER, which then runs anywhere with the same C library or a newer one.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}") folder=$1 new=$1.new
shift
rm -rf "$new"
mkdir -p "$new/bin" "$new/corpus" "$new/dictionaries"
for program in "$@"; do
  name=$(basename "$program")
  strip -o "$new/bin/$name" "$program"
  mkdir -p "$new/corpus/$name"
  [[ ! -d $here/corpus/$name ]] || cp -r "$here/corpus/$name/." "$new/corpus/$name/"
done
cp "$here"/dictionaries/*.dict "$new/dictionaries/"
cp "$here/run_all.sh" "$new/"
rm -rf "$folder"
mv "$new" "$folder"
