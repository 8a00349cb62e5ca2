// The sequence: what Python put into the page, decoded once. Everything that is read per frame is a typed array.
const PERSON = 1.7; // metres
const CHUNK = 1 << 20; // characters of base64 decoded at a time, a multiple of 4: a long video needs no second copy

function element(id) {
  return document.getElementById(id);
}

function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text; // never as markup: names come from files
  return made;
}

// The bytes of a block of the page, which goes from the page; null where there is none.
function takeBytes(name) {
  const block = element("data-" + name);
  if (!block) return null;
  const base64 = block.textContent;
  block.remove();
  const padding = base64.endsWith("==") ? 2 : base64.endsWith("=") ? 1 : 0;
  const bytes = new Uint8Array((base64.length / 4) * 3 - padding);
  for (let start = 0, at = 0; start < base64.length; start += CHUNK) {
    const binary = atob(base64.slice(start, start + CHUNK));
    for (let i = 0; i < binary.length; i++) bytes[at++] = binary.charCodeAt(i);
  }
  return bytes;
}

function takeFloats(name) {
  const bytes = takeBytes(name);
  return bytes && new Float32Array(bytes.buffer);
}

function meanPerFrame(errors, frames, joints) {
  const means = new Float32Array(frames);
  for (let t = 0; t < frames; t++) {
    let sum = 0;
    for (let j = 0; j < joints; j++) sum += errors[t * joints + j];
    means[t] = sum / joints;
  }
  return means;
}

function meanPerJoint(errors, frames, joints) {
  const means = new Float64Array(joints);
  for (let i = 0; i < frames * joints; i++) means[i % joints] += errors[i] / frames;
  return means;
}

// The first round number, one of `steps` times a power of ten, that is not below `value`.
function roundUp(value, steps = [1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8]) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-6)));
  for (const step of steps) if (step * power >= value) return step * power;
  return 10 * power;
}

function quantile(values, share) {
  const step = Math.max(1, Math.floor(values.length / 20000)); // a sample is enough for a scale
  const sample = values.filter((_, i) => i % step === 0).sort();
  return sample[Math.floor(share * (sample.length - 1))];
}

// The largest extent of a pose, in metres, as the median over some frames: the height of whoever stands.
function extentOf(poses, frames, J) {
  const extents = [];
  for (let t = 0; t < frames; t += Math.ceil(frames / 100)) {
    for (let axis = 0, extent = 0; axis < 3; axis++) {
      let [low, high] = [Infinity, -Infinity];
      for (let at = 3 * t * J + axis; at < 3 * (t + 1) * J; at += 3) {
        low = Math.min(low, poses[at]);
        high = Math.max(high, poses[at]);
      }
      extent = Math.max(extent, high - low);
      if (axis === 2) extents.push(extent);
    }
  }
  return quantile(Float64Array.from(extents), 0.5);
}

// Bring whoever is shown to about the size of a person, for which limbs, grid and camera are made: people stay as they
// are, hands and insects, and files that are not in metres, are divided by a power of ten. Returns that number. Joints
// that all but meet in a point, as those of a network that has learnt nothing, are no person of another size.
function toHumanSize(about, figures, extent) {
  const unit = extent > 1e-4 ? 10 ** Math.round(Math.log10(extent / PERSON)) : 1;
  if (unit === 1) return unit;
  for (const { poses } of figures) for (let i = 0; i < poses.length; i++) poses[i] /= unit;
  for (const corner of [about.low, about.high]) corner.forEach((value, i) => (corner[i] = value / unit));
  about.floor /= unit;
  return unit;
}

// How thick limbs are, as a share of an adult's: those of children and giants are, however they sit or lie.
function girthOf(extent) {
  const [sitting, reaching] = [1, 2.3]; // metres: extents of adults
  if (!extent) return 1; // a single joint
  if (extent < sitting) return Math.max(extent / sitting, 0.3);
  return Math.max(extent / reaching, 1);
}

// figures: the skeletons, predictions first and then the ground truth; series: errors in mm, of each prediction or,
// with two and no ground truth, the distance between them; times: seconds from the first frame on, the last is the end;
// metres: in a unit of poses, low, high and floor; girth: of limbs, 1 for adults.
function readSequence() {
  const about = JSON.parse(element("about").textContent);
  const { frames, joints } = about;
  const J = joints.length;
  const figures = about.predictions.map((one, n) => ({
    label: one.label,
    isTruth: false,
    poses: takeFloats("pose-" + n),
    errors: null,
  }));
  if (about.hasTruth)
    figures.push({ label: "ground truth", isTruth: true, poses: takeFloats("truth"), errors: null });
  const series = [];
  for (let n = 0; n < about.predictions.length; n++) {
    const errors = takeFloats("error-" + n);
    if (!errors) continue;
    const label = about.measure === "distance" ? "distance" : about.predictions[n].label;
    series.push({ label, errors, mean: meanPerFrame(errors, frames, J), perJoint: meanPerJoint(errors, frames, J) });
  }
  if (series.length)
    for (let n = 0; n < about.predictions.length; n++)
      figures[n].errors = series[Math.min(n, series.length - 1)].errors;
  const extent = extentOf((figures.find((one) => one.isTruth) ?? figures[0]).poses, frames, J); // networks err in size
  const metres = toHumanSize(about, figures, extent);
  const uneven = takeBytes("times");
  const times = new Float64Array(frames + 1);
  if (uneven) times.set(new Float64Array(uneven.buffer));
  else for (let t = 0; t < frames; t++) times[t] = t / about.fps;
  times[frames] = times[frames - 1] + 1 / about.fps;
  const inputs = about.predictions
    .map((one, n) => ({ ...one, points: takeFloats("points-" + n), method: n }))
    .filter((one) => one.points && !one.points.every(Number.isNaN));
  const worst = series.length ? roundUp(Math.max(...series.map((one) => quantile(one.errors, 0.95))) || 1) : 0;
  return {
    ...about,
    metres,
    girth: girthOf(extent / metres),
    names: joints.map((name) => name.replaceAll("_", " ")),
    J,
    figures,
    series,
    times,
    inputs,
    worst,
    limbs: Int16Array.from(about.limbs.flat()),
    isComparison: about.predictions.length === 2,
  };
}

// The frame that is shown at `time` seconds; found from a frame nearby, as playing goes on by few.
function frameAt(times, time, near) {
  const last = times.length - 2;
  let low = 0;
  let high = last;
  if (times[near] <= time && (near === last || time < times[Math.min(near + 4, last)])) {
    while (near < last && times[near + 1] <= time) near++;
    return near;
  }
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times[middle] <= time) low = middle;
    else high = middle - 1;
  }
  return low;
}
