"use strict";
// Charts by Plotly. Names are data: Plotly would read tags in them, so that they are escaped first.
const CHARTS = (() => {
  const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c510a"]; // Okabe & Ito
  const MARKS = ["circle", "square", "diamond", "cross", "triangle-up", "x", "star", "hexagon"];
  const safe = text => String(text).replace(/[&<>]/g, c => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" }[c]));

  function layout(x, y) {
    const css = getComputedStyle(document.documentElement);
    const ink = css.getPropertyValue("--ink"), line = css.getPropertyValue("--line");
    const axis = title => ({ title: { text: title }, gridcolor: line, zeroline: false, linecolor: line });
    return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, family: "system-ui, sans-serif" },
      margin: { t: 10, r: 10, b: 50, l: 55 }, xaxis: axis(x), yaxis: axis(y), legend: { orientation: "h", y: -0.2 }, hovermode: "closest" };
  }
  const OPTIONS = { displaylogo: false, responsive: true, displayModeBar: false };

  // Recognition against independence: a dot a concept and model, lines where CRA x VI is constant.
  async function scatter(node, overview, open) {
    await ICONICITY.charts();
    const traces = [0.1, 0.25, 0.5, 0.75].map(crt => {
      const x = Array.from({ length: 60 }, (_, i) => crt + (1 - crt) * i / 59);
      return { x, y: x.map(v => crt / v), mode: "lines", line: { dash: "dot", width: 1, color: "#8a8a92" }, hoverinfo: "skip", showlegend: false };
    });
    overview.models.forEach((model, m) => {
      const mine = overview.points.filter(p => p[0] === m && p[4] !== null && p[8] !== null);
      traces.push({ x: mine.map(p => p[4]), y: mine.map(p => p[6] ?? p[7]), mode: "markers", name: safe(model.name), customdata: mine.map(p => p[1]),
        text: mine.map(p => safe(overview.names[p[1]])), hovertemplate: "%{text}<br>CRA %{x:.3f}, VI %{y:.3f}<extra>%{fullData.name}</extra>",
        marker: { color: COLOURS[m % COLOURS.length], symbol: MARKS[m % MARKS.length], size: 9, opacity: 0.8 } });
    });
    const shape = layout("CRA (recognition)", "VI (independence)");
    shape.xaxis.range = shape.yaxis.range = [-0.03, 1.03];
    Plotly.newPlot(node, traces, shape, OPTIONS).then(() => node.on("plotly_click", e => e.points[0].customdata !== undefined && open(e.points[0].customdata)));
  }

  // A measure along one threshold, a line a model.
  async function curves(node, overview, along, value, tau) {
    await ICONICITY.charts();
    const x = Array.from({ length: 101 }, (_, i) => i / 100);
    const traces = overview.models.map((model, m) => ({ x, y: value(overview.curves[model.name] ?? { cra: [], vr_all: [] }), mode: "lines", name: safe(model.name), hovertemplate: "threshold %{x:.2f}: %{y:.3f}<extra>%{fullData.name}</extra>",
      line: { color: COLOURS[m % COLOURS.length], dash: ["solid", "dash", "dot", "dashdot"][Math.floor(m / COLOURS.length) % 4] } }));
    const shape = layout(`${along.toUpperCase()} threshold`, along === "cra" ? "CRA" : "VR, all images");
    shape.yaxis.range = [-0.02, 1.02];
    shape.showlegend = false; // the hover names a line, and the chart above has the colours
    shape.shapes = [{ type: "line", x0: tau, x1: tau, y0: 0, y1: 1, yref: "paper", line: { dash: "dot", color: "#8a8a92" } }];
    Plotly.react(node, traces, shape, OPTIONS);
  }

  // Own similarities beside those to unrelated concepts, with both thresholds.
  async function histogram(node, part, what, taus) {
    await ICONICITY.charts();
    const first = part.low.findIndex((_, i) => part.own[i] > 0.0005 || part.null[i] > 0.0005);
    const bars = (y, name, color, pattern) => ({ x: part.low.slice(first).map(v => v + 0.01), y: y.slice(first), type: "bar", name, opacity: 0.65, marker: { color, pattern: { shape: pattern } }, hovertemplate: "%{x:.2f}: %{y:.3f}<extra>%{fullData.name}</extra>" });
    const shape = layout(what, "share");
    shape.barmode = "overlay";
    shape.bargap = 0.05;
    const lines = Object.entries(taus).filter(([, tau]) => tau !== null);
    shape.shapes = lines.map(([name, x]) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { dash: name === "calibrated" ? "solid" : "dot", color: "#8a8a92", width: 2 } }));
    shape.annotations = lines.map(([name, x], i) => ({ x, y: 1 - 0.09 * i, yref: "paper", text: name, showarrow: false, xanchor: "left", xshift: 3 }));
    Plotly.newPlot(node, [bars(part.null, "unrelated concepts", COLOURS[0], "/"), bars(part.own, "own concept", COLOURS[1], "")], shape, OPTIONS);
  }
  return { scatter, curves, histogram };
})();
