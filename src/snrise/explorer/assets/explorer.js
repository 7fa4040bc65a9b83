// The page: settings -> schedule -> verdict, charts, pictures and snippets. All arithmetic of λ is in formulas.js.
(() => {
  "use strict";

  const $ = (id) => document.getElementById(id);
  // Settings of a kind: name -> [default, lowest, highest, step]; null at the end: may be left empty, for no limit.
  const SETTINGS = {
    cosine: { offset: [0, 0, 1, 0.001], logsnrMin: [-15, -40, 20, 0.5, null], logsnrMax: [15, -20, 40, 0.5, null] },
    linear_beta: { betaMin: [0.1, 0.001, 10, 0.01], betaMax: [20, 0.1, 200, 0.5] },
    uniform_logsnr: { logsnrMin: [-15, -40, 20, 0.5], logsnrMax: [15, -20, 40, 0.5] },
    log_normal: { mean: [-1.2, -5, 5, 0.1], std: [1.2, 0.1, 5, 0.1] },
    flow_matching: {},
  };
  const WEIGHTS = {
    constant: {}, v_loss: {}, x_loss: {}, u_loss: {}, snr: {}, truncated_snr: { limit: [5, 0.1, 100, 0.1] }, logsnr1p: {},
    min_snr: { gamma: [5, 0.1, 100, 0.1] }, soft_min_snr: { gamma: [5, 0.1, 100, 0.1] }, sigmoid: { bias: [0, -10, 10, 0.1] },
    p2: { k: [1, 0.01, 10, 0.01], gamma: [1, 0, 5, 0.1] }, edm: { sigma: [0.5, 0.05, 2, 0.05] },
  };
  const FLOOR = 1e-4;  // the least share of the largest weight that is drawn
  const SIDE = 256;  // of the picture's shorter side, for drawing
  const SMALLEST = 8;  // the factor of the smallest size that it is shown at

  const state = {
    image: [512, 512], reference: [64, 64], noisySide: 32, interpolate: false, kind: "cosine", ends: "move", zero: false,
    steps: 32, weighting: "v_loss", time: 0.5, settings: { ...defaults(SETTINGS), ...GIVEN.settings }, weights: defaults(WEIGHTS), tab: "snrise",
    language: (navigator.language || "en").startsWith("zh") ? "zh" : "en", ...GIVEN.state,
  };

  function defaults(table) {
    const own = ([name, [value]]) => [name, value];
    return Object.fromEntries(Object.entries(table).map(([kind, known]) => [kind, Object.fromEntries(Object.entries(known).map(own))]));
  }

  function text(name, ...values) {
    return values.reduce((said, value, i) => said.replace(`{${i}}`, value), TEXTS[state.language][name] ?? name);
  }
  const number = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits) : value > 0 ? "∞" : "−∞").replace("-", "−");
  const percent = (value) => `${Math.round(100 * value)} %`;

  // What is computed

  function computed() {
    const { kind, image, reference, ends, zero } = state, settings = state.settings[kind];
    const noisyReference = state.interpolate ? [state.noisySide, state.noisySide] : null;
    const told = (size) => snrise.schedule({ kind, settings, image: size, reference, noisyReference, ends, zero });
    const before = snrise.SCHEDULES[kind](settings), after = told(image);
    const ordered = (s) => s.at(0.001) > s.at(0.999) || state.interpolate;
    if (![before, after].every(ordered)) return null;
    return { before, after, told, report: snrise.diagnose(after, image, reference), plain: snrise.diagnose(before, image, reference) };
  }

  // What is shown

  const charts = {};

  function chart(id, options, data) {
    const place = $(id), style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name).trim();
    const axis = (label) => ({ label, stroke: colour("--ink"), grid: { stroke: colour("--line") }, ticks: { stroke: colour("--line") } });
    if (charts[id]) charts[id].destroy();
    charts[id] = new uPlot({
      width: place.clientWidth, height: 250, scales: { x: { time: false } }, axes: [axis(options.x), axis(options.y)],
      series: [{ label: options.x }, ...options.series(colour)], legend: { live: true }, ...options.more,
    }, data, place);
  }

  function line(label, stroke, more = {}) {
    return { label, stroke, width: 2, points: { show: false }, value: (_, v) => (v === null ? "–" : number(v, 3)), ...more };
  }

  const finiteOrNull = (value) => (Number.isFinite(value) ? value : null);

  function drawCurves({ before, after, report }) {
    const t = Array.from({ length: 201 }, (_, i) => i / 200), shift = 2 * Math.log(report.factor);
    const marks = new Set(Array.from({ length: state.steps + 1 }, (_, i) => Math.round((200 * i) / state.steps)));
    const of = (s, add = 0) => t.map((x) => finiteOrNull(s.at(x) + add));
    chart("curves", { x: "t", y: "λ", series: (c) => [
      line(text("before"), c("--before"), { dash: [6, 4] }), line(text("after"), c("--after")),
      line(text("seen"), c("--good"), { dash: [2, 4] }),
      line(text("stepped"), c("--after"), { width: 0, points: { show: true, size: 6, fill: c("--after") } }),
    ] }, [t, of(before), of(after), of(after, shift), t.map((x, i) => (marks.has(i) ? finiteOrNull(after.at(x)) : null))]);
    $("curves").setAttribute("aria-label", `${text("curves")}: ${text("before")} ${number(before.at(0))} … ${number(before.at(1))}, ${text("after")} ${number(report.clean)} … ${number(report.noisy)}`);
  }

  function drawOctaves({ report, plain }) {
    const low = -16, high = 16, x = Array.from({ length: high - low + 1 }, (_, i) => low + i);
    const shares = (octaves) => {
      const rows = new Map(x.map((e) => [e, 0]));
      for (const [exponent, share] of octaves) {
        const key = Math.min(Math.max(exponent, low), high);
        rows.set(key, rows.get(key) + 100 * share);
      }
      return x.map((e) => rows.get(e));
    };
    const bars = uPlot.paths.bars({ size: [0.8, 60] });
    chart("octaves", { x: text("octave"), y: "%", series: (c) => [
      line(text("after"), c("--after"), { paths: bars, fill: `${c("--after")}66`, width: 1 }),
      line(text("before"), c("--before"), { paths: uPlot.paths.stepped({ align: 1 }), dash: [6, 4] }),
    ] }, [x, shares(report.octaves), shares(plain.octaves)]);
    const most = report.octaves.reduce((a, b) => (b[1] > a[1] ? b : a));
    $("octaves").setAttribute("aria-label", `${text("octaves")}: 2^${most[0]}, ${percent(most[1])}`);
  }

  function drawWeights({ after }) {
    const weight = snrise.WEIGHTINGS[state.weighting], own = state.weights[state.weighting], rows = [];
    for (let i = 400; i >= 1; i--) {
      const t = (i - 0.5) / 400, logsnr = after.at(t);
      if (Number.isFinite(logsnr)) rows.push([logsnr, weight(logsnr, own), weight(logsnr, own) * snrise.density(after, t)]);
    }
    rows.sort(([a], [b]) => a - b);
    const scaled = (column) => {
      const most = Math.max(...rows.map((row) => row[column]));
      return rows.map((row) => Math.max(row[column] / most, FLOOR));
    };
    const more = { scales: { x: { time: false }, y: { distr: 3, range: [FLOOR, 2] } } };
    chart("weights", { x: "λ", y: "", more, series: (c) => [
      line(text("plain_weight"), c("--before"), { dash: [6, 4] }), line(text("whole_weight"), c("--after")),
    ] }, [rows.map(([logsnr]) => logsnr), scaled(1), scaled(2)]);
    const whole = scaled(2), peak = rows[whole.indexOf(1)];
    $("weights").setAttribute("aria-label", `${text("weights")}: ${state.weighting}, λ ${number(peak[0])}`);
  }

  function element(tag, content, attributes = {}) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    for (const part of [content].flat()) made.append(part);
    return made;
  }

  function problem([name, value, bound]) {
    const share = name.startsWith("too_"), say = share ? percent : (v) => number(v, 1);
    return value === undefined ? text(name) : text(name, say(value), say(bound));
  }

  function drawVerdict(found) {
    const place = $("verdict");
    if (!found) {
      place.className = "bad";
      place.replaceChildren(element("strong", text("impossible")));
      return;
    }
    const { report, plain } = found, good = report.problems.length === 0;
    place.className = good ? "good" : "bad";
    const facts = {
      factor: number(report.factor), shift: number(-2 * Math.log(report.factor)), clean: number(report.clean),
      noisy: number(report.noisy), above: percent(1 - report.below), colour: number(report.whole),
    };
    place.replaceChildren(
      element("strong", text(good ? "good" : "bad", ...state.image)),
      element("ul", report.problems.map((p) => element("li", problem(p)))),
      element("span", text("without", text(plain.problems.length ? "unfit" : "fit"))),
      element("dl", Object.entries(facts).map(([name, value]) => element("div", [element("dt", text(name)), element("dd", value)]))),
    );
  }

  // The picture: linear in −1…1, a channel after the other

  let picture = null;

  function* gaussian(seed) {
    let a = seed >>> 0;
    const uniform = () => {  // mulberry32
      a = (a + 0x6d2b79f5) >>> 0;
      let t = Math.imul(a ^ (a >>> 15), 1 | a);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    for (;;) {
      const radius = Math.sqrt(-2 * Math.log(1 - uniform())), angle = 2 * Math.PI * uniform();
      yield radius * Math.cos(angle);
      yield radius * Math.sin(angle);
    }
  }

  function pool({ width, height, data }, factor) {  // pooling.pool: the mean of factor × factor pixels
    const [w, h] = [width / factor, height / factor], out = new Float32Array(3 * w * h);
    for (let c = 0; c < 3; c++) for (let y = 0; y < height; y++) for (let x = 0; x < width; x++)
      out[(c * h + Math.floor(y / factor)) * w + Math.floor(x / factor)] += data[(c * height + y) * width + x] / factor ** 2;
    return { width: w, height: h, data: out };
  }

  function taken(source, width, height) {  // cropped to a multiple of SMALLEST pixels about its middle, the shorter side SIDE
    const scale = SIDE / Math.min(width, height), canvas = document.createElement("canvas");
    const side = (pixels) => Math.max(SMALLEST, Math.min(2 * SIDE, Math.floor(Math.round(pixels * scale) / SMALLEST) * SMALLEST));
    [canvas.width, canvas.height] = [side(width), side(height)];
    const context = canvas.getContext("2d");
    const [w, h] = [width * scale, height * scale];
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(source, (canvas.width - w) / 2, (canvas.height - h) / 2, w, h);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height), n = canvas.width * canvas.height;
    const out = new Float32Array(3 * n);
    for (let i = 0; i < n; i++) for (let c = 0; c < 3; c++) out[c * n + i] = data[4 * i + c] / 127.5 - 1;
    picture = pool({ width: canvas.width, height: canvas.height, data: out }, SMALLEST);
    const draws = gaussian(1);
    picture.noise = picture.data.map(() => draws.next().value);
    drawPictures();
  }

  function drawn() {  // a picture of the page's own: a sun over hills
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SIDE;
    const c = canvas.getContext("2d"), sky = c.createLinearGradient(0, 0, 0, SIDE);
    sky.addColorStop(0, "#2b4a8b"); sky.addColorStop(0.6, "#f2a65a"); sky.addColorStop(1, "#f7d08a");
    c.fillStyle = sky; c.fillRect(0, 0, SIDE, SIDE);
    c.fillStyle = "#fff3c4"; c.beginPath(); c.arc(150, 130, 34, 0, 7); c.fill();
    for (const [colour, base, height, k] of [["#5b4a72", 170, 26, 0.031], ["#33304f", 200, 18, 0.05], ["#171a2e", 226, 10, 0.09]]) {
      c.fillStyle = colour; c.beginPath(); c.moveTo(0, SIDE);
      for (let x = 0; x <= SIDE; x++) c.lineTo(x, base - height * Math.sin(k * x + base) - 4 * Math.sin(3.7 * k * x));
      c.lineTo(SIDE, SIDE); c.fill();
    }
    taken(canvas, SIDE, SIDE);
  }

  // Noised at 1/factor of the size, then pooled to 1/SMALLEST: pooling is linear, and white noise that is pooled by
  // SMALLEST/factor is white, of a deviation of factor/SMALLEST. Brought to α² + σ² = 1, as the pooled process is.
  function noised(schedule, factor) {
    const [alpha, sigma] = snrise.alphaSigma(schedule.at(state.time)), seen = (sigma * factor) / SMALLEST;
    const data = picture.data.map((x, i) => (alpha * x + seen * picture.noise[i]) / Math.hypot(alpha, seen));
    return { ...picture, data };
  }

  function painted({ width, height, data }, label) {
    const canvas = element("canvas", [], { role: "img", "aria-label": label, width, height });
    const context = canvas.getContext("2d"), image = context.createImageData(width, height), n = width * height;
    for (let i = 0; i < n; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = Math.round((data[c * n + i] + 1) * 127.5);
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  function drawPictures() {
    const found = latest;
    $("time_value").textContent = number(state.time);
    if (!picture || !found) return;
    const factors = [SMALLEST, 4, 2, 1], rows = [];
    for (const [name, schedule] of [["row_before", () => found.before], ["row_after", found.told]]) {
      const figures = factors.map((factor) => {
        const size = state.image.map((side) => Math.max(1, Math.round(side / factor))), own = schedule(size);
        const label = text("picture_of", ...size, text(name));
        return element("figure", [painted(noised(own, factor), label), element("figcaption", text("at_lambda", ...size, number(own.at(state.time))))]);
      });
      rows.push(element("h3", text(name)), element("div", figures, { class: "row" }));
    }
    $("rows").replaceChildren(...rows);
  }

  // To take along

  const yaml = (settings) => Object.entries(settings).map(([name, value]) => `${snake(name)}: ${value}`).join(", ");
  const snake = (name) => name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
  const base = () => [`kind: ${state.kind}`, yaml(state.settings[state.kind])].filter(Boolean).join(", ");
  const weightYaml = () => [`kind: ${state.weighting}`, yaml(state.weights[state.weighting]).replace("sigma:", "sigma_data:")].filter(Boolean).join(", ");
  const references = () => (state.interpolate ? [state.reference, [state.noisySide, state.noisySide]] : [state.reference]);

  const FORMULAS = {  // λ(t) in PyTorch, the limits as they are written
    cosine: ({ offset, logsnrMin, logsnrMax }, by) => [
      `first = ${offset ? `max(math.atan(math.exp(-0.5 * ${lim(logsnrMax, by)})), 0.5 * math.pi * ${offset} / (1 + ${offset}))` : `math.atan(math.exp(-0.5 * ${lim(logsnrMax, by)}))`}`,
      `last = 0.5 * math.pi - math.atan(math.exp(0.5 * ${lim(logsnrMin, by)}))`,
      "logsnr = -2 * torch.log(torch.tan(first + t * (last - first)))",
    ],
    linear_beta: ({ betaMin, betaMax }) => [`b = ${betaMin} * t + 0.5 * (${betaMax} - ${betaMin}) * t**2`, "logsnr = -b - torch.log(-torch.expm1(-b))"],
    uniform_logsnr: ({ logsnrMin, logsnrMax }, by) => [`logsnr = ${lim(logsnrMax, by)} * (1 - t) + ${lim(logsnrMin, by)} * t`],
    log_normal: ({ mean, std }) => [`logsnr = -2 * (${mean} + ${std} * torch.special.ndtri(t))`],
    flow_matching: () => ["logsnr = 2 * (torch.log1p(-t) - torch.log(t))"],
  };
  const lim = (value, by) => (value === null ? "math.inf" : by ? `(${value} + ${by})` : `${value}`);

  function formula(reference, name) {
    const factor = snrise.shiftFactor(state.image, reference), shift = `2 * math.log(${+factor.toPrecision(6)})`;
    const by = state.ends === "stay" && snrise.LIMITED.includes(state.kind) ? shift : null;
    return [...FORMULAS[state.kind](state.settings[state.kind], by), `${name} = logsnr - ${shift}`];
  }

  function table() {  // the lines that make λ at 1,000 entries
    const own = references();
    const lines = ["t = torch.linspace(0, 1, 1000, dtype=torch.float64)", ...formula(own[0], "logsnr")];
    if (own.length > 1) lines.splice(lines.length - 1, 1, ...formula(own[0], "clean").slice(-1), ...formula(own[1], "noisy"), "logsnr = (1 - t) * clean + t * noisy");
    lines.push("a = torch.sigmoid(logsnr)");
    if (state.zero) lines.push("root = a.sqrt()", "a = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2  # zero terminal SNR");
    return lines;
  }

  const SNIPPETS = {
    snrise: () => [
      "data:", `  resolution: [${state.image.join(", ")}]`, "schedule:", `  base: {${base()}}`,
      `  reference: [${state.reference.join(", ")}]`,
      ...(state.interpolate ? [`  noisy_reference: [${state.noisySide}, ${state.noisySide}]`] : []),
      ...(state.ends === "stay" ? ["  ends: stay"] : []),
      ...(state.zero ? ["# zero terminal SNR, in Python: schedules.ZeroTerminalSnr(base=…)"] : []),
      "loss:", `  weighting: {${weightYaml()}}`, "sampling:", `  steps: ${state.steps}`,
    ],
    diffusers: () => [
      "import math", "import torch", "from diffusers import DDPMScheduler", "", ...table(),
      "betas = 1 - a / torch.cat([torch.ones(1, dtype=a.dtype), a[:-1]])",
      "betas[0] = betas[0].clamp(min=2**-24)  # σ is nowhere 0",
      "scheduler = DDPMScheduler(", "    trained_betas=betas.tolist(), prediction_type=\"v_prediction\", clip_sample=False,",
      "    timestep_spacing=\"trailing\",", ")",
    ],
    "k-diffusion": () => {
      const { kind, settings: { cosine }, image, zero } = state, own = references();
      if (kind !== "cosine" || cosine.offset || zero) {
        return ["import math", "import torch", "", ...table().slice(0, -1 - 2 * zero), "sigmas = torch.exp(-0.5 * logsnr).flip(0)  # rising"];
      }
      const side = (size) => +Math.sqrt(size[0] * size[1]).toPrecision(6);
      return ["{", '  "sigma_sample_density": {', '    "type": "cosine-interpolated",', `    "image_d": ${side(image)},`,
        `    "noise_d_low": ${side(own[0])},`, `    "noise_d_high": ${side(own[own.length - 1])},`,
        `    "min_value": ${Math.exp(-0.5 * latest.report.clean).toPrecision(3)},`, `    "max_value": ${Math.exp(-0.5 * latest.report.noisy).toPrecision(3)}`, "  }", "}"];
    },
    lucidrains: () => {
      const { kind, image, zero } = state, own = references(), side = (size) => +Math.sqrt(size[0] * size[1]).toPrecision(6);
      if (kind !== "cosine" || zero || image[0] !== image[1]) return [text("only_cosine", "denoising-diffusion-pytorch")];
      const noise = own.length > 1 ? `noise_d_low=${side(own[0])}, noise_d_high=${side(own[1])}` : `noise_d=${side(own[0])}`;
      return ["from denoising_diffusion_pytorch.simple_diffusion import GaussianDiffusion, UViT", "",
        `diffusion = GaussianDiffusion(UViT(dim=128), image_size=${image[0]}, pred_objective="v", ${noise}, num_sample_steps=${state.steps})`];
    },
  };

  function drawSnippet() {
    $("tabs").replaceChildren(...Object.keys(SNIPPETS).map((name) => {
      const tab = element("button", name, { type: "button", role: "tab", "aria-selected": name === state.tab });
      tab.addEventListener("click", () => { state.tab = name; drawSnippet(); });
      return tab;
    }));
    $("snippet").textContent = latest ? `${SNIPPETS[state.tab]().join("\n")}\n` : "";
  }

  // The controls

  let latest = null;

  function update() {
    latest = computed();
    drawVerdict(latest);
    $("steps_value").textContent = state.steps;
    $("noisy").hidden = !state.interpolate;
    if (latest) { drawCurves(latest); drawOctaves(latest); drawWeights(latest); }
    drawPictures();
    drawSnippet();
  }

  function choose(id, options) {
    $(id).replaceChildren(...options.map((value) => element("option", text(value), { value, ...(state[id] === value ? { selected: "" } : {}) })));
  }

  function fill(id, table, kind, values) {
    $(id).replaceChildren(...Object.entries(table[kind]).map(([name, [, min, max, step, empty]]) => {
      const input = element("input", [], { id: `${id}_${name}`, type: "number", min, max, step, ...(empty === null ? { placeholder: "∞" } : {}) });
      input.value = values[kind][name] ?? "";
      input.addEventListener("input", () => {
        const value = input.value === "" ? (empty === null ? null : undefined) : Number(input.value);
        if (value !== undefined && (value === null || (value >= min && value <= max))) { values[kind][name] = value; update(); }
      });
      return element("label", [element("span", text(name)), input]);
    }));
  }

  function bindSize(key, ids, slider) {
    const show = () => {
      ids.forEach((id, i) => { if (document.activeElement !== $(id)) $(id).value = state[key][i]; });
      $(slider).value = Math.log2(Math.sqrt(state[key][0] * state[key][1]));
    };
    ids.forEach((id, i) => $(id).addEventListener("input", () => {
      const side = Math.round(Number($(id).value));
      if (side >= 1 && side <= 8192) { state[key] = state[key].map((old, j) => (i === j ? side : old)); show(); update(); }
    }));
    $(slider).addEventListener("input", () => {
      const side = Math.round(2 ** Number($(slider).value));
      state[key] = [side, side]; show(); update();
    });
    show();
  }

  function bind(id, key, event, read) {
    $(id).addEventListener(event, () => { const value = read($(id)); if (value !== null) { state[key] = value; update(); } });
  }

  function say() {  // all texts in the language
    document.documentElement.lang = state.language;
    document.title = text("title");
    for (const node of document.querySelectorAll("[data-text]")) node.textContent = text(node.dataset.text);
    for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", text(node.dataset.label));
    $("language").textContent = text("other");
    $("language").lang = state.language === "en" ? "zh" : "en";
    choose("kind", Object.keys(SETTINGS));
    choose("ends", ["move", "stay"]);
    choose("weighting", Object.keys(WEIGHTS));
    fill("settings", SETTINGS, state.kind, state.settings);
    fill("weight_settings", WEIGHTS, state.weighting, state.weights);
    $("tabs").setAttribute("aria-label", text("copy_title"));
    update();
  }

  function opened(file) {
    if (!file) return;
    const url = URL.createObjectURL(file), image = new Image();
    image.addEventListener("load", () => { taken(image, image.naturalWidth, image.naturalHeight); URL.revokeObjectURL(url); });
    image.src = url;
  }

  bindSize("image", ["height", "width"], "side");
  bindSize("reference", ["reference_height", "reference_width"], "reference_side");
  $("noisy_side").value = state.noisySide;
  $("interpolate").checked = state.interpolate;
  $("zero").checked = state.zero;
  $("steps").value = state.steps;
  $("time").value = state.time;
  bind("noisy_side", "noisySide", "input", (e) => (e.value >= 1 ? Math.round(e.value) : null));
  bind("interpolate", "interpolate", "change", (e) => e.checked);
  bind("zero", "zero", "change", (e) => e.checked);
  bind("ends", "ends", "change", (e) => e.value);
  bind("steps", "steps", "input", (e) => Number(e.value));
  $("kind").addEventListener("change", (e) => { state.kind = e.target.value; fill("settings", SETTINGS, state.kind, state.settings); update(); });
  $("weighting").addEventListener("change", (e) => { state.weighting = e.target.value; fill("weight_settings", WEIGHTS, state.weighting, state.weights); update(); });
  $("time").addEventListener("input", (e) => { state.time = Number(e.target.value); drawPictures(); });
  $("language").addEventListener("click", () => { state.language = state.language === "en" ? "zh" : "en"; say(); });
  $("theme").addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches, now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
    document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
    update();
  });
  $("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText($("snippet").textContent);
    $("copy").textContent = text("copied");
    setTimeout(() => { $("copy").textContent = text("copy"); }, 1500);
  });
  $("file").addEventListener("change", (e) => opened(e.target.files[0]));
  for (const [event, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    $("drop").addEventListener(event, (e) => { e.preventDefault(); $("drop").classList.toggle("over", over); });
  }
  $("drop").addEventListener("drop", (e) => opened(e.dataTransfer.files[0]));
  $("controls").addEventListener("submit", (e) => e.preventDefault());
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; update(); } });

  say();
  if (GIVEN.picture) {
    const image = new Image();
    image.addEventListener("load", () => taken(image, image.naturalWidth, image.naturalHeight));
    image.src = GIVEN.picture;
  } else {
    drawn();
  }
})();
