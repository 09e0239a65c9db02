"use strict";
(() => {
  const { charts, dark } = JSON.parse(document.getElementById("data").textContent);
  const night = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const config = {
    responsive: true, displayModeBar: false, showTips: false,
  };
  let printing = false;

  const make = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;  // never as HTML: names come from users
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };

  // every colour is written as on the white page; at night each is exchanged for its partner
  const colour = (light) => (night.matches && !printing && dark[light]) || light;
  const themed = (value) => {
    if (typeof value === "string") return colour(value);
    if (Array.isArray(value)) return value.map(themed);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, key === "bdata" ? part : themed(part)]));
    }
    return value;
  };

  const MARKS = {
    circle: "M9 1a4 4 0 1 0 .01 0z", square: "M5 1h8v8h-8z", diamond: "M9 0l5 5-5 5-5-5z", "triangle-up": "M9 0l5 9H4z",
    "triangle-down": "M9 10l5-9H4z", cross: "M7.5 0h3v3.5H14v3h-3.5V10h-3V6.5H4v-3h3.5z",
    star: "M9 0l1.4 3.4 3.6.3-2.8 2.3.9 3.6L9 7.7 5.9 9.6l.9-3.6L4 3.7l3.6-.3z",
    x: "M5.5.5L9 4 12.5.5 14 2 10.500 5.500 14 9 12.500 10.500 9 7 5.500 10.500 4 9 7.500 5.500 4 2z",
  };
  const sample = (entry) => {
    const space = "http://www.w3.org/2000/svg";  // the name of a language, not an address
    const svg = document.createElementNS(space, "svg");
    const size = { width: 18, height: 10, viewBox: "0 0 18 10", "aria-hidden": "true" };
    const dashes = { dash: "5 3", dot: "2 2", dashdot: "6 2 2 2" }[entry.dash] || "none";
    const place = entry.kind === "curves"
      ? { d: "M0 5h18", stroke: colour(entry.colour), "stroke-width": 2.5, "stroke-dasharray": dashes }
      : { d: (entry.kind === "points" && MARKS[entry.marker]) || "M4 1a1 1 0 0 1 1-1h8a1 1 0 0 1 1 1v8a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1z", fill: colour(entry.colour) };
    const path = document.createElementNS(space, "path");
    for (const [element, values] of [[svg, size], [path, place]]) {
      for (const [name, value] of Object.entries(values)) element.setAttribute(name, value);
    }
    svg.append(path);
    return svg;
  };

  const scaled = (scale) => {
    const box = make("p", undefined, { class: "scale" });
    const bar = make("span", undefined, { class: "gradient" });
    bar.style.background = `linear-gradient(to right, ${scale.colours.map(colour).join(", ")})`;
    box.append(make("span", scale.label), make("span", scale.ends[0]), bar, make("span", scale.ends[1]));
    if (scale.undefined) box.append(make("span", undefined, { class: "hatch" }), make("span", "undefined"));
    return box;
  };

  const tabulated = (table) => {
    const scroll = make("div", undefined, { class: "scroll", tabindex: 0, role: "region", "aria-label": table.title });
    const element = make("table");
    element.append(make("caption", table.title));
    const head = element.createTHead().insertRow();
    for (const name of table.columns) head.append(make("th", name, { scope: "col" }));
    const body = element.createTBody();
    for (const cells of table.rows) {
      const row = body.insertRow();
      cells.forEach((cell, i) => row.append(i ? make("td", cell) : make("th", cell, { scope: "row" })));
    }
    scroll.append(element);
    return scroll;
  };

  class Chart {
    constructor(id, spec) {
      this.spec = spec;
      this.root = document.getElementById(id);
      this.panels = this.root.querySelector(".panels");
      this.legend = this.root.querySelector(".legend");
      this.details = this.root.querySelector(".numbers");
      this.place = 0;
      this.hidden = new Set();
      this.near = false;
      this.details.addEventListener("toggle", () => this.numbers());
      const local = this.root.querySelector(".local select");
      if (local) local.addEventListener("change", () => this.show(Number(local.value)));
      this.build();
    }

    get view() { return this.spec.views[this.place]; }

    get plots() { return [...this.panels.querySelectorAll(".plot")]; }

    show(place) {
      if (place === this.place) return;
      this.place = place;
      const chosen = this.root.querySelector(".chosen");
      if (chosen) chosen.textContent = this.view.label;
      this.build();
      if (this.near) this.draw();
    }

    // everything but the pictures, at its final height: nothing moves when a picture is drawn later
    build() {
      if (this.near) this.plots.forEach((plot) => Plotly.purge(plot));
      const wanted = this.view.panels.map((panel) => this.panel(panel));
      if (!wanted.length) wanted.push(make("p", this.view.missing, { class: "missing" }));
      this.panels.replaceChildren(...wanted);
      this.keys();
      this.numbers();
    }

    draw() {
      this.near = true;
      this.plots.forEach((plot, i) => {
        const figure = themed(this.view.panels[i].figure);
        if (touch) figure.layout.dragmode = false;  // a finger on the plot scrolls the page
        figure.data.forEach((trace) => { if (this.hidden.has(trace.meta)) trace.visible = false; });
        Plotly.newPlot(plot, figure.data, figure.layout, config);
      });
    }

    panel(panel) {
      const box = make("div", undefined, { class: panel.square ? "panel square" : "panel" });
      if (this.view.panels.length > 1) box.append(make("h4", panel.title));
      if (panel.scale) box.append(scaled(panel.scale));
      const title = `${this.spec.title}: ${panel.title}${this.view.label ? `, ${this.view.label}` : ""}`;
      box.append(make("div", undefined, {
        class: "plot", role: "img", "aria-label": `${title}. The numbers are in the table below the chart.`,
        style: `height: ${panel.figure.layout.height}px`,
      }));
      return box;
    }

    keys() {
      this.legend.replaceChildren(...this.view.keys.map((entry) => {
        const button = make("button", undefined, { type: "button", "aria-pressed": String(!this.hidden.has(entry.name)) });
        button.append(sample(entry), make("span", entry.name));
        button.addEventListener("click", () => {
          if (!this.hidden.delete(entry.name)) this.hidden.add(entry.name);
          button.setAttribute("aria-pressed", String(!this.hidden.has(entry.name)));
          if (this.near) this.plots.forEach((plot) => {
            const places = plot.data.flatMap((trace, i) => (trace.meta === entry.name ? [i] : []));
            if (places.length) Plotly.restyle(plot, { visible: !this.hidden.has(entry.name) }, places);
          });
        });
        return button;
      }));
    }

    numbers() {
      if (this.details.open) this.details.querySelector(".rows").replaceChildren(...this.view.panels.map((panel) => tabulated(panel.table)));
    }
  }

  const all = Object.entries(charts).map(([id, spec]) => new Chart(id, spec));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      const chart = all.find((one) => one.root === entry.target);
      seen.unobserve(entry.target);
      if (!chart.near) chart.draw();
    }
  }, { rootMargin: "600px" });
  all.forEach((chart) => seen.observe(chart.root));

  const redraw = (charts) => charts.forEach((chart) => { chart.build(); chart.draw(); });
  night.addEventListener("change", () => redraw(all.filter((chart) => chart.near)));
  addEventListener("beforeprint", () => { printing = true; redraw(all); });
  addEventListener("afterprint", () => { printing = false; redraw(all); });

  // the selectors of one study stay in step
  document.querySelectorAll(".study").forEach((study) => {
    const follow = all.filter((chart) => study.contains(chart.root) && chart.root.dataset.select === "Method");
    const choose = (place) => {
      follow.forEach((chart) => chart.show(place));
      study.querySelectorAll(".bar input").forEach((input) => { input.checked = Number(input.value) === place; });
      study.querySelectorAll(".bar select").forEach((select) => { select.value = String(place); });
    };
    study.querySelectorAll(".bar input, .bar select").forEach((input) => {
      input.addEventListener("change", () => choose(Number(input.value)));
    });
  });

  // a click on a header sorts; a second one turns the order round
  document.querySelectorAll("table.sortable").forEach((table) => {
    const key = (row, i) => {
      const text = row.cells[i].textContent.trim();
      const value = parseFloat(text.replace("−", "-"));
      return Number.isNaN(value) ? text : value;
    };
    table.querySelectorAll("thead th").forEach((header, i) => {
      const button = make("button", header.textContent, { type: "button" });
      header.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = header.getAttribute("aria-sort") === "descending";
        table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", down ? "ascending" : "descending");
        const order = (a, b) => {
          const [left, right] = [key(a, i), key(b, i)];
          if (typeof left !== typeof right) return typeof left === "number" ? -1 : 1;
          const by = typeof left === "number" ? left - right : left.localeCompare(right);
          return down ? by : -by;
        };
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort(order));
      });
    });
  });
})();
