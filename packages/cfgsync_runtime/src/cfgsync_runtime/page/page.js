"use strict";
// Reads the page again whenever the server hints at a change, and replaces the sections that differ.
// Text from the server only becomes text nodes or attributes; HTML from the server is escaped there, and cannot run.
(() => {
  let labels = {}; // by letter: the name of a state, from the server
  const POLL_MS = 3000, LEAST_MS = 250, RETRY_MS = 15000, ABOUT_MS = 150, TYPED_MS = 200;
  const main = document.getElementById("main");
  const grid = document.getElementById("grid");

  // ---- the state of the connection to the server ----
  const live = document.getElementById("live"), liveText = document.getElementById("live-text");
  function showLive(state, text) {
    if (live.className !== state) live.className = state;
    if (liveText.textContent !== text) liveText.textContent = text;
  }

  // ---- times, shown as "how long ago" ----
  function ago(at) {
    const s = Math.max(0, Math.round((Date.now() - Date.parse(at)) / 1000));
    if (Number.isNaN(s)) return null;
    if (s < 2) return "just now";
    if (s < 120) return s + " s ago";
    if (s < 7200) return Math.floor(s / 60) + " min ago";
    if (s < 172800) return Math.floor(s / 3600) + " h ago";
    return Math.floor(s / 86400) + " days ago";
  }
  function spellTimes() {
    for (const time of main.getElementsByTagName("time")) {
      const words = ago(time.dateTime);
      if (words === null) continue;
      if (!time.title) time.title = time.textContent;
      if (time.textContent !== words) time.textContent = words;
    }
  }

  // ---- sections ----
  const shown = new Map();
  function remember(from) {
    for (const section of from.children) shown.set(section.id, section.outerHTML);
  }
  function replaceSections(next) {
    const have = [...main.children].map((one) => one.id).join();
    if ([...next.children].map((one) => one.id).join() !== have) {
      location.reload(); // the server is another version now
      return;
    }
    const fresh = [...next.children];
    for (const section of fresh) {
      const html = section.outerHTML;
      if (section.id === "grid" || shown.get(section.id) === html) continue;
      shown.set(section.id, html);
      replaceSection(document.getElementById(section.id), document.adoptNode(section));
    }
    spellTimes();
  }
  function replaceSection(old, section) {
    for (const details of old.querySelectorAll("details[open]")) {
      const same = details.id && section.querySelector("#" + CSS.escape(details.id));
      if (same) same.open = true;
    }
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const href = focused && focused.getAttribute("href");
    const form = old.querySelector("form"), fresh = section.querySelector("form");
    if (form && fresh) fresh.replaceWith(form); // someone may be typing in it
    old.replaceWith(section);
    if (focused && form && form.contains(focused)) focused.focus({ preventScroll: true });
    if (href) for (const link of section.getElementsByTagName("a")) {
      if (link.getAttribute("href") === href) { link.focus({ preventScroll: true }); break; }
    }
  }

  // ---- the grid ----
  const cells = new Map();
  let drawn = "", foundBy = "";
  function drawGrid(text) {
    if (!grid || text === drawn) return;
    drawn = text;
    const data = JSON.parse(text), box = document.getElementById("cells");
    const { names, states, found } = data; // found: which names the filter finds, as zeros and ones
    labels = data.kinds;
    foundBy = data.find || "";
    grid.hidden = names.length === 0;
    box.className = names.length <= 60 ? "few" : names.length <= 1500 ? "some" : names.length <= 4000 ? "many" : "all";
    const focused = box.contains(document.activeElement) ? document.activeElement : null;
    let sameNames = names.length === cells.size, at = 0;
    if (sameNames) for (const name of cells.keys()) if (name !== names[at++]) { sameNames = false; break; }
    if (!sameNames) {
      const kept = new Map(cells), all = document.createDocumentFragment();
      cells.clear();
      for (const name of names) {
        const cell = kept.get(name) || newCell(name);
        cells.set(name, cell);
        all.append(cell);
      }
      box.replaceChildren(all);
      if (focused && focused.isConnected) focused.focus({ preventScroll: true });
      if (!box.querySelector("a[tabindex='0']") && box.firstChild) box.firstChild.tabIndex = 0;
    }
    const few = box.className === "few";
    at = 0;
    for (const [name, cell] of cells) {
      const state = states[at++];
      if (cell.dataset.state !== state) {
        cell.dataset.state = state;
        cell.className = state;
        cell.setAttribute("aria-label", name + ", " + labels[state]);
      }
      const label = few ? name : "";
      if (cell.textContent !== label) cell.textContent = label;
      cell.classList.toggle("dim", found !== undefined && found[at - 1] === "0");
    }
  }
  function newCell(name) {
    const cell = document.createElement("a");
    cell.href = "?node=" + encodeURIComponent(name);
    cell.tabIndex = -1;
    cell.dataset.name = name;
    return cell;
  }
  let aboutTimer = 0, aboutName = "";
  function about(cell) {
    const name = cell.dataset.name, words = document.getElementById("about-cell");
    if (name === aboutName) return;
    aboutName = name;
    words.textContent = name + ": " + labels[cell.dataset.state];
    clearTimeout(aboutTimer);
    aboutTimer = setTimeout(() => {
      get("status/" + encodeURIComponent(name), "json", (node) => {
        if (aboutName === name && node.reason) words.textContent = name + ": " + node.reason;
      }, () => {});
    }, ABOUT_MS);
  }
  function listenToGrid() {
    const box = document.getElementById("cells");
    const cellOf = (event) => event.target.closest ? event.target.closest("#cells a") : null;
    box.addEventListener("pointerover", (event) => { const cell = cellOf(event); if (cell) about(cell); });
    box.addEventListener("focusin", (event) => {
      const cell = cellOf(event);
      if (!cell) return;
      for (const other of box.querySelectorAll("a[tabindex='0']")) other.tabIndex = -1;
      cell.tabIndex = 0;
      about(cell);
    });
    box.addEventListener("keydown", (event) => {
      const cell = cellOf(event);
      if (!cell || event.ctrlKey || event.metaKey || event.altKey) return;
      const all = [...box.children], at = all.indexOf(cell);
      let columns = all.findIndex((one) => one.offsetTop > all[0].offsetTop);
      if (columns < 1) columns = all.length;
      const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -at, End: all.length - 1 - at };
      if (!(event.key in steps)) return;
      event.preventDefault();
      const to = all[at + steps[event.key]];
      if (to) to.focus();
    });
  }

  // ---- the filter: the server looks through every node ----
  let typing = 0;
  function listenToFilter() {
    main.addEventListener("input", (event) => {
      if (event.target.id !== "find") return;
      clearTimeout(typing);
      typing = setTimeout(() => {
        const at = new URL(location), words = event.target.value.trim();
        at.searchParams.delete("after");
        if (words) at.searchParams.set("find", words); else at.searchParams.delete("find");
        history.replaceState(null, "", at);
        next = 0;
        reload();
      }, TYPED_MS);
    });
    main.addEventListener("submit", (event) => {
      if (document.getElementById("find").value.trim().toLowerCase() !== foundBy) return; // not read yet: a new page
      event.preventDefault();
      const first = foundBy ? document.querySelector("#nodes tbody a") : null;
      if (first) location.href = first.href; // Enter opens the first node
    });
  }

  // ---- reading the page again ----
  let busy = false, again = false, timer = 0, failedSince = null, next = 0;
  function get(url, type, came, failed) {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    request.responseType = type;
    request.timeout = 30000;
    // 404 is a page too: the generation on it is no longer held
    request.onload = () => [200, 404].includes(request.status) && request.response ? came(request.response) : failed();
    request.onerror = request.ontimeout = request.onabort = failed;
    request.send();
  }
  function reload() {
    if (busy || document.hidden) { again = true; return; }
    const wait = next - performance.now();
    if (wait > 0) {
      clearTimeout(timer);
      timer = setTimeout(reload, wait);
      return;
    }
    busy = true; again = false;
    const began = performance.now();
    get(location.pathname + location.search, "document", (page) => {
      const part = page.getElementById("main");
      failedSince = part ? null : failedSince || new Date();
      if (part) {
        const data = page.getElementById("cell-data");
        replaceSections(part);
        if (document.title !== page.title) document.title = page.title;
        if (data) drawGrid(data.textContent);
        document.getElementById("as-of").textContent = page.getElementById("as-of").textContent;
      }
      done(began);
    }, () => {
      failedSince = failedSince || new Date();
      done(began);
    });
  }
  function done(began) {
    busy = false;
    const took = performance.now() - began;
    next = performance.now() + Math.max(LEAST_MS, took); // a large fleet is not read all the time
    showConnection();
    if (again) reload();
  }

  // ---- hints ----
  const hints = document.body.dataset.stream; // where they come from, if from anywhere
  let stream = null, open = false;
  function showConnection() {
    if (failedSince) showLive("lost", "no reply since " + failedSince.toISOString().slice(11, 19) + "Z; what you see is older");
    else if (open) showLive("live", "live");
    else showLive("polls", (hints ? "no hints; " : "") + "reads every " + POLL_MS / 1000 + " s");
  }
  function follow() {
    stream = new EventSource(hints);
    stream.onopen = () => { open = true; showConnection(); };
    stream.addEventListener("hint", reload);
    stream.onerror = () => {
      if (open) reload(); // is the server gone, or only the stream?
      open = false;
      showConnection();
      if (stream.readyState === EventSource.CLOSED) setTimeout(follow, RETRY_MS); // refused: the browser does not retry
    };
  }

  remember(main);
  spellTimes();
  if (grid) {
    listenToGrid();
    listenToFilter();
    drawGrid(document.getElementById("cell-data").textContent);
  }
  if (hints) follow();
  setInterval(() => { spellTimes(); if (!open || failedSince) reload(); }, POLL_MS);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) reload(); });
  showConnection();
})();
