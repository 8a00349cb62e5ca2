// Buttons and keys. Each switch and each view is named once, with its key; the list of keys is made from the same.
const PLAYING = "M8 5v14l11-7z";
const PAUSED = "M7 5h4v14H7zM13 5h4v14h-4z";
const KEY_TURN = 20; // CSS pixels of a drag that a key stands for
const KEY_ZOOM = 1.15;

class Controls {
  // actions: what the page can do, by name; see main.js.
  constructor(sequence, state, clock, actions) {
    Object.assign(this, { sequence, state, clock, actions });
    this.keys = new Map();
    this.shown = []; // [button, whether it is on]
    this.listed = [];
    this.buildTransport();
    this.buildSwitches();
    this.buildViews();
    this.buildHelp();
    document.addEventListener("keydown", (event) => this.press(event));
    // After a click of the mouse the keys are the page's again, not the button's.
    document.addEventListener("click", (event) => event.detail && event.target.closest("button")?.blur());
  }

  on(key, hint, act) {
    this.keys.set(key.toLowerCase(), act);
    if (hint) this.listed.push([key, hint]);
  }

  button(parent, label, key, act, isOn, hint = label) {
    const button = make("button", "button", label);
    button.title = `${hint} (${key})`;
    button.addEventListener("click", act);
    element(parent).append(button);
    if (isOn) this.shown.push([button, isOn]);
    this.on(key, hint, act);
    return button;
  }

  buildTransport() {
    const { actions, clock } = this;
    const step = (by) => actions.seek(clock.frame + by, true);
    element("play").addEventListener("click", actions.toggle);
    element("back").addEventListener("click", () => step(-1));
    element("forward").addEventListener("click", () => step(1));
    const scrub = element("scrub");
    scrub.max = clock.frames - 1;
    scrub.addEventListener("input", () => actions.seek(Number(scrub.value)));
    const speed = element("speed");
    for (const value of SPEEDS) speed.append(new Option(`${value}×`, value, false, value === 1));
    speed.addEventListener("change", () => {
      actions.setSpeed(Number(speed.value));
      speed.blur();
    });
    element("loop").addEventListener("click", actions.toggleLoop);
    this.shown.push([element("loop"), () => clock.loop]);
    this.on(" ", "", actions.toggle);
    this.on("ArrowLeft", "", (event) => step(event.shiftKey ? -10 : -1));
    this.on("ArrowRight", "", (event) => step(event.shiftKey ? 10 : 1));
    this.on("Home", "", () => actions.seek(0));
    this.on("End", "", () => actions.seek(clock.frames - 1));
    this.on("ArrowUp", "", () => this.faster(1));
    this.on("ArrowDown", "", () => this.faster(-1));
    this.on("L", "Loop", actions.toggleLoop);
  }

  faster(by) {
    const at = SPEEDS.indexOf(this.clock.speed) + by;
    this.actions.setSpeed(SPEEDS[Math.min(Math.max(at, 0), SPEEDS.length - 1)]);
  }

  buildSwitches() {
    const { sequence, state, actions } = this;
    const flip = (name) => () => actions.set(name, !state[name]);
    const colour = (name) => [() => actions.set("colour", name), () => state.colour === name];
    if (sequence.isComparison || sequence.measure)
      this.button("colouring", "Left / right", "C", ...colour("side"), "Colours: left and right");
    if (sequence.isComparison) this.button("colouring", "Method", "M", ...colour("method"), "Colours: method");
    if (sequence.measure) {
      const measure = sequence.measure === "error" ? "Error" : "Distance";
      this.button("colouring", measure, "E", ...colour("error"), `Colours: ${measure.toLowerCase()} of each joint`);
    }
    element("colouring").hidden = !sequence.isComparison && !sequence.measure;
    if (sequence.hasTruth) this.button("toggles", "Ground truth", "T", flip("truth"), () => state.truth);
    if (sequence.figures.length > 1)
      this.button(
        "toggles",
        "Side by side",
        "S",
        flip("sideBySide"),
        () => state.sideBySide,
        "Poses side by side, or over one another",
      );
    if (sequence.figures.length > 1)
      this.button(
        "toggles",
        "Align roots",
        "A",
        flip("alignRoots"),
        () => state.alignRoots,
        "Align the root joints, as the metric does",
      );
    this.button("toggles", "Follow", "F", flip("follow"), () => state.follow, "Follow the root joint");
  }

  buildViews() {
    const { actions, sequence } = this;
    const views = ["front", "side", "top", ...(sequence.recordedFrom ? ["camera"] : [])];
    const hints = {
      front: "View from the front",
      side: "View from the person's right",
      top: "View from above",
      camera: "View of the recording camera",
    };
    views.forEach((name, n) =>
      this.button(
        "views",
        name[0].toUpperCase() + name.slice(1),
        String(n + 1),
        () => actions.view(name),
        null,
        hints[name],
      ),
    );
    this.button("views", "Reset", "0", () => actions.view("reset"), null, "Reset the view");
    const turns = { h: [-1, 0], k: [1, 0], u: [0, -1], j: [0, 1] };
    for (const [key, ways] of Object.entries(turns))
      this.on(key, "", () => actions.move("turn", ...ways.map((way) => way * KEY_TURN)));
    for (const key of ["+", "="]) this.on(key, "", () => actions.move("zoom", 1 / KEY_ZOOM)); // "=": + without Shift
    this.on("-", "", () => actions.move("zoom", KEY_ZOOM));
  }

  buildHelp() {
    const dialog = element("keys");
    const rows = [
      ["Space", "Play or pause"],
      ["← →", "One frame back or on"],
      ["Shift ← →", "Ten frames"],
      ["Home End", "First or last frame"],
      ["↑ ↓", "Faster or slower"],
      ...this.listed,
      ["H K U J", "Turn left, right, up, down"],
      ["+ −", "Zoom"],
      ["Drag", "Turn"],
      ["Wheel, pinch", "Zoom; on the graph too"],
      ["Right-drag, Shift-drag, two fingers", "Pan"],
      ["Click a joint", "Its coordinates and error over time"],
      ["Shift-click a joint", "Its trail"],
      ["#frame=120", "At the end of the address: opens at that frame"],
    ];
    for (const [key, hint] of rows) {
      const term = make("dt");
      term.append(make("kbd", "", key));
      element("key-list").append(term, make("dd", "", hint));
    }
    const show = () => (dialog.open ? dialog.close() : dialog.showModal());
    element("help").addEventListener("click", show);
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    this.on("?", "", show);
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (element("keys").open && event.key !== "?") return;
    // What has the focus uses some keys itself: buttons the space, lists and sliders the arrows.
    const own = event.key === " " ? "button, summary, select" : "select, input:not(#scrub)";
    if (event.target.matches(own)) return;
    const act = this.keys.get(event.key.toLowerCase());
    if (!act) return;
    event.preventDefault();
    act(event);
  }

  mark() {
    const { clock } = this;
    for (const [button, isOn] of this.shown) button.setAttribute("aria-pressed", String(isOn()));
    element("play-shape").setAttribute("d", clock.playing ? PAUSED : PLAYING);
    element("play").setAttribute("aria-label", clock.playing ? "Pause" : "Play");
    element("speed").value = clock.speed;
  }

  markFrame(frame) {
    const { times } = this.clock;
    element("scrub").value = frame;
    element("readout-frame").textContent = `${frame} / ${this.clock.frames - 1}`;
    element("readout-time").textContent = `${times[frame].toFixed(2)} s`;
  }
}
