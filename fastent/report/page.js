"use strict";
// Sorting by any column, and for long tables a filter and a button for the rest: all offline. The
// first rows of a table are in the document; others are data until they are asked for, and are
// drawn as the reader scrolls.
const AT_ONCE = 300;
const say = n => n.toLocaleString("en");

function named(text) {
  const name = document.createElement("span");
  name.className = "name";
  name.append(...text.split(/(?<=[_/])|(?<=[.,\-])(?!\d)/).flatMap((part, k) => k ? [document.createElement("wbr"), part] : [part]));
  return name;
}

for (const section of document.querySelectorAll("section:not(.matrix)")) {
  const body = section.querySelector("tbody");
  if (!body) continue;
  const rest = section.querySelector("script");
  const few = Number(section.dataset.open), what = section.dataset.what;
  const heads = [...section.querySelectorAll("thead th")];
  const texts = heads.map(head => head.classList.contains("text"));
  let rows = null, found = null, open = few, drawn = 0, words = "", sorted = null;

  // A cell is [text, the number that it is sorted by or null].
  const load = () => {
    if (rows) return;
    rows = [...body.rows].map(row => [...row.cells].map(c => [c.textContent, c.dataset.value ?? null]));
    if (rest) rows.push(...JSON.parse(rest.textContent).map(row => row.map(c => typeof c === "string" ? [c, null] : c)));
    found = rows;
  };
  const line = row => {
    const made = document.createElement("tr");
    row.forEach(([text, value], k) => {
      const cell = document.createElement(k ? "td" : "th");
      if (!k) cell.scope = "row";
      cell.className = texts[k] ? "text" : "number";
      if (value !== null && value !== undefined) cell.dataset.value = value;
      cell.append(texts[k] || !k ? named(text) : text);
      made.append(cell);
    });
    return made;
  };
  const more = () => {
    const stop = Math.min(found.length, open, drawn + AT_ONCE);
    body.append(...found.slice(drawn, stop).map(line));
    drawn = stop;
    if (drawn < Math.min(found.length, open)) watch.observe(body.lastElementChild);
  };
  const watch = new IntersectionObserver(seen => {
    if (!seen.some(one => one.isIntersecting)) return;
    watch.disconnect();
    more();
  }, {rootMargin: "1000px"});
  const show = () => {
    load();
    watch.disconnect();
    found = words ? rows.filter(row => row[0][0].toLowerCase().includes(words)) : rows;
    body.replaceChildren();
    drawn = 0;
    more();
    const of = words ? `${say(found.length)} found of ${say(rows.length)}` : say(rows.length);
    section.querySelector(".showing").textContent = `${say(Math.min(open, found.length))} of ${of} ${what} shown`;
  };
  if (few < Number(section.dataset.held)) {
    const filter = document.createElement("input"), all = document.createElement("button");
    filter.type = "search";
    filter.placeholder = "filter by name";
    filter.ariaLabel = `Filter ${what} by name`;
    filter.oninput = () => { words = filter.value.toLowerCase(); show(); };
    all.textContent = "show all";
    all.onclick = () => {
      open = open === few ? Infinity : few;
      all.textContent = open === few ? "show all" : "show fewer";
      show();
    };
    section.querySelector(".tools").append(filter, all);
  }
  heads.forEach((head, k) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    button.title = "sort";
    head.append(button);
    button.onclick = () => {
      load();
      const up = head.ariaSort === "descending";
      for (const other of heads) other.ariaSort = null;
      head.ariaSort = up ? "ascending" : "descending";
      const key = row => {
        const text = row[k][1] ?? row[k][0];
        const number = Number(String(text).replaceAll(",", "").replace("inf", "Infinity"));
        return text === "" || Number.isNaN(number) ? String(text) : number;
      };
      const order = (a, b) => {
        if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
        return typeof a === "number" ? -1 : 1;  // what is no number comes last
      };
      const keyed = rows.map(row => [key(row), row]);
      keyed.sort((a, b) => typeof a[0] !== typeof b[0] || up ? order(a[0], b[0]) : -order(a[0], b[0]));
      rows = keyed.map(pair => pair[1]);
      show();
    };
  });
}
