"use strict";
// Draws a replayed episode. `head` names the arrays of the compressed block; bar i of all of them
// is bar i of the episode. Two canvases lie on each other: the charts, and the cursor above them.

(() => {
const $ = (id) => document.getElementById(id);
const head = JSON.parse($("head").textContent);
const N = head.n, NONE = head.none, EVENT = head.events, A = head.actions.length;
const KINDS = { f8: Float64Array, f4: Float32Array, i4: Int32Array, u4: Uint32Array, u2: Uint16Array, u1: Uint8Array };
const ANY_EVENT = EVENT.ENTRY | EVENT.EXIT | EVENT.MANAGED | EVENT.REFUSED | EVENT.LOCKED_OUT | EVENT.END;
const MIN_SPAN = Math.min(12, N), GUTTER = 74, AXIS = 20, ROW = 10;
let d = null, trips = [], cursor = 0, hover = -1, mouse = null, colors = {};
let view = { from: 0, to: Math.max(N, 1) };
let size = { w: 0, h: 0, ratio: 1 }, panes = {}, scales = {}, isDirty = false;
const charts = $("charts"), base = $("base").getContext("2d"), over = $("over").getContext("2d");

async function unpack() {
  const text = atob($("block").textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const arrays = {};
  for (const [name, [kind, at, count]] of Object.entries(head.arrays))
    arrays[name] = new KINDS[kind](buffer, at, count);
  return arrays;
}

// --- words -----------------------------------------------------------------------------------

const price = (ticks) => (ticks * head.tick).toFixed(head.places);
const plainUsd = (mills, digits = 2) => (Math.abs(mills) / 1000).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: Math.max(digits, mills % 10 ? 3 : digits) });
const usd = (mills, digits = 2) => (mills < 0 ? "−" : "") + plainUsd(mills, digits);
const signed = (mills, digits = 2) => (mills < 0 ? "−" : "+") + plainUsd(mills, digits);
const two = (x) => String(x).padStart(2, "0");
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const eastern = (i, add = 0) => new Date((d.time[i] + (d.eastern[i] + add) * 60) * 1000);
const clock = (at) => `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
const day = (at) => `${DAYS[at.getUTCDay()]} ${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())}`;
const shortDay = (at) => `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`;
const sharp = (x) => (x === 0 ? "0" : Math.abs(x) >= 1000 ? x.toFixed(0) : Math.abs(x) >= 0.001 ? Number(x.toPrecision(4)).toString() : x.toExponential(1));
const contracts = (q) => `${Math.abs(q)} ${q > 0 ? "long" : "short"}`;
const span = (minutes) => (minutes < 0 ? "passed" : minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`);

// --- what happened ---------------------------------------------------------------------------

function listTrips() {
  const found = [];
  let open = null;
  for (let i = 0; i < N; i++) {
    if (d.entry_qty[i]) open = { start: i, end: N - 1, qty: d.entry_qty[i], entry: d.entry_price[i], exit: NONE, net: 0, reason: 0 };
    if (d.exit_qty[i] && open) {
      found.push(Object.assign(open, { end: i, exit: d.exit_price[i], net: d.trip_net[i], reason: d.exit_reason[i] }));
      open = null;
    }
  }
  if (open) found.push(open);
  return found;
}

function stops(i) {
  const kind = $("kinds").value, bits = d.happening[i];
  if (kind === "all") return (bits & ANY_EVENT) !== 0;
  if (kind === "LOSS") return (bits & EVENT.EXIT) !== 0 && d.trip_net[i] < 0;
  return (bits & EVENT[kind]) !== 0;
}

function jump(by) {
  for (let i = cursor + by; i >= 0 && i < N; i += by) if (stops(i)) return moveTo(i);
  flash();
}

function flash() { $("place").animate([{ opacity: 0.25 }, { opacity: 1 }], 250); }

// --- view ------------------------------------------------------------------------------------

const plotWidth = () => size.w - GUTTER;
const step = () => plotWidth() / (view.to - view.from);
const xOf = (i) => (i - view.from) * step();
const barAt = (x) => Math.floor(view.from + x / step());
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

function setView(from, to) {
  const width = clamp(to - from, MIN_SPAN, N);
  from = clamp(from, 0, N - width);
  view = { from, to: from + width };
  redraw();
}

function zoom(factor, at = xOf(cursor + 0.5)) {
  const share = clamp(at / plotWidth(), 0, 1), width = clamp((view.to - view.from) * factor, MIN_SPAN, N);
  const anchor = view.from + share * (view.to - view.from);
  setView(anchor - share * width, anchor + (1 - share) * width);
}

function moveTo(i) {
  cursor = clamp(Math.round(i), 0, N - 1);
  const width = view.to - view.from, edge = width * 0.06;
  if (cursor < view.from + edge) setView(cursor - width * 0.3, cursor + width * 0.7);
  else if (cursor + 1 > view.to - edge) setView(cursor - width * 0.7, cursor + width * 0.3);
  redraw();
}

function redraw() {
  if (isDirty || !d) return;
  isDirty = true;
  requestAnimationFrame(() => { isDirty = false; draw(); });
}

function draw() {
  drawBase();
  drawOver();
  inspect();
  remember();
}

let keeps = 0;
function remember() {
  clearTimeout(keeps);
  keeps = setTimeout(() => {
    const theme = document.documentElement.dataset.theme;
    const parts = [`bar=${cursor}`, `span=${Math.round(view.to - view.from)}`].concat(theme ? [`theme=${theme}`] : []);
    try { history.replaceState(null, "", "#" + parts.join("&")); } catch { /* some viewers forbid it */ }
  }, 300);
}

