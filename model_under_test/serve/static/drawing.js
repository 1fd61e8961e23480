// The paper: drawing on it with mouse, finger, pen or keyboard, and laying a picture on it.

const PEN = 22;
const STEP = 10; // one of the network's 28 pixels
const LARGE_STEP = 40;
const SURFACE = 280;
const TOWARDS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export const paper = document.getElementById("paper");
const cursor = document.getElementById("cursor"); // lies over the paper, so that it is no part of the picture
const state = document.getElementById("pen-state");
const pen = paper.getContext("2d");
let last = null; // where the pointer was, while it draws
let at = null; // where the cursor of the keyboard is
let down = false;
let drawn = false;

export function isEmpty() {
  return !drawn;
}

export function clear() {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, SURFACE, SURFACE);
  pen.lineWidth = PEN;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = "#000";
  drawn = down = false;
  last = null;
  at = { x: SURFACE / 2, y: SURFACE / 2 };
  state.textContent = "";
  point();
}

export function lay(picture) {
  clear();
  const fit = Math.min(SURFACE / picture.width, SURFACE / picture.height);
  pen.drawImage(picture, 0, 0, picture.width * fit, picture.height * fit);
  drawn = true;
}

function stroke(from, to) {
  pen.beginPath();
  pen.moveTo(from.x, from.y);
  // a line of no length leaves nothing behind (HTML standard, "trace a path"), and a tap should leave a dot
  pen.lineTo(to.x + (to.x === from.x && to.y === from.y ? 0.01 : 0), to.y);
  pen.stroke();
  drawn = true;
}

function place(event) {
  const box = paper.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) * SURFACE) / box.width,
    y: ((event.clientY - box.top) * SURFACE) / box.height,
  };
}

paper.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  event.preventDefault();
  lift();
  cursor.hidden = true;
  paper.setPointerCapture(event.pointerId);
  last = place(event);
  stroke(last, last);
});
paper.addEventListener("pointermove", (event) => {
  if (!last || !event.isPrimary) return;
  const to = place(event);
  stroke(last, to);
  last = to;
});
for (const name of ["pointerup", "pointercancel"]) {
  paper.addEventListener(name, () => {
    last = null;
  });
}

function point() {
  cursor.style.left = `${(100 * at.x) / SURFACE}%`;
  cursor.style.top = `${(100 * at.y) / SURFACE}%`;
  cursor.classList.toggle("down", down);
}

function tellPen() {
  state.textContent = `${down ? "Pen put down" : "Pen lifted"} at ${at.x / STEP} across, ${at.y / STEP} down.`;
}

function lift() {
  if (!down) return;
  down = false;
  point();
  tellPen();
}

function move([across, along], step) {
  const within = (value) => Math.min(Math.max(value, STEP), SURFACE - STEP);
  const to = { x: within(at.x + across * step), y: within(at.y + along * step) };
  if (to.x === at.x && to.y === at.y) state.textContent = `Edge of the paper; the pen is ${down ? "down" : "up"}.`;
  if (down) stroke(at, to);
  at = to;
}

paper.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key in TOWARDS) {
    move(TOWARDS[event.key], event.shiftKey ? LARGE_STEP : STEP);
  } else if (event.key === " " || event.key === "Enter") {
    if (!event.repeat) {
      down = !down;
      if (down) stroke(at, at);
      tellPen();
    }
  } else if (event.key === "Escape") {
    lift();
  } else {
    return;
  }
  event.preventDefault();
  cursor.hidden = false;
  point();
});
paper.addEventListener("focus", () => {
  cursor.hidden = !paper.matches(":focus-visible");
});
paper.addEventListener("blur", () => {
  lift();
  cursor.hidden = true;
});

clear();
