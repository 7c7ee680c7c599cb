"use strict";
(() => {
  const PAGE = 8;
  const INTERVAL = 90; // ms a frame, near the pace of a walk when every second frame of a camera is shown
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const walks = data.walks.map(([subject, condition, view, x, y]) => (
    { subject, condition, view, x, y, label: [subject, condition, view].join(" ") }));
  const probes = data.probes.map(([walk, group, rank, nearest, distances], place) => (
    { walk, group, rank, nearest, distances, place, right: rank === 1 }));
  const short = (name) => (Object.hasOwn(data.short, name) ? data.short[name] : name);
  let bits = null;
  let shown = [];
  let first = 0;
  let tick = 0;
  let playing = !window.matchMedia("(prefers-reduced-motion: reduce)").matches;

  async function unpack() {
    const packed = Uint8Array.from(atob(byId("frames").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    bits = new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function draw(canvas, frame) {
    const { count, height, width } = data.frames;
    const bytes = Math.ceil(height * width / 8);
    const start = (Number(canvas.dataset.walk) * count + frame % count) * bytes;
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    for (let i = 0; i < height * width; i++) {
      const on = bits[start + (i >> 3)] >> (7 - (i & 7)) & 1;
      image.data.fill(on ? 255 : 0, 4 * i, 4 * i + 3);
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  function drawAll() {
    if (bits) byId("probes").querySelectorAll("canvas").forEach((canvas) => draw(canvas, tick));
  }

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function figure(index, kind, heading) {
    const walk = walks[index];
    const box = element("li", "walk " + kind);
    if (data.frames) {
      const frame = element("div", "frame");
      const canvas = element("canvas");
      canvas.width = data.frames.width;
      canvas.height = data.frames.height;
      canvas.dataset.walk = index;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", "Moving silhouette of " + walk.label);
      frame.append(canvas);
      box.append(frame);
    }
    box.append(element("b", "", heading));
    const parts = [short(walk.condition), short(walk.view)];
    const lines = parts.join(" ").length > 14 ? parts : [parts.join(" ")];
    box.append(...[short(walk.subject), ...lines].map((line) => element("span", "", line)));
    box.title = walk.label;
    return box;
  }

  function row(probe) {
    const box = element("article", "probe");
    const verdict = probe.right ? "right" : "wrong, its own walk is at rank " + probe.rank;
    const title = element("h4");
    const key = element("span", "key");
    key.style.color = data.colours[probe.group];
    title.append(key, walks[probe.walk].label + " (" + probe.group + "): " + verdict);
    box.append(title);
    const list = element("ul");
    list.append(figure(probe.walk, "asked", "probe"));
    probe.nearest.forEach((index, i) => {
      const right = walks[index].subject === walks[probe.walk].subject;
      const heading = (right ? "✓ " : "✗ ") + probe.distances[i].toPrecision(3);
      list.append(figure(index, right ? "right" : "wrong", heading));
    });
    box.append(list);
    return box;
  }

  function show() {
    const here = shown.slice(first, first + PAGE);
    byId("probes").replaceChildren(...here.map(row));
    const range = here.length ? (first + 1) + "–" + (first + here.length) + " of " : "";
    byId("count").textContent = range + shown.length + " probes, " +
      shown.filter((probe) => !probe.right).length + " wrong";
    byId("previous").disabled = first === 0;
    byId("next").disabled = first + PAGE >= shown.length;
    drawAll();
  }

  function filter() {
    const [group, view, outcome, subject, order] = ["group", "view", "outcome", "subject", "order"]
      .map((id) => byId(id).value);
    shown = probes.filter((probe) => (!group || probe.group === group) &&
      (!view || walks[probe.walk].view === view) &&
      (!outcome || probe.right === (outcome === "right")) &&
      (!subject || walks[probe.walk].subject === subject));
    if (order === "best") shown.reverse();
    if (order === "name") {
      shown.sort((a, b) => walks[a.walk].label < walks[b.walk].label ? -1 : 1);
    }
    first = 0;
    byId("map").querySelectorAll("circle").forEach((circle) => {
      const chosen = subject !== "" && walks[circle.dataset.walk].subject === subject;
      circle.classList.toggle("chosen", chosen);
      circle.setAttribute("r", chosen ? 22 : 13);
    });
    show();
  }

  function drawMap() {
    const wrong = new Set(probes.filter((probe) => !probe.right).map((probe) => probe.walk));
    walks.forEach((walk, i) => {
      const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
      circle.setAttribute("cx", walk.x);
      circle.setAttribute("cy", -walk.y);
      circle.dataset.walk = i;
      if (wrong.has(i)) circle.classList.add("wrong");
      const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
      title.textContent = walk.label;
      circle.append(title);
      byId("map").append(circle);
    });
    byId("map").addEventListener("click", (event) => {
      const circle = event.target.closest("circle");
      if (!circle) return;
      byId("subject").value = walks[circle.dataset.walk].subject;
      filter();
    });
  }

  function offer(id, values) {
    byId(id).append(...[...new Set(values)].sort().map((value) => new Option(value)));
  }

  function turn(pages) {
    first += pages * PAGE;
    show();
  }

  function setPlaying(on) {
    playing = on;
    byId("play").textContent = on ? "Pause" : "Play";
  }

  offer("group", probes.map((probe) => probe.group));
  offer("view", probes.map((probe) => walks[probe.walk].view));
  drawMap();
  const choices = ["group", "view", "outcome", "subject", "order"];
  choices.forEach((id) => byId(id).addEventListener("change", filter));
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("reset").addEventListener("click", () => {
    choices.forEach((id) => { byId(id).selectedIndex = 0; });
    filter();
  });
  filter();
  if (data.frames) {
    setPlaying(playing);
    byId("play").addEventListener("click", () => setPlaying(!playing));
    unpack().then(() => {
      drawAll();
      document.body.dataset.ready = "yes";
      setInterval(() => { if (playing) { tick += 1; drawAll(); } }, INTERVAL);
    });
  } else {
    document.body.dataset.ready = "yes";
  }
})();