function layout() {
  const box = charts.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  const now = { w: Math.max(box.width, 240), h: Math.max(box.height, 300), ratio };
  if (now.w === size.w && now.h === size.h && now.ratio === size.ratio) return;
  size = now;
  for (const canvas of [base.canvas, over.canvas]) {
    canvas.width = Math.round(size.w * ratio);
    canvas.height = Math.round(size.h * ratio);
  }
  const strip = A * ROW + 6, map = 46, free = size.h - AXIS - strip - map - 18;
  const top = 4, high = Math.round(free * 0.64);
  panes = { price: { y: top, h: high }, equity: { y: top + high + 6, h: free - high } };
  panes.strip = { y: panes.equity.y + panes.equity.h + 6, h: strip };
  panes.axis = { y: panes.strip.y + strip, h: AXIS };
  panes.map = { y: panes.axis.y + AXIS + 2, h: map };
  if (colors.ink) draw(); // at once: a canvas of another size is empty
}

function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const role of ["ink", "muted", "grid", "surface", "agent", "rival", "other", "good", "bad", "warn", "amber", "idle", "faint"])
    colors[role] = style.getPropertyValue(`--${role}`).trim();
  redraw();
}

const alpha = (color, share) => color + two16(Math.round(share * 255));
const two16 = (x) => x.toString(16).padStart(2, "0");

// --- drawing ---------------------------------------------------------------------------------

function scaleOf(pane, low, high, pad = 0.06) {
  const room = Math.max(high - low, 1) * pad;
  low -= room; high += room;
  const unit = pane.h / (high - low);
  return { low, high, y: (v) => pane.y + (high - v) * unit, v: (y) => high - (y - pane.y) / unit };
}

function line(c, color, width, dash = []) { c.strokeStyle = color; c.lineWidth = width; c.setLineDash(dash); c.beginPath(); }

function niceSteps(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const unit = [1, 2, 2.5, 5, 10].map((m) => m * power).find((u) => u >= raw);
  const found = [];
  for (let v = Math.ceil(low / unit) * unit; v <= high; v += unit) found.push(v);
  return found;
}

function drawBase() {
  const c = base, { w, h, ratio } = size;
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, w, h);
  c.font = "11px " + getComputedStyle(document.body).fontFamily;
  c.textBaseline = "middle";
  const first = clamp(Math.floor(view.from), 0, N - 1), last = clamp(Math.ceil(view.to), 1, N);
  scales = { price: priceScale(first, last), equity: equityScale(first, last) };
  drawAxis(c, first, last);
  clipped(c, panes.price, () => drawPrice(c, first, last));
  clipped(c, panes.equity, () => drawEquity(c, first, last));
  clipped(c, panes.strip, () => drawStrip(c, first, last));
  drawGutters(c);
  drawMap(c);
}

function clipped(c, pane, paint) {
  c.save();
  c.beginPath();
  c.rect(0, pane.y, plotWidth(), pane.h);
  c.clip();
  paint();
  c.restore();
}

function priceScale(first, last) {
  let low = Infinity, high = -Infinity;
  const withLevels = last - first <= 420;
  for (let i = first; i < last; i++) {
    if (d.low[i] < low) low = d.low[i];
    if (d.high[i] > high) high = d.high[i];
    if (!withLevels) continue;
    for (const level of [d.stop_in_force[i], d.target_in_force[i]]) {
      if (level === NONE) continue;
      if (level < low) low = level;
      if (level > high) high = level;
    }
  }
  return scaleOf(panes.price, low, high, 0.08);
}

// The equity's own range, widened to take in each level that does not flatten it.
function equityScale(first, last) {
  let [low, high] = extent(d.equity, first, last);
  const least = Math.min(head.allowance, 1e7) * 0.12;
  if (high - low < least) { const add = (least - high + low) / 2; low -= add; high += add; }
  const reach = 3 * (high - low), levels = [[high, high]];
  for (const column of [d.floor, d.limit_level, d.peak]) levels.push(extent(column, first, last));
  if (head.targetBalance !== null) levels.push([head.targetBalance, head.targetBalance]);
  let [lowest, most] = [low, high];
  for (const [a, b] of levels) {
    if (a === Infinity) continue;
    if (a >= low - reach && b <= high + reach) { lowest = Math.min(lowest, a); most = Math.max(most, b); }
  }
  return scaleOf(panes.equity, lowest, most, 0.09);
}

function extent(column, first, last) {
  let low = Infinity, high = -Infinity;
  for (let i = first; i < last; i++) {
    if (column[i] === NONE) continue;
    if (column[i] < low) low = column[i];
    if (column[i] > high) high = column[i];
  }
  return [low, high];
}

const MINUTE_STEPS = [5, 10, 15, 30, 60, 120, 240, 480];

function drawAxis(c, first, last) {
  const w = step(), perMinute = w / head.barMinutes;
  const minutes = MINUTE_STEPS.find((m) => m >= head.barMinutes && m * perMinute >= 62);
  let reached = -1e9;
  const y = panes.axis.y + AXIS / 2;
  c.textAlign = "left";
  for (let i = first; i < last; i++) {
    const isDay = i === 0 || (d.happening[i] & EVENT.NEW_DAY) !== 0;
    const stamp = Math.floor(d.time[i] / 60) + d.eastern[i];
    const isTick = minutes !== undefined && stamp % minutes === 0;
    if (!isDay && !isTick) continue;
    const x = xOf(i);
    if (isDay) {
      line(c, alpha(colors.faint, 0.55), 1);
      c.moveTo(x, panes.price.y); c.lineTo(x, panes.axis.y + 5); c.stroke();
    }
    if (x < reached || x > plotWidth() - 30) continue;
    if (!isDay) {
      line(c, colors.grid, 1);
      c.moveTo(x, panes.price.y); c.lineTo(x, panes.axis.y); c.stroke();
    }
    const text = isDay ? shortDay(eastern(i, 360)) : clock(eastern(i));
    c.fillStyle = isDay ? colors.ink : colors.muted;
    c.fillText(text, x + 3, y);
    reached = x + c.measureText(text).width + 18;
  }
  for (const pane of [panes.price, panes.equity]) {
    const scale = pane === panes.price ? scales.price : scales.equity;
    line(c, colors.grid, 1);
    for (const v of gridValues(pane, scale)) { c.moveTo(0, scale.y(v)); c.lineTo(plotWidth(), scale.y(v)); }
    c.stroke();
  }
}

