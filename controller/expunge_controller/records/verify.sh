#!/bin/bash
# Checks an evidence bundle of expunge with bash, coreutils, sed, grep, ssh-keygen (OpenSSH 8.1 or newer) and openssl 3.
#
#   bash verify.sh [--signers FILE] [--log-policy FILE] [--roots FILE] [FOLDER]
#
# FOLDER is the unpacked bundle, and nothing else (default: where this script lies). It is read and never written.
# --signers FILE      allowed_signers that you were given by another way than with the bundle
# --log-policy FILE   the log and the witnesses that you trust, and how many must have signed
# --roots FILE        certificates of the time-stamping authorities that you trust (PEM)
# Exit status: 0 no step failed, 1 one failed, 2 it could not be run.
#
# It came with the bundle, like what it checks: whoever made the bundle can have changed it. Take it from a bundle or a
# release that you trust, or read it.
set -euo pipefail
shopt -s inherit_errexit nullglob dotglob globstar
export LC_ALL=C
umask 077

die() { printf 'verify.sh: %s\n' "$1" >&2; exit 2; }
whole() { case $1 in /*) printf '%s' "$1" ;; *) printf '%s/%s' "$PWD" "$1" ;; esac; }

own_signers='' own_policy='' own_roots='' folder=''
while [ $# -gt 0 ]; do
  case $1 in
    --signers | --log-policy | --roots)
      if [ $# -lt 2 ] || [ ! -f "$2" ]; then die "$1 needs the name of a file that is there"; fi
      case $1 in
        --signers) own_signers=$(whole "$2") ;;
        --log-policy) own_policy=$(whole "$2") ;;
        --roots) own_roots=$(whole "$2") ;;
      esac
      shift 2 ;;
    -*) die "there is no option $1; see the lines at the top of this script" ;;
    *)
      if [ -n "$folder" ]; then die 'name one folder'; fi
      folder=$1
      shift ;;
  esac
done
for tool in sha256sum base64 od sed grep sort mktemp date openssl ssh-keygen; do
  if ! type -P "$tool" > /dev/null; then die "$tool is not installed"; fi
done
if [ -z "$folder" ]; then folder=$(dirname -- "$0"); fi
cd -- "$folder" || die 'there is no such folder'
temp=$(mktemp -d)
trap 'rm -rf -- "$temp"' EXIT

# --- steps ------------------------------------------------------------------------------------------------------------

number=0 failed=0 skipped=0
fail() { printf '%s\n' "$1"; exit 1; }
skip() { : > "$temp/skip"; printf '%s\n' "$1"; exit 3; }
# One step: a function that says in its last line what it saw, and ends where something is wrong.
step() {
  local title=$1 status=0 said
  number=$((number + 1))
  rm -f -- "$temp/skip"
  set +e
  (set -e; "$2") > "$temp/said" 2>&1 < /dev/null
  status=$?
  set -e
  said=$(tr -cd '\n -~' < "$temp/said" | tail -n 1 | cut -c 1-200)
  if [ "$status" = 0 ]; then
    printf '%2d passed   %s%s\n' "$number" "$title" "${said:+: $said}"
  elif [ "$status" = 3 ] && [ -e "$temp/skip" ]; then
    skipped=$((skipped + 1))
    printf '%2d SKIPPED  %s: %s\n' "$number" "$title" "$said"
  else
    failed=$((failed + 1))
    printf '%2d FAILED   %s: %s\n' "$number" "$title" "${said:-a command ended with status $status}"
  fi
}

digest() { sha256sum | cut -c 1-64; }
hex() { od -An -v -tx1 | tr -d ' \n'; }
bytes() { printf "$(printf %s "$1" | sed 's/../\\x&/g')"; }
same() { [ "$(digest < "$1")" = "$(digest < "$2")" ]; }
with_openssl() {
  case $(openssl version) in
    'OpenSSL '[3-9]* | 'OpenSSL '[1-9][0-9]*) ;;
    *) skip "it needs OpenSSL 3 or newer; here is $(openssl version)" ;;
  esac
}

# What the documents say. They are canonical JSON: keys sorted, no white space. `plain` takes escapes out, and brackets
# within strings; `flat` what lies deeper than the first level; `value` finds the one string or number of a name in that.
plain() { sed -E 's/\\./_/g' "$1" | grep -oE '"[^"]*"|[^"]+' | sed '/^"/s/[][{}]/_/g' | tr -d '\n'; }
flat() { sed -E 's/^\{//; s/\}$//; :a; s/\{[^{}]*\}//g; s/\[[^][{}]*\]//g; ta'; }
# part NAME FILE PATTERN: what the pattern's first group takes out of the document, flat; kept for the next time.
part() {
  if [ ! -e "$temp/part.$1" ]; then plain "$2" | sed -nE "s/$3/\\1/p" | flat > "$temp/part.$1"; fi
  text=$(< "$temp/part.$1")
}
value() { # NAME, in $text
  if [[ $text =~ (^|,)\"$1\":\"?([^\",]*)\"?(,|$) ]]; then printf '%s\n' "${BASH_REMATCH[2]}"; fi
}
of() { part "of.${1//\//.}" "$1" '^(.*)$'; value "$2"; }
receipt_of() { part receipt receipt.json '^\{"_type":"[^"]*","predicate":(\{.*\}),"predicateType":.*$'; value "$1"; }
receipt_order() { part order receipt.json '^.*"nonce":"[^"]*","order":(\{[^{}]*\}),"outcome":"[^"]*","previous":.*$'; value "$1"; }
machine_id() { part agent receipt.json '^\{"_type":"[^"]*","predicate":\{"agent":(\{[^{}]*\}).*$'; value machine_id; }
evidence_of() { part evidence certificate.json '^.*"evidence":(\{.*\}),"format":"expunge\/certificate\/v1",.*$'; value "$1"; }
certified_log() { part log certificate.json '^.*"log":(\{"leaf":[^{}]*(\{[^{}]*\}[^{}]*)*\}),"machine_id":.*$'; value "$1"; }
sanitization_of() { part sanitization certificate.json '^.*"sanitization":(\{.*\}),"status":"[^"]*",.*$'; value "$1"; }
receipt_body() { plain receipt.json | sed -nE 's/^\{"_type":"[^"]*","predicate":(\{.*\}),"predicateType":.*$/\1/p'; }
in_target() { receipt_body | grep -oE "$1" | sed -n "$(($2 + 1))s/^\"[a-z_]*\":\"\\([^\"]*\\)\".*/\\1/p"; }

# --- the files --------------------------------------------------------------------------------------------------------

three='[0-9][0-9][0-9]'
known() {
  grep -qxE "receipt\\.json(\\.sig)?|order\\.json(\\.sig)?|certificate\\.(json|pdf)(\\.sig)?|certificate\\.html|README\\.txt|verify\\.sh|SHA256SUMS|receipt\\.dsse\\.json|receipt\\.(ed25519|ecdsa-p256|mldsa65)\\.sig|entry\\.txt|receipt\\.tlog-proof|checkpoint\\.txt|trust/(allowed_signers|log-policy\\.toml|receipt\\.(ed25519|ecdsa-p256|mldsa65)\\.pem)|people/$three\\.json(\\.sig)?|custody/$three\\.json((\\.[a-z0-9][a-z0-9_-]{0,63})?\\.sig)?|key-events/$three\\.(json|json\\.sig|tlog-proof)|stamps/$three\\.(tsr|tlog-proof)" <<< "$1"
}
in_a_row() { # the files of a folder with an ending are 001, 002, …
  local due=0 file
  for file in "$1"/$three"$2"; do
    due=$((due + 1))
    if [ "$file" != "$(printf '%s/%03d%s' "$1" "$due" "$2")" ]; then fail "$file is not number $due"; fi
  done
}
need() { if [ ! -f "$1" ]; then fail "$1 is missing"; fi; }
signed_documents() {
  local file
  for file in receipt.json order.json certificate.json certificate.pdf custody/$three.json key-events/$three.json people/$three.json; do
    if [ -e "$file" ]; then printf '%s\n' "$file"; fi
  done
}

names() {
  local file other count=0
  for file in **/*; do
    if [ -L "$file" ]; then fail "a link stands in the folder: $(printf %q "$file")"; fi
    if [ -d "$file" ]; then
      case $file in custody | key-events | people | stamps | trust) continue ;; esac
    fi
    if [ ! -f "$file" ] || [[ $file == *$'\n'* ]] || ! known "$file"; then
      fail "it does not belong here: $(printf %q "$file")"
    fi
    count=$((count + 1))
  done
  for file in receipt.json custody/001.json trust/allowed_signers README.txt; do need "$file"; done
  for file in $(signed_documents); do need "$file.sig"; done
  for file in *.json.sig custody/*.sig key-events/*.sig people/*.sig; do need "${file%%.json*.sig}.json"; done
  if [ -e certificate.pdf.sig ]; then need certificate.pdf; fi
  if [ -e certificate.json ]; then need certificate.html; fi
  if [ -e certificate.pdf ] || [ -e certificate.html ]; then need certificate.json; fi
  for file in entry.txt receipt.tlog-proof checkpoint.txt trust/log-policy.toml; do
    for other in entry.txt receipt.tlog-proof checkpoint.txt trust/log-policy.toml; do
      if [ -e "$file" ]; then need "$other"; fi
    done
  done
  in_a_row custody .json; in_a_row key-events .json; in_a_row people .json; in_a_row stamps .tsr
  for file in key-events/*.json; do need "${file%.json}.tlog-proof"; done
  for file in key-events/*.tlog-proof; do need "${file%.tlog-proof}.json"; done
  for file in stamps/*.tsr; do need "${file%.tsr}.tlog-proof"; done
  for file in stamps/*.tlog-proof; do need "${file%.tlog-proof}.tsr"; done
  printf '%s files\n' "$count"
}

sums() {
  if [ ! -e SHA256SUMS ] && [ ! -e verify.sh ]; then
    skip 'the bundle is from before there was a SHA256SUMS'
  fi
  need SHA256SUMS; need verify.sh
  local file sum
  for file in **/*; do
    if [ -f "$file" ] && [ "$file" != SHA256SUMS ]; then
      sum=$(digest < "$file")
      printf '%s  %s\n' "$sum" "$file"
      if ! grep -qxF -- "$sum  $file" SHA256SUMS; then printf '%q\n' "$file" >> "$temp/unlike"; fi
    fi
  done > "$temp/unsorted"
  sort -k 2 "$temp/unsorted" > "$temp/sums"
  if [ -e "$temp/unlike" ]; then fail "not as SHA256SUMS has it: $(head -n 3 "$temp/unlike" | tr '\n' ' ')"; fi
  if ! same "$temp/sums" SHA256SUMS; then fail 'SHA256SUMS has more lines, or in another order'; fi
  printf 'whoever made the bundle wrote it: it finds damage, no more\n'
}

# --- keys and signatures ----------------------------------------------------------------------------------------------

signers=${own_signers:-$PWD/trust/allowed_signers}
signer_line='(agent:[0-9a-f]{32}|controller:[A-Za-z0-9][A-Za-z0-9._-]{0,63}|person:[a-z0-9][a-z0-9_-]{0,63}) namespaces="expunge-(receipt|order|custody|certificate|key-event|person)(,expunge-(order|custody|certificate|key-event|person))*"([ ,]valid-after="[0-9]{14}Z")?([ ,]valid-before="[0-9]{14}Z")? (ssh-ed25519|ecdsa-sha2-nistp256|ecdsa-sha2-nistp384|ecdsa-sha2-nistp521|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com|ssh-rsa) [A-Za-z0-9+/]+=*'
enclosed_keys() {
  need trust/allowed_signers
  if grep -qvxE "$signer_line" trust/allowed_signers; then fail 'a line is not of the form that expunge writes'; fi
  printf '%s keys\n' "$(grep -c . trust/allowed_signers)"
}
whose_keys() {
  if [ -z "$own_signers" ]; then
    skip 'they are taken from the bundle itself; bring your own with --signers'
  fi
  local line spaces space blob
  while read -r line; do
    blob=${line##* }
    spaces=$(sed -nE 's/^[^ ]* namespaces="([^"]*)".*/\1/p' <<< "$line")
    for space in ${spaces//,/ }; do
      if ! grep -F -- " $blob" "$own_signers" | grep -qE -- "namespaces=\"([^\"]*,)?${space}[,\"]"; then
        fail "a key of ${line%% *} is not one of yours for $space"
      fi
    done
  done < trust/allowed_signers
}

windows=no
if grep -qsE 'valid-(after|before)=' "$signers"; then windows=yes; fi
# at_of DOCUMENT: the time at which its key has to be good, by its own word; the receipt's by custody's.
at_of() {
  local event sum
  case $1 in
    receipt.json)
      sum=$(digest < receipt.json)
      for event in custody/$three.json; do
        if [ "$(of "$event" receipt)" = "$sum" ]; then of "$event" at; return; fi
      done
      receipt_of finished_at ;;
    certificate.pdf) of certificate.json issued_at ;;
    custody/* | key-events/* | people/*) of "$1" at ;;
    *) of "$1" issued_at ;;
  esac
}
# good DOCUMENT SIGNATURE PRINCIPAL NAMESPACE [TIME]
good() {
  local when=()
  if [ "$windows" = yes ] && [ -n "${5:-}" ]; then when=(-O "verify-time=$(tr -d ':-' <<< "${5/T/}")"); fi
  ssh-keygen -Y verify -f "$signers" -I "$3" -n "$4" "${when[@]}" -s "$2" < "$1" > "$temp/answer" 2>&1
}
issuer() { # the controller
  local found
  if [ -e certificate.json ]; then of certificate.json issuer
  elif [ -e order.json ]; then of order.json issuer
  else
    found=$(grep -oE '^controller:[^ ]+' "$signers" | sort -u)
    if [ "$(grep -c . <<< "$found")" != 1 ]; then fail 'it is not clear which controller is meant'; fi
    printf '%s\n' "$found"
  fi
}
must_be_good() {
  if ! good "$@"; then fail "$1: the signature is not by $3 for $4${5:+ at $5}"; fi
}
receipt_signature() {
  local who
  who=$(machine_id)
  if [ -z "$who" ]; then fail 'it names no machine'; fi
  must_be_good receipt.json receipt.json.sig "agent:$who" expunge-receipt "$(at_of receipt.json)"
  printf 'agent:%s\n' "$who"
}
by_controller() { # DOCUMENT NAMESPACE
  local who
  if [ ! -e "$1" ]; then skip "there is no $1"; fi
  who=$(issuer)
  must_be_good "$1" "$1.sig" "$who" "$2" "$(at_of "$1")"
  printf '%s\n' "$who"
}
order_signature() {
  if [ ! -e order.json ]; then
    if [[ $(receipt_order issuer) == controller:* ]]; then fail 'the receipt names an order of a controller, and it is missing'; fi
    skip 'no controller asked for this'
  fi
  if [ "$(of order.json issuer)" != "$(issuer)" ]; then fail 'it is by another controller than the certificate'; fi
  by_controller order.json expunge-order
}
certificate_signature() {
  if [ ! -e certificate.json ]; then
    case $(receipt_of outcome) in
      sanitized*) fail 'the medium was sanitized, and there is no certificate' ;;
      *) skip 'no certificate was issued for this outcome' ;;
    esac
  fi
  by_controller certificate.json expunge-certificate
}
pdf_signature() { # a PDF does not say when it was signed: at the certificate's time, or now
  if [ ! -e certificate.pdf ]; then skip 'there is no certificate.pdf'; fi
  local who
  who=$(issuer)
  if ! good certificate.pdf certificate.pdf.sig "$who" expunge-certificate "$(at_of certificate.pdf)"; then
    must_be_good certificate.pdf certificate.pdf.sig "$who" expunge-certificate
  fi
  printf '%s\n' "$who"
}
custody_signatures() {
  local who file count=0
  who=$(issuer)
  for file in custody/$three.json; do
    must_be_good "$file" "$file.sig" "$who" expunge-custody "$(of "$file" at)"
    count=$((count + 1))
  done
  printf '%s events by %s\n' "$count" "$who"
}
people_signatures() {
  local who file person count=0
  for file in people/$three.json; do
    who=$(issuer)
    must_be_good "$file" "$file.sig" "$who" expunge-person "$(of "$file" at)"
  done
  for file in custody/$three.json.*.sig; do
    person=${file#custody/???.json.}; person=${person%.sig}
    who=$(grep -lF "\"person\":\"$person\"" people/$three.json | head -n 1 || true)
    if [ -z "$who" ]; then fail "$file: there is no record of $person"; fi
    must_be_good "${file%".$person.sig"}" "$file" "person:$person" expunge-custody "$(of "${file%".$person.sig"}" at)"
    count=$((count + 1))
  done
  if [ "$count" = 0 ]; then skip 'nobody signed custody with a key of their own'; fi
  printf '%s signatures; who had to sign, and whether security keys were touched, only expunge verify says\n' "$count"
}
key_event_signatures() {
  local file who at end key
  if [ ! -e key-events/001.json ]; then skip 'the bundle holds no key events'; fi
  for file in key-events/$three.json; do
    who=$(of "$file" issuer); at=$(of "$file" at)
    case $who in controller:*) ;; *) fail "$file is not by a controller" ;; esac
    if good "$file" "$file.sig" "$who" expunge-key-event "$at"; then continue; fi
    # The rotation of a key that was stolen before: its last signature.
    key=$(of "$file" key)
    end=$(grep -F -- " $key" "$signers" | sed -nE 's/.*valid-before="([0-9]{14}Z)".*/\1/p' | sort | head -n 1)
    if [ "$(of "$file" event)" != rotated ] || [ "$(of "$file" principal)" != "$who" ] || [ -z "$end" ]; then
      fail "$file: the signature is not by $who for expunge-key-event at $at"
    fi
    must_be_good "$file" "$file.sig" "$who" expunge-key-event "$end"
  done
}

armour() {
  local file
  for file in *.json.sig certificate.pdf.sig */*.json*.sig; do
    if [ ! -e "$file" ]; then continue; fi
    printf -- '-----BEGIN SSH SIGNATURE-----\n%s\n-----END SSH SIGNATURE-----' \
      "$(sed '1d;$d' "$file" | tr -d '\n' | base64 -d | base64 -w 0)" > "$temp/armour"
    if ! same "$temp/armour" "$file"; then fail "$file is not in the layout that expunge writes"; fi
    if ! sed -n 2p "$file" | grep -q '^U1NIU0lHAAAAAQAA'; then fail "$file is not SSHSIG version 1"; fi
  done
}

# --- what the documents say of each other ------------------------------------------------------------------------------

# equal WHAT ONE OTHER
equal() { if [ -z "$2" ] || [ "$2" != "$3" ]; then fail "$1: '$2' here, '$3' there"; fi; }
links() {
  local sum event found=no
  sum=$(digest < receipt.json)
  if [ -e order.json ]; then equal 'the digest of the order in the receipt' "$(receipt_order digest)" "$(digest < order.json)"; fi
  if [ -e certificate.json ]; then
    equal 'the digest of the receipt in the certificate' "$(evidence_of receipt)" "$sum"
    equal 'the digest of its signature in the certificate' "$(evidence_of receipt_signature)" "$(digest < receipt.json.sig)"
    if [ -e receipt.dsse.json ]; then
      equal 'the digest of the DSSE envelope in the certificate' "$(evidence_of dsse)" "$(digest < receipt.dsse.json)"
    fi
    if [ -e order.json ]; then equal 'the digest of the order in the certificate' "$(evidence_of order)" "$(digest < order.json)"; fi
  fi
  for event in custody/$three.json; do
    if [ "$(of "$event" receipt)" = "$sum" ]; then found=yes; fi
  done
  if [ "$found" = no ]; then fail 'no custody event names this receipt'; fi
}
agreement() {
  local target outcome level
  if [ -e order.json ]; then
    equal 'the number of the order in the receipt' "$(receipt_order order_id)" "$(of order.json order_id)"
    equal 'the nonce of the order in the receipt' "$(receipt_order nonce)" "$(of order.json nonce)"
    equal 'the machine of order and receipt' "$(machine_id)" "$(of order.json machine_id)"
    equal 'the level asked for' "$(receipt_of level_requested)" "$(of order.json level)"
  fi
  if [ ! -e certificate.json ]; then
    if [ ! -e order.json ]; then skip 'there is neither order nor certificate'; fi
    return
  fi
  target=$(evidence_of target)
  if ! [[ $target =~ ^[0-9]{1,4}$ ]]; then fail 'the certificate does not say which target it is about'; fi
  outcome=$(in_target '"outcome":"[^"]*","passes":' "$target")
  level=$(in_target '"level_achieved":"[^"]*","medium":' "$target")
  equal 'the outcome in the certificate' "$(sanitization_of outcome)" "$outcome"
  equal 'the level achieved in the certificate' "$(sanitization_of level_achieved)" "$level"
  equal 'the level asked for in the certificate' "$(sanitization_of level_requested)" "$(receipt_of level_requested)"
  equal 'the machine in the certificate' "$(evidence_of machine_id)" "$(machine_id)"
  equal 'the number of the order in the certificate' "$(evidence_of order_id)" "$(receipt_order order_id)"
  equal 'the counter in the certificate' "$(evidence_of counter)" "$(receipt_of counter)"
  printf '%s, level %s\n' "$outcome" "$level"
}
custody_chain() {
  local before event due=1 medium
  before=0000000000000000000000000000000000000000000000000000000000000000
  medium=$(of custody/001.json medium)
  for event in custody/$three.json; do
    equal "the number of $event" "$(of "$event" seq)" "$due"
    equal "what $event follows" "$(of "$event" previous)" "$before"
    equal "the medium of $event" "$(of "$event" medium)" "$medium"
    before=$(digest < "$event")
    due=$((due + 1))
  done
  if [ -e certificate.json ]; then
    equal 'the medium of custody and certificate' "$medium" \
      "$(plain certificate.json | sed -nE 's/^.*"media":\{"digest":"([0-9a-f]{64})".*$/\1/p')"
  fi
  printf '%s events\n' "$((due - 1))"
}

# --- the log ----------------------------------------------------------------------------------------------------------

whole_number() { [[ $1 =~ ^(0|[1-9][0-9]{0,17})$ ]]; }
policy_line='quorum = [0-9]{1,2}||\[\[(log|witness|authority)\]\]|vkey = "[^"\\ ]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+"|name = "[A-Za-z0-9._-]+"|roots = "[^"]*"'
vkeys() { sed -nE 's/^vkey = "([^"]*)"$/\1/p' "$1"; }
first_byte() { base64 -d <<< "${1#*+*+}" | head -c 1 | hex; }
enclosed_policy() {
  if [ ! -e trust/log-policy.toml ]; then skip 'the receipt is in no log'; fi
  if grep -qvxE "$policy_line" trust/log-policy.toml; then fail 'a line is not of the form that expunge writes'; fi
  equal 'how many witnesses must have signed' "$(sed -nE 's/^quorum = ([0-9]+)$/\1/p' trust/log-policy.toml)" \
    "$(grep -cx '\[\[witness\]\]' trust/log-policy.toml || true)"
}
# The entry of a document: entry KIND BODY [SIGNATURE]
entry() {
  printf 'expunge log entry v1\nkind %s\nbody %s\n' "$1" "$(digest < "$2")"
  if [ $# -gt 2 ]; then printf 'sshsig %s\n' "$(digest < "$3")"; fi
}
# From an entry to the root of the checkpoint in the proof (RFC 9162, 2.1.3.2). Leaves the place in $place.
included() { # ENTRY PROOF
  local path one hash last at size root
  sed '1,/^$/d' "$2" > "$temp/checkpoint"
  path=$(sed '1,2d;/^$/,$d' "$2")
  place=$(sed -n '2s/^index //p' "$2")
  size=$(sed -n 2p "$temp/checkpoint")
  if ! whole_number "$place" || ! whole_number "$size" || [ "$place" -ge "$size" ]; then fail "$2 has no place in the log"; fi
  { printf 'c2sp.org/tlog-proof@v1\nindex %s\n' "$place"
    for one in $path; do base64 -d <<< "$one" | base64 -w 0; echo; done
    echo; cat "$temp/checkpoint"; } > "$temp/proof"
  if ! same "$temp/proof" "$2"; then fail "$2 is not written as it should be"; fi
  hash=$( (printf '\0'; cat "$1") | digest)
  at=$place last=$((size - 1))
  for one in $path; do
    one=$(base64 -d <<< "$one" | hex)
    if [ "${#one}" != 64 ] || [ "$last" = 0 ]; then fail "$2 has a step that leads nowhere"; fi
    if [ $((at & 1)) = 1 ] || [ "$at" = "$last" ]; then
      hash=$(bytes "01$one$hash" | digest)
      while [ "$at" != 0 ] && [ $((at & 1)) = 0 ]; do at=$((at >> 1)); last=$((last >> 1)); done
    else
      hash=$(bytes "01$hash$one" | digest)
    fi
    at=$((at >> 1)); last=$((last >> 1))
  done
  root=$(sed -n 3p "$temp/checkpoint" | base64 -d | hex)
  if [ "$last" != 0 ] || [ "$hash" != "$root" ]; then fail "NOT in the log: $2 does not lead to the checkpoint's root"; fi
}
# Every signature on a checkpoint, by the keys of the bundle's policy: the log (type 01), witnesses (04, with a time).
signatures() { # CHECKPOINT EVERYBODY-MUST
  local key name public line text signature logs=0
  sed '/^$/,$d' "$1" > "$temp/text"
  : > "$temp/lines"
  : > "$temp/who"
  for key in $(vkeys trust/log-policy.toml); do
    name=${key%%+*}
    public=$(base64 -d <<< "${key#*+*+}" | hex)
    equal "the key of $name" "$( (printf '%s\n' "$name"; bytes "$public") | digest | cut -c 1-8)" "$(cut -d + -f 2 <<< "$key")"
    line=$(sed '1,/^$/d' "$1" | grep -F -- "— $name " | cut -d ' ' -f 3 | head -n 1 || true)
    if [ -z "$line" ]; then
      if [ "$2" = all ]; then fail "$name did not sign"; else continue; fi
    fi
    line=$(base64 -d <<< "$line" | hex)
    equal "the key that signed as $name" "${line:0:8}" "$(cut -d + -f 2 <<< "$key")"
    printf '— %s %s\n' "$name" "$(bytes "$line" | base64 -w 0)" >> "$temp/lines"
    text=$temp/text signature=${line:8}
    case ${public:0:2} in
      01) logs=$((logs + 1)) ;;
      04)
        (printf 'cosignature/v1\ntime %s\n' "$((16#${line:8:16}))"; cat "$temp/text") > "$temp/cosigned"
        text=$temp/cosigned signature=${line:24}
        date -u -d "@$((16#${line:8:16}))" '+, witness at %Y-%m-%dT%H:%M:%SZ' >> "$temp/who" ;;
      *) fail "the key of $name is of a kind that is not known here" ;;
    esac
    bytes "302a300506032b6570032100${public:2}" > "$temp/key"
    bytes "$signature" > "$temp/signature"
    if ! openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey "$temp/key" -in "$text" -sigfile "$temp/signature" > "$temp/answer" 2>&1; then
      fail "the signature of $name is not right"
    fi
  done
  if [ "$logs" = 0 ]; then fail 'no log signed it'; fi
  (cat "$temp/text"; echo; cat "$temp/lines") > "$temp/again"
  if ! same "$temp/again" "$1"; then fail 'there is a signature too many, or one by nobody who is named'; fi
}
log_entry() {
  if [ ! -e entry.txt ]; then skip 'the receipt is in no log'; fi
  { entry receipt receipt.json receipt.json.sig
    if [ -e receipt.mldsa65.sig ]; then printf 'mldsa65 %s\n' "$(digest < receipt.mldsa65.sig)"; fi
  } > "$temp/entry"
  if ! same "$temp/entry" entry.txt; then fail "entry.txt is not the receipt's entry"; fi
  included entry.txt receipt.tlog-proof
  if ! same "$temp/checkpoint" checkpoint.txt; then fail 'the proof is under another checkpoint than checkpoint.txt'; fi
  printf 'entry %s of %s\n' "$place" "$(sed -n 2p checkpoint.txt)"
}
log_signatures() {
  if [ ! -e checkpoint.txt ]; then skip 'the receipt is in no log'; fi
  with_openssl
  signatures checkpoint.txt all
  if [ ! -s "$temp/who" ]; then
    printf 'the log alone, no witness: that proves nothing against whoever keeps it\n'
  else
    printf 'the log%s\n' "$(tr -d '\n' < "$temp/who")"
  fi
}
log_trusted() {
  if [ ! -e checkpoint.txt ]; then skip 'the receipt is in no log'; fi
  if [ -z "$own_policy" ]; then
    skip 'their keys are taken from the bundle itself; bring your own with --log-policy'
  fi
  local key mine found=0 asked
  mine=$(vkeys "$own_policy")
  asked=$(sed -nE 's/^quorum *= *([0-9]+)$/\1/p' "$own_policy" | head -n 1)
  for key in $(vkeys trust/log-policy.toml); do
    if [ "$(first_byte "$key")" = 01 ]; then
      if ! grep -qxF -- "$key" <<< "$mine"; then fail "the log ${key%%+*} is none of yours"; fi
    elif grep -qxF -- "$key" <<< "$mine"; then
      found=$((found + 1))
    fi
  done
  if [ "$found" -lt "${asked:-0}" ]; then fail "$found of your witnesses signed, you ask for $asked"; fi
  printf '%s of your witnesses signed\n' "$found"
}
logged_certificate() {
  if [ ! -e certificate.json ] || [ ! -e entry.txt ]; then skip 'there is no certificate or no log'; fi
  equal 'the leaf in the certificate' "$(certified_log leaf)" "$( (printf '\0'; cat entry.txt) | digest)"
  equal 'the number in the certificate' "$(certified_log number)" "$(sed -n '2s/^index //p' receipt.tlog-proof)"
}

# --- second signatures -------------------------------------------------------------------------------------------------

der() { sed '1d;$d' "trust/receipt.$1.pem" | base64 -d; }
keyid() { der "$1" | digest; }
first=ed25519 key_size=32
if [ ! -e receipt.ed25519.sig ] && [ -e receipt.ecdsa-p256.sig ]; then first=ecdsa-p256 key_size=65; fi
no_second() {
  if [ -e receipt.dsse.json ] || [ -e receipt.mldsa65.sig ]; then return; fi
  if grep -qE '"mldsa65_key":"[0-9a-f]' receipt.json; then fail 'the receipt names an ML-DSA-65 key, and its signature is missing'; fi
  for name in receipt.*25519.sig receipt.ecdsa* trust/receipt.*; do fail "$name is there without the others"; done
  skip 'the agent made no second signature'
}
pae() { printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(wc -c < receipt.json)"; cat receipt.json; }
envelope() {
  no_second
  local name line
  for name in "receipt.$first.sig" receipt.mldsa65.sig "trust/receipt.$first.pem" trust/receipt.mldsa65.pem receipt.dsse.json; do need "$name"; done
  if [ "$first" = ed25519 ] && { [ -e receipt.ecdsa-p256.sig ] || [ -e trust/receipt.ecdsa-p256.pem ]; }; then fail 'there are two kinds of the first one'; fi
  if [ "$first" != ed25519 ] && [ -e trust/receipt.ed25519.pem ]; then fail 'there are two kinds of the first one'; fi
  { printf '{"payload":"%s","payloadType":"application/vnd.in-toto+json","signatures":[' "$(base64 -w 0 receipt.json)"
    printf '{"keyid":"%s","sig":"%s"},' "$(keyid $first)" "$(base64 -w 0 receipt.$first.sig)"
    printf '{"keyid":"%s","sig":"%s"}]}' "$(keyid mldsa65)" "$(base64 -w 0 receipt.mldsa65.sig)"
  } > "$temp/envelope"
  if ! same "$temp/envelope" receipt.dsse.json; then fail 'the envelope is not made of the files beside it'; fi
  for name in $first mldsa65; do
    { echo '-----BEGIN PUBLIC KEY-----'; der "$name" | base64 -w 64; echo '-----END PUBLIC KEY-----'; } > "$temp/pem"
    if ! same "$temp/pem" "trust/receipt.$name.pem"; then fail "trust/receipt.$name.pem is not written as it should be"; fi
  done
  grep -E "^agent:$(machine_id) " "$signers" | while read -r line; do
    base64 -d <<< "${line##* }" | tail -c $key_size | hex; echo
  done > "$temp/agents"
  if ! grep -qx "$(der $first | tail -c $key_size | hex)" "$temp/agents"; then fail "the $first key is not the machine's"; fi
  if ! grep -qF "\"mldsa65_key\":\"$(keyid mldsa65)\"" receipt.json; then fail 'the receipt names another ML-DSA-65 key'; fi
}
raw_first() {
  no_second
  with_openssl
  local options=()
  if [ "$first" = ecdsa-p256 ]; then options=(-digest sha256); fi
  pae > "$temp/pae"
  if ! openssl pkeyutl -verify -rawin "${options[@]}" -pubin -inkey "trust/receipt.$first.pem" -in "$temp/pae" -sigfile "receipt.$first.sig" > "$temp/answer" 2>&1; then
    fail "the $first signature is not right"
  fi
  printf '%s %s\n' "$first" "$(keyid $first)"
}
raw_mldsa() {
  no_second
  with_openssl
  if ! openssl list -signature-algorithms > "$temp/list" || ! grep -q ML-DSA-65 "$temp/list"; then
    skip "it needs OpenSSL 3.5 or newer; here is $(openssl version)"
  fi
  pae > "$temp/pae"
  if ! openssl pkeyutl -verify -rawin -pubin -inkey trust/receipt.mldsa65.pem -in "$temp/pae" -sigfile receipt.mldsa65.sig > "$temp/answer" 2>&1; then
    fail 'the ML-DSA-65 signature is not right'
  fi
  printf 'mldsa65 %s\n' "$(keyid mldsa65)"
}

# --- key events and time stamps ----------------------------------------------------------------------------------------

key_events() {
  local file who before seq
  if [ ! -e key-events/001.json ]; then
    if grep -qE 'valid-(after|before)=' trust/allowed_signers; then fail 'keys of limited time are enclosed, and no event says why'; fi
    skip 'the bundle holds no key events'
  fi
  for file in key-events/$three.json; do
    who=$(of "$file" principal)
    seq=1 before=''
    if [ -e "$temp/last.$(digest <<< "$who")" ]; then
      read -r seq before < "$temp/last.$(digest <<< "$who")"
      seq=$((seq + 1))
    fi
    if [ "$(of "$file" seq)" != "$seq" ] || [ "$(of "$file" previous)" != "$before" ]; then fail "$file does not follow the event before it"; fi
    printf '%s %s\n' "$seq" "$(digest < "$file")" > "$temp/last.$(digest <<< "$who")"
    printf '%s %s\n%s %s\n' "$who" "$(of "$file" key)" "$who" "$(of "$file" successor)" >> "$temp/keys"
  done
  sed -nE '/^(agent|controller):/s/^([^ ]*) .* ([^ ]+ [^ ]+)$/\1 \2/p' trust/allowed_signers > "$temp/enclosed"
  while read -r who; do
    if ! grep -qxF -- "$who" "$temp/keys"; then fail "no event brought a key of ${who%% *}"; fi
  done < "$temp/enclosed"
}
key_events_logged() {
  local file
  if [ ! -e key-events/001.json ]; then skip 'the bundle holds no key events'; fi
  if [ ! -e trust/log-policy.toml ]; then skip 'the bundle names no log'; fi
  with_openssl
  for file in key-events/$three.json; do
    entry key-event "$file" "$file.sig" > "$temp/entry"
    included "$temp/entry" "${file%.json}.tlog-proof"
    if [ "$(sed -n 1p "$temp/checkpoint")" != "$(sed -n 1p checkpoint.txt)" ]; then fail "$file is in another log than the receipt"; fi
    signatures "$temp/checkpoint" some
    printf 'entry %s, ' "$place" >> "$temp/places"
  done
  sed 's/, $//' "$temp/places"
}
key_was_good() {
  local file blob key event receipt_place event_place
  if [ ! -e key-events/001.json ] || [ ! -e receipt.tlog-proof ]; then skip 'the bundle holds no key events or no log'; fi
  sed '1d;$d' receipt.json.sig | tr -d '\n' | base64 -d > "$temp/sshsig"
  blob=$(hex < "$temp/sshsig")
  key=${blob:28:$((16#${blob:20:8} * 2))}
  receipt_place=$(sed -n '2s/^index //p' receipt.tlog-proof)
  for file in key-events/$three.json; do
    event=$(of "$file" event)
    if [ "$event" = enrolled ] || [ "$(of "$file" key | cut -d ' ' -f 2 | base64 -d | hex)" != "$key" ]; then continue; fi
    if [ "$event" = compromised ]; then
      skip "it was compromised since $(of "$file" since): what the log proves of that time, only expunge verify says"
    fi
    event_place=$(sed -n '2s/^index //p' "${file%.json}.tlog-proof")
    if [ "$receipt_place" -gt "$event_place" ]; then fail "it was $event in entry $event_place, and the receipt is entry $receipt_place"; fi
  done
}
find_roots() {
  if [ -n "$own_roots" ]; then cat "$own_roots"; else
    sed -nE 's/^roots = "([^"]*)"$/\1/p' "${own_policy:-trust/log-policy.toml}" | sed 's/\\n/\n/g'
  fi
}
stamp_time() { # seconds
  local text
  text=$(openssl ts -reply -in "$1" -text 2> "$temp/answer" | sed -n 's/^Time stamp: //p')
  date -u -d "$text" +%s
}
stamped() { # STAMP TEXT SECONDS
  openssl ts -verify -in "$1" -data "$2" -CAfile "$temp/roots" -attime "$3" > "$temp/answer" 2>&1
}
stamps() {
  local file about before='' at when=''
  if [ ! -e stamps/001.tsr ]; then skip 'the bundle holds no time stamp: times are those of machines, controller and witnesses'; fi
  with_openssl
  find_roots > "$temp/roots"
  cp entry.txt "$temp/about"
  for file in stamps/$three.tsr; do
    about=${file%.tsr}.tlog-proof
    included "$temp/about" "$about"
    signatures "$temp/checkpoint" some
    if [ -s "$temp/who" ]; then fail "$about: its checkpoint is not signed by the log alone"; fi
    at=$(stamp_time "$file")
    if ! stamped "$file" "$temp/text" "$at"; then fail "$file is not by an authority of these certificates, or on another checkpoint"; fi
    if [ -n "$before" ] && ! stamped "$before" "$temp/text.before" "$at"; then fail "$file came after the certificate before it had expired"; fi
    if [ -z "$before" ]; then when=$(date -u -d "@$at" +%Y-%m-%dT%H:%M:%SZ); fi
    before=$file
    cp "$temp/text" "$temp/text.before"
    entry stamp "$file" > "$temp/about"
  done
  if ! stamped "$before" "$temp/text.before" "$(date +%s)"; then
    skip "stamped at $when, but the certificate of the last stamp is not good any more and none renews it"
  fi
  printf 'not later than %s\n' "$when"
}
authorities() {
  if [ ! -e stamps/001.tsr ]; then skip 'the bundle holds no time stamp'; fi
  if [ -n "$own_roots" ]; then printf 'of --roots\n'
  elif [ -n "$own_policy" ]; then printf 'of --log-policy\n'
  else skip 'their certificates are taken from trust/log-policy.toml of the bundle; bring your own with --roots'; fi
}

step 'no file is missing, and none does not belong' names
step 'SHA256SUMS names every file as it is' sums
step 'the enclosed keys are readable' enclosed_keys
step 'the keys are those the auditor trusts' whose_keys
step 'the receipt is signed by the machine that it names' receipt_signature
step 'the order is signed' order_signature
step 'the certificate is signed' certificate_signature
step "the certificate's PDF is signed" pdf_signature
step 'every custody event is signed' custody_signatures
step 'the people who signed are known, and their signatures good' people_signatures
step 'the key events are signed' key_event_signatures
step 'the signature files have the one layout' armour
step 'each document names the one it rests on' links
step 'order, receipt and certificate agree' agreement
step 'the custody chain is whole' custody_chain
step 'the enclosed log policy is readable' enclosed_policy
step "the receipt's entry is in the log" log_entry
step 'the log and its witnesses signed the checkpoint' log_signatures
step 'log and witnesses are those the auditor trusts' log_trusted
step "the certificate names the receipt's entry" logged_certificate
step 'the DSSE envelope is that of the files beside it' envelope
step "the second signature by the machine's key is right" raw_first
step 'the ML-DSA-65 signature is right' raw_mldsa
step 'the key events are whole, and brought the enclosed keys' key_events
step 'the key events are in the log' key_events_logged
step 'the signing key was good when the receipt was logged' key_was_good
step 'an authority stamped when the receipt was in the log' stamps
step 'the time-stamping authority is one the auditor trusts' authorities

printf '%d steps: %d failed, %d skipped. This script came with the bundle; take it from a place that you trust.\n' "$number" "$failed" "$skipped"
printf 'What it does not look at, expunge verify does: evidence against claims, rules of custody, the pages made again.\n'
if [ "$failed" != 0 ]; then exit 1; fi
