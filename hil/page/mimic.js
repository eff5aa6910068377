// The pod as a drawing made from its plan: racks on the cooling loop, the heat exchanger, facility water, power.

const NS = "http://www.w3.org/2000/svg", WIDE = 1256, HIGH = 644;
const RACKS = { left: 96, right: 810, top: 66, bottom: 232 }, BOXES_MAX = 16;

export function add(parent, name, attributes, text) {
  const item = parent.appendChild(document.createElementNS(NS, name));
  for (const [key, value] of Object.entries(attributes)) item.setAttribute(key, value);
  if (text !== undefined) item.textContent = text;
  return item;
}

function label(parent, x, y, text, kind = "tag", anchor = "middle") {
  return add(parent, "text", { x, y, class: kind, "text-anchor": anchor }, text);
}

export class Mimic {
  // `plan`: the document of /plan.json.
  constructor(parent, plan) {
    this.values = [];
    this.machines = [];
    this.racks = [];
    this.plan = plan;
    this.svg = add(parent, "svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "group", "aria-label": `Drawing of ${plan.name}` });
    this.pipes();
    this.drawRacks();
    this.drawLoop();
    this.drawFacility();
    this.drawPower();
  }

  pipe(kind, ...points) {
    add(this.svg, "polyline", { points: points.map(point => point.join()).join(" "), class: `pipe ${kind}` });
  }

  // A framed number of a point. `digits` after the point; `name` stands before it.
  value(x, y, point, digits = 1, name = "", wide = 88) {
    const group = add(this.svg, "g", { class: "value bad", "data-point": point, transform: `translate(${x} ${y})` });
    add(group, "title", {}, point);
    add(group, "rect", { x: 0, y: -14, width: wide, height: 19, rx: 2 });
    add(group, "line", { x1: 2, y1: 3, x2: wide - 2, y2: -12, class: "cross" });
    const number = add(group, "text", { x: wide - 36, y: 0, "text-anchor": "end" }, "–");
    const unit = add(group, "text", { x: wide - 33, y: 0, class: "unit" }, "");
    if (name) label(group, -5, 0, name, "tag", "end");
    this.values.push({ group, number, unit, point, digits });
  }

  machine(name, x, y, draw) {
    const group = add(this.svg, "g", { class: "machine", "data-machine": name, transform: `translate(${x} ${y})` });
    draw(group);
    const say = label(group, 0, 48, "–", "say");
    this.machines.push({ name, group, say });
  }

  pump(name, x, y) {
    this.machine(name, x, y, group => {
      add(group, "circle", { r: 24, class: "part" });
      add(group, "path", { d: "M-14 -19 L0 -24 L0 -24 M-14 -19 L0 24 L14 -19", class: "glyph" });
      label(group, 0, -31, name, "tag halo");
    });
    this.machines.at(-1).say.classList.add("halo");
    this.value(x + 30, y + 5, `${name}.speed`, 1, "", 82);
  }

  valve(x, y, point, named) {
    add(this.svg, "path", { d: `M${x - 12} ${y - 9} L${x + 12} ${y + 9} L${x + 12} ${y - 9} L${x - 12} ${y + 9} Z`, class: "part" });
    if (named) label(this.svg, x, y - 17, named);
    this.value(x - 38, y + 30, point, 0, "", 76);
  }

  pipes() {
    const { left, right } = RACKS;
    this.pipe("", [right + 44, 372], [right + 44, 30], [left, 30]);
    this.pipe("", [40, 438], [40, 292], [right - 20, 292]);
    this.pipe("", [right + 44, 480], [right + 44, 566], [120, 566]);
    this.pipe("", [40, 438], [620, 438]);
    label(this.svg, left + 12, 20, "TCS return", "tag", "start");
    label(this.svg, 52, 285, "TCS supply", "tag", "start");
  }

  drawRacks() {
    const shown = this.plan.racks.slice(0, BOXES_MAX), { left, right, top, bottom } = RACKS;
    const pitch = (right - left) / Math.max(shown.length, 1);
    shown.forEach((rack, place) => {
      const x = left + pitch * (place + 0.5) - 8, wide = Math.min(pitch - 12, 110);
      this.pipe("", [x, 30], [x, 292]);
      const group = add(this.svg, "g", { class: "rack", "data-rack": rack.name, transform: `translate(${x} 0)` });
      add(group, "rect", { x: -wide / 2, y: top, width: wide, height: bottom - top, rx: 3, class: "part" });
      label(group, 0, top + 18, rack.name, "title");
      const parts = ["power", "outlets", "leak"].map((_, line) => label(group, 0, top + 44 + 20 * line, "–", "say"));
      this.racks.push({ rack, group, parts });
      add(this.svg, "path", { d: `M${x - 9} ${bottom + 18} L${x + 9} ${bottom + 42} L${x - 9} ${bottom + 42} L${x + 9} ${bottom + 18} Z`, class: "part" });
      this.value(x - wide / 2, bottom - 24, `${rack.valve}.position`, 0, "", wide);
    });
    const more = this.plan.racks.length - shown.length;
    if (more > 0) label(this.svg, right, top - 8, `and ${more} more`, "say", "end");
  }

  drawLoop() {
    const pumps = this.plan.pumps, pitch = 520 / Math.max(pumps.length, 1);
    pumps.forEach((name, place) => {
      const x = 120 + pitch * (place + 0.4);
      this.pipe("", [x, 438], [x, 566]);
      this.pump(name, x, 500);
    });
    this.value(56, 330, "pod.supply_temp", 1);
    label(this.svg, 150, 330, "supply", "tag", "start");
    label(this.svg, 150, 378, "flow", "tag", "start");
    this.value(56, 354, "pod.supply_temp_sp", 1, "", 88);
    label(this.svg, 150, 354, "set point", "tag", "start");
    this.value(56, 378, this.plan.flow, 0);
    this.value(56, 402, "pod.flow_needed", 0);
    label(this.svg, 150, 402, "needed", "tag", "start");
    this.plan.supply_temps.forEach((point, place) => this.value(300 + 104 * place, 330, point, 1, place ? "" : "probes"));
    this.value(RACKS.right - 60, 56, "pod.return_temp", 1);
    add(this.svg, "rect", { x: 686, y: 520, width: 84, height: 92, rx: 10, class: "part" });
    this.tank = add(this.svg, "rect", { x: 689, y: 520, width: 78, height: 0, class: "bar level" });
    label(this.svg, 728, 512, "reservoir");
    if (this.plan.levels[0]) this.value(690, 580, this.plan.levels[0], 0, "", 76);
    this.value(590, 604, this.plan.suction_pressure, 0, "suction");
  }

  drawFacility() {
    const x = RACKS.right + 44;
    add(this.svg, "rect", { x: x - 32, y: 372, width: 64, height: 108, class: "part" });
    add(this.svg, "path", { d: `M${x - 32} 480 L${x + 32} 372`, class: "glyph" });
    label(this.svg, x - 40, 420, "heat", "tag", "end");
    label(this.svg, x - 40, 434, "exchanger", "tag", "end");
    const pumps = this.plan.fws_pumps, pitch = 270 / Math.max(pumps.length, 1), places = pumps.map((_, place) => 960 + pitch * place);
    this.pipe("facility", [x + 32, 388], [990, 388], [990, 110]);
    this.pipe("facility", [1236, 110], [1236, 622], [places[0] ?? 960, 622]);
    this.pipe("facility", [places.at(-1) ?? 960, 512], [990, 512], [990, 462], [x + 32, 462]);
    if (places[0] < 990) this.pipe("facility", [990, 512], [places[0], 512]);
    this.valve(x + 82, 462, `${this.plan.valve}.position`, this.plan.valve);
    label(this.svg, x + 40, 380, "FWS return", "tag", "start");
    this.value(1006, 452, this.plan.fws_supply_temps[0] ?? "pod.fws_supply_temp", 1);
    label(this.svg, 1100, 452, "FWS supply", "tag", "start");
    if (this.plan.fws_flows[0]) this.value(1006, 482, this.plan.fws_flows[0], 0);
    pumps.forEach((name, place) => {
      this.pipe("facility", [places[place], 512], [places[place], 622]);
      this.pump(name, places[place], 562);
    });
    const chillers = this.plan.chillers, high = Math.min(84, 260 / Math.max(chillers.length, 1));
    chillers.forEach((name, place) => {
      const y = 132 + place * (high + 22);
      this.pipe("facility", [990, y], [1236, y]);
      this.machine(name, 1103, y, group => {
        add(group, "rect", { x: -70, y: -high / 2 + 4, width: 230 - 70, height: high - 8, rx: 3, class: "part" });
        label(group, 10, -high / 2 + 22, name, "title");
      });
      this.machines.at(-1).say.setAttribute("y", 20);
      this.machines.at(-1).say.setAttribute("x", 10);
      this.value(1069, y + 4, `${name}.supply_temp`, 1);
    });
  }

  drawPower() {
    label(this.svg, 900, 22, "Power", "title", "start");
    this.plan.feeds.slice(0, 4).forEach((point, place) => this.value(952 + 150 * place, 48, point, 0, `feed ${"ABCD"[place]}`));
    this.value(952, 74, "pod.it_power", 0, "IT");
    this.value(1102, 74, "pod.dew_point", 1, "dew p.");
  }

  // Show what `pod` (read(point) -> {value, unit, quality}, state) says now.
  show(pod) {
    for (const { group, number, unit, point, digits } of this.values) {
      const reading = pod.read(point);
      group.setAttribute("class", `value ${reading.quality}`);
      number.textContent = typeof reading.value === "number" ? reading.value.toFixed(digits) : reading.value === null ? "–" : String(reading.value);
      unit.textContent = reading.unit;
    }
    for (const { name, group, say } of this.machines) {
      const state = pod.state.machines?.[name] ?? "unknown";
      const running = pod.read(`${name}.running`).value === true;
      group.setAttribute("class", `machine ${state} ${running ? "running" : ""}`);
      say.textContent = state;
    }
    for (const { rack, group, parts } of this.racks) {
      const power = rack.power.map(point => pod.read(point));
      const whole = power.length && power.every(reading => reading.quality === "good");
      const on = rack.outlets.filter(point => pod.read(point).value === true).length;
      const leaks = rack.leak.map(point => pod.read(point));
      const wet = leaks.some(reading => reading.value === true);
      parts[0].textContent = whole ? `${power.reduce((sum, reading) => sum + reading.value, 0).toFixed(0)} kW` : "– kW";
      parts[1].textContent = `${on} of ${rack.outlets.length} on`;
      parts[2].textContent = wet ? "LEAK" : leaks.every(reading => reading.quality === "good") ? "dry" : "leak ?";
      group.setAttribute("class", `rack ${on ? "running" : ""} ${wet ? "wet" : ""}`);
    }
    const level = pod.read(this.plan.levels[0] ?? "").value;
    const high = typeof level === "number" ? 86 * Math.min(Math.max(level, 0), 100) / 100 : 0;
    this.tank.setAttribute("y", 609 - high);
    this.tank.setAttribute("height", high);
  }
}
