"use strict";
// The report as the app serves it: labels are kept in the study, and a link leads back.
(() => {
  const { labels, blind, load, el } = ICONICITY;
  let held = {};
  async function ask(label) {
    const sent = label ? { method: "POST", body: JSON.stringify(label) } : {};
    const answer = await fetch("/labels", sent).catch(() => { throw new Error("Not saved: the app has ended. Start it again."); });
    const said = await answer.json();
    if (!answer.ok) throw new Error(`Not saved: ${said.error}`);
    held = Object.fromEntries(said.labels.map(l => [labels.key(l), l]));
  }
  labels.held = () => held;
  labels.keep = ask;
  labels.hint = "Each label is saved in the study at once.";
  const said = ICONICITY.said, path = image => `${ICONICITY.data.models[image.model].name}/${image.file}`;
  ICONICITY.said = image => said({ said: labels.all().filter(l => l.path === path(image)).map(l => [l.label, l.rater]) });
  ICONICITY.ready = ask();
  window.addEventListener("focus", () => ask().catch(() => {})); // another page may have labelled
  if (location.search === "?hidden") load("overview").then(value => { ICONICITY.data = value; blind.on = true; });
  document.querySelector("header").prepend(el("a", { href: "/" }, "← Your study"));
})();
