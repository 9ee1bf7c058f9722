"""The page's style and its one script."""

# ruff: noqa: E501 (a rule of the style sheet stands on one line)

STYLE = """
:root {
  --paper: #fcfbf8; --panel: #f5f3ed; --ink: #1c1b19; --muted: #6b675f; --rule: #dcd8cd;
  --accent: #1f5aa6; --grey: #8a857a; --yes: #2e7d4f; --no: #b1452f; --mark: #f6dfb2;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "Book Antiqua", "URW Palladio L", "Liberation Serif", Georgia, serif;
  --sans: -apple-system, BlinkMacSystemFont, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161a; --panel: #1c1f25; --ink: #e9e6df; --muted: #9b978d; --rule: #333740;
    --accent: #7fb2f5; --grey: #8f8b82; --yes: #6fc48f; --no: #ea8a72; --mark: #5a4512;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: 4.5rem 2rem 4rem; max-width: 72rem;
  background: var(--paper); color: var(--ink); font: 17px/1.6 var(--serif); font-variant-numeric: lining-nums;
}
h1, h2, h3, h4 { font-weight: 600; line-height: 1.2; text-wrap: balance; margin: 0; }
h1 { font-size: clamp(1.75rem, 1.2rem + 2.2vw, 2.7rem); letter-spacing: -.015em; max-width: 24em; }
h2 { font-size: 1.55rem; letter-spacing: -.01em; }
h3 { font: 600 .95rem/1.3 var(--sans); margin: 2.2rem 0 .7rem; }
h4 { font: 600 .82rem/1.3 var(--sans); color: var(--muted); margin: 1.5rem 0 .4rem; }
p { margin: 0 0 .7rem; max-width: 44rem; text-wrap: pretty; }
small { font-size: .82em; color: var(--muted); font-weight: 400; }
.kicker { font: 600 .8rem/1 var(--sans); letter-spacing: .09em; text-transform: uppercase; color: var(--accent); margin-bottom: 1rem; }
.lead { margin: 1.3rem 0 0; font-size: 1.14rem; }
.lead p { max-width: 50rem; }
.lead b { font-variant-numeric: tabular-nums lining-nums; }
.note, figcaption, .reading { color: var(--muted); }
.note { margin: .5rem 0 0; font-size: .97rem; }
.reading { color: var(--ink); margin: .9rem 0 0; }
.missing { color: var(--muted); font-style: italic; margin: .9rem 0; }
section { margin-top: 4rem; padding-top: 1.6rem; border-top: 1px solid var(--rule); scroll-margin-top: 1rem; }
footer { margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--rule); color: var(--muted); font: .82rem var(--sans); }
nav { margin-top: 2rem; display: flex; flex-wrap: wrap; gap: .3rem 1.3rem; font: .88rem/1.6 var(--sans); }
nav a { color: var(--muted); text-decoration: none; border-bottom: 1px solid var(--rule); }
nav a:hover, nav a:focus { color: var(--accent); border-color: var(--accent); }

.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1.2rem 1.6rem; margin: 2.2rem 0 0; }
.facts dd { margin: 0; font-family: var(--sans); white-space: nowrap; font-variant-numeric: tabular-nums; }
.facts dd b { font-size: 1.85rem; font-weight: 600; letter-spacing: -.02em; }
.facts div:first-child dd b { color: var(--accent); }
.facts dt { font: .85rem/1.35 var(--sans); color: var(--muted); }

figure { margin: 0; }
figure.wide { margin-top: 1.6rem; }
figcaption { font: .85rem/1.5 var(--sans); }
figure.wide > figcaption { max-width: 52rem; margin-top: 1.2rem; }
.facets { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem 3.5rem; }
.facet h3 { margin-top: .6rem; font-size: 1.02rem; }
.row { display: grid; grid-template-columns: 8.2rem minmax(0, 1fr) 8.6rem; gap: 0 1.1rem; align-items: center; font: .9rem/1.2 var(--sans); }
.row .value { white-space: nowrap; font-variant-numeric: tabular-nums; color: var(--muted); font-size: .86rem; }
.row .value b { color: var(--ink); font-size: .95rem; display: inline-block; min-width: 2.5rem; text-align: right; margin-right: .2rem; }
.row.method .name, .row.method .value b { color: var(--accent); font-weight: 650; }
.row.reference .name { color: var(--muted); font-style: italic; }
.track { display: block; padding: 0 6px; line-height: 0; }
svg.strip, svg.axis { display: block; overflow: visible; }
.strip .grid { stroke: var(--rule); stroke-width: 1; }
.strip .zero { stroke: var(--muted); stroke-width: 1; }
.strip .bar { stroke: var(--grey); stroke-width: 3; stroke-linecap: round; }
.strip .dot { fill: var(--ink); stroke: var(--paper); stroke-width: 1.5; }
.strip .seed { fill: var(--muted); opacity: .65; }
.strip.method .bar { stroke: var(--accent); opacity: .5; stroke-width: 5; }
.strip.method .dot { fill: var(--accent); }
.strip.reference .dot { fill: var(--paper); stroke: var(--grey); stroke-width: 2; }
.strip.control.beats .bar { stroke: var(--yes); } .strip.control.beats .dot { fill: var(--yes); }
.strip.control.loses .bar { stroke: var(--no); } .strip.control.loses .dot { fill: var(--no); }
svg.axis text { font: 11px var(--sans); fill: var(--muted); text-anchor: middle; }

.scroll { overflow-x: auto; margin: .4rem 0 0; }
table { border-collapse: collapse; font: .88rem/1.3 var(--sans); font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .5rem .8rem; border-bottom: 1px solid var(--rule); vertical-align: middle; white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; }
thead th { font-weight: 500; color: var(--muted); vertical-align: bottom; border-bottom-color: var(--grey); }
tbody th { font-weight: 600; }
tbody th small { display: block; white-space: normal; min-width: 9rem; max-width: 16rem; }
table.success { width: 100%; }
table.success td { background: color-mix(in srgb, var(--accent) calc(var(--p, 0) * 24%), transparent); text-align: center; }
table.success thead th:not(:first-child) { text-align: center; }
table.success td small { display: block; font-size: .76rem; line-height: 1.25; }
table.success td b { font-size: 1rem; font-weight: 600; }
table.success td.total { border-left: 2px solid var(--paper); }
table.success td.final { background: none; }
table.bench tr.published td, table.bench tr.published th { background: none; color: var(--muted); font-weight: 400; padding-top: .28rem; padding-bottom: .28rem; }
table.bench tr.source th { font-weight: 400; font-style: italic; color: var(--muted); padding-top: 1.1rem; white-space: normal; }
table.bench tr.published th small { display: inline; margin-left: .6em; min-width: 0; max-width: none; }
table.bench tr.published th { white-space: normal; max-width: 24rem; }
table.bench td.none { background: none; color: var(--muted); }
table.bench td.none small { white-space: normal; min-width: 9rem; }
table.bench thead th { white-space: normal; max-width: 9rem; }
table.bench td.beats b { color: var(--yes); } table.bench td.loses b { color: var(--no); }
.terms { display: flex; flex-wrap: wrap; gap: .35rem 1.8rem; margin: 1.1rem 0 1.2rem; font: .85rem/1.35 var(--sans); }
.terms dt { color: var(--muted); font-size: .78rem; }
.terms dd { margin: 0; overflow-wrap: anywhere; }
.terms.stand-in { background: var(--mark); padding: .6rem .9rem; border-radius: 4px; }
.terms.stand-in dt { color: inherit; }
table.plain td, table.plain th { text-align: left; white-space: normal; }
table.cost { width: 100%; }
td.meter { width: 22%; min-width: 4rem; padding-left: 0; }
td.meter i { display: block; height: .55rem; width: max(var(--w), 2px); background: var(--accent); opacity: .55; border-radius: 2px; }

.films { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: .5rem 3rem; }
.films-arm h3 small { margin-left: .5rem; }
.films-arm.method h3 { color: var(--accent); }
.reel { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: .8rem; }
.film video { display: block; width: 100%; height: auto; border-radius: 4px; background: var(--panel); border-bottom: 3px solid var(--no); }
.film.yes video { border-bottom-color: var(--yes); }
.film figcaption { margin-top: .35rem; font-size: .76rem; line-height: 1.35; }
.film figcaption b { display: block; color: var(--ink); font-weight: 600; overflow-wrap: anywhere; }
.film figcaption span { display: block; overflow-wrap: anywhere; }

.strips { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 1.6rem 2.2rem; margin-top: 1.4rem; }
.strip3 div { display: grid; grid-template-columns: repeat(3, 1fr); gap: 5px; }
.strip3 img { display: block; width: 100%; height: auto; image-rendering: pixelated; border-radius: 3px; }
.strip3 em { font: .76rem/1.6 var(--sans); color: var(--muted); }
.strip3 figcaption { color: var(--ink); display: flex; justify-content: space-between; gap: 1rem; }
.ratio { white-space: nowrap; font-variant-numeric: tabular-nums; color: var(--muted); }

.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 0 3rem; margin-bottom: 1.6rem; }
.pair h4 { color: var(--ink); font-size: .9rem; }
.pair h4 small { display: block; margin-top: .15rem; }
.gauge { display: grid; grid-template-columns: 3.4rem 1fr auto; gap: .7rem; align-items: center; font: .85rem/1.7 var(--sans); }
.pair .gauge > span { color: var(--muted); }
.pair .gauge i { display: block; height: .5rem; margin: 2px 0; border-radius: 2px; width: max(var(--w), 2px); background: var(--grey); }
.pair .gauge.motion i { background: var(--accent); }
.gauge b { font-variant-numeric: tabular-nums; text-align: right; font-weight: 600; }

.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 1.2rem 2.2rem; margin-top: 1.4rem; }
.card { display: grid; grid-template-columns: 7rem 1fr; gap: 1rem; font: .88rem/1.4 var(--sans); align-items: start; }
.card img { display: block; width: 100%; height: auto; image-rendering: pixelated; border-radius: 3px; }
.card p { margin: 0 0 .3rem; overflow-wrap: anywhere; }
.card em { display: inline-block; font-style: normal; color: var(--muted); min-width: 3.6rem; }
.card .instruction { font: italic 1rem/1.35 var(--serif); }
mark { background: var(--mark); color: inherit; border-radius: 2px; padding: 0 .15em; }

.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15.5rem, 100%), 1fr)); gap: 1.4rem 1.8rem; margin-top: .9rem; }
.panel { display: flex; flex-direction: column; justify-content: flex-end; }
.panel figcaption { color: var(--ink); font-weight: 600; font-size: .82rem; line-height: 1.35; margin-bottom: .25rem; overflow-wrap: anywhere; }
.panel figcaption span { display: block; color: var(--muted); font-weight: 400; font-variant-numeric: tabular-nums; }
svg.curves { display: block; width: 100%; height: auto; overflow: visible; }
.curves text { font: 12.5px var(--sans); fill: var(--muted); font-variant-numeric: tabular-nums; }
.curves .x { text-anchor: middle; } .curves .y { text-anchor: end; }
.curves .grid { stroke: var(--rule); stroke-width: .8; }
.curves polyline { fill: none; stroke: var(--accent); stroke-linejoin: round; }
.curves .raw { stroke-width: .8; opacity: .25; }
.curves .mean { stroke-width: 1.8; }

details { margin: .6rem 0; font: .9rem/1.5 var(--sans); }
details details { margin-left: 1.2rem; }
summary { cursor: pointer; color: var(--accent); padding: .2rem 0; }
pre { background: var(--panel); padding: 1rem; overflow-x: auto; font: .78rem/1.5 var(--mono); border-radius: 4px; margin: .4rem 0; }
.problems { color: var(--muted); font: .88rem/1.5 var(--sans); padding-left: 1.2rem; }

@media (max-width: 640px) {
  body { padding: 2.2rem 1.1rem 3rem; font-size: 16px; }
  section { margin-top: 2.8rem; }
  .lead { font-size: 1.05rem; }
  .facts { grid-template-columns: 1fr 1fr; gap: 1.2rem; }
  .facts dd { white-space: normal; line-height: 1.2; }
  .facts dd b { font-size: 1.6rem; display: block; }
  .row { grid-template-columns: 1fr auto; row-gap: .1rem; margin-top: .45rem; }
  .row .track { grid-row: 2; grid-column: 1 / -1; }
  .reel { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  th, td { padding: .45rem .55rem; }
  tbody th small { min-width: 6.5rem; max-width: 9rem; }
  td.meter { display: none; } table.cost thead th:nth-child(3) { display: none; }
  .card { grid-template-columns: 5.5rem 1fr; }
}
@media print { body { padding: 0; max-width: none; } nav, script { display: none; } section { break-inside: avoid-page; } }
"""

# Without the script the videos have their browser's own controls; with it they play while in view, and a click stops.
SCRIPT = """
(() => {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const films = document.querySelectorAll("video");
  if (still || !("IntersectionObserver" in window)) return;
  const seen = new IntersectionObserver(entries => entries.forEach(({target, isIntersecting}) => {
    if (isIntersecting && !target.dataset.stopped) target.play().catch(() => {});
    else target.pause();
  }), {threshold: .4});
  films.forEach(film => {
    film.removeAttribute("controls");
    film.style.cursor = "pointer";
    film.addEventListener("click", () => {
      if (film.paused) { delete film.dataset.stopped; film.play(); }
      else { film.dataset.stopped = "1"; film.pause(); }
    });
    seen.observe(film);
  });
})();
"""
