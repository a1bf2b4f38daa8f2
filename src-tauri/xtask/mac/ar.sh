#!/bin/sh
# Stands in for `ar` when macOS code is type-checked on Linux: makes a valid archive without members.
for word in "$@"; do
    case "$word" in
    *.a) printf '!<arch>\n' >"$word" ;;
    esac
done