function gridValues(pane, scale) {
  const unit = pane === panes.price ? head.tick : 0.001;
  return niceSteps(scale.low * unit, scale.high * unit, Math.max(pane.h / 46, 2)).map((v) => v / unit);
}

function drawGutters(c) {
  const x = plotWidth() + 7;
  c.textAlign = "left";
  c.fillStyle = colors.muted;
  for (const v of gridValues(panes.price, scales.price)) if (fits(panes.price, scales.price.y(v))) c.fillText(price(v), x, scales.price.y(v));
  for (const v of gridValues(panes.equity, scales.equity)) if (fits(panes.equity, scales.equity.y(v))) c.fillText(usd(v, 0), x, scales.equity.y(v));
  c.font = "10px " + getComputedStyle(document.body).fontFamily;
  for (let a = 0; a < A; a++) c.fillText(head.actions[a].replace("_", " "), x, panes.strip.y + 3 + a * ROW + ROW / 2);
  line(c, colors.grid, 1);
  for (const pane of [panes.equity, panes.strip, panes.axis]) { c.moveTo(0, pane.y - 3); c.lineTo(size.w, pane.y - 3); }
  c.moveTo(plotWidth() + 0.5, 0); c.lineTo(plotWidth() + 0.5, panes.axis.y); c.stroke();
}

const fits = (pane, y) => y > pane.y + 7 && y < pane.y + pane.h - 5;

function drawPrice(c, first, last) {
  const w = step(), { y } = scales.price;
  for (const trip of visible(first, last)) {
    c.fillStyle = alpha(trip.qty > 0 ? colors.agent : colors.other, 0.1);
    c.fillRect(xOf(trip.start), panes.price.y, Math.max((trip.end + 1 - trip.start) * w, 1), panes.price.h);
  }
  if (w >= 1.6) drawCandles(c, first, last, w, y); else drawRanges(c, y);
  if (w >= 0.8) {
    drawLevel(c, d.stop_in_force, first, last, colors.bad, y);
    drawLevel(c, d.target_in_force, first, last, colors.good, y);
  }
  const shown = visible(first, last), isAt = (trip) => trip.start <= cursor && cursor <= trip.end;
  for (const trip of shown) drawTrip(c, trip, w, y);
  if (w >= 4) drawLabels(c, [...shown.filter(isAt), ...shown.filter((trip) => !isAt(trip))], w, y);
  if (last === N && head.outcome !== "open") {
    line(c, head.outcome === "passed" ? colors.good : colors.bad, 1.5);
    c.moveTo(xOf(N), panes.price.y); c.lineTo(xOf(N), panes.price.y + panes.price.h); c.stroke();
  }
}

function visible(first, last) {
  let a = 0, b = trips.length;
  while (a < b) { const m = (a + b) >> 1; if (trips[m].end < first) a = m + 1; else b = m; }
  let end = a;
  while (end < trips.length && trips[end].start < last) end++;
  return trips.slice(a, end);
}

function drawCandles(c, first, last, w, y) {
  const body = Math.max(Math.min(w * 0.68, w - 1, 18), 1), inset = (w - body) / 2;
  const rising = new Path2D(), falling = new Path2D(), wicks = new Path2D();
  for (let i = first; i < last; i++) {
    const x = xOf(i), o = y(d.open[i]), s = y(d.close[i]);
    wicks.rect(x + w / 2 - 0.5, y(d.high[i]), 1, Math.max(y(d.low[i]) - y(d.high[i]), 1));
    (d.close[i] >= d.open[i] ? rising : falling).rect(x + inset, Math.min(o, s), body, Math.max(Math.abs(o - s), 1));
  }
  c.setLineDash([]);
  c.fillStyle = colors.rival;
  c.fill(wicks);
  c.fillStyle = body >= 4 ? colors.surface : colors.idle;
  c.fill(rising);
  if (body >= 4) { c.strokeStyle = colors.rival; c.lineWidth = 1; c.stroke(rising); }
  c.fillStyle = colors.rival;
  c.fill(falling);
}

function drawRanges(c, y) {
  c.fillStyle = colors.rival;
  const path = new Path2D(), width = Math.ceil(plotWidth());
  for (let x = 0; x < width; x++) {
    const a = clamp(barAt(x), 0, N - 1), b = Math.max(clamp(barAt(x + 1), 0, N), a + 1);
    let low = Infinity, high = -Infinity;
    for (let i = a; i < b && i < N; i++) { if (d.low[i] < low) low = d.low[i]; if (d.high[i] > high) high = d.high[i]; }
    path.rect(x, y(high), 1, Math.max(y(low) - y(high), 1));
  }
  c.fill(path);
}

function drawLevel(c, levels, first, last, color, y) {
  const w = step();
  line(c, color, 1.4);
  for (let i = first; i < last; i++) {
    if (levels[i] === NONE) continue;
    const at = Math.round(y(levels[i])) + 0.5;
    if (i > first && levels[i - 1] !== NONE && d.entry_qty[i] === 0) c.lineTo(xOf(i), at); else c.moveTo(xOf(i), at);
    c.lineTo(xOf(i) + w, at);
  }
  c.stroke();
}

