// The page: what the controller publishes, kept by topic, shown once a second at the most.

import { Mimic } from "./mimic.js";
import { Subscriber } from "./mqtt.js";
import { Trend } from "./trends.js";

const GOOD = 0, FORCED = 0x00960000, BAD = 0x80000000, SHOW_MS = 250, SAMPLE_MS = 1000, TARGETS_SHOWN = 40;
const UNITS = { Cel: "°C", "{count}": "" };
const PRIORITIES = ["critical", "high", "medium", "low"];
const STATES = { A: "normal", B: "active, not acknowledged", C: "active, acknowledged", D: "gone, not acknowledged",
  E: "shelved", G: "out of service" };
const $ = id => document.getElementById(id);

class Pod {
  constructor(root) {
    Object.assign(this, { root, documents: new Map(), connected: false, changed: true });
  }

  take(topic, payload) {
    const name = topic.slice(this.root.length + 1);
    try {
      if (payload) this.documents.set(name, JSON.parse(payload));
      else this.documents.delete(name);
    } catch {
      console.warn(`not JSON: ${topic}`);
    }
    this.changed = true;
  }

  get(name) { return this.documents.get(name) ?? {}; }
  get state() { return this.get("state"); }
  get online() { return this.connected && this.get("status").state === "online"; }

  read(point) {
    const dot = point.indexOf("."), device = point.slice(0, dot), name = point.slice(dot + 1);
    const entry = this.get(`dev/${device}`).pts?.[name];
    const code = this.get(`meta/${device}`).pts?.[name]?.unit ?? "";
    const unit = UNITS[code] ?? code;
    if (!entry) return { value: null, unit, quality: "bad" };
    const quality = entry.q === GOOD ? "good" : entry.q === FORCED ? "forced" : entry.q >= BAD ? "bad" : "stale";
    return { value: entry.v ?? null, unit, quality };
  }

  number(point) {
    const { value, quality } = this.read(point);
    return this.online && typeof value === "number" && quality !== "bad" ? value : null;
  }

  alarms() {
    const rank = alarm => PRIORITIES.indexOf(alarm.priority) + (alarm.active && !"EG".includes(alarm.state) ? 0 : 10);
    return [...this.documents].filter(([name]) => name.startsWith("alarm/")).map(([, alarm]) => alarm)
      .filter((alarm) => alarm.state !== "F")
      .sort((one, other) => rank(one) - rank(other) || other.t_active - one.t_active);
  }
}

function showHead(pod) {
  const { mode = "unknown", cause = "–", since, degraded, missing = [], interlocks = [], first_out: first } = pod.state;
  document.body.className = pod.connected ? pod.online ? "" : "lost" : "offline";
  $("link").textContent = pod.connected ? pod.online ? "connected" : `controller ${pod.get("status").state ?? "not heard of"}` : "not connected";
  $("mode").textContent = mode + (degraded ? ", degraded" : "");
  $("mode").className = mode.startsWith("FAULT") ? "fault" : "";
  $("since").textContent = since ? `since ${new Date(since).toLocaleTimeString("en-GB")}` : "";
  $("cause").textContent = cause;
  const notes = [...missing.map(text => `missing: ${text}`), ...interlocks.map(name => `interlock acts: ${name}`)];
  $("notes").textContent = [...notes, ...(first ? [`first out: ${first}`] : [])].join(" · ");
}

function showAlarms(alarms) {
  $("alarm-count").textContent = alarms.length || "none";
  $("alarm-rows").replaceChildren(...alarms.map(alarm => {
    const row = document.createElement("tr");
    const acked = alarm.state === "C" || alarm.state === "ACKED";
    const aside = alarm.state === "E" || alarm.state === "G";
    row.className = `${PRIORITIES.includes(alarm.priority) ? alarm.priority : "low"} ${alarm.active && !aside ? acked ? "acked" : "unacked" : "gone"}`;
    row.dataset.alarm = alarm.id;
    const cells = [0, 1, 2].map(() => row.insertCell());
    const sign = cells[0].appendChild(document.createElement("span"));
    sign.className = "priority";
    sign.textContent = PRIORITIES.indexOf(alarm.priority) + 1 || "?";
    cells[0].append(alarm.priority ?? "");
    cells[1].textContent = STATES[alarm.state] ?? alarm.state;
    const since = cells[1].appendChild(document.createElement("time"));
    since.textContent = alarm.t_active ? new Date(alarm.t_active).toLocaleTimeString("en-GB") : "";
    const marks = [alarm.first_out && "first out", alarm.latched && "waits for reset", alarm.chattering && "chatters", alarm.cause && `caused by ${alarm.cause}`];
    cells[2].textContent = [alarm.title ?? alarm.id, ...marks.filter(Boolean)].join(" · ");
    const action = cells[2].appendChild(document.createElement("span"));
    action.className = "do";
    action.textContent = alarm.action ?? "";
    return row;
  }));
}

class FaultPanel {
  async start() {
    this.rows = new Map();
    const { faults, targets, standing } = await this.ask("GET", "/faults");
    this.targets = targets;
    for (const fault of faults) this.rows.set(fault.name, fault);
    $("fault-search").oninput = () => this.list();
    $("fault-name").onchange = () => this.choose();
    $("fault-target-search").oninput = () => this.aim();
    $("fault-form").onsubmit = event => { event.preventDefault(); this.cause(); };
    $("heal-all").onclick = () => this.send("DELETE", "/faults");
    this.list();
    this.show(standing);
    setInterval(() => this.refresh(), 3000);
  }

