// Returns what keeps people out of this page, one sentence each.
(() => {
  const bad = [];
  const shown = (el) => {
    const s = getComputedStyle(el), r = el.getBoundingClientRect();
    return s.visibility !== "hidden" && s.display !== "none" && r.width > 1 && r.height > 1 && el.checkVisibility();
  };
  const at = (el) => el.outerHTML.replace(/\s+/g, " ").slice(0, 140);
  const name = (el) => (el.getAttribute("aria-label") || "") + (el.getAttribute("aria-labelledby") || "") + (el.textContent || "").trim() + (el.title || "");

  if (!document.documentElement.lang) bad.push("the page has no language");
  if (!document.title) bad.push("the page has no title");
  for (const [what, n] of [["main", 1], ["h1", 1]]) {
    const got = document.querySelectorAll(what).length;
    if (got !== n) bad.push(`${got} times <${what}>, want ${n}`);
  }
  let level = 0;
  for (const h of document.querySelectorAll("h1, h2, h3, h4")) {
    if (!h.checkVisibility()) continue;
    const l = Number(h.nodeName[1]);
    if (l > level + 1) bad.push(`a heading of level ${l} follows one of level ${level}: ${at(h)}`);
    level = l;
  }
  const ids = new Set();
  for (const el of document.querySelectorAll("[id]")) {
    if (ids.has(el.id)) bad.push(`the id ${el.id} is there twice`);
    ids.add(el.id);
  }
  for (const el of document.querySelectorAll("[aria-labelledby], [aria-controls]")) {
    for (const id of (el.getAttribute("aria-labelledby") || el.getAttribute("aria-controls")).split(" ")) {
      if (!document.getElementById(id)) bad.push(`nothing has the id ${id} that is named by ${at(el)}`);
    }
  }
  for (const el of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
    if (el.getAttribute("aria-hidden") === "true") continue;
    const label = [...(el.labels || [])].map((l) => l.textContent.trim()).join("") || el.getAttribute("aria-label");
    if (!label) bad.push(`a field without a label: ${at(el)}`);
  }
  for (const el of document.querySelectorAll("a, button, summary")) if (!name(el).trim()) bad.push(`a link or button without a name: ${at(el)}`);
  for (const el of document.querySelectorAll("table")) if (!el.caption) bad.push(`a table without a caption: ${at(el)}`);
  for (const el of document.querySelectorAll("th")) if (!el.scope) bad.push(`a heading cell without a scope: ${at(el)}`);
  for (const el of document.querySelectorAll("svg")) if (el.getAttribute("aria-hidden") !== "true" && !el.getAttribute("aria-label")) bad.push(`a picture that says nothing: ${at(el)}`);
  for (const el of document.querySelectorAll("ul, ol")) for (const c of el.children) if (c.nodeName !== "LI") bad.push(`a list holds <${c.nodeName}>: ${at(el)}`);

  // Contrast of all text that is shown: WCAG 2.2, 1.4.3.
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const seen = new Map();
  const rgba = (css) => {
    if (!seen.has(css)) {
      probe.clearRect(0, 0, 1, 1); probe.fillStyle = css; probe.fillRect(0, 0, 1, 1);
      const d = probe.getImageData(0, 0, 1, 1).data;
      seen.set(css, [d[0], d[1], d[2], d[3] / 255]);
    }
    return seen.get(css);
  };
  const over = (a, b) => { const k = a[3]; return [0, 1, 2].map((i) => a[i] * k + b[i] * (1 - k)).concat(1); };
  const light = (c) => { const f = (v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
  const ground = (el) => {
    const layers = [];
    for (let e = el; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      if (c[3] > 0) layers.push(c);
      if (c[3] === 1) break;
    }
    return layers.reverse().reduce((below, c) => over(c, below), [255, 255, 255, 1]);
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const told = new Set();
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const el = n.parentElement;
    if (!n.data.trim() || !shown(el) || el.closest(".unseen, .skip, dialog:not([open]), noscript, option, svg")) continue;
    const s = getComputedStyle(el), g = ground(el), c = over(rgba(s.color), g);
    const [x, y] = [light(c), light(g)].sort((a, b) => b - a);
    const ratio = (x + 0.05) / (y + 0.05);
    const px = parseFloat(s.fontSize), large = px >= 24 || (px >= 18.66 && Number(s.fontWeight) >= 700);
    const key = s.color + g;
    if (ratio < (large ? 3 : 4.5) && !told.has(key)) { told.add(key); bad.push(`contrast ${ratio.toFixed(2)} of "${n.data.trim().slice(0, 40)}" in ${at(el)}`); }
  }
  return bad;
})()
