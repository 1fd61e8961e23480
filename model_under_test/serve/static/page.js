"use strict";

// Draws, sends the picture to /predict, and says what came back. Nothing is stored; the token lives in its field only.

const PEN = 22;
const SURE = 0.7;
const LARGEST_SIDE = 560; // an uploaded photo is made smaller here, so that it stays within the limits of the server

const paper = document.getElementById("paper");
const answer = document.getElementById("answer");
const bars = document.getElementById("bars");
const details = document.getElementById("details");
const ask = document.getElementById("ask");
const file = document.getElementById("file");
const pen = paper.getContext("2d");
let last = null;
let drawn = false;

function clear() {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, paper.width, paper.height);
  pen.lineWidth = PEN;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = "#000";
  drawn = false;
  last = null;
}

function place(event) {
  const box = paper.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) * paper.width) / box.width,
    y: ((event.clientY - box.top) * paper.height) / box.height,
  };
}

function stroke(to) {
  pen.beginPath();
  pen.moveTo(last.x, last.y);
  // a line of no length leaves nothing behind (HTML standard, "trace a path"), and a tap should leave a dot
  pen.lineTo(to.x + (to.x === last.x && to.y === last.y ? 0.01 : 0), to.y);
  pen.stroke();
  last = to;
  drawn = true;
}

paper.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  event.preventDefault();
  paper.setPointerCapture(event.pointerId);
  last = place(event);
  stroke(last);
});
paper.addEventListener("pointermove", (event) => {
  if (last && event.isPrimary) stroke(place(event));
});
for (const name of ["pointerup", "pointercancel"]) {
  paper.addEventListener(name, () => {
    last = null;
  });
}

function say(text, problem = false) {
  answer.textContent = text;
  answer.classList.toggle("problem", problem);
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function show(shares, digit) {
  bars.replaceChildren(
    ...shares.map((share, number) => {
      const row = document.createElement("li");
      const name = document.createElement("span");
      const meter = document.createElement("meter");
      const text = document.createElement("span");
      name.textContent = number;
      meter.max = 1;
      meter.value = share;
      meter.setAttribute("aria-label", `Probability of ${number}: ${percent(share)}`);
      meter.textContent = percent(share);
      text.className = "share";
      text.textContent = percent(share);
      row.classList.toggle("first", number === digit);
      row.append(name, meter, text);
      return row;
    }),
  );
  bars.hidden = false;
}

function told(found) {
  const shares = found.probabilities;
  if (!shares) return `It says ${found.class}. This server does not tell how sure it is.`;
  if (shares[found.class] >= SURE) return `This is a ${found.class} (${percent(shares[found.class])}).`;
  const second = shares
    .map((share, number) => ({ share, number }))
    .sort((one, other) => other.share - one.share)
    .find((one) => one.number !== found.class);
  return `Not sure. Perhaps a ${found.class}, or a ${second.number}? Try to draw it larger and clearer.`;
}

const KIND = {
  busy: "The server is busy. Please try again in a moment.",
  timed_out: "That took too long. Please try again.",
  too_many_requests: "That was quite often. Please wait a minute and try again.",
  unauthorised: "This server needs a valid token. Please enter yours above.",
  forbidden: "Your token does not allow predictions. Please ask whoever gave it to you.",
  empty: "There is nothing on the paper yet. Please draw one digit first.",
  too_large: "That picture is too large. Please choose a smaller one.",
  too_many_pixels: "That picture is too large. Please choose a smaller one.",
  unsupported_format: "That is not a PNG or a JPEG picture. Please choose another one.",
  log_unavailable: "The server cannot answer at the moment. Please try again later.",
};

async function send(picture) {
  const token = document.getElementById("token");
  const headers = { "Content-Type": picture.type };
  if (token && token.value.trim()) headers.Authorization = `Bearer ${token.value.trim()}`;
  bars.hidden = true;
  details.textContent = "";
  ask.disabled = true;
  say("Looking…");
  try {
    const response = await fetch("/predict", { method: "POST", headers, body: picture });
    const found = await response.json();
    details.textContent = `Request ${found.request_id}`;
    if (!response.ok) {
      say(KIND[found.error.code] || `That did not work: ${found.error.message}`, true);
      if (response.status === 401 && token) token.focus();
      return;
    }
    say(told(found));
    if (found.probabilities) show(found.probabilities, found.class);
  } catch {
    say("The server did not answer. Is it still running? Please try again.", true);
  } finally {
    ask.disabled = false;
  }
}

ask.addEventListener("click", () => {
  if (!drawn) {
    bars.hidden = true;
    details.textContent = "";
    say(KIND.empty, true);
    return;
  }
  paper.toBlob((picture) => send(picture), "image/png");
});

document.getElementById("clear").addEventListener("click", () => {
  clear();
  file.value = "";
  bars.hidden = true;
  details.textContent = "";
  say("Draw one digit, large, and press Recognise.");
});

file.addEventListener("change", async () => {
  const chosen = file.files[0];
  if (!chosen) return;
  let picture;
  try {
    picture = await createImageBitmap(chosen);
  } catch {
    say(KIND.unsupported_format, true);
    bars.hidden = true;
    return;
  }
  const scale = Math.min(1, LARGEST_SIDE / Math.max(picture.width, picture.height));
  const small = document.createElement("canvas");
  small.width = Math.max(1, Math.round(picture.width * scale));
  small.height = Math.max(1, Math.round(picture.height * scale));
  small.getContext("2d").drawImage(picture, 0, 0, small.width, small.height);
  clear();
  const fit = Math.min(paper.width / small.width, paper.height / small.height);
  pen.drawImage(small, 0, 0, small.width * fit, small.height * fit);
  drawn = true;
  small.toBlob((made) => send(made), "image/png");
});

clear();
