"use strict";
// References that surfaced in images whose prompts name something else, each with these images.
ICONICITY.surfacedPage = async () => {
  const { el, fill, number, picture, load, main, data, blind, conceptLink, table } = ICONICITY;
  const HEADING = "Surfaced though not named", REFERENCES = 20, IMAGES = 12;
  if (blind.on) { fill(main, el("h1", {}, "Scores are hidden"), el("p", {}, "What surfaced depends on the scores.")); return; }
  const part = data.surfaced ? await load("surfaced") : null;
  if (!part) { fill(main, el("h1", {}, HEADING), el("p", {}, "Nothing did, or the images were not compared with all references ('iconicity score --scope all').")); return; }
  ICONICITY.walk = part.references.flatMap(r => r.images);
  ICONICITY.list = "#/surfaced";

  const rows = part.references.flatMap(r => r.models.map(m => ({ ...m, reference: `${r.concept}/${r.file}`, called: r.called })));
  const ends = r => r.share_low === null ? [number(r.share)] : [number(r.share), el("small", {}, `${number(r.share_low)} to ${number(r.share_high)}`)];
  const columns = [
    { title: "reference", key: r => r.reference, show: r => [r.called, el("small", {}, r.reference)] },
    { title: "model", key: r => r.model, show: r => r.model },
    { title: "images", key: r => r.images, show: r => String(r.images) },
    { title: "surfaced", key: r => r.surfaced, show: r => String(r.surfaced) },
    { title: "share", key: r => r.share, show: ends },
    { title: "highest similarity", key: r => r.highest_sim, show: r => number(r.highest_sim) },
    { title: "threshold", key: r => r.threshold, show: r => number(r.threshold) },
  ];
  // a few at first, the others when they are asked for
  function some(tag, attributes, items, most, show) {
    const node = el(tag, attributes), more = el("button", { type: "button", onclick: () => draw(items.length) }, `Show all ${items.length}`);
    const draw = async n => { more.hidden = items.length <= n; fill(node, ...await Promise.all(items.slice(0, n).map(show))); };
    return draw(most).then(() => [node, more]);
  }
  async function card(item) {
    const node = await ICONICITY.card({ ...(await load(`concept_${item.c}`)).images[item.k], ...item }, false);
    node.append(el("p", { class: "score" }, `${number(item.surfaced)} to this reference`));
    return node;
  }
  async function section(r) {
    const name = data.concepts.includes(r.concept) ? el("a", { href: conceptLink(r.concept) }, r.called) : r.called;
    return el("section", {}, el("h2", {}, name, ` (${r.images.length})`),
      el("div", { class: "surfaced" }, el("figure", { class: "card" }, el("span", { class: "frame" }, picture(r.thumb, r.problem, `reference ${r.file} of ${r.concept}`)), el("figcaption", {}, el("strong", {}, "Reference "), r.file)),
        el("div", {}, ...await some("ul", { class: "gallery" }, r.images, IMAGES, card))));
  }
  fill(main, el("h1", {}, HEADING),
    el("p", {}, "A reference surfaces in an image if it is the nearest one of all other works and its similarity reaches the threshold, though the prompt names something else or no work at all."),
    el("ul", { class: "notes" }, ...part.notes.map(n => el("li", {}, n))),
    ...table(columns, rows, "surfaced"), ...await some("div", {}, part.references, REFERENCES, section));
};
