"""How to check a bundle's DSSE envelope with stock tools: one script of bash, for README.txt and for docs/bundle.md."""

from __future__ import annotations

DSSE_RECIPE = r"""
set -euo pipefail
temp=$(mktemp -d); trap 'rm -r "$temp"' EXIT
hex() { od -An -v -tx1 | tr -d ' \n'; }
key() { sed '1d;$d' "trust/receipt.$1.pem" | base64 -d; }
keyid() { key "$1" | sha256sum | cut -c1-64; }
first=ed25519; size=32; options=
if [ ! -e receipt.ed25519.sig ]; then first=ecdsa-p256; size=65; options='-digest sha256'; fi

# The envelope is made of the files beside it.
{ printf '{"payload":"%s","payloadType":"application/vnd.in-toto+json","signatures":[' "$(base64 -w 0 receipt.json)"
  printf '{"keyid":"%s","sig":"%s"},' "$(keyid $first)" "$(base64 -w 0 receipt.$first.sig)"
  printf '{"keyid":"%s","sig":"%s"}]}' "$(keyid mldsa65)" "$(base64 -w 0 receipt.mldsa65.sig)"
} | cmp - receipt.dsse.json

# The first key is one of trust/allowed_signers, in another form; the receipt names the second.
for name in $first mldsa65; do
  { echo '-----BEGIN PUBLIC KEY-----'; key $name | base64 -w 64; echo '-----END PUBLIC KEY-----'
  } | cmp - "trust/receipt.$name.pem"
done
sed -n 's/^agent:[^ ]* [^ ]* [^ ]* //p' trust/allowed_signers | while read -r blob; do
  base64 -d <<< "$blob" | tail -c $size | hex; echo
done | grep -cx "$(key $first | tail -c $size | hex)" > "$temp/found"
grep -c "\"mldsa65_key\":\"$(keyid mldsa65)\"" receipt.json > "$temp/found"

# What was signed: the receipt with its type and length before it (DSSE's PAE).
{ printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(wc -c < receipt.json)"; cat receipt.json; } > "$temp/pae"
openssl pkeyutl -verify -rawin $options -pubin -inkey trust/receipt.$first.pem \
  -in "$temp/pae" -sigfile receipt.$first.sig
echo "  by $first $(keyid $first)"
if openssl list -signature-algorithms | grep -c ML-DSA-65 > "$temp/found"; then
  openssl pkeyutl -verify -rawin -pubin -inkey trust/receipt.mldsa65.pem -in "$temp/pae" -sigfile receipt.mldsa65.sig
  echo "  by mldsa65 $(keyid mldsa65)"
else
  echo "SKIPPED: the ML-DSA-65 signature needs OpenSSL 3.5 or newer; here is $(openssl version)"
fi
""".strip("\n")
"""It needs bash, coreutils, sed, grep and OpenSSL 3, and ends with a status other than 0 when anything is wrong."""