function drawTrip(c, trip, w, y) {
  const tone = trip.qty > 0 ? colors.agent : colors.other, up = trip.qty > 0 ? 1 : -1;
  const r = clamp(w * 0.55, 2.5, 6), x0 = xOf(trip.start) + Math.min(w / 2, 3), x1 = xOf(trip.end) + w / 2;
  if (trip.exit !== NONE) {
    line(c, alpha(trip.net >= 0 ? colors.good : colors.bad, 0.9), w < 1 ? 1 : 1.3, w < 1 ? [] : [3, 3]);
    c.moveTo(x0, y(trip.entry)); c.lineTo(x1, y(trip.exit)); c.stroke();
    c.setLineDash([]);
  }
  if (w < 0.25) return;
  c.fillStyle = tone; c.strokeStyle = colors.surface; c.lineWidth = 1;
  c.beginPath();
  c.moveTo(x0, y(trip.entry) - up * r * 1.2); c.lineTo(x0 - r, y(trip.entry) + up * r * 0.8); c.lineTo(x0 + r, y(trip.entry) + up * r * 0.8);
  c.closePath(); c.fill(); c.stroke();
  if (trip.exit !== NONE) {
    c.fillStyle = trip.net >= 0 ? colors.good : colors.bad;
    c.beginPath(); c.arc(x1, y(trip.exit), r * 0.85, 0, 7); c.fill(); c.stroke();
  }
}

// Names entries to their left and exits to their right, as far as there is room; the trip at the
// cursor comes first.
function drawLabels(c, shown, w, y) {
  const taken = [], r = clamp(w * 0.55, 2.5, 6) + 5;
  for (const trip of shown) {
    const x0 = xOf(trip.start) + Math.min(w / 2, 3), x1 = xOf(trip.end) + w / 2;
    label(c, taken, contracts(trip.qty), x0 - r, y(trip.entry), trip.qty > 0 ? colors.agent : colors.other, -1);
    if (trip.exit === NONE) continue;
    const text = `${head.fillReasons[trip.reason]} ${signed(trip.net)}`;
    label(c, taken, text, x1 + r, y(trip.exit), trip.net >= 0 ? colors.good : colors.bad, 1);
  }
}

function label(c, taken, text, x, y, color, side) {
  const width = c.measureText(text).width + 6, room = plotWidth();
  let left = side > 0 ? x : x - width;
  if (left < 2) left = x + 10;
  if (left + width > room - 2) left = x - width - 22;
  const top = clamp(y, panes.price.y + 8, panes.price.y + panes.price.h - 8) - 8;
  const box = [left, top, left + width, top + 16];
  if (box[1] < panes.price.y + 24 && box[0] < 370) return;
  if (taken.some((t) => box[0] < t[2] && t[0] < box[2] && box[1] < t[3] && t[1] < box[3])) return;
  taken.push(box);
  c.fillStyle = alpha(colors.surface, 0.8);
  c.beginPath(); c.roundRect(left, top, width, 16, 4); c.fill();
  c.fillStyle = color;
  c.textAlign = "left";
  c.fillText(text, left + 3, top + 8.5);
}

// Walks a column as a path: every bar where there is room, else the lowest and highest of a pixel.
function trace(c, column, first, last, y) {
  const w = step();
  let isDown = false;
  if (w >= 1) {
    for (let i = first; i < last; i++) {
      if (column[i] === NONE) { isDown = false; continue; }
      const x = xOf(i + 0.5);
      if (isDown) c.lineTo(x, y(column[i])); else c.moveTo(x, y(column[i]));
      isDown = true;
    }
    return;
  }
  const width = Math.ceil(plotWidth());
  for (let x = 0; x < width; x++) {
    const a = clamp(barAt(x), 0, N - 1), b = Math.max(clamp(barAt(x + 1), 0, N), a + 1);
    let low = Infinity, high = -Infinity;
    for (let i = a; i < b; i++) { const v = column[i]; if (v === NONE) continue; if (v < low) low = v; if (v > high) high = v; }
    if (high === -Infinity) { isDown = false; continue; }
    if (isDown) c.lineTo(x, y(high)); else c.moveTo(x, y(high));
    if (low !== high) c.lineTo(x, y(low));
    isDown = true;
  }
}

function drawEquity(c, first, last) {
  const { y } = scales.equity;
  const bottom = new Path2D();
  if (d.floor[first] !== NONE) {
    trace(bottom, d.floor, first, last, y);
    bottom.lineTo(xOf(last), panes.equity.y + panes.equity.h);
    bottom.lineTo(xOf(first), panes.equity.y + panes.equity.h);
    c.fillStyle = alpha(colors.bad, 0.1);
    c.fill(bottom);
    line(c, colors.bad, 1.5); trace(c, d.floor, first, last, y); c.stroke();
    line(c, colors.idle, 1, [1, 3]); trace(c, d.peak, first, last, y); c.stroke();
  }
  if (head.targetBalance !== null) {
    line(c, colors.good, 1.4, [6, 4]);
    c.moveTo(0, y(head.targetBalance)); c.lineTo(xOf(last), y(head.targetBalance)); c.stroke();
  }
  line(c, colors.amber, 1.4, [4, 3]); trace(c, d.limit_level, first, last, y); c.stroke();
  line(c, colors.agent, 1.6); trace(c, d.equity, first, last, y); c.stroke();
  c.setLineDash([]);
  c.textAlign = "left";
  key(c, [["equity", colors.agent], ["floor", colors.bad], ["peak", colors.idle], ["target", colors.good], ["daily limit", colors.amber]]);
  tags(c, last);
}

