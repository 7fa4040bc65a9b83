// The formulas of snrise.schedules, .weightings, .diagnostics and .pooling, for the page that computes them as it is moved.
// Each names its twin; tests compare both on a grid of settings, in a browser.
const snrise = (() => {
  "use strict";

  const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
  const logsigmoid = (x) => -softplus(-x);
  const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
  const angleOf = (logsnr) => (logsnr > -1400 ? Math.atan(Math.exp(-0.5 * logsnr)) : Math.PI / 2);
  const finite = (logsnr) => Math.min(Math.max(logsnr, -60), 60);
  // As torch: 0 times an infinity is 0 where a factor is exactly 0.
  const product = (a, b) => (a === 0 ? 0 : a * b);

  // A schedule is {at(t), slope(t)}: λ and dλ/dt. Its settings: null is no limit.

  function cosine({ offset = 0, logsnrMin = -15, logsnrMax = 15 } = {}) {  // schedules.Cosine
    let first = (0.5 * Math.PI * offset) / (1 + offset);
    if (logsnrMax !== null) first = Math.max(first, angleOf(logsnrMax));
    const last = logsnrMin === null ? 0 : angleOf(-logsnrMin);
    const turn = 0.5 * Math.PI - first - last;
    const angles = (t) => [first + t * turn, last + (1 - t) * turn];
    return {
      at(t) {
        const [angle, complement] = angles(t);
        return 2 * (Math.log(Math.sin(complement)) - Math.log(Math.sin(angle)));
      },
      slope(t) {
        const [angle, complement] = angles(t);
        return (-2 * turn) / (Math.sin(angle) * Math.sin(complement));
      },
    };
  }

  function linearBeta({ betaMin = 0.1, betaMax = 20 } = {}) {  // schedules.LinearBeta
    const integral = (t) => betaMin * t + 0.5 * (betaMax - betaMin) * t * t;
    return {
      at: (t) => -integral(t) - Math.log(-Math.expm1(-integral(t))),
      slope: (t) => (betaMin + t * (betaMax - betaMin)) / Math.expm1(-integral(t)),
    };
  }

  function uniformLogsnr({ logsnrMin = -15, logsnrMax = 15 } = {}) {  // schedules.UniformLogSnr
    return { at: (t) => logsnrMax * (1 - t) + logsnrMin * t, slope: () => logsnrMin - logsnrMax };
  }

  function flowMatching() {  // schedules.FlowMatching
    return { at: (t) => 2 * (Math.log1p(-t) - Math.log(t)), slope: (t) => -2 / (t * (1 - t)) };
  }

  // Φ⁻¹: Newton's steps from a rational start, on erfc, to the last digits.
  function probit(p) {
    if (p <= 0) return -Infinity;
    if (p >= 1) return Infinity;
    if (p > 0.5) return -probit(1 - p);
    const root = Math.sqrt(-2 * Math.log(p));
    let x = -(root - (2.515517 + 0.802853 * root + 0.010328 * root * root)
      / (1 + 1.432788 * root + 0.189269 * root * root + 0.001308 * root ** 3));
    for (let i = 0; i < 4; i++) x -= (tail(-x) - p) / (Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI));
    return x;
  }

  // 1 − Φ(x) for x ≥ 0: a series near 0, a continued fraction beyond (Abramowitz and Stegun 26.2.11, 26.2.14).
  function tail(x) {
    const density = Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
    if (x < 3) {
      let term = x, sum = x;
      for (let n = 3; Math.abs(term) > 1e-17 * Math.abs(sum); n += 2) sum += term *= (x * x) / n;
      return 0.5 - density * sum;
    }
    let fraction = 0;
    for (let n = 200; n > 0; n--) fraction = n / (x + fraction);
    return density / (x + fraction);
  }

  function logNormal({ mean = -1.2, std = 1.2 } = {}) {  // schedules.LogNormal
    return {
      at: (t) => -2 * (mean + std * probit(t)),
      slope: (t) => -2 * std * Math.sqrt(2 * Math.PI) * Math.exp(0.5 * probit(t) ** 2),
    };
  }

  const shifted = (base, factor) => ({  // schedules.Shifted
    at: (t) => base.at(t) - 2 * Math.log(factor), slope: base.slope,
  });

  function interpolated(clean, noisy) {  // schedules.Interpolated
    return {
      at: (t) => product(1 - t, clean.at(t)) + product(t, noisy.at(t)),
      slope: (t) => {
        const [a, b] = [clean.at(t), noisy.at(t)];
        return (a === b ? 0 : b - a) + product(1 - t, clean.slope(t)) + product(t, noisy.slope(t));
      },
    };
  }

  // 1 − α under VP, without cancellation.
  const oneMinusAlpha = (logsnr) => sigmoid(-logsnr) / (1 + Math.exp(0.5 * logsigmoid(logsnr)));

  function zeroTerminalSnr(base) {  // schedules.ZeroTerminalSnr
    const [start, end] = [base.at(0), base.at(1)];
    const [first, last] = [Math.exp(0.5 * logsigmoid(start)), Math.exp(0.5 * logsigmoid(end))];
    const firstGap = oneMinusAlpha(start), k = first / (first - last);
    const parts = (t) => {
      const logsnr = base.at(t);
      const alpha = t >= 1 ? 0 : Math.max(0, k * (Math.exp(0.5 * logsigmoid(logsnr)) - last));
      return [logsnr, alpha, firstGap + k * (oneMinusAlpha(logsnr) - firstGap)];
    };
    return {
      at(t) {
        const [logsnr, alpha, gap] = parts(t);
        if (!Number.isFinite(logsnr)) return logsnr;
        return 2 * Math.log(alpha) - Math.log(gap) - Math.log1p(alpha);
      },
      slope(t) {
        const [logsnr, alpha, gap] = parts(t);
        if (!Number.isFinite(logsnr)) return base.slope(t);
        const alphaSlope = 0.5 * k * Math.exp(0.5 * logsigmoid(logsnr) + logsigmoid(-logsnr));
        return ((2 * alphaSlope) / (gap * alpha * (1 + alpha))) * base.slope(t);
      },
    };
  }

  const SCHEDULES = {
    cosine, linear_beta: linearBeta, uniform_logsnr: uniformLogsnr, log_normal: logNormal, flow_matching: flowMatching,
  };
  // Those with limits of their own, which `ends: "stay"` keeps where they are.
  const LIMITED = ["cosine", "uniform_logsnr"];

  const shiftFactor = ([h, w], [h0, w0]) => Math.sqrt((h * w) / (h0 * w0));  // schedules.shift_factor

  // schedules.for_resolution
  function forResolution(kind, settings, image, reference, ends = "move") {
    const factor = shiftFactor(image, reference);
    let own = settings;
    if (ends === "stay" && LIMITED.includes(kind)) {
      const by = 2 * Math.log(factor), { logsnrMin = -15, logsnrMax = 15 } = settings;
      own = { ...settings, logsnrMin: logsnrMin === null ? null : logsnrMin + by,
              logsnrMax: logsnrMax === null ? null : logsnrMax + by };
    }
    return shifted(SCHEDULES[kind](own), factor);
  }

  // schedules.interpolated_for_resolution, and zero terminal SNR after it
  function schedule({ kind, settings = {}, image, reference, noisyReference = null, ends = "move", zero = false }) {
    const clean = forResolution(kind, settings, image, reference, ends);
    const same = noisyReference === null || noisyReference.join() === reference.join();
    const whole = same ? clean : interpolated(clean, forResolution(kind, settings, image, noisyReference, ends));
    return zero ? zeroTerminalSnr(whole) : whole;
  }

  // Of the squared error of ε: snrise.weightings
  const WEIGHTINGS = {
    constant: () => 1,
    v_loss: (l) => 1 + Math.exp(-finite(l)),
    x_loss: (l) => Math.exp(-finite(l)),
    u_loss: (l) => (1 + Math.exp(-0.5 * finite(l))) ** 2,
    snr: (l) => Math.exp(finite(l)),
    truncated_snr: (l, { limit = 5 } = {}) => Math.exp(Math.min(finite(l), Math.log(limit))),
    logsnr1p: (l) => softplus(finite(l)),
    min_snr: (l, { gamma = 5 } = {}) => Math.exp(Math.min(Math.log(gamma) - finite(l), 0)),
    soft_min_snr: (l, { gamma = 5 } = {}) => sigmoid(Math.log(gamma) - finite(l)),
    sigmoid: (l, { bias = 0 } = {}) => sigmoid(bias - finite(l)),
    p2: (l, { k = 1, gamma = 1 } = {}) => Math.exp(gamma * (logsigmoid(Math.log(k) - finite(l)) - Math.log(k))),
    edm: (l, { sigma = 0.5 } = {}) => 1 + Math.exp(-finite(l)) / sigma ** 2,
  };

  // schedules.density at λ(t): −dt/dλ
  const density = (s, t) => { const slope = s.slope(t); return Number.isFinite(slope) ? -1 / slope : 0; };

  // VP: process.VariancePreserving
  const alphaSigma = (logsnr) => [Math.exp(0.5 * logsigmoid(logsnr)), Math.exp(0.5 * logsigmoid(-logsnr))];

  // diagnostics._fine_grid
  const fineGrid = (s, points = 20000) => Float64Array.from({ length: points }, (_, i) => s.at((i + 0.5) / points));

  // diagnostics.time_per_octave: [[exponent, share] …] from the noisiest up
  function timePerOctave(grid, factor) {
    const counts = new Map(), shift = 2 * Math.log(factor);
    for (const logsnr of grid) {
      const exponent = Math.floor((logsnr + shift) / Math.LN2);
      counts.set(exponent, (counts.get(exponent) || 0) + 1);
    }
    return [...counts].sort(([a], [b]) => a - b).map(([exponent, count]) => [exponent, count / grid.length]);
  }

  function decreases(s) {
    let before = s.at(0);
    for (let i = 1; i <= 4096; i++) {
      const after = s.at(i / 4096);
      if (!(after < before)) return false;
      before = after;
    }
    return true;
  }

  // diagnostics._is_smooth
  function smooth(s) {
    const largest = (points) => {
      let most = 0, before = null;
      for (let i = 0; i < points; i++) {
        const slope = s.slope(0.01 + (0.98 * i) / (points - 1));
        const now = [Math.log(Math.max(Math.abs(slope), 1e-12)), Math.sign(slope)];
        if (before) most = Math.max(most, Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]));
        before = now;
      }
      return most;
    };
    const coarse = largest(1001), fine = largest(8001);
    return fine < 0.1 || fine < 0.5 * coarse;
  }

  const CLEAN_END = 8, NOISY_END = -6, BALANCE = 0.25;

  // diagnostics.diagnose; `problems` are [name, number …], to be told in the reader's language
  function diagnose(s, image, reference) {
    const factor = shiftFactor(image, reference), shift = 2 * Math.log(factor), grid = fineGrid(s);
    const below = grid.reduce((sum, logsnr) => sum + (logsnr + shift < 0 ? 1 : 0), 0) / grid.length;
    const [clean, noisy] = [s.at(0), s.at(1)];
    const whole = noisy + Math.log(image[0] * image[1]);
    const worst = Math.min(clean, clean + shift), problems = [];
    if (!decreases(s)) problems.push(["not_decreasing"]);
    if (!smooth(s)) problems.push(["not_smooth"]);
    if (worst < CLEAN_END) problems.push(["noisy_start", worst, CLEAN_END]);
    if (whole > NOISY_END) problems.push(["clean_end", whole, NOISY_END]);
    if (below < BALANCE) problems.push([shift > 0 ? "too_easy_shift" : "too_easy", below, BALANCE]);
    if (1 - below < BALANCE) problems.push(["too_noisy", 1 - below, BALANCE]);
    return { factor, clean, noisy, whole, below, octaves: timePerOctave(grid, factor), problems };
  }

  return {
    SCHEDULES, LIMITED, WEIGHTINGS, alphaSigma, density, diagnose, schedule, shiftFactor,
  };
})();
