"""How to check a bundle's log entry with stock tools: one script of bash, for README.txt and for docs/bundle.md."""

from __future__ import annotations

RECIPE = r"""
set -euo pipefail
digest() { sha256sum | cut -c1-64; }
hex() { od -An -v -tx1 | tr -d ' \n'; }
bytes() { printf "$(printf %s "$1" | sed 's/../\\x&/g')"; }
temp=$(mktemp -d); trap 'rm -r "$temp"' EXIT

# The entry is the receipt's; the proof is for this checkpoint, and written as it should be.
{ printf 'expunge log entry v1\nkind receipt\nbody %s\nsshsig %s\n' \
    "$(digest < receipt.json)" "$(digest < receipt.json.sig)"
  if [ -e receipt.mldsa65.sig ]; then printf 'mldsa65 %s\n' "$(digest < receipt.mldsa65.sig)"; fi
} | cmp - entry.txt
steps=$(sed '1,2d;/^$/,$d' receipt.tlog-proof)
place=$((10#$(sed -n '2s/^index //p' receipt.tlog-proof)))
{ printf 'c2sp.org/tlog-proof@v1\nindex %s\n' "$place"
  for step in $steps; do base64 -d <<< "$step" | base64 -w 0; echo; done
  echo; cat checkpoint.txt; } | cmp - receipt.tlog-proof

# From the entry to the root (RFC 9162, 2.1.3.2).
hash=$( (printf '\0'; cat entry.txt) | digest)
last=$(($(sed -n 2p checkpoint.txt) - 1))
for step in $steps; do
  step=$(base64 -d <<< "$step" | hex)
  if [ $((place & 1)) = 1 ] || [ "$place" = "$last" ]; then
    hash=$(bytes "01$step$hash" | digest)
    while [ "$place" != 0 ] && [ $((place & 1)) = 0 ]; do place=$((place >> 1)); last=$((last >> 1)); done
  else
    hash=$(bytes "01$hash$step" | digest)
  fi
  place=$((place >> 1)); last=$((last >> 1))
done
if [ "$last" != 0 ] || [ "$hash" != "$(sed -n 3p checkpoint.txt | base64 -d | hex)" ]; then
  echo "NOT in the log"; exit 1
fi
echo "entry $(sed -n '2s/^index //p' receipt.tlog-proof) of $(sed -n 2p checkpoint.txt) is in the log"

# Who signed the checkpoint: the log (type 01), and its witnesses (type 04, with a time).
for key in $(sed -n 's/^vkey = "\(.*\)"$/\1/p' trust/log-policy.toml); do
  public=$(base64 -d <<< "${key#*+*+}" | hex)
  line=$(grep -F -- "— ${key%%+*} " checkpoint.txt | tail -n 1 | cut -d ' ' -f 3 | base64 -d | hex)
  [ "${line:0:8}" = "$(cut -d + -f 2 <<< "$key")" ]
  printf '— %s %s\n' "${key%%+*}" "$(bytes "$line" | base64 -w 0)" >> "$temp/lines"
  sed '/^$/,$d' checkpoint.txt > "$temp/text"; signature=${line:8}; time=
  if [ "${public:0:2}" = 04 ]; then
    time=$((16#${line:8:16})); signature=${line:24}
    (printf 'cosignature/v1\ntime %s\n' "$time"; sed '/^$/,$d' checkpoint.txt) > "$temp/text"
  fi
  bytes "302a300506032b6570032100${public:2}" > "$temp/key"; bytes "$signature" > "$temp/signature"
  openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey "$temp/key" -in "$temp/text" -sigfile "$temp/signature"
  echo "  by ${key%%+*}${time:+, $(date -u -d "@$time")}"
done
(sed '/^$/,$d' checkpoint.txt; echo; cat "$temp/lines") | cmp - checkpoint.txt
""".strip("\n")
"""It needs bash, coreutils, sed, grep and OpenSSL 3, and ends with a status other than 0 when anything is wrong."""
