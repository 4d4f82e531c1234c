"use strict";
// The first page: models, thresholds, concepts, and what the numbers rest on.
ICONICITY.modelsPage = async () => {
  const { el, fill, number, table, load, address, remember, conceptLink, called, main, data, blind } = ICONICITY;
  if (blind.on) {
    remember({}); // thresholds in the address were chosen with the scores in sight
    fill(main, el("h1", {}, "Scores are hidden"),
      el("p", {}, "Images stand in an order that depends on no score. Open a concept, or ", el("a", { href: "#/images" }, "look through all images"), "."),
      el("h2", {}, "Concepts"), el("ul", {}, ...data.concepts.map(c => el("li", {}, el("a", { href: conceptLink(c) }, called(c))))));
    return;
  }
  // Those that move with the sliders come first; the others are known at the results' own and at calibrated thresholds alone.
  const OWN = ["cra", "vr_recognised", "vi_recognised", "crt", "vr_all", "vi_all"];
  const named = Object.fromEntries(data.measures);
  const MEASURES = OWN.map(key => [key, named[key]]);
  const MORE = data.measures.filter(([key]) => !OWN.includes(key) && [...data.models, ...data.calibrated].some(m => m[key] && m[key][0] !== null));
  const { query } = address();
  const hundredths = (name, given) => given === null ? null : query.has(name) ? Math.min(100, Math.max(0, Math.round(Number(query.get(name)) * 100))) : Math.round(given * 100);
  const tau = { cra: hundredths("tau_cra", data.start.cra), vr: hundredths("tau_vr", data.start.vr) };
  let moved = query.has("tau_cra") || query.has("tau_vr"), crt = moved ? await load("crt") : null;

  const at = (cra, vr) => [cra === null ? null : `a CRA threshold of ${cra}`, vr === null ? null : `a VR threshold of ${vr}`].filter(Boolean).join(" and ");
  const STAY = ` The sliders move this table and the curves alone: concepts, lists and images stay at ${data.decided ? "the thresholds that decide" : "the results' own thresholds"}.`;
  const strict = data.labels.vr === "VR strict";
  function spelt([metric, reached]) { // "VR threshold: 0.296 for 1 reference, 0.307 for 2."
    const of = n => `${n} ${n === 1 ? "reference" : "references"}`, first = reached[0], last = reached[reached.length - 1];
    if (!reached.length) return "";
    const words = reached.every(r => r[1] === first[1]) ? number(first[1]) : reached.length > 6 ? `${number(first[1])} for ${of(first[0])} to ${number(last[1])} for ${last[0]}`
      : reached.map(([n, t], i) => `${number(t)} for ${i ? n : of(n)}`).join(", ");
    return ` ${metric.toUpperCase()} threshold: ${words}.`;
  }
  const holder = el("div"), said = el("p", { class: "soft", role: "status" });
  const chart = (label) => el("div", { class: "chart", role: "img", "aria-label": label });
  const curve = { cra: chart("CRA at each threshold, a line a model"), vr: chart("VR of all images at each threshold, a line a model") };

  // At other thresholds than the results' own: macro means from the tables of sweeps.
  function swept(model, key) {
    const held = data.curves[model.name];
    if (!held) return null;
    if (key === "cra") return tau.cra === null ? null : held.cra[tau.cra];
    if (tau.vr === null) return null;
    const vr = held.vr_all[tau.vr];
    if (key === "vr_all") return vr;
    if (key === "vi_all") return vr === null ? null : 1 - vr;
    return key === "crt" && tau.cra !== null ? crt[model.name][tau.cra][tau.vr] : null;
  }
  const interval = (value, low, high) => [number(value), value === null || low === null ? "" : el("small", {}, `${number(low)} to ${number(high)}`)];
  const show = ([value, low, high, n]) => [...interval(value, low, high), value === null ? "" : el("small", {}, `n ${n}`)];
  function draw() {
    const given = !moved, decides = c => /cal\.|strict|decided/.test(c.title);
    const own = MEASURES.filter(([key]) => given || !key.endsWith("recognised")).map(([key, title]) => ({ title, key: m => given ? m[key][0] : swept(m, key), show: m => given ? show(m[key]) : number(swept(m, key)) }));
    const more = (given ? MORE : []).map(([key, title]) => ({ title, key: m => m[key]?.[0] ?? null, show: m => m[key] ? show(m[key]) : "" }));
    const columns = [
      { title: "model", key: m => m.name, show: m => m.name },
      ...(given && data.calibrated.length ? [{ title: "thresholds", key: m => m.tau, show: m => m.tau }] : []),
      { title: "images", key: m => m.images, show: m => String(m.images) },
      { title: "concepts", key: m => m.concepts, show: m => String(m.concepts) },
      ...(data.decided ? [...more.filter(decides), ...own, ...more.filter(c => !decides(c))] : [...own, ...more]), // what decides comes first
    ];
    const rows = given ? [...data.models.map(m => ({ ...m, tau: "given" })), ...data.calibrated.map(m => ({ ...m, tau: "calibrated" }))] : data.models;
    fill(holder, ...table(columns, rows, "models"));
    said.textContent = given
      ? `Means over concepts ${data.decided ? "at the thresholds that decide (columns with cal., strict or decided), the others " : ""}at ${at(data.tau.cra, data.tau.vr)}, the results' own thresholds, with 95 % intervals; n is the number of concepts.${STAY}`
      : `Means over concepts at ${at(...[tau.cra, tau.vr].map(t => t === null ? null : (t / 100).toFixed(2)))}; 'iconicity summary' gives their intervals.${STAY}`;
    if (tau.cra !== null) CHARTS.curves(curve.cra, data, "cra", held => held.cra, tau.cra / 100);
    if (tau.vr !== null) CHARTS.curves(curve.vr, data, "vr", held => held.vr_all, tau.vr / 100);
  }
  function slider(metric) {
    const out = el("output", {}, (tau[metric] / 100).toFixed(2));
    const move = async e => {
      tau[metric] = Number(e.target.value);
      out.textContent = (tau[metric] / 100).toFixed(2);
      moved = true;
      crt ??= await load("crt");
      remember({ tau_cra: tau.cra === null ? null : (tau.cra / 100).toFixed(2), tau_vr: tau.vr === null ? null : (tau.vr / 100).toFixed(2) });
      draw();
    };
    return el("label", {}, `${metric.toUpperCase()} threshold`, el("input", { type: "range", min: 0, max: 100, step: 1, value: tau[metric], id: `tau-${metric}`, oninput: move }), out);
  }
  const back = el("button", { type: "button", onclick: () => { remember({}); ICONICITY.modelsPage(); } }, data.decided ? "The thresholds that decide" : "The results' own");

  const points = data.points.map(p => ({ model: data.models[p[0]].name, concept: data.concepts[p[1]], images: p[2], recognised: p[3], cra: p[4], vr: p[5], vi: p[6], crt: p[8] }));
  const concepts = el("div"), text = el("input", { id: "text", type: "search", oninput: () => list() });
  const model = el("select", { id: "model", onchange: () => list() }, el("option", { value: "" }, "all models"), ...data.models.map(m => el("option", { value: m.name }, m.name)));
  const only = el("input", { type: "checkbox", id: "recognised-only", onchange: () => list() });
  function list() {
    const rows = points.filter(r => (!model.value || r.model === model.value) && (!only.checked || r.recognised > 0) && `${r.concept} ${called(r.concept)}`.toLowerCase().includes(text.value.toLowerCase()));
    fill(concepts, ...table([
      { title: "concept", key: r => r.concept, show: r => el("a", { href: conceptLink(r.concept) }, called(r.concept)) },
      { title: "model", key: r => r.model, show: r => r.model },
      { title: "images", key: r => r.images, show: r => String(r.images) },
      { title: "recognised", key: r => r.recognised, show: r => String(r.recognised) },
      ...[[data.labels.cra ?? "CRA", "cra"], [data.labels.vr ?? "VR", "vr"], ["VI rec.", "vi"], ["CRT", "crt"]].map(([title, k]) => ({ title, key: r => r[k], show: r => number(r[k]) })),
    ], rows, "concepts"));
  }

  const dots = chart("Recognition against independence, a dot a concept; the table of concepts below has the same numbers");
  fill(main,
    el("h1", {}, data.decides ? "Recognised, and copied or transformed?" : "How similar are the images to their references?"),
    el("p", {}, "CRA: share of images whose similarity to a reference reaches the CRA threshold. VR: share of patches whose similarity reaches the VR threshold. VI = 1 − VR. CRT = CRA × VI of the recognised images. Open a concept to see which patch came from where, or ", el("a", { href: "#/images" }, "look through all images"), "."),
    data.decided ? el("p", { class: "decided" }, `${data.decided[0].toUpperCase()}${data.decided.slice(1)}.${Object.entries(data.reached).map(spelt).join("")}${strict ? " VR strict also asks that a patch is nearer to its references than to other works (CSLS)." : ""}`) : null,
    ...(data.decides ? [] : [el("h2", {}, "No verdict"), el("p", {}, "At these thresholds nothing is called recognised, copied or transformed: they mean nothing for the encoders that ran. The numbers below say how many images and patches reach them, and no more."),
      el("ul", { class: "notes" }, ...Object.values(data.judged).filter(j => !j.holds).map(j => el("li", {}, j.sentence)))]),
    ...(data.decides && data.examples.replica.length + data.examples.transformed.length ? [el("p", {}, `Recognised: the similarity reaches the CRA threshold. Replica: recognised, and at least ${data.replica * 100} % of the patches are reused. Transformed: recognised, and fewer are.`)] : []),
    ...examples("replica", "Recognised and copied"), ...examples("transformed", "Recognised and transformed"), ...examples("similar", "Most similar to a reference"),
    el("h2", {}, "Models"), el("div", { class: "bar" }, tau.cra === null ? null : slider("cra"), tau.vr === null ? null : slider("vr"), back), said, holder,
    el("h2", {}, "Recognition against independence"),
    el("p", { class: "soft" }, "One dot is a concept of a model", data.decided ? ", at the thresholds that decide" : null, "; dotted lines join equal CRT. Right: recognised. Bottom: copied. Click a dot to open its concept."), dots,
    el("h2", {}, "Concepts"), el("div", { class: "bar" }, el("label", {}, "model", model), el("label", {}, "name holds", text), el("label", {}, only, data.decides ? "something recognised" : "an image reaches the CRA threshold")), concepts,
    ...(data.said ? people() : []),
    el("h2", {}, "Thresholds"), el("div", { class: "charts" }, curve.cra, tau.vr === null ? null : curve.vr),
    ...(data.thresholds ? calibration() : []),
    el("h2", {}, "What the numbers rest on"),
    el("ul", { class: "notes" }, ...data.notes.map(n => el("li", {}, n)), ...Object.entries(data.facts).map(([k, v]) => el("li", {}, `${k}: ${v}`))));
  draw();
  list();
  CHARTS.scatter(dots, data, c => { location.hash = conceptLink(data.concepts[c]); });
  if (data.thresholds) histograms();

  function examples(kind, title) {
    if (!data.examples[kind]?.length) return [];
    const grid = el("ul", { class: "gallery" });
    Promise.all(data.examples[kind].map(async ([c, k]) => ICONICITY.card({ c, k, ...(await load(`concept_${c}`)).images[k] }, false))).then(cards => fill(grid, ...cards));
    return [el("h2", {}, title), grid, el("p", {}, kind === "similar" ? el("a", { href: "#/images" }, "all images, by similarity") : el("a", { href: `#/images?show=${kind}` }, "all of these"))];
  }
  // Does a score tell copies apart, by the labels that lay beside the results?
  function people() {
    const columns = [
      { title: "score", key: r => r.score, show: r => r.score }, { title: "AUROC within concepts", key: r => r.auroc, show: r => interval(r.auroc, r.auroc_low, r.auroc_high) },
      { title: "concepts with both labels", key: r => r.concepts, show: r => String(r.concepts) }, { title: "verdict", key: r => r.verdict, show: r => r.verdict },
    ];
    return [
      el("h2", {}, "Scores against labels"),
      el("p", {}, "How often a score is higher for an image that people call a copy than for another image of the same concept: 1 is always, 0.5 is chance. 'iconicity validate labels' shows more."),
      ...table(columns, data.said.rows, "labels"), el("ul", { class: "notes" }, ...data.said.notes.map(n => el("li", {}, n))),
    ];
  }
  function calibration() {
    const ends = (r, name) => interval(r[name], r[`${name}_low`], r[`${name}_high`]);
    const columns = [
      { title: "metric", key: r => r.metric, show: r => r.metric.toUpperCase() }, { title: "references", key: r => r.references, show: r => String(r.references) },
      { title: "calibrated threshold", key: r => r.tau, show: r => r.tau === null ? "–" : r.tau.toFixed(4) },
      { title: "passes in the other half", key: r => r.rate_check, show: r => ends(r, "rate_check") },
      { title: "own threshold", key: r => r.tau_given, show: r => r.tau_given === null ? "–" : String(r.tau_given) },
      { title: "passes at own threshold", key: r => r.rate_given, show: r => ends(r, "rate_given") },
      { title: "status", key: r => r.status, show: r => r.status },
    ];
    return [
      el("h2", {}, "Unrelated references"),
      el("p", {}, `How similar images are to references of concepts they have nothing to do with. Calibrated thresholds let ${data.alpha * 100} % of those pass, for each number of references; they are found on one half of the concepts and checked on the other.`),
      ...table(columns, data.thresholds, "thresholds"),
      el("div", { class: "charts", id: "nulls" }),
    ];
  }
  function histograms() {
    fill(document.getElementById("nulls"), ...data.nulls.map(n => {
      const what = `${n.metric === "cra" ? "similarity of images" : "similarity of patches"} (${n.metric === "cra" ? data.encoders.clip : data.encoders.dino}), ${n.references} ${n.references === 1 ? "reference" : "references"}`;
      const node = chart(`Histogram: ${what}, own concept and unrelated concepts`);
      const row = data.thresholds.find(t => t.metric === n.metric && t.references === n.references);
      requestAnimationFrame(() => CHARTS.histogram(node, n, what, { "own threshold": data.tau[n.metric], "calibrated": row?.tau ?? null }));
      return node;
    }));
  }
};