  list() {
    const chosen = $("fault-name").value, words = $("fault-search").value.toLowerCase().split(/\s+/);
    const groups = new Map();
    for (const fault of this.rows.values()) {
      const told = `${fault.name} ${fault.text}`.toLowerCase();
      if (!words.every(word => told.includes(word))) continue;
      if (!groups.has(fault.family)) {
        const group = document.createElement("optgroup");
        group.label = fault.family;
        groups.set(fault.family, group);
      }
      groups.get(fault.family).append(new Option(fault.name));
    }
    $("fault-name").replaceChildren(...groups.values());
    if ([...$("fault-name").options].some(option => option.value === chosen)) $("fault-name").value = chosen;
    this.choose();
  }

  choose() {
    const row = this.rows.get($("fault-name").value);
    $("fault-form").querySelector("[type=submit]").disabled = !row;
    $("fault-value-label").hidden = !row?.unit;
    $("fault-text").textContent = row?.text ?? "No fault is called so.";
    $("fault-target-search").value = "";
    $("fault-target-search").hidden = !row || this.targets[row.kind].length <= TARGETS_SHOWN;
    this.aim();
    if (!row) return;
    $("fault-choice").replaceChildren(...row.choices.map(word => new Option(word)));
    $("fault-choice").hidden = !row.choices.length;
    $("fault-value").hidden = row.choices.length > 0;
    $("fault-choice").value = $("fault-value").value = row.default ?? "";
    $("fault-unit").textContent = row.choices.length ? "" : `${UNITS[row.unit] ?? row.unit}, ${row.low} to ${row.high}`;
  }

  aim() {
    const kind = this.rows.get($("fault-name").value)?.kind, part = $("fault-target-search").value.toLowerCase();
    const found = (this.targets[kind] ?? []).filter(target => target.toLowerCase().includes(part));
    $("fault-target").replaceChildren(...found.map(target => new Option(target)));
  }

  cause() {
    const name = $("fault-name").value, row = this.rows.get(name), typed = $("fault-value").value;
    const number = row.unit === "" || typed === "" ? null : Number(typed);
    const value = row.choices.length ? $("fault-choice").value : number;
    return this.send("POST", `/faults/${encodeURIComponent(name)}`, { target: $("fault-target").value, value });
  }

  async ask(method, path, body) {
    const options = body ? { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } } : { method };
    const answer = await fetch(path, options), document = await answer.json();
    if (!answer.ok) throw new Error(document.error);
    return document;
  }

  async send(method, path, body) {
    try {
      this.show((await this.ask(method, path, body)).standing);
      $("fault-error").textContent = "";
    } catch (error) {
      $("fault-error").textContent = error.message;
    }
  }

  async refresh() {
    try {
      this.show((await this.ask("GET", "/standing")).standing);
    } catch {
      $("fault-error").textContent = "the bench does not answer";
    }
  }

  show(standing) {
    const told = JSON.stringify(standing);
    if (told === this.told) return;
    this.told = told;
    $("standing").replaceChildren(...standing.map(({ name, target, value }) => {
      const item = document.createElement("li"), button = document.createElement("button");
      const row = this.rows.get(name), unit = row?.choices.length ? "" : UNITS[row?.unit] ?? row?.unit ?? "";
      item.textContent = `${name} ${target} ${value ?? ""} ${unit}`.trimEnd();
      button.textContent = "Heal";
      button.setAttribute("aria-label", `Heal ${name} ${target}`);
      button.onclick = () => this.send("DELETE", `/faults/${encodeURIComponent(name)}`, { target });
      item.append(button);
      return item;
    }));
  }
}

const plan = await (await fetch("plan.json")).json();
const pod = new Pod(plan.root), mimic = new Mimic($("mimic"), plan);
const at = point => () => pod.number(point);
const trends = [
  new Trend($("charts"), "TCS temperature", "°C", 4, [["supply", at("pod.supply_temp")], ["return", at("pod.return_temp")], ["set point", at("pod.supply_temp_sp")]]),
  new Trend($("charts"), "TCS flow", "L/min", 60, [["flow", at(plan.flow)], ["needed", at("pod.flow_needed")]]),
  new Trend($("charts"), "IT power", "kW", 40, [["IT", at("pod.it_power")]]),
  new Trend($("charts"), "Valve and speed", "%", 10, [["HX valve", at(`${plan.valve}.position`)], ...plan.pumps.slice(0, 3).map(name => [name, at(`${name}.speed`)])]),
];
$("name").textContent = document.title = `${plan.name}, bench`;
const faults = new FaultPanel();
faults.start();
new Subscriber(plan.websocket, `${plan.root}/#`, (topic, payload) => pod.take(topic, payload), connected => {
  if (connected) pod.documents.clear();
  Object.assign(pod, { connected, changed: true });
});
setInterval(() => {
  if (!pod.changed) return;
  pod.changed = false;
  showHead(pod);
  mimic.show(pod);
  showAlarms(pod.alarms());
}, SHOW_MS);
setInterval(() => trends.forEach(trend => trend.sample(Date.now() / 1000)), SAMPLE_MS);
