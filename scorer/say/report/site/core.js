"use strict";
// What all pages share. Data arrives in parts: scripts that call received(), or blocks inside this page. All text
// enters the page as text, never as markup.
const ICONICITY = (() => {
  const parts = new Map(), waiting = new Map();

  function received(name, value) {
    parts.set(name, value);
    (waiting.get(name) ?? []).forEach(([resolve]) => resolve(value));
    waiting.delete(name);
  }

  function load(name) {
    const block = parts.has(name) ? null : document.getElementById(`data-${name}`);
    if (block) received(name, JSON.parse(block.textContent));
    if (parts.has(name)) return Promise.resolve(parts.get(name));
    return new Promise((resolve, reject) => {
      if (waiting.has(name)) { waiting.get(name).push([resolve, reject]); return; }
      waiting.set(name, [[resolve, reject]]);
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onerror = () => {
        waiting.get(name).forEach(w => w[1](new Error(`data/${name}.js is missing beside this page`)));
        waiting.delete(name);
      };
      document.head.append(script);
    });
  }

  // The chart library is larger than all else: it comes when the first chart is drawn, after the tables.
  let library = null;
  function charts() {
    return library ??= new Promise(painted => requestAnimationFrame(() => setTimeout(painted))).then(() => new Promise((resolve, reject) => {
      const script = document.createElement("script"), block = document.getElementById("library");
      script.onload = resolve;
      script.onerror = () => reject(new Error("plotly.min.js is missing beside this page"));
      if (block) script.textContent = block.textContent; // allowed by its hash
      else script.src = "plotly.min.js";
      document.head.append(script);
      if (block) resolve();
    }));
  }

  const there = children => children.filter(c => c !== null && c !== undefined && c !== false);
  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
    }
    node.append(...there(children));
    return node;
  }
  const fill = (node, ...children) => node.replaceChildren(...there(children));
  const number = v => v === null || v === undefined ? "–" : v.toFixed(3);

  function picture(sha, problem, alt) {
    if (!sha) return el("span", { class: "gone" }, `no picture: ${problem || "not read"}`);
    const inside = document.getElementById(`thumb-${sha}`);
    return el("img", { src: inside ? inside.textContent : `thumbs/${sha.slice(0, 2)}/${sha}.jpg`, alt, loading: "lazy" });
  }

  // The address after '#' names a page and, after '?', what is chosen there: a link shows the same to anyone.
  function address() {
    const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
    return { path: path.split("/").map(decodeURIComponent), query: new URLSearchParams(query ?? "") };
  }
  function remember(values) {
    const [path] = location.hash.replace(/^#\/?/, "").split("?");
    const query = new URLSearchParams(Object.entries(values).filter(([, v]) => v !== "" && v !== null)).toString();
    history.replaceState(null, "", `#/${path}${query ? `?${query}` : ""}`);
  }
  const conceptLink = name => `#/concept/${encodeURIComponent(name)}`;
  const imageLink = (model, file) => `#/image/${encodeURIComponent(model)}/${encodeURIComponent(file)}`;

  function download(name, rows) {
    // the rules of indexer/csv_cells.py: no formula, and whatever a reader could take apart in quotes
    const cell = value => {
      if (value === null || value === undefined) return "";
      let text = String(value);
      if (typeof value === "string" && /^'*[=+\-@\t\r]/.test(text)) text = `'${text}`;
      return /[",;\x00-\x1f\x7f-\x9f\u2028\u2029]|^\s|\s$|^$/.test(text) ? `"${text.replaceAll('"', '""').replaceAll("\0", "\\x00")}"` : text;
    };
    const text = "\ufeff" + rows.map(r => r.map(cell).join(",")).join("\n") + "\n"; // without the mark Excel takes it for Latin-1
    const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    el("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  const MOST = 200; // rows shown before someone asks for all
  const compare = (x, y) => x === y ? 0 : x === null || x === undefined ? 1 : y === null || y === undefined ? -1 : x < y ? -1 : 1;

  // A table that sorts by a click on a column's name. columns: {title, key(row), show(row)}.
  function table(columns, rows, name) {
    let sorted = null, up = false, all = false;
    const body = el("tbody"), more = el("button", { type: "button", onclick: () => { all = true; draw(); } });
    const cell = shown => el("td", shown.length === 1 && typeof shown[0] === "string" && shown[0].length > 40 ? { class: "text" } : {}, ...shown);
    const draw = () => {
      const key = sorted === null ? null : columns[sorted].key;
      const known = key === null ? rows : rows.filter(r => key(r) !== null && key(r) !== undefined);
      const ordered = key === null ? rows : [...[...known].sort((a, b) => compare(key(a), key(b)) * (up ? 1 : -1)), ...rows.filter(r => !known.includes(r))];
      body.replaceChildren(...ordered.slice(0, all ? undefined : MOST).map(r => el("tr", {}, ...columns.map(c => cell([].concat(c.show(r)))))));
      more.hidden = all || rows.length <= MOST;
      more.textContent = `Show all ${rows.length} rows`;
    };
    const sort = i => {
      up = sorted === i ? !up : typeof columns[i].key(rows[0] ?? {}) === "string";
      sorted = i;
      heads.forEach((h, k) => k === i ? h.setAttribute("aria-sort", up ? "ascending" : "descending") : h.removeAttribute("aria-sort"));
      draw();
    };
    const heads = columns.map((c, i) => el("th", { scope: "col" }, el("button", { type: "button", onclick: () => sort(i) }, c.title)));
    draw();
    return [
      el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": name }, el("table", {}, el("thead", {}, el("tr", {}, ...heads)), body)),
      more,
      el("button", { type: "button", onclick: () => download(`${name}.csv`, [columns.map(c => c.title), ...rows.map(r => columns.map(c => c.key(r)))]) }, "Download as CSV"),
    ];
  }

  // What people call a concept: its title, or its folder's name. Addresses and files have the concept itself.
  let names = null;
  const called = concept => (names ??= new Map(ICONICITY.data.concepts.map((c, i) => [c, ICONICITY.data.names[i]]))).get(concept) ?? concept;
  // What people said of an image, from the labels that lay beside the results.
  const said = image => !blind.on && image.said?.length ? el("p", { class: "soft" }, `labelled ${image.said.map(([word, rater]) => rater ? `${word} by ${rater}` : word).join(", ")}`) : null;

  // Labels stay in this browser, for these images alone, a set for each rater; where the app serves this report, in the
  // study: scorer/app/site/served.js puts its own held() and keep() here.
  const LABELS = ["replica", "variant", "reinterpretation", "unrelated", "wrong concept"];
  const labels = {
    read(key, otherwise) { try { return JSON.parse(localStorage.getItem(key)) ?? otherwise; } catch { return otherwise; } },
    get store() { return `iconicity-labels-${ICONICITY.data.id}`; },
    get rater() { return labels.read("iconicity-rater", "me"); },
    set rater(name) { localStorage.setItem("iconicity-rater", JSON.stringify(name)); },
    key: l => JSON.stringify([l.rater, l.path]),
    held: () => labels.read(labels.store, {}),
    async keep(l) {
      const held = labels.held();
      if (l.label) held[labels.key(l)] = l;
      else delete held[labels.key(l)];
      localStorage.setItem(labels.store, JSON.stringify(held));
    },
    meaning: "replica: the reference again, hardly changed. variant: the reference with parts changed, moved or recoloured. reinterpretation: its subject, made anew. unrelated: something else. wrong concept: another known work than the one it stands under. Replica and variant count as copies.",
    hint: "Put labels.csv beside the results: the next report shows the labels, and 'iconicity validate labels' reads them.",
    all: () => Object.values(labels.held()),
    select(model, concept, file) {
      const path = `${model}/${file}`, now = () => labels.held()[labels.key({ rater: labels.rater, path })]?.label ?? "";
      const node = el("select", { "aria-label": `Label of ${path}`, onchange: async () => {
        node.setCustomValidity("");
        try { await labels.keep({ path, concept, label: node.value, rater: labels.rater, model }); }
        catch (e) { node.value = now(); node.setCustomValidity(e.message); node.reportValidity(); }
      } }, el("option", { value: "" }, "no label"), ...LABELS.map(l => el("option", { value: l }, l)));
      node.value = now();
      return node;
    },
    // as 'iconicity validate labels' reads it
    download: () => download("labels.csv", [["path", "concept", "label", "rater", "model"], ...labels.all().map(l => [l.path, l.concept, l.label, l.rater, l.model])]),
  };

  // Hidden scores stay hidden on every page of this report, in every tab, until they are asked for. What a page then
  // holds depends on no score: pages ask here before they show, sort by, or link to one.
  const blind = {
    held: null, // where a browser keeps nothing
    get store() { return `iconicity-blind-${ICONICITY.data.id}`; },
    get on() { return blind.held ?? labels.read(blind.store, false); },
    set on(hidden) {
      blind.held = hidden;
      try { localStorage.setItem(blind.store, JSON.stringify(hidden)); blind.held = null; } catch { /* held above */ }
    },
    // An order of images that is another one for each rater: by a hash of the rater's and the image's names (FNV-1a).
    shuffled(items) {
      const hash = text => {
        let h = 0x811c9dc5;
        for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 0x01000193);
        h = Math.imul(h ^ (h >>> 16), 0x85ebca6b); // names that differ in the last letter alone must not stay together
        h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
        return (h ^ (h >>> 16)) >>> 0;
      };
      const keyed = items.map(i => [hash(`${labels.rater}\n${ICONICITY.data.models[i.model].name}\n${i.file}`), i]);
      return keyed.sort(([a, i], [b, j]) => a - b || compare(i.file, j.file) || i.model - j.model).map(([, i]) => i);
    },
  };

  const BADGES = {
    "recognised": "its similarity reaches the CRA threshold", "not recognised": "its similarity is below the CRA threshold",
    "replica": "recognised, and half or more of its patches are reused",
    "transformed": "recognised, and fewer than half of its patches are reused",
    "nearer to another concept": "a reference of another concept is more similar", "could not be used": "the file is damaged or gone",
  };
  // No verdict where no threshold means anything for the encoders that ran.
  const verdict = image => ICONICITY.data.decides && image.recognised && image.vr !== null ? (image.vr >= ICONICITY.data.replica ? "replica" : "transformed") : null;
  function badges(image) {
    const names = [];
    if (blind.on) return image.ok ? [] : [el("span", { class: "badge", title: BADGES["could not be used"] }, "could not be used")];
    if (!image.ok) names.push("could not be used");
    else if (image.recognised !== null && ICONICITY.data.labels.cra) names.push(image.recognised ? "recognised" : "not recognised");
    if (image.ok && verdict(image)) names.push(verdict(image));
    if (image.misattributed) names.push("nearer to another concept");
    return names.map(n => el("span", { class: `badge score ${n.replaceAll(" ", "-")}`, title: BADGES[n] }, n));
  }

  return { data: null, ready: null, main: document.getElementById("main"), received, load, charts, el, fill, number, picture, address, remember, conceptLink, imageLink, called, said, download, table, compare, labels, blind, badges, verdict };
})();
