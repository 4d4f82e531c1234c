"use strict";
// One image: a link to its evidence, what was found, and a label. item: {c, k, model, file, similarity, vr, ...}
ICONICITY.card = async (item, labelled = true) => {
  const { el, number, picture, load, imageLink, conceptLink, labels, badges, blind, data, called, said } = ICONICITY;
  const image = (await load(`concept_${item.c}`)).images[item.k], name = data.models[item.model].name, concept = data.concepts[item.c];
  return el("li", { class: "card" },
    el("a", { class: "pic", href: imageLink(name, item.file) }, el("span", { class: "frame" }, picture(image.thumb, image.problem, `${concept}, ${name}, ${item.file}`))),
    el("p", {}, `${name}: `, el("a", { href: conceptLink(concept) }, called(concept))),
    blind.on || (item.similarity === null && item.vr === null) ? null : el("p", { class: "score" }, `cra_sim ${number(item.similarity)}, ${data.labels.vr ?? "VR"} ${number(item.vr)}`), el("p", {}, ...badges(item)), said(image), labelled ? labels.select(name, concept, item.file) : null);
};

// Images to choose from: all of them, or those of one concept. What is chosen stands in the address.
ICONICITY.gallery = items => {
  const { el, fill, address, remember, compare, labels, blind, verdict, data } = ICONICITY;
  const PAGE = 60;
  const SHOW = {
    "": ["all images", () => true],
    ...(data.labels.cra ? { recognised: ["recognised", i => i.recognised], not: ["not recognised", i => i.recognised === false] }
      : { recognised: ["at or above the CRA threshold", i => i.recognised], not: ["below the CRA threshold", i => i.recognised === false] }),
    ...(data.decides ? { replica: [`replicas: recognised, ${data.labels.vr ?? "VR"} ${data.replica} or more`, i => verdict(i) === "replica"],
      transformed: [`transformed: recognised, ${data.labels.vr ?? "VR"} below ${data.replica}`, i => verdict(i) === "transformed"] } : {}),
    misattributed: ["nearer to another concept", i => i.misattributed], unusable: ["could not be used", i => !i.ok],
  };
  const SORT = { similarity: "similarity", vr: "VR", crt: "CRT", file: "file" };
  items.forEach(i => { i.crt = i.recognised === null ? null : i.recognised ? (i.vr === null ? null : 1 - i.vr) : 0; });

  const { query } = address();
  const grid = el("ul", { class: "gallery" }), said = el("p", { class: "soft", role: "status" });
  const choice = (id, entries) => {
    const node = el("select", { id, onchange: () => chosen() }, ...entries.map(([v, t]) => el("option", { value: v }, t)));
    if (query.has(id)) node.value = query.get(id);
    if (node.selectedIndex < 0) node.selectedIndex = 0;
    return node;
  };
  const model = choice("model", [["", "all models"], ...data.models.map(m => [m.name, m.name])]);
  const show = choice("show", Object.entries(SHOW).map(([v, [t]]) => [v, t]));
  const sort = choice("sort", Object.entries(SORT));
  const limit = (id, label) => el("input", { id, type: "number", min: 0, max: 1, step: "any", value: query.get(id) ?? "", "aria-label": label, onchange: () => chosen() });
  const least = limit("least", "VR at least"), most = limit("most", "VR at most");
  const text = el("input", { id: "text", type: "search", value: query.get("text") ?? "", oninput: () => chosen() });
  const rater = el("input", { id: "rater", size: 8, value: labels.rater, onchange: e => { labels.rater = e.target.value; select(); } });
  const more = el("button", { type: "button", onclick: () => { pages += 1; render(); } });
  let pages = 1, found = [], drawing = 0;

  const open = () => blind.on ? {} : { show: show.value, least: least.value, most: most.value, sort: sort.value === "similarity" ? "" : sort.value };
  const kept = () => remember({ model: model.value, ...open(), text: text.value });
  function chosen() {
    kept();
    pages = 1;
    select();
  }
  function select() {
    const m = data.models.findIndex(x => x.name === model.value), passes = SHOW[show.value][1], part = text.value.toLowerCase();
    const of = items.filter(i => (m < 0 || i.model === m) && (!part || i.file.toLowerCase().includes(part)));
    found = blind.on ? blind.shuffled(of) : of.filter(i => passes(i) && (least.value === "" || (i.vr !== null && i.vr >= Number(least.value)))
      && (most.value === "" || (i.vr !== null && i.vr <= Number(most.value))));
    if (blind.on) kept(); // an address from before may name a choice by scores
    else if (sort.value === "file") found.sort((a, b) => compare(a.file, b.file) || a.model - b.model);
    else found.sort((a, b) => compare(b[sort.value] ?? -2, a[sort.value] ?? -2) || compare(a.file, b.file) || a.model - b.model);
    ICONICITY.walk = found; // 'next' on an image's page goes on in this list
    ICONICITY.list = location.hash;
    render();
  }
  async function render() {
    const mine = ++drawing, shown = found.slice(0, PAGE * pages);
    said.textContent = `${found.length} of ${items.length} ${items.length === 1 ? "image" : "images"}${shown.length < found.length ? `, the first ${shown.length} shown` : ""}`;
    more.hidden = shown.length === found.length;
    more.textContent = `Show ${Math.min(PAGE, found.length - shown.length)} more`;
    const cards = await Promise.all(shown.map(i => ICONICITY.card(i)));
    if (mine === drawing) fill(grid, ...cards);
  }
  const rows = () => blind.on ? [["model", "concept", "file"], ...found.map(i => [data.models[i.model].name, data.concepts[i.c], i.file])] : [["model", "concept", "file", "cra_sim", "recognised", "vr", "crt", "nearer_to_another"], ...found.map(i => [data.models[i.model].name, data.concepts[i.c], i.file, i.similarity, i.recognised, i.vr, i.crt, i.misattributed])];
  select();
  return [
    el("div", { class: "bar" }, el("label", {}, "model", model), ...(blind.on ? [] : [el("label", {}, "show", show), el("label", {}, "VR from", least), el("label", {}, "to", most), el("label", {}, "sorted by", sort)]), el("label", {}, "file or concept", text)),
    el("div", { class: "bar" }, el("label", {}, "rater", rater), el("button", { type: "button", onclick: labels.download }, "Download labels"),
      el("button", { type: "button", onclick: () => ICONICITY.download("images.csv", rows()) }, "Download this list"),
      el("span", { class: "soft" }, labels.hint)),
    el("p", { class: "soft" }, labels.meaning), said, grid, more,
  ];
};

