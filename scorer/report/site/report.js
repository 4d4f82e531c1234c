"use strict";
// Data arrives by scripts that call received(). All text enters the page as text, never as markup.
const ICONICITY = (() => {
  const parts = new Map(), waiting = new Map();
  const main = document.getElementById("main");
  const LABELS = ["replica", "variant", "reinterpretation", "unrelated", "wrong concept"];
  const MEASURES = [["cra", "CRA"], ["vr_recognised", "VR rec."], ["vr_all", "VR all"], ["vi_recognised", "VI rec."], ["vi_all", "VI all"], ["crt", "CRT"]];
  let data = null;

  function received(name, value) {
    parts.set(name, value);
    (waiting.get(name) || []).forEach(f => f(value));
    waiting.delete(name);
  }
  function load(name) {
    if (parts.has(name)) return Promise.resolve(parts.get(name));
    return new Promise((resolve, reject) => {
      if (waiting.has(name)) return waiting.get(name).push(resolve);
      waiting.set(name, [resolve]);
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onerror = () => reject(new Error(`data/${name}.js is missing beside this page`));
      document.head.append(script);
    });
  }

  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
    }
    node.append(...children.filter(c => c !== null && c !== undefined));
    return node;
  }
  const fill = (node, ...children) => node.replaceChildren(...children.filter(c => c !== null && c !== undefined));
  const number = v => v === null || v === undefined ? "–" : v.toFixed(3);
  const thumb = sha => `thumbs/${sha.slice(0, 2)}/${sha}.jpg`;
  const conceptLink = c => `#/concept/${encodeURIComponent(data.concepts[c])}`;
  const imageLink = (c, image) => `#/image/${encodeURIComponent(data.models[image.model].name)}/${encodeURIComponent(image.file)}`;
  const picture = (sha, problem, alt) => sha ? el("img", { src: thumb(sha), alt, loading: "lazy" }) : el("span", { class: "gone" }, `no picture: ${problem || "not read"}`);

  function download(name, rows) {
    // a cell that a spreadsheet would take for a formula gets an apostrophe
    const cell = v => { const t = v === null || v === undefined ? "" : String(v); const s = typeof v !== "number" && /^[=+\-@\t\r]/.test(t) ? `'${t}` : t; return /[",\n\r]/.test(s) ? `"${s.replaceAll('"', '""')}"` : s; };
    const url = URL.createObjectURL(new Blob([rows.map(r => r.map(cell).join(",")).join("\n") + "\n"], { type: "text/csv" }));
    el("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  function table(columns, rows, name) {
    let sorted = null, up = false;
    const body = el("tbody");
    const fill = () => {
      const order = sorted === null ? rows : [...rows].sort((a, b) => { const x = columns[sorted].key(a), y = columns[sorted].key(b); return (x === y ? 0 : x === null ? 1 : y === null ? -1 : x < y ? -1 : 1) * (up ? 1 : -1); });
      body.replaceChildren(...order.map(r => el("tr", {}, ...columns.map(c => el("td", {}, ...[].concat(c.show(r)))))));
    };
    const heads = columns.map((c, i) => el("th", { scope: "col" }, el("button", { type: "button", onclick: () => { up = sorted === i ? !up : typeof c.key(rows[0] ?? {}) === "string"; sorted = i; heads.forEach((h, k) => k === i ? h.setAttribute("aria-sort", up ? "ascending" : "descending") : h.removeAttribute("aria-sort")); fill(); } }, c.title)));
    fill();
    return [el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": name }, el("table", {}, el("thead", {}, el("tr", {}, ...heads)), body)),
      el("button", { type: "button", onclick: () => download(`${name}.csv`, [columns.map(c => c.title), ...rows.map(r => columns.map(c => c.key(r)))]) }, "Download as CSV")];
  }

  function overviewPage() {
    const tau = { cra: Math.round(data.tau.cra * 100), vr: data.tau.vr === null ? null : Math.round(data.tau.vr * 100) };
    const holder = el("div"), said = el("p", { class: "soft", role: "status" });
    const at = { cra: el("div", { class: "chart", role: "img", "aria-label": "CRA along tau_cra, a line a model" }), vr: el("div", { class: "chart", role: "img", "aria-label": "VR along tau_vr, a line a model" }) };
    const given = () => tau.cra / 100 === data.tau.cra && (tau.vr === null || tau.vr / 100 === data.tau.vr);
    const draw = () => {
      const value = (m, key) => {
        if (given()) return m[key][0];
        const s = data.sweeps[m.name];
        return key === "cra" ? s.cra[tau.cra] : key === "vr_all" && tau.vr !== null ? s.vr_all[tau.vr] : key === "vi_all" && tau.vr !== null && s.vr_all[tau.vr] !== null ? 1 - s.vr_all[tau.vr] : key === "crt" && tau.vr !== null ? s.crt[tau.cra][tau.vr] : null;
      };
      const shown = MEASURES.filter(([key]) => given() || !key.endsWith("recognised"));
      holder.replaceChildren(...table([
        { title: "model", key: m => m.name, show: m => m.name },
        { title: "images", key: m => m.images, show: m => String(m.images) },
        { title: "concepts", key: m => m.concepts, show: m => String(m.concepts) },
        ...shown.map(([key, title]) => ({ title, key: m => value(m, key), show: m => [number(value(m, key)), ...(given() && m[key][1] !== null ? [el("small", {}, `${number(m[key][1])} to ${number(m[key][2])}`)] : [])] })),
      ], data.models, "models"));
      said.textContent = given() ? "Means over concepts at the results' own thresholds, with 95 % intervals." : `Means over concepts at tau_cra ${(tau.cra / 100).toFixed(2)}${tau.vr === null ? "" : ` and tau_vr ${(tau.vr / 100).toFixed(2)}`}; intervals are those of 'iconicity summary'.`;
      CHARTS.curves(at.cra, data, "cra", (s, i) => s.cra[i], tau.cra / 100);
      if (tau.vr !== null) CHARTS.curves(at.vr, data, "vr", (s, i) => s.vr_all[i], tau.vr / 100);
    };
    const slider = metric => { const out = el("output", {}, (tau[metric] / 100).toFixed(2)); return el("label", {}, `tau_${metric}`, el("input", { type: "range", min: 0, max: 100, step: 1, value: tau[metric], id: `tau-${metric}`, oninput: e => { tau[metric] = Number(e.target.value); out.textContent = (tau[metric] / 100).toFixed(2); draw(); } }), out); };
    const chart = el("div", { class: "chart", role: "img", "aria-label": "Recognition against independence, a dot a concept; the table of concepts below has the same numbers" });
    const rows = data.points.map(p => ({ model: data.models[p[0]].name, concept: data.concepts[p[1]], c: p[1], images: p[2], recognised: p[3], cra: p[4], vr: p[5], vi: p[6], crt: p[8] }));
    const concepts = el("div"), model = el("select", { id: "model", onchange: () => list() }, el("option", { value: "" }, "all models"), ...data.models.map(m => el("option", { value: m.name }, m.name)));
    const only = el("input", { type: "checkbox", id: "recognised-only", onchange: () => list() }), text = el("input", { id: "text", type: "search", oninput: () => list() });
    const list = () => concepts.replaceChildren(...table([
      { title: "concept", key: r => r.concept, show: r => el("a", { href: conceptLink(r.c) }, r.concept) },
      { title: "model", key: r => r.model, show: r => r.model }, { title: "images", key: r => r.images, show: r => String(r.images) },
      { title: "recognised", key: r => r.recognised, show: r => String(r.recognised) },
      ...[["CRA", "cra"], ["VR all", "vr"], ["VI rec.", "vi"], ["CRT", "crt"]].map(([title, k]) => ({ title, key: r => r[k], show: r => number(r[k]) })),
    ], rows.filter(r => (!model.value || r.model === model.value) && (!only.checked || r.recognised > 0) && r.concept.includes(text.value.toLowerCase())), "concepts"));
    fill(main, 
      el("h1", {}, "Recognised, and copied or transformed?"),
      el("p", {}, "CRA: share of images whose reference is recognised. VR: share of patches that match a reference. VI = 1 − VR. CRT = CRA × VI of the recognised images. Open a concept to see which patch came from where."),
      el("h2", {}, "Models"), el("div", { class: "bar" }, slider("cra"), tau.vr === null ? null : slider("vr")), said, holder,
      el("h2", {}, "Recognition against independence"), el("p", { class: "soft" }, "One dot is a concept of a model; dotted lines join equal CRT. Click a dot to open its concept."), chart,
      el("h2", {}, "Concepts"), el("div", { class: "bar" }, el("label", {}, "model", model), el("label", {}, "name holds", text), el("label", {}, only, "something recognised")), concepts,
      el("h2", {}, "Thresholds"), el("div", { class: "charts" }, at.cra, tau.vr === null ? null : at.vr),
      el("h2", {}, "What the numbers rest on"), el("ul", { class: "notes" }, ...data.notes.map(n => el("li", {}, n)), ...Object.entries(data.facts).map(([k, v]) => el("li", {}, `${k}: ${v}`))));
    draw(); list();
    CHARTS.scatter(chart, data, c => { location.hash = conceptLink(c); });
  }

  function badges(image) {
    const out = [];
    if (!image.ok) return [el("span", { class: "badge" }, "could not be used")];
    if (image.recognised !== null) out.push(image.recognised ? "recognised" : "not recognised");
    if (image.recognised && image.vr !== null) out.push(image.vr >= 0.5 ? "mostly reused" : "mostly new");
    if (image.other && image.other.first) out.push("nearer to another concept");
    return out.map(t => el("span", { class: "badge score" }, t));
  }

  const stored = () => { try { return JSON.parse(localStorage.getItem("iconicity-labels") || "{}"); } catch { return {}; } };
  function labelSelect(concept, image) {
    const key = `${data.models[image.model].name}/${image.file}`;
    const select = el("select", { "aria-label": `Label of ${image.file}`, onchange: e => { const all = stored(); all[key] = { path: key, concept, label: e.target.value }; if (!e.target.value) delete all[key]; localStorage.setItem("iconicity-labels", JSON.stringify(all)); } },
      el("option", { value: "" }, "no label"), ...LABELS.map(l => el("option", { value: l }, l)));
    select.value = stored()[key]?.label ?? "";
    return select;
  }

  async function conceptPage(name) {
    const c = data.concepts.indexOf(name);
    if (c < 0) return fill(main, el("h1", {}, "No such concept"), el("p", {}, name), el("a", { href: "#/" }, "All concepts"));
    const part = await load(`concept_${c}`);
    const gallery = el("ul", { class: "gallery" });
    const model = el("select", { onchange: () => show() }, el("option", { value: "" }, "all models"), ...data.models.map((m, i) => el("option", { value: i }, m.name)));
    const by = el("select", { onchange: () => show() }, ...[["similarity", "similarity"], ["vr", "VR"], ["file", "file"]].map(([v, t]) => el("option", { value: v }, t)));
    const what = el("select", { id: "what", onchange: () => show() }, ...[["", "all images"], ["rec", "recognised"], ["not", "not recognised"], ["other", "nearer to another concept"]].map(([v, t]) => el("option", { value: v }, t)));
    const least = el("input", { type: "number", min: 0, max: 1, step: 0.05, value: 0, onchange: () => show() });
    const blind = el("input", { type: "checkbox", onchange: e => gallery.classList.toggle("blind", e.target.checked) });
    const show = () => {
      const images = part.images.filter(i => (model.value === "" || i.model === Number(model.value)) && (what.value === "" || (what.value === "rec" && i.recognised) || (what.value === "not" && i.recognised === false) || (what.value === "other" && i.other?.first)) && (Number(least.value) === 0 || (i.vr ?? -1) >= Number(least.value)));
      images.sort((a, b) => by.value === "file" ? (a.file < b.file ? -1 : 1) : (b[by.value] ?? -2) - (a[by.value] ?? -2));
      gallery.replaceChildren(...images.map(image => el("li", { class: "card" },
        el("a", { class: "pic", href: imageLink(c, image) }, el("span", { class: "frame" }, picture(image.thumb, image.problem, `${name}, ${data.models[image.model].name}, ${image.file}`))),
        el("p", {}, data.models[image.model].name), el("p", { class: "score" }, `cra_sim ${number(image.similarity)}, VR ${number(image.vr)}`), el("p", {}, ...badges(image)), labelSelect(name, image))));
    };
    const rater = el("input", { id: "rater", size: 8, value: "me" });
    fill(main, el("h1", {}, part.title ? `${part.title}` : name),
      el("p", { class: "soft" }, [part.artist, part.year, part.title ? `concept ${name}` : null].filter(Boolean).join(", ")),
      el("h2", {}, `References (${part.references.filter(r => r.kept).length} kept of ${part.references.length})`),
      el("ul", { class: "gallery" }, ...part.references.map(r => el("li", { class: "card" }, el("span", { class: "frame" }, picture(r.thumb, r.problem, `reference ${r.file}`)), el("p", {}, r.file), el("p", { class: "soft" }, r.kept ? "kept" : `dropped: near-duplicate of ${part.references[r.dup_of]?.file ?? "another"} (${r.distance} bits)`)))),
      el("h2", {}, `Generated images (${part.images.length})`),
      el("div", { class: "bar" }, el("label", {}, "model", model), el("label", {}, "show", what), el("label", {}, "VR at least", least), el("label", {}, "sorted by", by), el("label", {}, blind, "hide scores"), el("label", {}, "rater", rater),
        el("button", { type: "button", onclick: () => download("labels.csv", [["path", "concept", "label", "rater"], ...Object.values(stored()).map(l => [l.path, l.concept, l.label, rater.value])]) }, "Download labels")),
      gallery);
    show();
  }

  async function imagePage(model, file) {
    const m = data.models.findIndex(x => x.name === model), c = data.concepts.indexOf(file.split("/")[0]);
    const part = c < 0 ? null : await load(`concept_${c}`), image = part?.images.find(i => i.model === m && i.file === file);
    if (!image) return fill(main, el("h1", {}, "No such image"), el("p", {}, `${model} ${file}`), el("a", { href: "#/" }, "All concepts"));
    const [rows, cols] = data.grid;
    const right = el("figure", { "aria-live": "polite" });
    const show = k => {
      const r = part.references[image.ref[k]], row = Math.floor(image.cell[k] / cols), col = image.cell[k] % cols;
      const frame = el("span", { class: "frame" }, picture(r.thumb, r.problem, `reference ${r.file}`));
      if (r.thumb) frame.append(el("span", { class: "target", "data-cell": image.cell[k], style: `left:${100 * col / cols}%;top:${100 * row / rows}%;width:${100 / cols}%;height:${100 / rows}%` }));
      right.replaceChildren(frame, el("figcaption", {}, `Patch ${k} matches cell ${image.cell[k]} of reference ${r.file}: cosine ${number(image.p[k])}${reused(k) ? ", reused" : ", not reused"}${image.generic?.[k] ? "; generic: other concepts match this patch as well" : ""}`));
      cells.forEach((n, i) => n.classList.toggle("on", i === k));
    };
    const reused = k => Boolean(image.reused?.[k]);
    const cells = image.p ? image.p.map((p, k) => el("button", { type: "button", class: `cell${reused(k) ? " reused" : ""}${image.generic?.[k] && reused(k) ? " generic" : ""}`, style: `background:rgb(255 61 146 / ${Math.max(0, Math.min(0.25, (p - 0.2) * 0.35))})`, "aria-label": `Patch ${k}, cosine ${p.toFixed(2)}${reused(k) ? ", reused" : ""}`, onmouseenter: () => show(k), onfocus: () => show(k), onclick: () => show(k) }, el("span", {}, p.toFixed(2)))) : [];
    const frame = el("span", { class: "frame" }, picture(image.thumb, image.problem, `generated image ${image.file}`));
    if (image.thumb && cells.length) frame.append(el("span", { class: "cells", style: `grid-template-columns:repeat(${cols},1fr);grid-template-rows:repeat(${rows},1fr)` }, ...cells));
    const same = part.images.filter(i => i.thumb !== undefined), at = same.indexOf(image);
    const step = d => { const next = same[(at + d + same.length) % same.length]; location.hash = imageLink(c, next); };
    fill(main, el("p", {}, el("a", { href: conceptLink(c) }, `← ${part.title || part.concept}`)), el("h1", {}, `${model}: ${image.file}`),
      el("p", {}, ...badges(image)), el("p", {}, `cra_sim ${number(image.similarity)}${image.match !== undefined && image.match !== null ? ` to ${part.references[image.match].file}` : ""} · VR ${number(image.vr)}`),
      image.prompt ? el("p", { class: "soft" }, `prompt: ${image.prompt}`) : null,
      el("div", { class: "bar" }, el("button", { type: "button", onclick: () => step(-1) }, "Previous image"), el("button", { type: "button", onclick: () => step(1) }, "Next image"), labelSelect(part.concept, image)),
      el("div", { class: "evidence" }, el("figure", {}, frame, el("figcaption", { class: "legend" }, "Point at a patch (or tab to it): the matching part of the reference is outlined beside it. Pink frame: reused; dashed: other concepts match it as well; the number is the cosine.")), right),
      image.other ? el("section", {}, el("h2", {}, "Best other concept"), el("figure", { class: "card" }, el("span", { class: "frame" }, picture(image.other.thumb, "", `reference ${image.other.file} of ${image.other.concept}`)), el("figcaption", {}, `${image.other.concept}, ${image.other.file}: ${number(image.other.similarity)}${image.other.first ? ", nearer than the own concept" : ""}`))) : null);
    if (cells.length && image.ref.every(r => r !== null && r !== undefined)) show(image.p.indexOf(Math.max(...image.p)));
    document.onkeydown = e => { if (e.target.closest("input,select,textarea")) return; if (e.key === "n") step(1); if (e.key === "p") step(-1); };
  }

  async function route() {
    document.onkeydown = null;
    const [kind, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
    try {
      if (kind === "concept") await conceptPage(rest[0]);
      else if (kind === "image") await imagePage(rest[0], rest[1]);
      else overviewPage();
      window.scrollTo(0, 0);
    } catch (e) { fill(main, el("h1", {}, "This part cannot be shown"), el("p", {}, e.message)); }
  }

  load("overview").then(value => {
    data = value;
    document.getElementById("names").append(...data.concepts.map(c => el("option", { value: c })));
    document.getElementById("find").addEventListener("change", e => { const c = data.concepts.indexOf(e.target.value); if (c >= 0) location.hash = conceptLink(c); });
    window.addEventListener("hashchange", route);
    route();
  }, e => fill(main, el("p", {}, e.message)));
  return { received };
})();
