// Sends the picture to /v1/predict, and says what came back. Nothing is stored; the token lives in its field only.

import { clear, isEmpty, lay, paper } from "/static/drawing.js";

const SURE = 0.7;
const SIDE = 28;
const LARGEST_SIDE = 560; // an uploaded photo is made smaller here, so that it stays within the limits of the server

const result = document.getElementById("result");
const answer = document.getElementById("answer");
const bars = document.getElementById("bars");
const details = document.getElementById("details");
const view = document.getElementById("view");
const seen = document.getElementById("seen");
const ask = document.getElementById("ask");
const file = document.getElementById("file");
let asking = false;

function forget() {
  bars.hidden = view.hidden = true;
  details.textContent = "";
}

function say(text, problem = false) {
  answer.textContent = text;
  answer.classList.toggle("problem", problem);
}

/** Scrolls no further than needed; where the result does not fit, the sentence matters most. */
function bringIntoView() {
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  const fits = result.offsetHeight <= document.documentElement.clientHeight;
  (fits ? result : answer).scrollIntoView({ block: "nearest", behavior });
}

function conclude(text, problem = false) {
  say(text, problem);
  bringIntoView();
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

/** Shows what the network saw: base64 of one byte a pixel, row by row, 0 black. */
function reveal(encoded) {
  const greys = atob(encoded || "");
  if (greys.length !== SIDE * SIDE) return;
  const picture = new ImageData(SIDE, SIDE);
  for (let pixel = 0; pixel < greys.length; pixel += 1) {
    picture.data.fill(greys.charCodeAt(pixel), 4 * pixel, 4 * pixel + 3);
    picture.data[4 * pixel + 3] = 255;
  }
  seen.getContext("2d").putImageData(picture, 0, 0);
  view.hidden = false;
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
  foreign_origin: "This page was not opened at the server's own address. Please open it there.",
  empty: "There is nothing on the paper yet. Please draw one digit first.",
  too_large: "That picture is too large. Please choose a smaller one.",
  too_many_pixels: "That picture is too large. Please choose a smaller one.",
  unsupported_format: "That is not a PNG or a JPEG picture. Please choose another one.",
  log_unavailable: "The server cannot answer at the moment. Please try again later.",
};

// Not the attribute "disabled": it would take the focus away from who presses the button with a key.
function wait(begins) {
  asking = begins;
  ask.setAttribute("aria-disabled", begins);
}

async function send(picture) {
  const token = document.getElementById("token");
  const headers = { "Content-Type": picture.type };
  if (token && token.value.trim()) headers.Authorization = `Bearer ${token.value.trim()}`;
  forget();
  wait(true);
  say("Looking…");
  try {
    const response = await fetch("/v1/predict", { method: "POST", headers, body: picture });
    const found = await response.json();
    details.textContent = `Request ${found.request_id}`;
    if (!response.ok) {
      if (response.status === 401 && token) token.focus();
      conclude(KIND[found.code] || `That did not work: ${found.detail}`, true);
      return;
    }
    if (found.probabilities) show(found.probabilities, found.class);
    reveal(found.seen);
    conclude(told(found));
  } catch {
    forget();
    conclude("The server did not answer. Is it still running? Please try again.", true);
  } finally {
    wait(false);
  }
}

ask.addEventListener("click", () => {
  if (asking) return;
  if (isEmpty()) {
    forget();
    conclude(KIND.empty, true);
    return;
  }
  paper.toBlob(send, "image/png");
});

document.getElementById("clear").addEventListener("click", () => {
  clear();
  file.value = "";
  forget();
  say("Draw one digit, large, and press Recognise.");
});

file.addEventListener("change", async () => {
  const chosen = file.files[0];
  if (!chosen) return;
  let picture;
  try {
    picture = await createImageBitmap(chosen);
  } catch {
    forget();
    conclude(KIND.unsupported_format, true);
    return;
  }
  const scale = Math.min(1, LARGEST_SIDE / Math.max(picture.width, picture.height));
  const small = document.createElement("canvas");
  small.width = Math.max(1, Math.round(picture.width * scale));
  small.height = Math.max(1, Math.round(picture.height * scale));
  small.getContext("2d").drawImage(picture, 0, 0, small.width, small.height);
  lay(small);
  small.toBlob(send, "image/png");
});
