#!/usr/bin/env bash
# Asks for files of the static folder whose names have dots. Looks like path-traversal.
. "$(dirname "$0")/lib.sh"

out=$(evil get 'http://storefront:8080/static?file=style.css') || stopped "no file"
evil get 'http://storefront:8080/static?file=style..min.css' >/dev/null # there is none: an answer all the same
worked "${#out} bytes of a style"
