"use strict";
// Which page an address names, the search for a concept, and keys.
(() => {
  const { el, fill, main, load, address, conceptLink, blind } = ICONICITY;
  let turn = 0;
  async function route() {
    document.getElementById("surfaced").hidden = !ICONICITY.data.surfaced || blind.on;
    const mine = ++turn, { path: [kind, ...rest] } = address();
    ICONICITY.keys.leave?.();
    ICONICITY.keys = {};
    try {
      if (kind === "concept") await ICONICITY.conceptPage(rest[0]);
      else if (kind === "images") await ICONICITY.imagesPage();
      else if (kind === "surfaced") await ICONICITY.surfacedPage();
      else if (kind === "image") await ICONICITY.imagePage(rest[0], rest[1]);
      else await ICONICITY.modelsPage();
      if (mine === turn) window.scrollTo(0, 0);
    } catch (e) { fill(main, el("h1", {}, "This part cannot be shown"), el("p", {}, e.message)); }
  }

  const help = document.getElementById("keys"), find = document.getElementById("find");
  document.getElementById("show-keys").addEventListener("click", () => help.showModal());
  document.getElementById("close-keys").addEventListener("click", () => help.close());
  document.addEventListener("keydown", e => {
    if (e.target.closest("input,select,textarea,dialog") || e.ctrlKey || e.metaKey || e.altKey) return;
    const own = { "/": () => find.focus(), "?": () => help.showModal(), h: () => { location.hash = "#/"; }, a: () => { location.hash = "#/images"; } };
    const act = ICONICITY.keys[e.key] ?? own[e.key];
    if (act) { e.preventDefault(); act(); }
  });

  ICONICITY.keys = {};
  Promise.all([load("overview"), ICONICITY.ready]).then(([value]) => {
    ICONICITY.data = value;
    const hide = document.getElementById("blind");
    hide.checked = blind.on;
    hide.addEventListener("change", () => {
      blind.on = hide.checked;
      ICONICITY.walk = ICONICITY.list = null; // a list that was chosen with the scores in sight
      route();
    });
    window.addEventListener("storage", e => { if (e.key === blind.store && hide.checked !== blind.on) { hide.checked = blind.on; ICONICITY.walk = ICONICITY.list = null; route(); } });
    document.getElementById("names").append(...value.concepts.map(c => el("option", { value: c, label: ICONICITY.called(c) })));
    find.addEventListener("change", () => { if (value.concepts.includes(find.value)) location.hash = conceptLink(find.value); });
    window.addEventListener("hashchange", route);
    route();
  }, e => fill(main, el("p", {}, e.message)));
})();
