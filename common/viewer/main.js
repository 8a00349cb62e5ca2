// The page: what is chosen, what each action does, and the loop that draws when something has changed.
const LONG_WALK = 1.5; // the camera follows whoever else would have to be seen from so many times as far
const TIMED = 240; // draws that the median is taken of
const HASH_MS = 300; // after the last step the address tells the frame

const sequence = readSequence();
const clock = new Clock(sequence.times);
const state = {
  truth: true,
  sideBySide: false,
  alignRoots: false,
  follow: false,
  colour: sequence.isComparison ? "method" : "side",
  selected: -1,
  hovered: -1,
  trails: new Uint8Array(sequence.J),
  trailSeconds: 1,
};
const orbit = new Orbit(sequence);
const ground = new Ground(sequence);
const scene = new Scene(sequence, state, orbit);
const canvas = element("scene");
const context = canvas.getContext("2d");
// The ground has a canvas of its own below: it is drawn anew only when the camera moves.
const groundCanvas = canvas.parentNode.insertBefore(make("canvas", "ground"), canvas);
const groundContext = groundCanvas.getContext("2d");
const drawTimes = new Float64Array(TIMED);
const followed = new Float64Array(2); // where the root joint was that the camera follows
const dirty = { frame: true, view: true, marks: true };
let draws = 0;
let asked = 0;
let hashTimer = 0;

const actions = { seek, toggle, set, view, move, setSpeed, toggleLoop };
const picture = new Picture(sequence, clock, () => resize());
const timeline = new Timeline(sequence, (frame) => seek(frame));
const panel = new Panel(sequence, state, select, toggleTrail);
const tip = new Tip(sequence, state, (figure) => scene.isVisible(figure));
const controls = new Controls(sequence, state, clock, actions);
new Gestures(canvas, orbit, scene, { changed: () => ask("view"), hover, select, toggleTrail });

// ---- actions

function ask(what) {
  dirty[what] = true;
  if (!asked) asked = requestAnimationFrame(loop);
}

function seek(frame, pauses) {
  if (pauses && clock.playing) pause();
  clock.seek(frame);
  if (clock.playing) picture.play();
  else picture.show(clock.frame);
  rememberFrame();
  ask("frame");
}

function play() {
  clock.play(performance.now());
  picture.play();
  ask("marks");
}

function pause() {
  clock.pause();
  picture.pause();
  picture.show(clock.frame);
  rememberFrame();
  ask("marks");
  ask("frame");
}

function toggle() {
  if (clock.playing) pause();
  else play();
}

function setSpeed(speed) {
  clock.speed = speed;
  if (clock.playing) picture.video.playbackRate = speed;
  ask("marks");
}

function toggleLoop() {
  clock.loop = !clock.loop;
  ask("marks");
}

function set(name, value) {
  state[name] = value;
  scene.arrange();
  if (name === "follow" || name === "sideBySide") aimAt("keep");
  ask("view");
  ask("marks");
}

function select(joint) {
  state.selected = joint;
  if (timeline.isOn) timeline.show(joint);
  ask("marks");
  ask("frame");
}

// Trails of these joints: on where any of them is off, else off.
function toggleTrail(joints) {
  const on = joints.some((joint) => !state.trails[joint]);
  for (const joint of joints) state.trails[joint] = on ? 1 : 0;
  ask("marks");
  ask("frame");
}

function hover(joint) {
  if (state.hovered === joint) return;
  state.hovered = joint;
  ask("frame");
}

function view(name) {
  aimAt(name);
  ask("view");
}

// Move the camera: turn or zoom, by so much.
function move(how, ...amounts) {
  orbit[how](...amounts);
  ask("view");
}

// ---- the camera and the person

function rootOf(frame) {
  const { poses } = sequence.figures[0];
  const at = 3 * (frame * sequence.J + sequence.root);
  return [poses[at], poses[at + 1], poses[at + 2]];
}

// Where the person looks in a frame, (x, y) of length 1: left of it is where the left joints are.
function forward(frame) {
  const { figures, J, sides } = sequence;
  let [x, y] = [0, 0];
  for (let j = 0; j < J; j++) {
    const sign = sides[j] === 1 ? 1 : sides[j] === 2 ? -1 : 0;
    x += sign * figures[0].poses[3 * (frame * J + j)];
    y += sign * figures[0].poses[3 * (frame * J + j) + 1];
  }
  const length = Math.hypot(x, y);
  return length > 0 ? [-y / length, x / length] : [0, -1];
}

function isLongWalk() {
  const [yaw, pitch] = orbit.direction("reset", forward(clock.frame));
  const [all, body] = [null, rootOf(clock.frame)].map((root) => orbit.fit(yaw, pitch, scene.ports[0], root).distance);
  return all > LONG_WALK * body;
}

// Go to a preset; "keep": stay with the direction that there is.
function aimAt(name, now) {
  const [yaw, pitch] = name === "keep" ? [orbit.yaw, orbit.pitch] : orbit.direction(name, forward(clock.frame));
  const { target, distance } = orbit.fit(yaw, pitch, scene.ports[0], state.follow && rootOf(clock.frame));
  orbit.go(yaw, pitch, distance, target, now);
  orbit.isFitted = true;
  ask("view");
}

