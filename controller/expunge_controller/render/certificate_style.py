"""The frame and the look of the certificate's page."""

from __future__ import annotations

from string import Template

_CSS = """\
@page { size: A4; margin: 14mm 13mm 16mm; }
* { box-sizing: border-box; }
html { font: 9.5pt/1.4 "Helvetica Neue", Arial, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; color: #16202b; background: #eceff2; }
body { max-width: 200mm; margin: 8mm auto; padding: 12mm; background: #fff; }
h1 { margin: 0; font-size: 19pt; line-height: 1.2; }
h1 .zh { display: block; font-size: 13pt; font-weight: 500; }
h2 { margin: 0 0 1.5mm; padding-bottom: 1mm; border-bottom: 0.5mm solid #16202b; font-size: 11.5pt; break-after: avoid; }
h3 { margin: 2.5mm 0 0.5mm; font-size: 9.5pt; break-after: avoid; }
.zh { color: #52606d; font-weight: 400; }
.title { display: flex; justify-content: space-between; align-items: flex-start; gap: 6mm; }
.title p { margin: 0; text-align: right; overflow-wrap: anywhere; }
.status { margin: 4mm 0 1mm; padding: 3mm; border: 0.8mm solid #9a5b00; background: #fff4dc; color: #6b3f00; text-align: center; font-size: 17pt; font-weight: 700; text-transform: uppercase; letter-spacing: 0.04em; }
.hint { margin: 0 0 4mm; text-align: center; font-size: 8.5pt; }
.cards { display: grid; grid-template-columns: repeat(3, 1fr); gap: 3mm; }
.card { padding: 2.5mm 3mm; border: 0.3mm solid #9aa5b1; }
.card .caption { display: block; font-size: 8.5pt; }
.card b { font-size: 13pt; }
.card.short { border: 0.8mm solid #a61b1b; background: #ffeeee; }
.warn { margin: 2mm 0 0; color: #a61b1b; font-weight: 700; }
section { margin-top: 5mm; }
table { width: 100%; border-collapse: collapse; }
tr { break-inside: avoid; }
th, td { padding: 0.8mm 1.5mm; border-bottom: 0.2mm solid #d5dbe1; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
.fields { table-layout: fixed; }
.fields th { width: 34%; font-weight: 400; color: #37424d; }
.fields td { font-weight: 500; white-space: pre-wrap; }
.grid { font-size: 8pt; table-layout: fixed; }
.grid thead { display: table-header-group; }
.grid th { background: #f1f4f7; vertical-align: bottom; overflow-wrap: normal; }
.grid th .zh { display: block; }
ul { margin: 0; padding-left: 5mm; }
li { overflow-wrap: anywhere; break-inside: avoid; }
.none { margin: 0; }
.attest { margin: 0 0 3mm; }
.signatures { display: grid; grid-template-columns: repeat(3, 1fr); gap: 6mm; break-inside: avoid; }
.signatures h3 { min-height: 9mm; }
section:last-of-type { break-inside: avoid; }
.line { margin: 0 0 1mm; }
.line span:first-child { display: block; font-size: 7.5pt; color: #37424d; }
.fill { display: block; min-height: 6mm; border-bottom: 0.3mm solid #16202b; overflow-wrap: anywhere; }
@media print { html { background: none; -webkit-print-color-adjust: exact; print-color-adjust: exact; } body { max-width: none; margin: 0; padding: 0; } }
@media (max-width: 170mm) { .cards, .signatures { grid-template-columns: 1fr; } .title { display: block; } .title p { text-align: left; } body { padding: 5mm; margin: 0; } .grid { display: block; overflow-x: auto; } }"""

PAGE = Template(
    """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="generator" content="$form">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Certificate $number</title>
<style>
"""
    + _CSS.replace("$", "$$")
    + """
</style>
</head>
<body>
$body
</body>
</html>
"""
)
"""Placeholders: ``number`` and ``body``, both escaped by whoever fills them in."""