function key(c, items) {
  let x = 10;
  const y = panes.equity.y + 11;
  const shown = [];
  for (const [name, color] of items) {
    if (name === "target" && head.targetBalance === null) continue;
    if (name === "daily limit" && d.limit_level[0] === NONE) continue;
    if ((name === "floor" || name === "peak") && d.floor[0] === NONE) continue;
    shown.push([name, color, x]);
    x += 30 + c.measureText(name).width;
  }
  c.fillStyle = alpha(colors.surface, 0.82);
  c.beginPath(); c.roundRect(4, y - 9, x - 14, 18, 5); c.fill();
  for (const [name, color, left] of shown) {
    c.fillStyle = color;
    c.fillRect(left, y - 1, 12, 2.5);
    c.fillStyle = colors.muted;
    c.fillText(name, left + 16, y);
  }
}

// Names the levels that lie beyond the pane, with an arrow towards them.
function tags(c, last) {
  const beyond = [["target", head.targetBalance === null ? NONE : head.targetBalance, colors.good], ["floor", d.floor[last - 1], colors.bad], ["daily limit", d.limit_level[last - 1], colors.amber]];
  let up = 0, down = 0;
  c.textAlign = "right";
  for (const [name, level, color] of beyond) {
    if (level === NONE || (level <= scales.equity.high && level >= scales.equity.low)) continue;
    const isUp = level > scales.equity.high, n = isUp ? up++ : down++;
    c.fillStyle = color;
    c.fillText(`${name} ${usd(level, 0)} ${isUp ? "↑" : "↓"}`, plotWidth() - 8, isUp ? panes.equity.y + 11 + 14 * n : panes.equity.y + panes.equity.h - 9 - 14 * n);
  }
  c.textAlign = "left";
}

function actionColor(a) {
  const name = head.actions[a];
  if (name.startsWith("long")) return colors.agent;
  if (name.startsWith("short")) return colors.other;
  return name === "hold" ? colors.idle : name === "close" ? colors.ink : colors.amber;
}

function drawStrip(c, first, last) {
  const w = step(), top = panes.strip.y + 3;
  const columns = w >= 1 ? last - first : Math.ceil(plotWidth());
  const tones = head.actions.map((_, a) => actionColor(a));
  const legal = [], chosen = [], width = w >= 3 ? w - 1 : Math.max(w, 1);
  for (let a = 0; a < A; a++) { legal.push(new Path2D()); chosen.push(new Path2D()); }
  for (let k = 0; k < columns; k++) {
    const a0 = w >= 1 ? first + k : clamp(barAt(k), 0, N - 1);
    const b0 = w >= 1 ? a0 + 1 : Math.max(clamp(barAt(k + 1), 0, N), a0 + 1);
    let mask = 0, taken = 0;
    for (let i = a0; i < b0 && i < N; i++) { mask |= d.mask[i]; taken |= 1 << d.action[i]; }
    const x = w >= 1 ? xOf(a0) : k;
    for (let a = 0; a < A; a++) {
      if ((mask >> a) & 1) legal[a].rect(x, top + a * ROW + 1, width, ROW - 2);
      if ((taken >> a) & 1) chosen[a].rect(x, top + a * ROW + 1, Math.max(width, a ? 1.6 : 1), ROW - 2);
    }
  }
  for (let a = 0; a < A; a++) {
    c.fillStyle = alpha(colors.idle, 0.2);
    c.fill(legal[a]);
    c.fillStyle = a ? tones[a] : alpha(colors.idle, 0.5);
    c.fill(chosen[a]);
  }
}

let mapImage = null, mapKey = "";
function drawMap(c) {
  const pane = panes.map, width = plotWidth();
  const name = [width, size.ratio, pane.y, colors.ink, colors.surface].join();
  if (name !== mapKey) { mapImage = paintMap(width, pane.h); mapKey = name; }
  c.drawImage(mapImage, 0, pane.y, width, pane.h);
  const a = (view.from / N) * width, b = (view.to / N) * width;
  c.fillStyle = alpha(colors.surface, 0.66);
  c.fillRect(0, pane.y, a, pane.h);
  c.fillRect(b, pane.y, width - b, pane.h);
  line(c, colors.agent, 1.2);
  c.strokeRect(a + 0.5, pane.y + 0.5, Math.max(b - a - 1, 2), pane.h - 1.5);
  c.fillStyle = colors.muted;
  c.textAlign = "left";
  c.fillText("whole", plotWidth() + 7, pane.y + pane.h / 2 - 6);
  c.fillText("episode", plotWidth() + 7, pane.y + pane.h / 2 + 6);
}

function paintMap(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(Math.round(width * size.ratio), 1);
  canvas.height = Math.round(height * size.ratio);
  const c = canvas.getContext("2d");
  c.scale(size.ratio, size.ratio);
  c.fillStyle = alpha(colors.idle, 0.1);
  c.fillRect(0, 0, width, height);
  const saved = view;
  view = { from: 0, to: N };
  const own = scaleOf({ y: 4, h: height - 8 }, ...range(), 0.02);
  for (const trip of trips) {
    c.fillStyle = alpha(trip.net >= 0 ? colors.good : colors.bad, 0.55);
    c.fillRect(xOf(trip.end + 0.5) - 0.5, height - 5, 1, 5);
  }
  line(c, colors.bad, 1); trace(c, d.floor, 0, N, own.y); c.stroke();
  line(c, colors.agent, 1.2); trace(c, d.equity, 0, N, own.y); c.stroke();
  view = saved;
  return canvas;
}

function range() {
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < N; i++) {
    if (d.equity[i] > high) high = d.equity[i];
    if (d.equity[i] < low) low = d.equity[i];
    if (d.floor[i] !== NONE && d.floor[i] < low) low = d.floor[i];
  }
  return [low, high];
}

