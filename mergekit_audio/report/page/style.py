"""The page's style: light and dark, narrow and wide, on screen and on paper."""

from __future__ import annotations

LIGHT = """
  --paper: #ffffff; --card: #f6f4f0; --ink: #1d1b18; --soft: #5d5850; --rule: #dcd7ce;
  --link: #0b5cad; --better: #0a5c9e; --worse: #a8410a; --chosen: #b03a06; --test: #0b5cad;
  --average: #0b6b50; --base: #4a463f; --tint-better: 24 119 196; --tint-worse: 214 103 26;
  --tint: 110 84 168; --band: #e58a3c;
  --s0: #0b5cad; --s1: #b03a06; --s2: #0b6b50; --s3: #9b3078; --s4: #7a5b00; --s5: #22707f;
  --s6: #4a463f; --s7: #6a4fb3;
"""
DARK = """
  --paper: #151412; --card: #211f1c; --ink: #eeeae3; --soft: #b3aca0; --rule: #3b3833;
  --link: #86bdf5; --better: #7db9f2; --worse: #f5a067; --chosen: #ff9d5c; --test: #7db9f2;
  --average: #63cfa9; --base: #c9c2b5; --tint-better: 58 141 214; --tint-worse: 214 110 40;
  --tint: 150 120 215; --band: #b8621b;
  --s0: #7db9f2; --s1: #ff9d5c; --s2: #63cfa9; --s3: #ec8fcb; --s4: #e3c253; --s5: #6fcbdc;
  --s6: #c9c2b5; --s7: #b9a2f5;
"""
RULES = """
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0; font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif;
  color: var(--ink); background: var(--paper); overflow-wrap: break-word; }
a { color: var(--link); text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 2px; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: 1rem; padding: .5rem 1rem; background: var(--card); z-index: 2; }
.page { max-width: 80rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
header h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
header p { margin: 0; color: var(--soft); }
nav ul { list-style: none; margin: 1rem 0; padding: 0; display: flex; flex-wrap: wrap;
  gap: .2rem 1rem; font-size: .9rem; }
main { min-width: 0; }
@media (min-width: 68rem) {
  .columns { display: grid; grid-template-columns: 12rem minmax(0, 1fr); gap: 3rem; }
  nav { position: sticky; top: 1rem; align-self: start; max-height: 95vh; overflow-y: auto; }
  nav ul { display: block; border-left: 2px solid var(--rule); padding: .3rem .2rem .3rem .9rem; }
  nav li { margin: .35rem 0; line-height: 1.3; }
}
nav a { text-decoration: none; } nav a:hover { text-decoration: underline; }
section { margin: 0 0 3rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 2.5rem 0 .75rem; padding-top: .5rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p, ul, ol { max-width: 46rem; } li { margin: .3rem 0; }
.caution { background: rgb(var(--tint-worse) / .14); border-left: 4px solid var(--worse);
  padding: .6rem 1rem; max-width: none; }
.answer { background: var(--card); border-radius: .75rem; padding: 1.25rem 1.5rem; margin: 1rem 0; }
.answer p { margin: .4rem 0; }
.answer .use { font-size: clamp(1.5rem, 5vw, 2.1rem); line-height: 1.2; font-weight: 700;
  margin: 0 0 .5rem; }
.badge { display: inline-block; border: 1.5px solid currentColor; border-radius: .8rem;
  padding: 0 .6rem; font-size: .85rem; font-weight: 600; }
.better { color: var(--better); } .worse { color: var(--worse); } .unsure { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1rem;
  margin: 1rem 0 0; padding: 0; max-width: none; list-style: none; }
.tiles li { border-top: 3px solid currentColor; padding: .5rem 0 0; margin: 0; }
.tiles b { display: block; font-size: .85rem; } .tiles span { color: var(--ink); }
.scroll { overflow-x: auto; margin: 1rem 0; max-width: 100%; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: 0 0 .4rem; font-size: .875rem;
  max-width: 46rem; }
th, td { padding: .32rem .65rem; text-align: right; white-space: nowrap; font-weight: 400; }
thead th { font-weight: 600; border-bottom: 2px solid var(--ink); vertical-align: bottom; }
thead .groups th { border-bottom: 1px solid var(--rule); text-align: center; }
tbody th, thead th:first-child, td.words, th.words { text-align: left; }
tbody tr { border-bottom: 1px solid var(--rule); }
td.best, tr.strong > * { font-weight: 700; }
td.words { white-space: normal; min-width: 9rem; }
table.heat td { text-align: center; min-width: 4.2rem; border: 2px solid var(--paper); }
table.heat small { display: block; font-size: .75rem; color: var(--ink); }
td.shade { background: rgb(var(--tone) / var(--deep)); }
td.up { --tone: var(--tint-better); } td.down { --tone: var(--tint-worse); }
td.amount { --tone: var(--tint); }
td.bar { padding: 0 .3rem; } svg.bars { width: 15rem; height: 1.6rem; display: block; }
figure { margin: 1.25rem 0 2rem; } figcaption { color: var(--soft); font-size: .9rem;
  max-width: 46rem; margin-top: .4rem; }
.many { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr));
  gap: 1rem; }
.many h4 { margin: .5rem 0 0; font-size: .95rem; }
svg.chart { display: block; width: 100%; max-width: calc(var(--wide) * 1.3); height: auto; }
svg text { fill: var(--ink); font-size: 12px; font-family: inherit; }
svg .tick { fill: var(--soft); font-size: 11.5px; font-variant-numeric: tabular-nums; }
svg .axis-title { fill: var(--soft); }
svg .grid { stroke: var(--rule); stroke-width: 1; } svg .axis { stroke: var(--soft); }
svg .line { fill: none; stroke-width: 1.8; stroke: var(--ink); }
svg .area { stroke: none; } svg .mark { stroke: var(--paper); stroke-width: 1; }
svg .valid { stroke: var(--ink); } svg .mark.valid { fill: var(--ink); stroke: var(--paper); }
svg .mark.between { fill: var(--paper); stroke: var(--ink); }
svg .area.valid { fill: var(--soft); fill-opacity: .18; stroke: none; }
svg .whisker { stroke: var(--soft); stroke-width: 1; }
svg .test { stroke: var(--test); } svg .mark.test { fill: var(--test); stroke: var(--paper); }
svg .area.band { fill: var(--band); fill-opacity: .2; }
svg .line.chosen { stroke: var(--chosen); stroke-width: 2; }
svg .mark.chosen { fill: var(--chosen); }
svg text.chosen { fill: var(--chosen); font-weight: 700; }
svg .line.base { stroke: var(--base); stroke-dasharray: 5 4; stroke-width: 1.4; }
svg .mark.base { fill: var(--base); } svg .mark.average { fill: var(--average); }
svg .line.average { stroke: var(--average); stroke-dasharray: 2 3; }
svg .mark.plain { fill: var(--soft); fill-opacity: .55; stroke: none; }
svg .mark.inside { fill: var(--band); stroke: var(--chosen); }
svg .mark.better { fill: var(--better); } svg .line.better { stroke: var(--better); }
svg .mark.worse { fill: var(--worse); } svg .line.worse { stroke: var(--worse); }
svg .mark.unsure { fill: var(--soft); } svg .line.unsure { stroke: var(--soft); }
svg .cell { stroke: var(--paper); stroke-width: 1; fill: rgb(var(--tint)); }
svg .cell.none { fill: none; stroke: var(--rule); stroke-dasharray: 2 2; }
svg .cell.chosen { stroke: var(--chosen); stroke-width: 2.5; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0;
  margin: .5rem 0 0; font-size: .875rem; max-width: none; }
.legend li { display: flex; align-items: center; gap: .4rem; margin: 0; }
svg.key { width: 26px; height: 14px; flex: none; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--link); width: fit-content; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) minmax(0, 1fr);
  gap: .25rem 1.25rem; } dt { color: var(--soft); } dd { margin: 0; }
pre, code { font-family: ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", monospace;
  font-size: .85rem; } pre { background: var(--card); border-radius: .5rem; padding: .9rem 1.1rem;
  overflow-x: auto; line-height: 1.45; } code { overflow-wrap: anywhere; }
footer { color: var(--soft); font-size: .875rem; border-top: 1px solid var(--rule);
  padding-top: 1rem; }
@media (max-width: 42rem) {
  svg.chart text { font-size: 17px; } svg.chart .tick { font-size: 16px; }
  .many svg.chart text { font-size: 12px; } .many svg.chart .tick { font-size: 11.5px; }
  .page { padding: 1rem .9rem 3rem; } .answer { padding: 1rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin: 0 0 .6rem; }
  svg.bars { width: 10rem; }
}
@media print {
  @page { margin: 15mm; }
  body { font-size: 10pt; } nav, .skip { display: none; } .columns { display: block; }
  .page { max-width: none; padding: 0; } .scroll, pre { overflow: visible; }
  table { font-size: 8pt; } th, td { padding: .15rem .35rem; white-space: normal; }
  figure, .answer, tr, .many > div { break-inside: avoid; } h2, h3, caption { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
  svg.chart { max-width: 15cm; } pre { white-space: pre-wrap; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def _series() -> str:
    each = (
        f"svg .s{place} {{ stroke: var(--s{place}); }} "
        f"svg .mark.s{place} {{ fill: var(--s{place}); stroke: var(--paper); }}"
        for place in range(8)
    )
    return "\n".join(each)


STYLE = (
    f":root {{ color-scheme: light dark;{LIGHT}}}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{{DARK}}} }}\n{RULES}{_series()}\n"
)
"""All of it: paper is always light."""
