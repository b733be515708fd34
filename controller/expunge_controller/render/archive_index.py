"""The archive's first page, which opens in a browser without a server, and its README.txt. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge_controller.records import archive_layout as layout
from expunge_controller.records.archive_registers import Said
from expunge_controller.records.custody import CustodyEvent
from expunge_controller.render.markup import Label, number, text

_STYLE = """\
body { margin: 2em auto; max-width: 70em; padding: 0 1em; font: 15px/1.5 sans-serif; color: #16202b; }
.zh { color: #52606d; font-weight: 400; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { border-bottom: 1px solid #d5dbe1; padding: .25em .5em; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { background: #f1f4f7; }"""
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<h1>{heading}</h1>
<p>{intro}</p>
<ul>
{counts}
</ul>
<h2>{media}</h2>
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""
_INTRO = Label(
    "Records of destroyed data, complete up to the time this archive was made. A page can be edited: believe the signed "
    "documents, and check them as README.txt says.",
    "数据销毁记录存档,内容截至制作之时。网页可能被改动,应以已签名的文件为准,核验方法见 README.txt。",
)
_README = """\
ARCHIVE OF DESTRUCTION RECORDS

Made for whoever keeps the records of {principal} from now on. Nothing here needs the program that
made it: every document is plain text, signed with ssh-keygen's detached signatures.

  index.html            every medium, its standing and its bundles; opens in any browser
  bundles/              one zip per medium and order; each has its own README.txt with commands
  documents/KIND/       every signed document: SHA-256.json, SHA-256.json.sig; also refusals,
                        failures, and receipts that were kept aside because a check failed
  registers/            tables (CSV) of what the documents say
  log/                  the transparency log as tlog-tiles: a copy of every entry
  checkpoints/          every head of the log that was signed, with its witnesses' signatures
  trust/                public keys; they came with the archive and prove nothing by themselves
  MANIFEST.txt(.sig)    SHA-256 of every file, signed

TO CHECK IT

1. Compare the keys with those you were given by another way:

    cut -d ' ' -f 3- trust/allowed_signers | ssh-keygen -l -f -

2. Nothing was changed, lost or added since:

    ssh-keygen -Y verify -f trust/allowed_signers -I {principal} -n {namespace} \\
      -s MANIFEST.txt.sig < MANIFEST.txt
    sha256sum --quiet -c MANIFEST.txt
    find . -type f ! -name 'MANIFEST.txt*' | wc -l; wc -l < MANIFEST.txt     # the same number twice

3. One medium: unpack its bundle and follow the README.txt in it.

4. Everything at once, with expunge at hand: expunge archive check FOLDER

WHAT IS NOT IN IT
{missing}
Private keys, and what no document says. Files that custody events name by their SHA-256 (photographs,
papers) are kept elsewhere.
"""


def index_page(said: Said, bundles: Sequence[str]) -> str:
    """The page; `bundles` are the names of those that the archive holds."""
    last = {event.medium: event for _, event in said.custody}
    counts = [
        (Label("media", "介质"), len(last)),
        (Label("machines", "设备"), len(said.enrolments)),
        (Label("orders", "指令"), len(said.orders)),
        (Label("receipts", "回执"), len(said.receipts)),
        (Label("receipts kept aside", "另存的回执"), len(said.aside)),
        (Label("certificates", "证书"), len(said.certificates)),
    ]
    head = [
        Label("medium", "介质"),
        Label("standing", "状态"),
        Label("last event", "最近事件"),
        Label("certificates", "证书"),
        Label("bundles", "证据包"),
    ]
    title = Label("Archive of destruction records", "数据销毁记录存档")
    return _PAGE.format(
        title=text(title.plain),
        style=_STYLE,
        heading=title.markup,
        intro=_INTRO.markup,
        counts="\n".join(f"<li>{number(count)} {label.markup}</li>" for label, count in counts),
        media=Label("Media", "介质").markup,
        head="".join(f"<th>{label.markup}</th>" for label in head),
        rows="\n".join(_row(event, said, set(bundles)) for event in last.values()),
    )


def readme(principal: str, omitted: Mapping[str, str]) -> str:
    """README.txt; `omitted` are bundles that could not be made, with the reason."""
    missing = "".join(f"- {name}: {why}\n" for name, why in sorted(omitted.items()))
    return _README.format(
        principal=principal, namespace=layout.NAMESPACE, missing=f"\n{missing}" if missing else ""
    )


def _row(event: CustodyEvent, said: Said, bundles: set[str]) -> str:
    certificates = [one for _, one in said.certificates if one.media.digest == event.medium]
    orders = sorted({one.order_id for _, one in said.custody if one.medium == event.medium and one.order_id})
    links = [
        f'<a href="{text(name)}">{text(name.removeprefix(layout.BUNDLES))}</a>'
        for order in orders
        for name in sorted(bundles)
        if name.rpartition("-")[0] == f"{layout.BUNDLES}{order}"
    ]
    cells = [
        text(event.subject),
        text(event.standing),
        f"{text(event.event)} {text(event.at)}",
        "<br>".join(text(one.number) for one in certificates),
        "<br>".join(links),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
