"use strict";
// The page of a study. What it shows is what /status says; all text enters the page as text, never as markup.
(() => {
  const $ = id => document.getElementById(id);
  const there = children => children.flat().filter(c => c !== null && c !== undefined && c !== false);
  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...there(children));
    return node;
  }
  const fill = (node, ...children) => node.replaceChildren(...there(children));
  const write = (node, text) => { if (node.textContent !== text) node.textContent = text; }; // said again only when new
  const ENDED = "The app has ended, or was started again. Open the address that it printed last.";

  async function ask(address, options = {}) {
    const answer = await fetch(address, options).catch(() => { throw new Error(ENDED); });
    const said = await answer.json();
    if (!answer.ok) throw new Error(answer.status === 403 ? ENDED : said.error);
    return said;
  }
  const post = (address, value) => ask(address, { method: "POST", body: JSON.stringify(value) });
  function tell(fault, node = $("fault")) {
    if (node.textContent === (fault?.message ?? "")) return; // said already
    node.hidden = !fault;
    node.textContent = fault?.message ?? "";
    if (fault) node.scrollIntoView({ block: "nearest" });
  }
  // What a button does, and what went wrong with it.
  const acting = (button, act) => async () => {
    tell(null);
    button.disabled = true;
    try { await act(); } catch (e) { tell(e); } finally { button.disabled = false; }
    await refresh();
  };
  const on = (id, act) => $(id).addEventListener("click", acting($(id), act));

  // ---------------------------------------------------------------- folders
  const KINDS = ["refs", "gen"], path = kind => $(kind).querySelector("input[type=text]"), said = kind => $(kind).querySelector("[role=status]");
  const chosen = () => ({ refs: path("refs").value, gen: path("gen").value, encoders: document.querySelector("input[name=encoders]:checked")?.value ?? "" });

  async function send(kind, files) { // [path below the chosen folder's parent, file]
    if (!files.length) return;
    tell(null);
    const room = await post("/given", { kind, name: files[0][0].split("/")[0] }), left = [];
    for (const [i, [name, file]] of files.entries()) {
      if (i % 50 === 0) said(kind).textContent = `Copying ${i + 1} of ${files.length} …`;
      if (name.split("/").some(part => part.startsWith("."))) continue;
      const answer = await fetch(`/given?${new URLSearchParams({ kind, path: name })}`, { method: "PUT", body: file }).catch(() => { throw new Error(ENDED); });
      if (answer.status === 400) left.push((await answer.json()).error);
      else if (!answer.ok) throw new Error((await answer.json()).error);
    }
    path(kind).value = room.at;
    const lost = left.length ? `; ${left.length} left out, first: ${left[0]}` : "";
    said(kind).textContent = `${files.length - left.length} of ${files.length} files copied into the study${lost}`;
  }
  const sending = (kind, files) => send(kind, files).catch(e => { said(kind).textContent = ""; tell(e); });

  async function entries(entry) { // of a folder that was dropped
    if (entry.isFile) return [[entry.fullPath.slice(1), await new Promise((good, bad) => entry.file(good, bad))]];
    const reader = entry.createReader(), all = [];
    for (;;) {
      const some = await new Promise((good, bad) => reader.readEntries(good, bad));
      if (!some.length) break;
      all.push(...some);
    }
    return (await Promise.all(all.map(entries))).flat();
  }
  function dropping(node, take) {
    node.addEventListener("dragover", e => { e.preventDefault(); node.classList.add("over"); });
    node.addEventListener("dragleave", () => node.classList.remove("over"));
    node.addEventListener("drop", e => { e.preventDefault(); node.classList.remove("over"); take(e.dataTransfer); });
  }
  for (const kind of KINDS) {
    const file = $(kind).querySelector("input[type=file]");
    file.addEventListener("change", async () => { await sending(kind, [...file.files].map(f => [f.webkitRelativePath, f])); file.value = ""; });
    dropping($(kind), async data => {
      const entry = data.items[0]?.webkitGetAsEntry?.();
      if (entry?.isDirectory) sending(kind, await entries(entry));
      else tell(new Error("Drop one folder, not a file."));
    });
    $(kind).querySelector(".browse").addEventListener("click", () => { browsing = kind; $("browse").showModal(); browse(path(kind).value); });
  }

  let browsing = "refs", here = null;
  async function browse(at) {
    try { here = await ask(`/folders?${new URLSearchParams({ at })}`); tell(null, $("browse-fault")); }
    catch (e) { if (at && !here) return browse(""); tell(e, $("browse-fault")); return; }
    $("at").textContent = here.at;
    fill($("below"), here.folders.map(([name, where]) => el("li", {}, el("button", { type: "button", onclick: () => browse(where) }, name))), here.folders.length ? null : el("li", { class: "soft" }, "no folder in here"));
  }
  $("above").addEventListener("click", () => browse(here.above));
  $("choose").addEventListener("click", () => { path(browsing).value = here.at; $("browse").close(); });
  $("close").addEventListener("click", () => $("browse").close());

  // ---------------------------------------------------------------- check and run
  on("check", async () => {
    const found = await post("/check", chosen());
    ready = found.ready;
    write($("found"), `References: ${found.references}.${found.ready ? "" : " No generated image belongs to one of these concepts."}`);
    fill($("models"), el("table", {}, el("thead", {}, el("tr", {}, ["model", "images", "concepts"].map(t => el("th", { scope: "col" }, t)))), el("tbody", {}, found.models.map(m => el("tr", {}, [m.model, m.images, m.concepts].map(v => el("td", {}, String(v))))))));
    fill($("notes"), found.notes.map(n => el("li", {}, n)));
    $("h-found").scrollIntoView({ block: "nearest" });
  });
  on("start", () => post("/start", { ...chosen(), prune: $("prune").checked }));
  let stops = 0, ready = false, sentences = null;
  on("stop", () => post("/stop", { at_once: stops++ > 0 }));

  const ENCODERS = {
    "offline-copy": "Finds copies, also repainted ones. Nothing is downloaded.", offline: "Finds pasted patches. For trying things out. Nothing is downloaded.",
    copy: "Finds copies, also repainted ones. Downloads CLIP.", paper: "Numbers to compare with the paper's. Downloads CLIP and DINOv3.",
  };
  function encoders(now) {
    const order = Object.keys(ENCODERS), all = [...now.encoders].sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
    const first = now.choice.encoders ?? all.find(e => e.there)?.name;
    $("encoders").append(...all.map(e => el("label", {}, el("input", { type: "radio", name: "encoders", value: e.name, checked: e.name === first, disabled: !e.there }), ` ${e.name}`, el("small", {}, ENCODERS[e.name], e.there ? null : " Its package is not installed: see Install in the README."))));
    for (const kind of KINDS) path(kind).value = now.choice[kind] ?? "";
  }

  function linked(line) { // the image that a sentence names leads to its evidence
    const [, before, model, file, after] = line.match(/^(What to look at first: )([^/]+)\/(.+?)(, (?:of whose|the image) .*)$/) ?? [];
    return model ? [before, el("a", { href: `/report/#/image/${encodeURIComponent(model)}/${encodeURIComponent(file)}` }, `${model}/${file}`), after] : [line];
  }
  const STATES = { new: "Start", stopped: "Go on", failed: "Try again", ended: "Go on", done: "Compare again: only what is new is computed", running: "Start" };
  function run(now) {
    const running = now.state === "running", step = now.step;
    if (!running) stops = 0;
    $("s-run").hidden = now.state === "new" && !ready;
    $("start").hidden = running;
    write($("start"), STATES[now.state]);
    $("stop").hidden = !running;
    write($("stop"), stops ? "Stop at once" : "Stop");
    $("prune-label").hidden = running || now.state === "new";
    for (const node of document.querySelectorAll("#check, #refs input, #gen input, #encoders input, .browse")) if (running) { node.disabled = true; node.dataset.held = ""; } else if ("held" in node.dataset) { node.disabled = node.type === "radio" && !now.encoders.find(e => e.name === node.value).there; delete node.dataset.held; }
    $("progress").hidden = !running;
    if (step) $("progress").value = step.done / step.of; else $("progress").removeAttribute("value");
    write($("step"), !running ? "" : stops ? "Stopping …" : step ? `Step ${step.stage} of 3, ${step.what}: ${step.done} of ${step.of}${step.left ? `, ${step.left}` : ""}` : "Starting: the networks are loaded …");
    $("said").className = now.state;
    if (sentences !== now.said.join("\n")) { sentences = now.said.join("\n"); fill($("said"), now.said.map(line => el("p", {}, ...linked(line)))); }
    write($("log"), now.log.join("\n"));
  }

  // ---------------------------------------------------------------- one picture, tables, figures
  async function search(file) {
    const status = $("picture").querySelector("[role=status]");
    tell(null);
    status.textContent = "Looking it up; this takes some seconds …";
    try { location.href = (await ask(`/search?${new URLSearchParams({ name: file.name })}`, { method: "PUT", body: file })).page; }
    catch (e) { tell(e); }
    status.textContent = "";
  }
  const one = $("picture").querySelector("input");
  one.addEventListener("change", () => { if (one.files.length) search(one.files[0]); one.value = ""; });
  dropping($("picture"), data => { if (data.files.length) search(data.files[0]); });

  const TITLES = { summary: "Table of all models", bars: "Bars", recognition: "Recognised, or new?", curves: "VR over thresholds", labels: "How well do the scores tell copies from other images?" };
  const made = {};
  function figure(item) { // its button, links and picture stay where they are while nothing changes
    const text = el("pre", { hidden: true, tabindex: "0" }), notes = el("ul", { class: "notes" }), name = `Make: ${TITLES[item.name]}`, button = el("button", { type: "button" }, name), files = el("span"), image = el("p"), fault = el("p", { role: "alert", hidden: true });
    button.addEventListener("click", acting(button, async () => {
      button.textContent = "Making …";
      try { const got = await post("/make", { name: item.name }); show(got.text.split("\n")); made[item.name].turn += 1; tell(null, fault); }
      catch (e) { tell(e, fault); }
      finally { button.textContent = name; }
    }));
    const show = lines => { // a table, and notes below it
      const note = /^note: /, rows = lines.filter(l => !note.test(l)).join("\n").trim();
      text.textContent = rows;
      text.hidden = !rows;
      fill(notes, lines.filter(l => note.test(l)).map(l => el("li", {}, l.replace(note, ""))));
    };
    $(item.name === "labels" ? "made-labels" : "made").append(el("div", { class: "made" }, el("h3", {}, TITLES[item.name]), el("p", {}, item.caption), button, " ", fault, files, image, text, notes));
    return made[item.name] = { files, image, turn: 0, shown: null };
  }
  function figures(now) {
    for (const item of now.made) {
      const held = made[item.name] ?? figure(item), state = `${held.turn} ${item.files}`;
      if (held.shown === state) continue;
      held.shown = state;
      fill(held.files, item.files.map(f => el("a", { href: `/tables/${f}`, class: "button", download: f }, f.endsWith(".txt") ? "Caption" : f.split(".").pop().toUpperCase())));
      fill(held.image, item.files.filter(f => f.endsWith(".png")).map(f => el("img", { src: `/tables/${f}?${held.turn}`, alt: item.caption })));
    }
  }

  let first = true, searched = "";
  async function refresh() {
    let now;
    try { now = await ask("/status"); } catch (e) { tell(e); return; }
    if ($("fault").textContent === ENDED) tell(null);
    if (first) {
      encoders(now);
      $("s-choose").open = !now.report;
      if (now.report) write($("found"), "Compared before: see below. To check folders again, open step 1.");
      first = false;
    }
    write($("folder"), now.folder);
    run(now);
    $("after").hidden = $("to-report").hidden = !now.report || (now.state === "running" && now.step?.stage === 3); // it is being written again
    figures(now);
    if (searched !== String(now.searched)) { searched = String(now.searched); fill($("searched"), now.searched.map(f => el("li", {}, el("a", { href: `/searched/${encodeURIComponent(f)}` }, f.slice(0, -5))))); }
    $("made-labels").hidden = !now.labels;
    write($("labels"), now.labels ? `${now.labels} ${now.labels === 1 ? "label" : "labels"} saved` : "");
  }
  const watch = async () => { if (!document.hidden) await refresh(); setTimeout(watch, 1000); };
  watch();
})();
