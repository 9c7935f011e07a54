// Follows one job: Server-Sent Events in, text out. What comes in events is set as text, never as markup;
// the curves are drawn by the service, which escapes what it draws.
"use strict";
const job = document.getElementById("job");
const show = (id, text) => { document.getElementById(id).textContent = text; };
const stream = new EventSource(job.dataset.events);
const ended = ["succeeded", "failed", "cancelled"];
let last = Number(job.dataset.last);

function note(event) {
  const line = document.createElement("li");
  line.value = event.id;
  const time = document.createElement("time");
  const type = document.createElement("b");
  time.textContent = event.at.slice(0, 19).replace("T", " ");
  type.textContent = event.type;
  line.append(time, " ", type, " ", JSON.stringify(event.data));
  document.getElementById("events").append(line);
}

let drawing = false;
let grown = false;

async function draw() {
  grown = drawing;
  if (drawing) return; // once more when this one is through
  drawing = true;
  try {
    const answer = await fetch(job.dataset.curves);
    const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (answer.ok) document.getElementById("curves").replaceChildren(...parsed.body.childNodes);
  } finally {
    setTimeout(() => { drawing = false; if (grown) draw(); }, 2000);
  }
}

const react = {
  status(data) {
    show("status", data.status);
    document.getElementById("status").className = "status " + data.status;
    if (ended.includes(data.status)) { stream.close(); location.reload(); }
  },
  stage(data) {
    show("stage", data.stage);
    show("steps", "");
    document.getElementById("progress").removeAttribute("value");
  },
  progress(data) {
    show("steps", data.total ? `${data.done} of ${data.total} ${data.unit || ""}` : "");
    const bar = document.getElementById("progress");
    if (data.total) { bar.max = data.total; bar.value = data.done; }
  },
};

for (const type of ["status", "stage", "progress", "metric", "warning", "checkpoint"]) {
  stream.addEventListener(type, (message) => {
    const event = JSON.parse(message.data);
    if (event.id <= last) return; // the page was rendered with it
    last = event.id;
    if (type === "metric") draw(); else note(event);
    if (react[type]) react[type](event.data);
  });
}
