// Follows one job: Server-Sent Events in, text out. Everything is set as text, never as markup.
"use strict";
const job = document.getElementById("job");
const show = (id, text) => { document.getElementById(id).textContent = text; };
const stream = new EventSource(job.dataset.events);
const ended = ["succeeded", "failed", "cancelled"];
let last = Number(job.dataset.last);

function note(event) {
  const line = document.createElement("li");
  const time = document.createElement("time");
  const type = document.createElement("b");
  time.textContent = event.at.slice(0, 19).replace("T", " ");
  type.textContent = event.type;
  line.append(time, " ", type, " ", JSON.stringify(event.data));
  document.getElementById("events").append(line);
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

for (const type of ["status", "stage", "progress", "metric", "warning"]) {
  stream.addEventListener(type, (message) => {
    const event = JSON.parse(message.data);
    if (event.id <= last) return; // the page was rendered with it
    last = event.id;
    note(event);
    if (react[type]) react[type](event.data);
  });
}
