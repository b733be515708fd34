"""The bundle's README.txt: what lies in it, and the commands that check it with stock tools."""

from __future__ import annotations

import itertools
import shlex
import textwrap
from collections.abc import Mapping

from expunge_agent.protocol import dsse, sshsig, trust
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller.records import bundle_layout as layout
from expunge_controller.records.document_times import time_of
from expunge_controller.records.text_forms import LINE
from expunge_controller.render.dsse_recipe import DSSE_RECIPE
from expunge_controller.render.log_recipe import RECIPE
from expunge_controller.render.stamp_recipe import stamp_section

_HEAD = """\
EVIDENCE BUNDLE

This folder is evidence about one medium whose data was to be destroyed. All of it can be checked
offline, without expunge, with ssh-keygen (OpenSSH 8.1 or newer) and sha256sum. Every .json.sig is
a detached OpenSSH signature over the exact bytes of the file beside it. Do not edit or re-format
the files.

{inventory}
{script}
1. WHOSE KEYS

trust/allowed_signers came with the bundle: it proves nothing by itself. Compare the fingerprints
with the ones you were given by another way, or put your own file in its place:

    cut -d ' ' -f 3- trust/allowed_signers | ssh-keygen -l -f -

2. SIGNATURES

Unpack the bundle and run these in its folder. Each must answer: Good "..." signature for ...

{commands}
{links}
{log}{dsse}{time}{number}. THE LAYOUT OF THE SIGNATURE FILES

ssh-keygen overlooks white space put into a .sig file, whatever follows its last line, and a lower
version number; none of that changes what was signed. To rule even that out, no line may be printed
by:

{armor}

With expunge at hand, `expunge verify BUNDLE` does all of this and compares the documents with each
other: order with receipt, receipt with certificate, custody with both.

WHAT THIS DOES NOT PROVE

A signature proves who said it, not that the drive obeyed. Read "limitations" and "not_covered" in
the receipt. A certificate "awaiting validation" has not been approved by a person, and one that says
"not signed by a person" was approved under a name only.

{form}
"""

_SCRIPT = """
THE SCRIPT

Unpack the bundle into an empty folder. This takes all steps at once with bash, coreutils, sed, grep,
ssh-keygen and openssl 3, prints each as passed, FAILED or SKIPPED with the reason, and ends with
status 1 where one failed:

    bash verify.sh --signers YOUR_ALLOWED_SIGNERS --log-policy YOUR_LOG_POLICY

Without files of your own, the keys are those of the bundle, and it says so. The script came with
the bundle, like what it checks: take it from another place that you trust, or read it; `expunge
verify` knows its text. SHA256SUMS finds damage to any file, and no more: whoever made the bundle
wrote it.

    sha256sum --quiet -c SHA256SUMS

What is short enough to be done by hand follows.
"""

_LOG = """
{number}. THE LOG

The receipt is an entry of a log that can only grow (docs/log.md of expunge; C2SP tlog-proof). The
script below needs bash and openssl 3. It takes log and witnesses from trust/log-policy.toml, which
came with the bundle: compare their keys with those that the witnesses themselves publish. Without a
witness among them, the log proves nothing against whoever keeps it.

"""

_DSSE = """
{number}. THE DSSE ENVELOPE, ED25519 AND ML-DSA-65

The receipt was signed once more by the same key, and by one of ML-DSA-65 (FIPS 204), which a quantum
computer is not expected to forge; receipt.dsse.json holds both for other tools (DSSE v1). The script
below needs bash and openssl 3; of ML-DSA-65 it says SKIPPED before openssl 3.5. The receipt names the
ML-DSA-65 key: for years in which its OpenSSH signature is not believed any more, write down now the
SHA-256 that the script prints.

"""

_WHAT = {
    layout.RECEIPT: "what the agent did and saw on the machine (in-toto Statement v1)",
    layout.ORDER: "what the agent was asked to do",
    layout.CERTIFICATE: "the certificate about the medium",
    layout.CERTIFICATE_HTML: "the certificate for reading and printing, made from certificate.json",
    layout.CERTIFICATE_PDF: "the same to print (PDF/A-3), with receipt and proof inside",
    layout.DSSE: "the receipt and its second signatures, for other tools (DSSE v1)",
    **{
        name(kind): f"{what} ({kind})"
        for kind in (dsse.ED25519, dsse.ECDSA_P256, dsse.MLDSA65)
        for name, what in (
            (layout.raw_signature, "a second signature, raw"),
            (layout.raw_key, "its public key"),
        )
    },
    layout.ENTRY: "the receipt's entry in the transparency log",
    layout.PROOF: "that the entry is in the log (C2SP tlog-proof)",
    layout.CHECKPOINT: "the log's signed head, with its witnesses' signatures",
    layout.LOG_POLICY: "public keys of the log and of the witnesses that signed",
    layout.TRUST: "public keys and what each may sign",
    layout.SCRIPT: "checks all of this with stock tools",
}

_TOUCH = """\
People signed these with keys of their own. ssh-keygen does not look at whether a security key was
touched; `expunge verify` does."""

_ARMOR = """\
    for s in *.json.sig */*.json*.sig; do
      printf -- '-----BEGIN SSH SIGNATURE-----\\n%s\\n-----END SSH SIGNATURE-----' \\
        "$(sed '1d;$d' "$s" | tr -d '\\n' | base64 -d | base64 -w 0)" | cmp - "$s"
      sed -n 2p "$s" | grep -q '^U1NIU0lHAAAAAQAA' || echo "$s: not version 1"
    done"""