// Move with the root joint over the floor; whether the camera moved.
function follow() {
  const { poses } = sequence.figures[0];
  const at = 3 * (clock.frame * sequence.J + sequence.root);
  for (let i = 0; i < 2; i++) {
    const step = state.follow ? poses[at + i] - followed[i] : 0;
    orbit.target[i] += step;
    orbit.from[3 + i] += step; // also both ends of a turn that is under way
    orbit.to[3 + i] += step;
    followed[i] = poses[at + i];
  }
  return state.follow;
}

// ---- drawing

function loop(now) {
  asked = 0;
  if (orbit.step(now)) dirty.view = true;
  if (clock.playing) {
    if (clock.advance(now, picture.time())) dirty.frame = true;
    if (clock.hasWrapped) picture.play();
    if (!clock.playing) pause(); // at the end
  }
  if (dirty.frame || dirty.view) draw(now);
  if (dirty.marks) mark();
  dirty.frame = dirty.view = dirty.marks = false;
  if ((orbit.isTurning || clock.playing) && !asked) asked = requestAnimationFrame(loop);
}

function draw(now) {
  const started = performance.now();
  const { frame } = clock;
  if (follow()) dirty.view = true;
  if (dirty.view) scene.drawGround(groundContext, ground);
  scene.draw(context, ground, frame);
  if (picture.isOn) picture.draw(frame);
  timeline.mark(frame);
  controls.markFrame(frame);
  panel.update(frame, now, clock.playing);
  tip.update(frame, now, clock.playing);
  drawTimes[draws++ % TIMED] = performance.now() - started;
}

function mark() {
  controls.mark();
  panel.mark();
  panel.update(clock.frame, performance.now(), false);
  drawLegend();
  element("trail-seconds").textContent = `${state.trailSeconds.toFixed(1)} s`;
}

function drawLegend() {
  const legend = element("legend");
  const entry = (className, text) => {
    const item = make("span", "key");
    item.append(make("i", "dot " + className), document.createTextNode(text));
    return item;
  };
  const entries = [];
  if (state.colour === "method")
    sequence.predictions.forEach((one, n) => entries.push(entry("method-" + n, one.label)));
  else if (state.colour === "side" && sequence.sides.some(Boolean))
    entries.push(entry("side-1", "left"), entry("side-2", "right"));
  if (sequence.hasTruth && state.truth && !state.sideBySide) entries.push(entry("truth", "ground truth"));
  legend.replaceChildren(...entries);
  element("scale").hidden = state.colour !== "error";
  const isPair = sequence.series.length === 2;
  element("timeline-legend").replaceChildren(
    ...(isPair ? sequence.series.map((one, n) => entry("method-" + n, one.label)) : []),
  );
}

function resize() {
  const unit = Math.min(devicePixelRatio || 1, 2); // finer than two to one nobody sees, and it costs
  const box = element("stage").getBoundingClientRect();
  for (const one of [canvas, groundCanvas]) {
    one.width = Math.round(box.width * unit);
    one.height = Math.round(box.height * unit);
  }
  const views = element("views");
  scene.resize(canvas.width, canvas.height, unit, (box.height - views.offsetTop) * unit);
  ground.resize(unit);
  picture.resize(scene.theme);
  timeline.resize();
  if (orbit.isFitted && !orbit.isTurning) aimAt("keep", true);
  ask("view");
}

function retheme() {
  const theme = currentTheme();
  scene.retheme(theme);
  timeline.theme = theme;
  resize();
}

// ---- the address

function rememberFrame() {
  clearTimeout(hashTimer);
  hashTimer = setTimeout(() => history.replaceState(null, "", `#frame=${clock.frame}`), HASH_MS);
}

function seekToHash() {
  const asked = /frame=(\d+)/.exec(location.hash);
  if (asked) {
    clock.seek(Number(asked[1]));
    picture.show(clock.frame);
    ask("frame");
  }
}

function start() {
  ground.name(sequence);
  const bar = element("scale-bar").getContext("2d");
  for (let x = 0; x < 160; x++) {
    bar.fillStyle = css(errorColour(x / 159));
    bar.fillRect(x, 0, 1, 1);
  }
  element("scale-top").textContent = `≥ ${sequence.worst} mm`;
  element("trail-length").addEventListener("input", (event) => {
    state.trailSeconds = Number(event.target.value);
    ask("marks");
    ask("frame");
  });
  element("timeline-clear").addEventListener("click", () => select(-1));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme);
  new ResizeObserver(resize).observe(element("stage"));
  new ResizeObserver(resize).observe(element("picture"));
  addEventListener("hashchange", seekToHash);
  if (timeline.isOn) timeline.show(-1);
  retheme();
  seekToHash();
  followed.set(rootOf(clock.frame).slice(0, 2));
  state.follow = isLongWalk();
  aimAt("reset", true);
  ask("marks");
}

start();
window.viewer = {
  get frame() {
    return clock.frame;
  },
  get time() {
    return clock.time;
  },
  get playing() {
    return clock.playing;
  },
  get draws() {
    return draws;
  },
  get drawMs() {
    return draws ? drawTimes.slice(0, Math.min(draws, TIMED)).sort()[Math.floor(Math.min(draws, TIMED) / 2)] : 0;
  },
  frames: sequence.frames,
  state,
  play,
  pause,
  seek,
  set,
  view,
  select,
  toggleTrail,
  setSpeed,
};
