#!/bin/sh
# Stands in for a C and Objective-C compiler when macOS code is type-checked on Linux: nothing is linked then, so an empty
# object will do. Never used for a build.
output=
previous=
for word in "$@"; do
    case "$previous" in -o) output=$word ;; esac
    case "$word" in
    -E) # the `cc` crate asks which compiler this is by preprocessing
        echo '#pragma message "clang"'
        exit 0
        ;;
    --version | -v)
        echo 'clang version 15.0.0 (stand-in for type checks)'
        exit 0
        ;;
    esac
    previous=$word
done
[ -z "$output" ] || : >"$output"