ICONICITY.imagesPage = async () => {
  const { el, fill, load, main, data } = ICONICITY;
  const all = await load("images"), misattributed = new Set(all.misattributed), unusable = new Set(all.unusable), next = data.concepts.map(() => 0);
  const items = all.concept.map((c, i) => ({
    c, k: next[c]++, model: all.model[i], file: `${data.concepts[c]}/${all.file[i]}`, similarity: all.similarity[i], vr: all.vr[i], recognised: all.recognised[i],
    misattributed: misattributed.has(i), ok: !unusable.has(i),
  }));
  fill(main, el("h1", {}, "All images"), ...ICONICITY.gallery(items));
};

ICONICITY.conceptPage = async name => {
  const { el, fill, picture, load, main, data } = ICONICITY;
  const c = data.concepts.indexOf(name);
  if (c < 0) { fill(main, el("h1", {}, "No such concept"), el("p", {}, name), el("a", { href: "#/" }, "All concepts")); return; }
  const part = await load(`concept_${c}`);
  const reference = r => el("li", { class: "card" }, el("span", { class: "frame" }, picture(r.thumb, r.problem, `reference ${r.file}`)), el("p", {}, r.file),
    el("p", { class: "soft" }, r.kept ? "kept" : `dropped: near-duplicate of ${part.references[r.dup_of]?.file ?? "another"} (${r.distance} of 64 bits differ)`));
  fill(main, el("h1", {}, ICONICITY.called(name)),
    el("p", { class: "soft" }, [part.artist, part.year, ICONICITY.called(name) !== name ? `concept ${name}` : null].filter(Boolean).join(", ")),
    el("h2", {}, `References (${part.references.filter(r => r.kept).length} kept of ${part.references.length})`), el("ul", { class: "gallery references" }, ...part.references.map(reference)),
    el("h2", {}, `Generated images (${part.images.length})`), ...ICONICITY.gallery(part.images.map((image, k) => ({ ...image, c, k }))));
};