def readme(files: Mapping[str, bytes], signers: list[TrustedSigner]) -> str:
    """The text for a bundle of `files`, README.txt itself left aside.

    Bundles from before there was a ``verify.sh`` have the recipes for log and second signatures in it; their text stays.

    Raises VerificationError where a document's signature is not by one of `signers`.
    """
    names = layout.signed_names(files)
    commands = "\n\n".join([_command(name, files, signers) for name in names] + _by_people(files))
    links, number = _links(files), 3
    if links:
        number = 4
    log = _log(files, number)
    if log:
        number += 1
    dsse_part = _dsse(files, number)
    if dsse_part:
        number += 1
    time = stamp_section(files, number)
    if time:
        number += 1
    return _HEAD.format(
        inventory=_inventory(files),
        script=_SCRIPT if layout.SCRIPT in files else "",
        commands=commands,
        links=links,
        log=log,
        time=time,
        dsse=dsse_part,
        number=number,
        armor=_ARMOR,
        form=LINE,
    )


def _log(files: Mapping[str, bytes], number: int) -> str:
    if layout.ENTRY not in files or layout.SCRIPT in files:
        return ""
    return _LOG.format(number=number) + textwrap.indent(RECIPE, "    ") + "\n\n"


def _dsse(files: Mapping[str, bytes], number: int) -> str:
    if layout.DSSE not in files or layout.SCRIPT in files:
        return ""
    return _DSSE.format(number=number) + textwrap.indent(DSSE_RECIPE, "    ") + "\n\n"


def _command(name: str, files: Mapping[str, bytes], signers: list[TrustedSigner]) -> str:
    namespace = layout.namespace_of(name) or ""
    signature = files.get(name + layout.SIGNATURE, b"")
    signer = trust.verify(signers, namespace, files[name], signature)
    at = time_of(name, files) if signer.has_window else ""
    if name.startswith(layout.KEY_FOLDER) and signer.valid_before:
        at = min(at, signer.valid_before)  # the rotation of a key that was stolen before: its last signature
    when = f"-O verify-time={trust.ssh_time(at)} " if at else ""
    return (
        f"    ssh-keygen -Y verify -f {layout.TRUST} -I {shlex.quote(signer.principal)} \\\n"
        f"      -n {namespace} {when}-s {name}{layout.SIGNATURE} < {name}"
    )


def _by_people(files: Mapping[str, bytes]) -> list[str]:
    """The commands for people's own signatures over custody events."""
    commands = [
        f"    ssh-keygen -Y verify -f {layout.TRUST} -I person:{person} \\\n"
        f"      -n {sshsig.CUSTODY_NAMESPACE} -s {layout.custody_signature_name(number, person)} "
        f"< {layout.custody_name(number)}"
        for number, signed in layout.people_signatures(files).items()
        for person in signed
    ]
    return [_TOUCH, *commands] if commands else []


def _inventory(files: Mapping[str, bytes]) -> str:
    lines = [f"  {name:<25} {what}" for name, what in _WHAT.items() if name in files]
    if layout.SCRIPT in files:
        lines.append(f"  {layout.SUMS:<25} the SHA-256 of every other file")
    events = len(layout.custody_names(files))
    if events:
        lines.append(f"  {'custody/NNN.json':<26}the chain of custody, {events} events")
    records = len(layout.people_names(files))
    if records:
        lines.append(f"  {'people/NNN.json':<26}who the people are that custody names, {records} records")
        lines.append(f"  {'custody/NNN.json.*.sig':<26}the signatures of these people over the event")
    if layout.key_event_names(files):
        lines.append(f"  {'key-events/NNN.json':<26}when each key came and went, with its proof in the log")
    if layout.stamp_name(1) in files:
        lines.append(f"  {'stamps/NNN.tsr':<26}time stamps, each beside the proof of what it is on")
    lines.append(f"  {'*.json.sig':<26}the signature of the file whose name it bears")
    return "\n".join(lines)


def _links(files: Mapping[str, bytes]) -> str:
    """The commands that follow digests from document to document."""
    parts = []
    if layout.ORDER in files:
        parts.append('    grep -c "$(sha256sum < order.json | cut -c1-64)" receipt.json')
    if layout.CERTIFICATE in files:
        parts.append('    grep -c "$(sha256sum < receipt.json | cut -c1-64)" certificate.json')
        parts.append('    grep -c "$(sha256sum < receipt.json.sig | cut -c1-64)" certificate.json')
        if layout.DSSE in files:
            parts.append('    grep -c "$(sha256sum < receipt.dsse.json | cut -c1-64)" certificate.json')
    events = layout.custody_names(files)
    if events:
        parts.append('    cat custody/*.json | grep -c "$(sha256sum < receipt.json | cut -c1-64)"')
    for before, after in itertools.pairwise(events):
        parts.append(f'    grep -c "$(sha256sum < {before} | cut -c1-64)" {after}')
    if not parts:
        return ""
    return (
        "\n3. LINKS\n\nEach document names the SHA-256 of the one it rests on. Each line must answer 1:\n\n"
        + "\n".join(parts)
        + "\n"
    )