function drawOver() {
  const c = over, w = step(), bottom = panes.axis.y;
  c.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
  c.clearRect(0, 0, size.w, size.h);
  c.font = base.font.replace(/^\S+/, "11px");
  c.textBaseline = "middle";
  const x = xOf(cursor);
  if (x + w >= 0 && x <= plotWidth()) {
    c.fillStyle = alpha(colors.ink, w > 4 ? 0.09 : 0.55);
    c.fillRect(x + (w > 4 ? 0 : w / 2 - 0.5), panes.price.y, w > 4 ? w : 1, bottom - panes.price.y);
    c.fillStyle = colors.ink;
    c.beginPath(); c.moveTo(x + w / 2, bottom - 1); c.lineTo(x + w / 2 - 4, bottom + 6); c.lineTo(x + w / 2 + 4, bottom + 6); c.fill();
  }
  c.fillStyle = colors.ink;
  c.fillRect((cursor / N) * plotWidth() - 0.5, panes.map.y, 1.5, panes.map.h);
  if (hover >= 0 && mouse) drawCross(c);
  const at = hover >= 0 ? hover : cursor;
  $("legend").innerHTML = `${day(eastern(at))} <b>${clock(eastern(at))}</b> ET &nbsp; O <b>${price(d.open[at])}</b> H <b>${price(d.high[at])}</b> L <b>${price(d.low[at])}</b> C <b>${price(d.close[at])}</b>`;
}

function drawCross(c) {
  const x = xOf(hover + 0.5);
  line(c, colors.muted, 1, [2, 3]);
  c.moveTo(x, panes.price.y); c.lineTo(x, panes.axis.y);
  const pane = [panes.price, panes.equity].find((p) => mouse.y >= p.y && mouse.y <= p.y + p.h);
  if (pane) { c.moveTo(0, mouse.y); c.lineTo(plotWidth(), mouse.y); }
  c.stroke();
  c.setLineDash([]);
  if (!pane) return;
  const scale = pane === panes.price ? scales.price : scales.equity;
  const text = pane === panes.price ? price(Math.round(scale.v(mouse.y))) : usd(Math.round(scale.v(mouse.y) / 1000) * 1000, 0);
  c.fillStyle = colors.ink;
  c.beginPath(); c.roundRect(plotWidth() + 2, mouse.y - 9, GUTTER - 6, 18, 4); c.fill();
  c.fillStyle = colors.surface;
  c.textAlign = "left";
  c.fillText(text, plotWidth() + 7, mouse.y + 0.5);
}

// --- the inspector ---------------------------------------------------------------------------

const cells = {};
let largest = [];

function build() {
  const row = (name, text) => `<div class="row"><span>${text}</span><span data-cell="${name}"></span></div>`;
  const meter = (name) => `<div class="meter"><i data-cell="${name}"></i></div>`;
  const acts = head.actions.map((name, a) => `<div class="act" data-cell="act${a}"><span>${name.replace("_", " ")}</span><span class="track"><i></i></span><span></span><span></span></div>`);
  const seen = head.observation.map((name, f) => `<div class="seen" data-cell="seen${f}" title="${name}"><span>${name}</span><span class="track"><i></i></span><span></span></div>`);
  const terms = head.terms.map((name, k) => row("term" + k, `${name} × ${sharp(head.weights[k])}`));
  $("inspector").innerHTML = `
    <h2>Decision <span data-cell="decided"></span></h2>
    <div class="tell" data-cell="order"></div>
    <div class="act quiet"><span>action</span><span>probability</span><span></span><span>logit</span></div>${acts.join("")}
    ${row("value", "value (critic)")}
    <h2>In this bar <span data-cell="bar"></span></h2>
    <div class="tell" data-cell="filled"></div><div class="tell" data-cell="closed"></div><div class="tell" data-cell="else"></div>
    ${row("range", "range")}
    <h2>Account <span>at the close</span></h2>
    ${row("position", "position")}${row("openpnl", "open P&amp;L")}${row("stop", "stop")}${row("target", "target")}
    ${row("equity", "equity")}${row("balance", "balance")}${row("peak", "peak")}
    <h2>To each rule <span>at the close</span></h2>
    ${row("cushion", "floor")}${meter("cushionbar")}${row("totarget", "profit target")}${meter("targetbar")}${row("tolimit", "daily limit")}${row("toflat", "flat-by")}
    ${row("left", "time limit")}${row("missing", "days that must count")}${row("consistency", "best-day rule")}${row("size", "size limit leaves")}
    <h2>Reward <span data-cell="reward"></span></h2>
    ${terms.join("")}${row("sum", "sum so far")}
    <h2>Observation <input id="filter" type="search" placeholder="filter" aria-label="Filter observations by name"></h2>
    ${seen.join("")}`;
  for (const cell of $("inspector").querySelectorAll("[data-cell]")) cells[cell.dataset.cell] = cell;
  $("filter").addEventListener("input", () => {
    const wanted = $("filter").value.toLowerCase();
    head.observation.forEach((name, f) => { cells["seen" + f].style.display = name.includes(wanted) ? "" : "none"; });
  });
  largest = head.observation.map((_, f) => {
    let most = 1e-9;
    for (let i = 0; i < N; i++) most = Math.max(most, Math.abs(d.obs[f * N + i]));
    return most;
  });
}

function put(name, text, tone = "") {
  const cell = cells[name];
  if (cell.textContent !== text) cell.textContent = text;
  cell.classList.toggle("pos", tone === "pos");
  cell.classList.toggle("neg", tone === "neg");
}

const toneOf = (x) => (x > 0 ? "pos" : x < 0 ? "neg" : "");

