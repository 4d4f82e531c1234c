"use strict";
// One generated image beside the references its patches match.
ICONICITY.imagePage = async (model, file) => {
  const { el, fill, number, picture, load, main, data, badges, labels, blind, conceptLink, imageLink, called, said } = ICONICITY;
  const m = data.models.findIndex(x => x.name === model);
  // the concept is the longest one the file's name begins with: a name may hold a slash of its own
  const c = data.concepts.reduce((best, name, i) => file.startsWith(`${name}/`) && (best < 0 || name.length > data.concepts[best].length) ? i : best, -1);
  const part = c < 0 ? null : await load(`concept_${c}`), k = part ? part.images.findIndex(i => i.model === m && i.file === file) : -1;
  if (k < 0) { fill(main, el("h1", {}, "No such image"), el("p", {}, `${model} ${file}`), el("a", { href: "#/" }, "All concepts")); return; }
  const image = part.images[k], evidence = (await load(`evidence_${c}_${Math.floor(k / data.evidence)}`))[k % data.evidence];
  const found = blind.on ? { prompt: evidence.prompt } : evidence; // with the scores hidden nothing here knows a match
  const [rows, cols] = data.grid, across = data.steps * (cols - 1) + 1, reused = i => Boolean(found.reused?.[i]), generic = i => Boolean(found.generic?.[i]);
  const place = cell => `left:${100 * (cell % across) / data.steps / cols}%;top:${100 * Math.floor(cell / across) / data.steps / rows}%;width:${100 / cols}%;height:${100 / rows}%`;
  // cells are counted from 0; people look for a row and a column, those at half steps between two
  const spot = (cell, wide, steps) => `row ${Math.floor(cell / wide) / steps + 1}, column ${(cell % wide) / steps + 1}`;
  // the centre that the encoder looks at; the rest of the cell is dimmed
  const centre = shares => shares ? el("span", { class: "seen", style: `left:${50 * (1 - shares[0])}%;top:${50 * (1 - shares[1])}%;width:${100 * shares[0]}%;height:${100 * shares[1]}%` }) : null;
  // "threshold 0.296 for 1 reference": the one that decides on this image
  const kept = data.facts.mode === "static" ? 1 : part.references.filter(r => r.kept).length;
  const threshold = metric => found.tau?.[metric] == null ? "" : ` (threshold ${number(found.tau[metric])}${data.reached[metric] ? ` for ${kept} ${kept === 1 ? "reference" : "references"}` : ""})`;
  const alike = i => found.reused && !reused(i) && found.tau.vr !== null && found.p[i] >= found.tau.vr; // only VR strict asks for more
  const matched = found.p ? found.p.map((_, i) => i).filter(i => found.ref[i] !== null) : [];

  const right = el("figure", { "aria-live": "polite" }), line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  line.setAttribute("class", "link");
  line.setAttribute("aria-hidden", "true");
  let current = -1;
  function point(i) {
    if (!matched.includes(i)) return;
    current = i;
    const r = part.references[found.ref[i]], frame = el("span", { class: "frame" }, picture(r.thumb, r.problem, `reference ${r.file}`));
    if (r.thumb) {
      const others = matched.filter(j => j !== i && reused(j) && found.ref[j] === found.ref[i]);
      frame.append(...others.map(j => el("span", { class: "source", style: place(found.cell[j]) })), el("span", { class: "target", "data-cell": found.cell[i], style: place(found.cell[i]) }, centre(r.seen)));
    }
    fill(right, frame, el("figcaption", {}, el("strong", {}, "Reference "), `${r.file}. Patch ${i} (${spot(i, cols, 1)}) matches its cell ${found.cell[i]} (${spot(found.cell[i], across, data.steps)}): `,
      el("span", { class: "score" }, `cosine ${number(found.p[i])}${threshold("vr")}, ${reused(i) ? "reused" : alike(i) ? "not reused: not nearer to it than to other works (CSLS)" : "not reused"}${generic(i) ? "; generic: other concepts match this patch as well" : ""}`)));
    cells.forEach((node, j) => { node.classList.toggle("on", j === i); node.tabIndex = j === i ? 0 : -1; });
    connect();
  }
  // a line from the patch to its match, where both stand side by side
  function connect() {
    const target = right.querySelector(".target"), box = line.parentElement?.getBoundingClientRect();
    line.replaceChildren();
    if (!target || !box || current < 0) return;
    const a = cells[current].getBoundingClientRect(), b = target.getBoundingClientRect();
    if (b.left < a.right) return;
    for (const kind of ["under", "over"]) {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "line");
      const ends = { x1: a.right - box.left, y1: a.top + a.height / 2 - box.top, x2: b.left - box.left, y2: b.top + b.height / 2 - box.top };
      Object.entries(ends).forEach(([key, value]) => path.setAttribute(key, value));
      path.setAttribute("class", kind);
      line.append(path);
    }
  }
  const cells = (found.p ?? []).map((p, i) => el("button", {
    type: "button", class: `cell${reused(i) ? " reused" : ""}${generic(i) && reused(i) ? " generic" : ""}`, tabindex: "-1",
    style: `background:rgb(255 61 146 / ${Math.max(0, Math.min(0.2, (p - 0.2) * 0.28))})`,
    "aria-label": `Patch ${i}, ${spot(i, cols, 1)}, cosine ${p.toFixed(2)}${reused(i) ? ", reused" : ""}${generic(i) ? ", generic" : ""}`,
    onmouseenter: () => point(i), onfocus: () => point(i), onclick: () => point(i), onkeydown: e => arrow(e, i),
  }, centre(found.seen), el("span", { class: "score" }, p.toFixed(2))));
  function arrow(e, i) {
    const to = { ArrowLeft: i % cols ? i - 1 : -1, ArrowRight: (i + 1) % cols ? i + 1 : -1, ArrowUp: i - cols, ArrowDown: i + cols }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    cells[to]?.focus();
  }

  const frame = el("span", { class: "frame" }, picture(image.thumb, image.problem, `generated image ${file}`));
  if (image.thumb && cells.length) frame.append(el("span", { class: "cells", style: `grid-template-columns:repeat(${cols},1fr);grid-template-rows:repeat(${rows},1fr)` }, ...cells));
  const walk = ICONICITY.walk?.some(i => i.c === c && i.k === k) ? ICONICITY.walk : own();
  function own() {
    const images = part.images.map((i, j) => ({ ...i, c, k: j }));
    return blind.on ? blind.shuffled(images) : images;
  }
  const at = walk.findIndex(i => i.c === c && i.k === k);
  const step = d => { const next = walk[(at + d + walk.length) % walk.length]; location.hash = imageLink(data.models[next.model].name, next.file); };
  const up = ICONICITY.walk === walk && ICONICITY.list ? ICONICITY.list : conceptLink(part.concept);

  fill(main,
    el("p", {}, el("a", { href: conceptLink(part.concept) }, `← ${called(part.concept)}`)), el("h1", {}, `${model}: ${file}`), el("p", {}, ...badges(image)), said(image),
    blind.on ? null : el("p", { class: "score" }, inWords()), found.prompt ? el("p", { class: "soft" }, `prompt: ${found.prompt}`) : null,
    el("div", { class: "bar" }, el("button", { type: "button", onclick: () => step(-1) }, "Previous image"), el("button", { type: "button", onclick: () => step(1) }, "Next image"), el("span", { class: "soft" }, `${at + 1} of ${walk.length}`), labels.select(model, part.concept, file)),
    blind.on ? el("div", { class: "evidence" }, el("figure", {}, frame, el("figcaption", {}, el("strong", {}, "Generated. "), "Scores and matches are hidden.")), el("div", {}, ...references())) : el("div", { class: "evidence" }, el("figure", {}, frame, el("figcaption", {}, el("strong", {}, "Generated. "), ...(part.references.length ? ["Point at a patch, or move with the arrow keys: its best match is outlined in the reference beside it. ",
      el("span", { class: "key reused" }), " reused", found.generic ? " " : null, found.generic ? el("span", { class: "key reused generic" }) : null, found.generic ? " reused, but other concepts match it as well" : null, found.seen ? `. The encoder looks at the bright centre of each cell, ${Math.round(100 * found.seen[0] * found.seen[1])} % of it.` : null] : ["The index has no references of its concept."]))), right, line),
    found.other ? el("section", {}, el("h2", {}, "Best other concept"), el("figure", { class: "card" }, el("span", { class: "frame" }, picture(found.other.thumb, "", `reference ${found.other.file} of ${found.other.concept}`)), el("figcaption", {}, `${found.other.concept}, ${found.other.file}: `, el("span", { class: "score" }, `${number(found.other.similarity)}${found.other.first ? ", nearer than the own concept" : ""}`)))) : null);
  if (!blind.on && image.thumb && matched.length) main.append(el("p", { class: "soft" }, "For a slide or print, with your study's folder in place of STUDY: ", el("code", {}, `iconicity plot evidence STUDY --image ${quoted(`${model}/${file}`)} --out plate.png`)));
  if (matched.length) point(matched.reduce((best, i) => found.p[i] > found.p[best] ? i : best, matched[0]));
  window.addEventListener("resize", connect);
  frame.querySelector("img")?.addEventListener("load", connect);
  right.addEventListener("load", connect, true);
  ICONICITY.keys = { n: () => step(1), p: () => step(-1), u: () => { location.hash = up; }, leave: () => window.removeEventListener("resize", connect) };

  // as one word of a shell's line
  function quoted(text) {
    return /^[\w./@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
  }
  // all references of the concept, in the order of their files
  function references() {
    const one = r => el("li", { class: "card" }, el("span", { class: "frame" }, picture(r.thumb, r.problem, `reference ${r.file}`)), el("p", {}, r.file));
    return [el("h2", {}, `References (${part.references.length})`), el("ul", { class: "gallery references" }, ...part.references.map(one))];
  }
  // what was found, as a sentence
  function inWords() {
    const near = found.match === null || found.match === undefined ? "" : ` (nearest: ${part.references[found.match].file})`;
    const first = image.similarity === null ? "" : `Similarity ${number(image.similarity)}${threshold("cra")}${near}, by ${data.encoders.clip}. `;
    if (!found.p || image.vr === null) return first;
    const sources = new Map();
    matched.filter(reused).forEach(i => sources.set(found.ref[i], (sources.get(found.ref[i]) ?? 0) + 1));
    const named = [...sources].sort((a, b) => b[1] - a[1]).slice(0, 4).map(([r, n]) => `${n} in ${part.references[r].file}`).join(", ");
    const count = found.p.filter((_, i) => reused(i)).length;
    return `${first}${count} of ${found.p.length} patches ${data.labels.vr ? "are reused" : "reach the VR threshold"} (${data.labels.vr ?? "VR"} ${number(image.vr)}${found.tau.vr === null ? "" : `,${threshold("vr").replace(/[()]/g, "")}`})${named ? `: ${named}` : ""}${sources.size > 4 ? " and others" : ""}.`;
  }
};
