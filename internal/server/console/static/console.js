// What moves in the console: live trees and rows, shortcuts, colours. Every
// page works without it; nothing here makes HTML from data, the server does.
(() => {
  "use strict";
  const $ = (s, root = document) => root.querySelector(s);
  const $$ = (s, root = document) => [...root.querySelectorAll(s)];
  const say = (text) => { const el = $("#say"); if (el) el.textContent = text; };

  // morph makes the children of a node those of another, keeping every element
  // that has the same id (or place and name), so that focus, selection and
  // scrolling stay where they are. onNew is told of elements that are new.
  function morph(to, from, onNew) {
    const byId = new Map();
    for (const c of to.children) if (c.id) byId.set(c.id, c);
    let at = to.firstChild;
    for (const want of [...from.childNodes]) {
      let have = null;
      if (want.id && byId.has(want.id)) have = byId.get(want.id);
      else if (at && !at.id && !want.id && at.nodeType === want.nodeType && at.nodeName === want.nodeName) have = at;
      if (!have) {
        const fresh = document.importNode(want, true);
        to.insertBefore(fresh, at);
        if (onNew && fresh.nodeType === 1) onNew(fresh);
        continue;
      }
      if (have === at) at = at.nextSibling; else to.insertBefore(have, at);
      if (have.nodeType !== 1) { if (have.data !== want.data) have.data = want.data; continue; }
      attributes(have, want);
      if (!have.isEqualNode(want)) morph(have, want, onNew);
    }
    while (at) { const next = at.nextSibling; at.remove(); at = next; }
  }
  function attributes(have, want) {
    for (const a of want.attributes) if (have.getAttribute(a.name) !== a.value) have.setAttribute(a.name, a.value);
    for (const a of [...have.attributes]) {
      if (!want.hasAttribute(a.name) && !(a.name === "open" && have.nodeName === "DETAILS")) have.removeAttribute(a.name);
    }
  }
  const parse = (html) => new DOMParser().parseFromString(html, "text/html").body;

  // Times: "12 s ago" goes on counting, by the server's clock.
  const drift = Date.now() - Number($("meta[name=server-now]")?.content || Date.now());
  function ago(ms) {
    const s = Math.floor((Date.now() - drift - ms) / 1000);
    if (s < 0) return "just now";
    if (s < 60) return s + " s ago";
    if (s < 3600) return Math.floor(s / 60) + " min ago";
    if (s < 172800) return Math.floor(s / 3600) + " h ago";
    return Math.floor(s / 86400) + " d ago";
  }
  setInterval(() => {
    for (const t of $$("time.ago")) {
      const text = ago(Number(t.dataset.ms));
      if (t.textContent !== text) t.textContent = text;
    }
  }, 1000);

  // Colours: the system's, or as chosen; a cookie tells the server, so that a
  // page never flashes in the wrong ones.
  function theme(value) {
    const root = document.documentElement;
    if (value) root.dataset.theme = value; else delete root.dataset.theme;
    document.cookie = "castellan-theme=" + value + "; path=/; samesite=lax; secure; max-age=" + (value ? 31536000 : 0);
    for (const b of $$("[data-theme-set]")) b.setAttribute("aria-pressed", String(b.dataset.themeSet === value));
    say((value || "system") + " colours");
  }
  function otherTheme() {
    const now = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    theme(now === "dark" ? "light" : "dark");
  }

  // Live: one switch, one stream. A stream that the server ends comes back by
  // itself; one that it refuses (signed out) says so.
  const streams = new Map();
  function live(button, url, handlers) {
    const word = $(".live-word", button);
    const own = { source: null };
    const set = (state, text) => { button.dataset.state = state; word.textContent = text; };
    own.stop = () => { own.source?.close(); own.source = null; };
    own.start = () => {
      own.stop();
      const es = own.source = new EventSource(url());
      es.onopen = () => set("live", button.dataset.liveRows ? "following" : "live");
      es.onerror = () => {
        if (es.readyState === EventSource.CLOSED) { set("broken", "stopped: reload"); say("Live updates have stopped. Reload the page."); }
        else set("waiting", "connecting");
      };
      for (const [name, fn] of Object.entries(handlers)) es.addEventListener(name, fn);
    };
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      if (on) own.start(); else { own.stop(); set("paused", "paused"); }
      say(on ? "Following again." : "Paused.");
    });
    own.start();
    streams.set(button, own);
  }

  function liveTree(button) {
    const box = $("#tree");
    live(button, () => button.dataset.liveTree, {
      tree: (m) => morph(box, parse(m.data), (el) => { if (el.nodeName === "LI") el.classList.add("fresh"); }),
    });
  }

  function livePart(button) {
    const box = $("#part");
    live(button, () => button.dataset.livePart, { part: (m) => morph(box, parse(m.data)) });
  }

  const maxRows = 300; // what a page keeps of rows that came in by themselves
  function liveRows(button) {
    let last = "";
    live(button, () => {
      const u = new URL(button.dataset.liveRows, location.href);
      if (last) u.searchParams.set("after", last);
      return u.pathname + u.search;
    }, {
      rows: (m) => {
        last = m.lastEventId || last;
        const body = $("tbody", parse(m.data)), rows = $("#rows");
        if (!body || !rows) return;
        $("#no-events")?.remove();
        $("#event-table").hidden = false;
        const above = rows.getBoundingClientRect().top < 0;
        const before = document.documentElement.scrollHeight;
        const fresh = [...body.rows].filter((r) => !document.getElementById(r.id)).map((r) => document.importNode(r, true));
        for (const r of fresh) r.classList.add("fresh");
        rows.prepend(...fresh);
        // Who has scrolled down reads on undisturbed.
        if (above) scrollBy(0, document.documentElement.scrollHeight - before);
        while (rows.rows.length > maxRows) rows.lastElementChild.remove();
        if (body.dataset.missed) { const gap = $("#gap"); gap.textContent = body.dataset.missed; gap.hidden = false; }
        if (fresh.length) say(fresh.length === 1 ? "1 new event" : fresh.length + " new events");
      },
    });
  }

  function attach() {
    for (const [button, own] of streams) if (!button.isConnected) { own.stop(); streams.delete(button); }
    for (const b of $$("[data-live-tree]")) if (!streams.has(b)) liveTree(b);
    for (const b of $$("[data-live-part]")) if (!streams.has(b)) livePart(b);
    for (const b of $$("[data-live-rows]")) if (!streams.has(b)) liveRows(b);
  }
  addEventListener("pagehide", () => { for (const own of streams.values()) own.stop(); });
  addEventListener("pageshow", (e) => { if (e.persisted) for (const [b, own] of streams) if (b.getAttribute("aria-pressed") === "true") own.start(); });

  // Panels that ask again: the overview.
  for (const el of $$("[data-refresh]")) {
    setInterval(async () => {
      if (document.hidden) return;
      try {
        const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
        if (answer.redirected || !answer.ok) { location.reload(); return; }
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(el.dataset.target);
        if (fresh) morph(document.getElementById(el.dataset.target), fresh);
        el.lastElementChild.textContent = "refreshed every " + el.dataset.refresh + " s";
      } catch { el.lastElementChild.textContent = "the server does not answer"; }
    }, Number(el.dataset.refresh) * 1000);
  }

  // Filters: an address holds what narrows the list and nothing else.
  document.addEventListener("htmx:configRequest", (e) => {
    if (!e.target.closest("[data-filter]")) return;
    const p = e.detail.parameters;
    for (const name of [...p.keys?.() || Object.keys(p)]) {
      if (p[name] === "" || (Array.isArray(p[name]) && p[name].every((v) => v === ""))) delete p[name];
    }
  });
  document.addEventListener("submit", (e) => {
    if (!e.target.matches("[data-filter]")) return;
    for (const i of e.target.elements) if (i.name && !i.value) i.disabled = true;
    setTimeout(() => { for (const i of e.target.elements) i.disabled = false; });
  });
  document.addEventListener("htmx:afterSwap", (e) => {
    attach();
    if (e.target.closest("[data-editing]")) { edited(e.detail.target.id); return; }
    const rows = $$("#results tbody tr").length;
    say(rows === 0 ? "Nothing found." : rows + " found.");
  });
  document.addEventListener("htmx:beforeSwap", (e) => {
    if (e.detail.xhr.status === 400 || e.detail.xhr.status === 422) { e.detail.shouldSwap = true; e.detail.isError = false; }
  });
  document.addEventListener("htmx:responseError", (e) => {
    if (e.detail.xhr.status >= 401 && !e.target.closest("[data-editing]")) location.reload();
  });

  // The editor: numbers beside a text, and the lines marked that are wrong. What is
  // typed is never lost to an answer that did not come.
  const sheet = $("[data-editor]"), text = sheet && $("textarea", sheet), numbers = sheet && $("ol", sheet);
  let leaving = false;
  function number() {
    const lines = text.value.split("\n").length, want = Math.min(lines, Number(sheet.dataset.most));
    text.rows = lines;
    for (let i = numbers.children.length + 1; i <= want; i++) { const li = document.createElement("li"); li.id = "l" + i; numbers.append(li); }
    while (numbers.children.length > want) numbers.lastElementChild.remove();
  }
  function edited(id) {
    const part = document.getElementById(id);
    say(part?.dataset.say || "");
    if (id === "trial") { part.scrollIntoView({ block: "nearest" }); return; }
    if (id !== "checked") return;
    $("#editor-fault").hidden = true;
    const wrong = new Set($$("[data-wrong]", part).map((a) => Number(a.dataset.goto)));
    [...numbers.children].forEach((li, i) => li.classList.toggle("wrong", wrong.has(i + 1)));
    text.setAttribute("aria-invalid", String(wrong.size > 0));
  }
  function goTo(a) {
    const lines = text.value.split("\n"), line = Math.min(Number(a.dataset.goto), lines.length);
    const at = lines.slice(0, line - 1).reduce((n, l) => n + l.length + 1, 0) + Math.max(0, Number(a.dataset.column || 1) - 1);
    text.focus({ preventScroll: true });
    text.setSelectionRange(at, at);
    numbers.children[line - 1]?.scrollIntoView({ block: "center" });
  }
  function lost(e, why) {
    if (!e.target.closest("[data-editing]")) return;
    e.preventDefault();
    const p = $("#editor-fault");
    p.textContent = why + " What you typed is still here: copy it before you leave.";
    p.hidden = false;
  }
  if (sheet) {
    text.addEventListener("input", () => {
      number();
      for (const p of $$("main > p.notice:not(#editor-fault)")) p.hidden = true; // it was about another text
    });
    // Else the text, which has the focus by then, gets the end of a line.
    document.addEventListener("keydown", (e) => {
      const place = e.key === "Enter" && e.target.closest("[data-goto]");
      if (place) { e.preventDefault(); goTo(place); }
    });
    text.form.addEventListener("submit", () => { leaving = true; });
    addEventListener("beforeunload", (e) => {
      if (!leaving && (text.value !== text.defaultValue || sheet.dataset.editor === "true")) e.preventDefault();
    });
    number();
    document.addEventListener("htmx:beforeOnLoad", (e) => {
      const x = e.detail.xhr;
      if (x.getResponseHeader("HX-Redirect")) lost(e, "You are signed out.");
      else if (x.status >= 400) lost(e, "The server refused it (" + x.status + ").");
    });
    document.addEventListener("htmx:sendError", (e) => lost(e, "The server does not answer."));
  }

  // What is at hand beside the editor, narrowed to what has all words. A group whose
  // heading has them is shown whole.
  const narrows = $("[data-narrows]"), hand = narrows?.parentElement, sought = narrows && $("input", narrows);
  const entries = () => $$("[data-entry]", hand).filter((x) => !x.hidden);
  function narrow() {
    const words = sought.value.toLowerCase().split(/\s+/).filter(Boolean);
    const has = (el) => { const text = el.textContent.toLowerCase(); return words.every((w) => text.includes(w)); };
    for (const g of $$("[data-group]", hand)) {
      const whole = has($("summary", g)), inside = $$("[data-entry]", g);
      for (const x of inside) x.hidden = !whole && !has(x);
      g.hidden = inside.every((x) => x.hidden);
      g.open = words.length > 0;
    }
    const n = entries().length;
    const found = words.length === 0 ? "" : n === 0 ? "Nothing has these words." : n === 1 ? "1 found" : n + " found";
    $("#schema-found").textContent = found;
  }
  if (narrows) {
    narrows.hidden = false;
    sought.addEventListener("input", narrow);
    hand.addEventListener("keydown", (e) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[e.key] || (e.key === "Enter" && e.target === sought ? 1 : 0);
      const all = step && sought.value.trim() ? entries() : [], at = all.indexOf(e.target.closest("[data-entry]")) + step;
      if (all.length === 0 || at >= all.length) return;
      e.preventDefault();
      if (at < 0) { sought.focus(); return; }
      const to = $("summary", all[at]) || all[at];
      if (to === all[at]) to.tabIndex = -1;
      to.focus();
      to.scrollIntoView({ block: "nearest" });
    });
  }

  // Keys.
  let going = 0;
  const typing = (el) => el.closest("input, select, textarea, [contenteditable]");
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "Escape" && e.target.matches("[data-search]")) { e.target.blur(); return; }
    if (typing(e.target) || $("dialog[open]")) return;
    if (Date.now() - going < 1500) {
      going = 0;
      const to = $(`[data-go="${CSS.escape(e.key)}"]`);
      if (to) { e.preventDefault(); location.href = to.href; }
      return;
    }
    switch (e.key) {
      case "g": going = Date.now(); break;
      case "/": { const s = $("[data-search]"); if (s) { e.preventDefault(); s.focus(); s.select(); } break; }
      case "?": e.preventDefault(); $("#help")?.showModal(); break;
      case "p": $(".live-switch")?.click(); break;
      case "d": otherTheme(); break;
    }
  });

  document.addEventListener("click", async (e) => {
    const place = sheet && e.target.closest("[data-goto]");
    if (place) { e.preventDefault(); goTo(place); return; }
    const el = e.target.closest("[data-theme-set], [data-menu], [data-open], [data-close], [data-copy]");
    if (!el) return;
    if ("themeSet" in el.dataset) theme(el.dataset.themeSet);
    if ("menu" in el.dataset) {
      const open = $("#nav").classList.toggle("open");
      el.setAttribute("aria-expanded", String(open));
    }
    if (el.dataset.open) document.getElementById(el.dataset.open).showModal();
    if ("close" in el.dataset) el.closest("dialog").close();
    if (el.dataset.copy) {
      const node = document.getElementById(el.dataset.copy);
      try {
        await navigator.clipboard.writeText(node.textContent);
        $("span", el).textContent = "Copied";
        say("Copied.");
      } catch {
        getSelection().selectAllChildren(node);
        say("Selected: copy it with the keyboard.");
      }
    }
  });
  $("#help")?.addEventListener("click", (e) => { if (e.target.id === "help") e.target.close(); });

  attach();
  // On a small screen the view that is shown may be beyond the edge of the tabs.
  const shown = $(".tabs a[aria-current]"), strip = shown?.closest(".tabs");
  if (strip) strip.scrollLeft = shown.offsetLeft - strip.offsetLeft - (strip.clientWidth - shown.offsetWidth) / 2;
})();