function inspect() {
  const i = cursor, at = eastern(i);
  $("place").textContent = `${(i + 1).toLocaleString("en-US")} / ${N.toLocaleString("en-US")} · ${day(at)} ${clock(at)} ET`;
  put("decided", `at the close before ${clock(at)}`);
  put("order", orderText(i), d.reject[i] ? "neg" : "");
  inspectActions(i);
  put("value", sharp(d.value[i]));
  put("bar", `${clock(at)} to ${clock(eastern(i, head.barMinutes))}`);
  put("filled", d.entry_qty[i] ? `${contracts(d.entry_qty[i])} filled at ${price(d.entry_price[i])}` : "");
  put("closed", d.exit_qty[i] ? `${contracts(d.exit_qty[i])} closed at ${price(d.exit_price[i])}: ${head.fillReasons[d.exit_reason[i]]}, ${signed(d.trip_net[i])} USD` : "", d.exit_qty[i] ? toneOf(d.trip_net[i]) : "");
  put("else", also(i));
  put("range", `${d.high[i] - d.low[i]} ticks`);
  inspectAccount(i);
  inspectRules(i);
  put("reward", sharp(d.reward[i]));
  head.terms.forEach((_, k) => put("term" + k, sharp(d.reward_terms[k * N + i]), toneOf(d.reward_terms[k * N + i])));
  put("sum", sharp(sums[i]));
  inspectSeen(i);
}

function orderText(i) {
  const kind = head.orders[d.order[i]];
  const what = d.order[i] >= 5 ? `${kind} ${d.order_qty[i]}, stop ${d.order_stop[i]}, target ${d.order_target[i]} ticks` : kind;
  return d.reject[i] ? `${what}: refused, ${head.rejects[d.reject[i]]}` : what;
}

function also(i) {
  const bits = d.happening[i], told = [];
  if (bits & EVENT.AMBIGUOUS) told.push(`either path possible; ${head.paths[d.kept_path[i]]} kept`);
  if (bits & EVENT.LOCKED_OUT) told.push("daily limit touched: no entries until the next day");
  if (bits & EVENT.NEW_DAY) told.push("new trading day");
  if (bits & EVENT.END) told.push(`end: ${head.outcome}, ${head.doneReason}`);
  return told.join(" · ");
}

function inspectActions(i) {
  let most = -Infinity, total = 0;
  const isLegal = (a) => (d.mask[i] >> a) & 1;
  for (let a = 0; a < A; a++) if (isLegal(a)) most = Math.max(most, d.logits[a * N + i]);
  for (let a = 0; a < A; a++) if (isLegal(a)) total += Math.exp(d.logits[a * N + i] - most);
  for (let a = 0; a < A; a++) {
    const cell = cells["act" + a], share = isLegal(a) ? Math.exp(d.logits[a * N + i] - most) / total : 0;
    cell.className = "act" + (isLegal(a) ? "" : " masked") + (d.action[i] === a ? " chosen" : "");
    cell.children[1].firstChild.style.cssText = `left:0;width:${(100 * share).toFixed(1)}%`;
    cell.children[2].textContent = isLegal(a) ? (100 * share).toFixed(share >= 0.0995 || share === 0 ? 0 : 1) + " %" : "masked";
    cell.children[3].textContent = d.logits[a * N + i].toFixed(2);
  }
}

function inspectAccount(i) {
  const q = d.position[i], pnl = q * (d.close[i] - d.entry[i]) * head.tickMills;
  const away = (level) => (level === NONE ? "none" : `${price(level)} (${Math.abs(level - d.close[i])} ticks)`);
  put("position", q ? `${contracts(q)} from ${price(d.entry[i])}` : "flat");
  put("openpnl", q ? signed(pnl) : "–", q ? toneOf(pnl) : "");
  put("stop", q ? away(d.stop[i]) + (d.is_trailing[i] ? ", trailing" : "") : "–");
  put("target", q ? away(d.target[i]) : "–");
  put("equity", usd(d.equity[i]));
  put("balance", `${usd(d.balance[i])}  (${signed(d.balance[i] - head.startBalance)})`);
  put("peak", usd(d.peak[i]));
}

function inspectRules(i) {
  const none = "no such rule", has = (column) => d[column][i] !== NONE;
  const cushion = d.equity[i] - d.floor[i];
  const side = (room, level) => `${usd(Math.abs(room))} ${room < 0 ? "below" : "above"} ${usd(level)}`;
  put("cushion", has("floor") ? side(cushion, d.floor[i]) : none, has("floor") && cushion <= 0 ? "neg" : "");
  const share = has("floor") ? clamp(cushion / head.allowance, 0, 1) : 0;
  cells.cushionbar.style.cssText = `width:${100 * share}%;--tone:${share < 0.25 ? colors.bad : share < 0.5 ? colors.amber : colors.idle}`;
  const goal = head.targetBalance;
  put("totarget", goal === null ? none : d.equity[i] >= goal ? `reached (${usd(goal)})` : `${usd(goal - d.equity[i])} below ${usd(goal)}`);
  const gained = goal === null ? 0 : clamp((d.equity[i] - head.startBalance) / (goal - head.startBalance), 0, 1);
  cells.targetbar.style.cssText = `width:${100 * gained}%;--tone:${colors.good}`;
  put("tolimit", has("limit_level") ? side(d.equity[i] - d.limit_level[i], d.limit_level[i]) : none);
  put("toflat", span(d.minutes_to_flat[i]));
  put("left", has("days_left") ? `${d.days_left[i]} calendar days` : none);
  put("missing", String(d.days_missing[i]));
  put("consistency", has("to_consistency") ? `${usd(d.to_consistency[i])} of profit missing` : none);
  put("size", `${d.size_left[i]} contracts`);
}

function inspectSeen(i) {
  head.observation.forEach((_, f) => {
    const value = d.obs[f * N + i], share = (50 * value) / largest[f], cell = cells["seen" + f];
    cell.children[1].firstChild.style.cssText = `left:${Math.min(50, 50 + share)}%;width:${Math.abs(share)}%;--tone:${value < 0 ? colors.other : colors.agent}`;
    cell.children[2].textContent = sharp(value);
  });
}

