// Shows /status.json, once a second. Names and reasons come from strangers: they are only ever text.
"use strict";

const POLL_MS = 1000;
const POINTS = 120;
const rates = [];
let last = null;

const at = (id) => document.getElementById(id);
const put = (id, text) => { at(id).textContent = text; };
const whole = (number) => number.toLocaleString("en").replaceAll(",", "\u2009");

// As on standard error: two units at most.
function span(s) {
  if (s < 10) return s.toFixed(1) + " s";
  if (s < 60) return Math.floor(s) + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + Math.floor(s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor(s / 60 % 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor(s / 3600 % 24) + " h";
}

function rate(perS) {
  if (perS === 0) return "0/s";
  if (perS < 0.5) return (perS * 60).toFixed(2) + "/min";
  return (perS < 100 ? perS.toFixed(1) : whole(Math.round(perS))) + "/s";
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let power = 0;
  for (; count >= 1024 && power < units.length - 1; power++) count /= 1024;
  return (power && count < 10 ? count.toFixed(1) : Math.floor(count)) + " " + units[power];
}

function cell(text, className) {
  const td = document.createElement("td");
  td.textContent = text;
  td.className = className ?? "n";
  return td;
}

function workerRow(worker) {
  const tr = document.createElement("tr");
  const mood = { up: "good", lost: "bad", unusable: "bad", unreachable: "bad" }[worker.state];
  const slots = worker.slots + (worker.slots_hung ? " (" + worker.slots_hung + " hung)" : "");
  tr.append(
    cell(worker.name, ""),
    cell(worker.state, mood ?? "warn"),
    cell(slots),
    cell(Math.floor(worker.busy * 100) + "%"),
    cell(worker.cpu_s === null ? "–" : span(worker.cpu_s), "n wide"),
    cell(whole(worker.in_flight), "n wide"),
    cell(whole(worker.done)),
    cell(whole(worker.failed), worker.failed ? "n bad" : "n"),
    cell(whole(worker.lost), worker.lost ? "n bad" : "n"),
    cell(whole(worker.returned), "n wide"),
    cell(whole(worker.late), "n wide"),
    cell(bytes(worker.sent_bytes), "n wide"),
    cell(bytes(worker.received_bytes), "n wide"),
    cell(worker.silence_s === null ? "–" : span(worker.silence_s)),
  );
  return tr;
}

function failureItem(group) {
  const li = document.createElement("li");
  const hint = document.createElement("p");
  const ended = group.outcome === "timeout" ? " timed out: " : " failed: ";
  li.textContent = whole(group.count) + ended + group.reason;
  const where = group.worker === null ? "" : " on " + group.worker;
  hint.textContent = "The first is task " + group.task + where + "; " + group.next + ".";
  li.append(hint);
  return li;
}

// Answered since the last look, per second: the head's own rate goes back further.
function chart(status) {
  const answered = status.tasks.done + status.tasks.failed;
  const passed = last ? status.elapsed_s - last.elapsed_s : 0;
  if (!last) rates.push(status.tasks_per_s ?? 0);
  if (passed > 0) rates.push((answered - last.answered) / passed);
  last = { answered, elapsed_s: status.elapsed_s };
  rates.splice(0, rates.length - POINTS);
  const peak = Math.max(...rates, 0);
  const points = rates.map((value, i) =>
    POINTS - rates.length + i + 1 + "," + (31 - 30 * value / (peak || 1)).toFixed(2));
  at("line").setAttribute("points", points.join(" "));
  const left = POINTS - rates.length + 1;
  at("area").setAttribute("points", [left + ",32", ...points, POINTS + ",32"].join(" "));
  put("peak", rate(peak));
}

function notice(text) {
  at("notice").hidden = !text;
  put("notice", text ?? "");
}

function show(status) {
  const tasks = status.tasks;
  document.title = status.job + " – Teamster";
  put("job", status.job);
  put("state", status.state);
  put("elapsed", "for " + span(status.elapsed_s));
  put("done", whole(tasks.done));
  put("of", (tasks.total === null ? "" : "of " + whole(tasks.total) + " ") + "done" +
    (tasks.failed ? ", " + whole(tasks.failed) + " failed" : "") +
    (tasks.share === null ? "" : " (" + Math.floor(tasks.share * 100) + "%)") +
    (tasks.replayed ? ", " + whole(tasks.replayed) + " of them in an earlier run" : ""));
  at("share").hidden = tasks.share === null;
  at("share").value = tasks.share ?? 0;
  put("rate", status.tasks_per_s === null ? "–" : rate(status.tasks_per_s));
  put("left", status.left_s === null ? "–" : span(status.left_s));
  put("running", whole(tasks.running));
  put("waiting", whole(tasks.ready + tasks.in_flight - tasks.running));
  put("failed", whole(tasks.failed));
  at("failed").className = tasks.failed ? "bad" : "";
  put("up", status.workers_up + " of " + status.workers.length);
  put("busy", Math.floor(status.busy * 100) + "%");
  put("cpu", status.head_cpu_s === null ? "–" : span(status.head_cpu_s));
  chart(status);
  at("workers").replaceChildren(...status.workers.map(workerRow));
  at("failures").hidden = status.failures.length === 0;
  const groups = status.failures.map(failureItem);
  if (status.failures_other) {
    const li = document.createElement("li");
    li.textContent = whole(status.failures_other) + " for yet other reasons";
    groups.push(li);
  }
  at("groups").replaceChildren(...groups);
  notice(status.idle && "Nothing runs: " + status.idle);
}

async function poll() {
  try {
    const response = await fetch("status.json", { signal: AbortSignal.timeout(5 * POLL_MS) });
    if (!response.ok) throw new Error("the head answered " + response.status);
    show(await response.json());
  } catch (error) {
    put("state", "gone");
    notice("The head has ended, or cannot be reached (" + error.message + "). These are its last figures; " +
      "the final ones are on its standard error, and in the file of --report.");
  }
  setTimeout(poll, POLL_MS);
}

poll();
