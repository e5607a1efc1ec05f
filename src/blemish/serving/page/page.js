"use strict";
const MOST_CARDS = 24; // older ones go: every card holds two pictures in memory
const MEANING = {
  ok: "ordinary.",
  unsure: "too many to call it anomalous at this false-alarm rate, too few to call it ordinary.",
  anomalous: "few enough to call it anomalous at this false-alarm rate.",
};

const element = (id) => document.getElementById(id);
const [results, drop, file, fault, news, model, key] =
  ["results", "drop", "file", "fault", "news", "model", "key"].map(element);
let models = [];
let turn = Promise.resolve(); // images are scored one after another, in the order they came

// Addresses are relative, so that the page works under any prefix of a proxy.
async function ask(path, options = {}) {
  const headers = key.value ? { Authorization: `Bearer ${key.value}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("the server cannot be reached");
  }
  if (answer.status === 429) {
    await new Promise((resume) => setTimeout(resume, 1000 * (answer.headers.get("Retry-After") || 1)));
    return ask(path, options);
  }
  if (answer.ok) return answer;
  if (answer.status === 401) {
    element("access").hidden = false;
    throw new Error(key.value ? "this is not the server's API key" : "this server asks for an API key");
  }
  const said = await answer.json().catch(() => ({}));
  throw new Error(said.error || `the server answers ${answer.status}`);
}

async function greet() {
  complain("");
  try {
    models = await (await ask("v1/models")).json();
  } catch (error) {
    return complain(error.message);
  }
  element("access").hidden = true;
  model.replaceChildren(...models.map(({ name }) => new Option(name, name)));
  element("choice").hidden = models.length < 2;
  describe();
}

function describe() {
  const chosen = models.find(({ name }) => name === model.value);
  if (!chosen) return;
  const rate = Number((100 * chosen.held_rate).toPrecision(2));
  element("about").textContent =
    `${chosen.name} · false-alarm rate ${rate} %, held by ${chosen.calibration_images} calibration images`;
}

function complain(sentence) {
  fault.textContent = sentence;
  fault.hidden = !sentence;
}

function take(files) {
  complain("");
  for (const one of files) {
    const card = addCard(one);
    const chosen = model.value;
    turn = turn.then(() => score(one, card, chosen));
  }
}

function addCard(image) {
  const card = element("card").content.cloneNode(true).firstElementChild;
  card.querySelector(".file").textContent = image.name;
  card.querySelector(".file").title = image.name;
  show(card.querySelector(".photograph"), image, `${image.name} as it was given`);
  results.prepend(card);
  while (results.children.length > MOST_CARDS) {
    for (const picture of results.lastElementChild.querySelectorAll("img")) URL.revokeObjectURL(picture.src);
    results.lastElementChild.remove();
  }
  return card;
}

// A figure is hidden where the browser cannot draw the image, as with TIFF.
function show(figure, picture, description) {
  const image = figure.querySelector("img");
  image.addEventListener("error", () => (figure.hidden = true));
  image.addEventListener("load", () => (figure.style.flexGrow = image.naturalWidth / image.naturalHeight));
  image.alt = description;
  image.src = URL.createObjectURL(picture);
  figure.hidden = false;
}

async function score(image, card, chosen) {
  const badge = card.querySelector(".badge");
  const meaning = card.querySelector(".meaning");
  try {
    const query = chosen ? `?model=${encodeURIComponent(chosen)}` : "";
    const form = new FormData(); // which tells the server the file's name
    form.append("images", image);
    const answer = await ask(`v1/heatmap${query}`, { method: "POST", body: form });
    const said = (name) => answer.headers.get(`Blemish-${name}`);
    const verdict = said("Verdict");
    badge.textContent = verdict;
    badge.classList.add(verdict);
    card.querySelector(".p").textContent = short(said("P-Value"));
    card.querySelector(".score").textContent = short(said("Score"));
    card.querySelector(".threshold").textContent = short(said("Threshold"));
    card.querySelector(".name").textContent = decodeURIComponent(said("Model"));
    card.querySelector(".model-used").hidden = models.length < 2;
    card.querySelector("dl").hidden = false;
    const share = Math.round(1000 * said("P-Value"));
    meaning.textContent = `Of 1,000 good images about ${share} score this high: ${MEANING[verdict]}`;
    show(card.querySelector(".heatmap"), await answer.blob(), `Heatmap of ${image.name}: ${verdict}`);
    news.textContent = `${image.name}: ${verdict}, p-value ${short(said("P-Value"))}`;
  } catch (error) {
    badge.textContent = "not scored";
    badge.classList.add("failed");
    meaning.textContent = news.textContent = error.message;
  }
  card.setAttribute("aria-busy", "false");
}

const short = (number) => String(Number(Number(number).toPrecision(3)));

file.addEventListener("change", () => {
  take(file.files);
  file.value = ""; // so that the same file can be chosen again
});
model.addEventListener("change", describe);
element("access").addEventListener("submit", (event) => {
  event.preventDefault();
  greet();
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dragging"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  take(event.dataTransfer.files);
});
addEventListener("paste", (event) => take(event.clipboardData.files));
greet();