// --- hands -----------------------------------------------------------------------------------

const DO = {
  first: () => moveTo(0), last: () => moveTo(N - 1), next: () => jump(1), prior: () => jump(-1),
  back: (e) => moveTo(cursor - (e.shiftKey ? 10 : 1)), on: (e) => moveTo(cursor + (e.shiftKey ? 10 : 1)),
  in: () => zoom(0.6), out: () => zoom(1 / 0.6), fit: () => setView(0, N), theme: switchTheme,
};
const KEYS = {
  ArrowLeft: "back", ArrowRight: "on", n: "next", N: "next", p: "prior", P: "prior", Home: "first", End: "last",
  "+": "in", "=": "in", "-": "out", f: "fit", 0: "fit", t: "theme",
};

function switchTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  readColors();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  DO[action](event);
}

const fingers = new Map();
let drag = null;

function place(event) {
  const box = charts.getBoundingClientRect();
  return { x: event.clientX - box.left - charts.clientLeft, y: event.clientY - box.top - charts.clientTop };
}

function onDown(event) {
  const at = place(event);
  fingers.set(event.pointerId, at);
  try { charts.setPointerCapture(event.pointerId); } catch { /* a made-up pointer cannot be captured */ }
  drag = { x: at.x, from: view.from, to: view.to, moved: false, isMap: at.y >= panes.map.y };
  if (drag.isMap) slideTo(at.x);
}

function slideTo(x) {
  const width = view.to - view.from, middle = (x / plotWidth()) * N;
  setView(middle - width / 2, middle + width / 2);
}

function onMove(event) {
  const at = place(event);
  if (fingers.size === 2 && fingers.has(event.pointerId)) return pinch(event.pointerId, at);
  if (drag && fingers.size === 1) {
    if (Math.abs(at.x - drag.x) > 3) { drag.moved = true; charts.classList.add("drags"); }
    if (drag.isMap) slideTo(at.x);
    else if (drag.moved) { const by = (drag.x - at.x) / plotWidth() * (drag.to - drag.from); setView(drag.from + by, drag.to + by); }
  }
  mouse = at;
  const i = barAt(at.x);
  hover = at.x < plotWidth() && at.y < panes.axis.y && i >= 0 && i < N ? i : -1;
  if (!isDirty) requestAnimationFrame(drawOver);
}

function pinch(id, at) {
  const [other] = [...fingers].filter(([key]) => key !== id).map(([, value]) => value);
  const before = fingers.get(id), was = Math.abs(before.x - other.x), is = Math.abs(at.x - other.x);
  fingers.set(id, at);
  if (was > 8 && is > 8) zoom(was / is, (at.x + other.x) / 2);
  if (drag) drag.moved = true;
}

function onUp(event) {
  fingers.delete(event.pointerId);
  if (!drag) return;
  const at = place(event), i = barAt(at.x);
  if (!drag.moved && !drag.isMap && at.x < plotWidth() && i >= 0 && i < N) { cursor = i; redraw(); }
  drag = null;
  charts.classList.remove("drags");
}

function onWheel(event) {
  event.preventDefault();
  const unit = event.deltaMode === 1 ? 30 : event.deltaMode === 2 ? 300 : 1;
  if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
    const by = ((event.deltaX || event.deltaY) * unit) / step();
    setView(view.from + by, view.to + by);
  } else zoom(Math.exp(clamp(event.deltaY * unit, -300, 300) * 0.0018), place(event).x);
}

function listen() {
  document.addEventListener("keydown", onKey);
  for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", (event) => { DO[button.dataset.do](event); });
  $("kinds").addEventListener("change", () => $("charts").focus());
  charts.addEventListener("pointerdown", onDown);
  charts.addEventListener("pointermove", onMove);
  charts.addEventListener("pointerup", onUp);
  charts.addEventListener("pointercancel", onUp);
  charts.addEventListener("pointerleave", () => { hover = -1; mouse = null; drawOver(); });
  charts.addEventListener("wheel", onWheel, { passive: false });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColors);
  new ResizeObserver(layout).observe(charts);
}

// --- start -----------------------------------------------------------------------------------

let sums = null;

function addUp() {
  sums = new Float32Array(N);
  for (let i = 0, total = 0; i < N; i++) { total = Math.fround(total + d.reward[i]); sums[i] = total; }
}

function begin() {
  const wish = new URLSearchParams(location.hash.slice(1));
  if (wish.get("theme")) document.documentElement.dataset.theme = wish.get("theme");
  const bar = wish.get("bar");
  cursor = bar === "end" ? N - 1 : clamp(Number(bar) || 0, 0, N - 1);
  const width = clamp(Number(wish.get("span")) || (bar ? 240 : N), MIN_SPAN, N);
  layout();
  readColors();
  setView(cursor - width * (bar === "end" ? 0.9 : 0.5), cursor + width * (bar === "end" ? 0.1 : 0.5));
  if (!bar) cursor = Math.max(trips.length ? trips[0].start : 0, 0);
  draw();
}

unpack().then((arrays) => {
  d = arrays;
  trips = listTrips();
  addUp();
  build();
  listen();
  begin();
  window.passlineReplay = {
    data: d, head, trips, draw, moveTo, setView, zoom,
    cursor: () => cursor, view: () => ({ ...view }), scales: () => scales, panes: () => panes, xOf,
  };
  document.dispatchEvent(new Event("replay-ready"));
}).catch((error) => {
  $("inspector").textContent = `This page could not be opened: ${error}. It needs a browser of 2023 or later.`;
  throw error;
});
})();
