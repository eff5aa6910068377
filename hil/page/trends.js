// Trends of the last ten minutes: small pictures on one time axis, with the newest value beside each line.

const SPAN_S = 600, WIDE = 560, HIGH = 150, LEFT = 44, RIGHT = 138, TOP = 22, BOTTOM = 20;
const COLOURS = ["#0072b2", "#b34700", "#00664b", "#7b3f6b"];
const NS = "http://www.w3.org/2000/svg";

function add(parent, name, attributes, text) {
  const item = parent.appendChild(document.createElementNS(NS, name));
  for (const [key, value] of Object.entries(attributes)) item.setAttribute(key, value);
  if (text !== undefined) item.textContent = text;
  return item;
}

export class Trend {
  // `least`: the axis spans no less. `lines`: [name, () => number or null].
  constructor(parent, name, unit, least, lines) {
    Object.assign(this, { name, unit, least, lines, samples: lines.map(() => []) });
    this.svg = add(parent, "svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, class: "trend", role: "img", "aria-label": `${name}, ${unit}` });
  }

  sample(now) {
    this.lines.forEach(([, read], place) => {
      const list = this.samples[place];
      list.push([now, read()]);
      while (list.length && list[0][0] < now - SPAN_S) list.shift();
    });
    this.draw(now);
  }

  draw(now) {
    const values = this.samples.flat().map(pair => pair[1]).filter(value => value !== null);
    let low = values.length ? Math.min(...values) : 0, high = values.length ? Math.max(...values) : this.least;
    const lacking = Math.max(0, this.least - (high - low));
    [low, high] = [low - lacking / 2 - 0.05 * (high - low), high + lacking / 2 + 0.05 * (high - low)];
    const x = at => LEFT + (1 - (now - at) / SPAN_S) * (WIDE - LEFT - RIGHT);
    const y = value => HIGH - BOTTOM - (value - low) / (high - low) * (HIGH - TOP - BOTTOM);
    this.svg.replaceChildren();
    add(this.svg, "text", { x: 2, y: 12, class: "name" }, `${this.name}, ${this.unit}`);
    const digits = high - low < 20 ? 1 : 0;
    for (const part of [0, 0.5, 1]) {
      const value = low + part * (high - low);
      add(this.svg, "line", { x1: LEFT, x2: WIDE - RIGHT, y1: y(value), y2: y(value), class: "axis" });
      add(this.svg, "text", { x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(digits));
    }
    for (const minutes of [10, 5, 0])
      add(this.svg, "text", { x: x(now - 60 * minutes), y: HIGH - 4, "text-anchor": minutes ? "middle" : "end" }, minutes ? `−${minutes} min` : "now");
    const homes = [];
    this.samples.forEach((list, place) => {
      let path = "", pen = false;
      for (const [at, value] of list) {
        if (value !== null) path += `${pen ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
        pen = value !== null;
      }
      add(this.svg, "path", { d: path || "M0 0", class: "line", stroke: COLOURS[place], ...(place ? { "stroke-dasharray": place === 1 ? "6 2" : "2 2" } : {}) });
      const last = list.at(-1)?.[1] ?? null;
      homes.push([last === null ? HIGH - BOTTOM : y(last), `${this.lines[place][0]} ${last === null ? "–" : last.toFixed(1)}`, COLOURS[place]]);
    });
    homes.sort((one, other) => one[0] - other[0]);
    let floor = TOP - 4;
    const top = HIGH - BOTTOM + 4 - 14 * (homes.length - 1);
    homes.forEach(([home, label, colour], place) => {
      const at = Math.min(Math.max(home, floor), top + 14 * place);
      floor = at + 14;
      add(this.svg, "line", { x1: WIDE - RIGHT + 3, x2: WIDE - RIGHT + 14, y1: home, y2: at, stroke: colour, "stroke-width": 1.5 });
      add(this.svg, "text", { x: WIDE - RIGHT + 18, y: at + 4 }, label);
    });
  }
}
