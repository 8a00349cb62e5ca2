// The errors over time: a line for each prediction, or the envelope of what falls into one pixel, to click and drag on.
const GRAPH = { left: 44, right: 12, top: 8, bottom: 20 }; // margins in CSS pixels
const LABEL = 90; // CSS pixels from one time to the next, at least
const SHORTEST = 20; // frames: no closer zoom

class Timeline {
  constructor(sequence, seek) {
    Object.assign(this, { sequence, seek });
    this.canvas = element("graph-canvas");
    this.context = this.canvas.getContext("2d");
    this.head = element("playhead");
    this.first = 0; // the frames that are seen
    this.last = sequence.frames - 1;
    this.values = sequence.series.map((one) => one.mean);
    this.joint = new Float32Array(sequence.frames * sequence.series.length);
    this.isOn = sequence.series.length > 0;
    element("timeline").hidden = !this.isOn;
    if (this.isOn) this.listen();
  }

  // Show the errors of a joint, or of all (-1).
  show(joint) {
    const { series, frames, J, names } = this.sequence;
    this.values = series.map((one, n) => {
      if (joint < 0) return one.mean;
      const values = this.joint.subarray(n * frames, (n + 1) * frames);
      for (let t = 0; t < frames; t++) values[t] = one.errors[t * J + joint];
      return values;
    });
    this.measured(joint < 0 ? "all joints" : names[joint]);
    element("timeline-clear").hidden = joint < 0;
    this.top = roundUp(Math.max(1, ...this.values.map((values) => values.reduce((a, b) => Math.max(a, b), 0))));
    this.draw();
  }

  measured(what) {
    const { measure } = this.sequence;
    element("timeline-title").textContent =
      `${measure === "distance" ? "Distance" : "Error"} per frame, ${what} (mm)`;
  }

  resize() {
    const box = element("graph").getBoundingClientRect();
    this.unit = devicePixelRatio || 1;
    this.width = box.width;
    this.height = box.height;
    this.canvas.width = Math.round(box.width * this.unit);
    this.canvas.height = Math.round(box.height * this.unit);
    this.draw();
  }

  x(frame) {
    return (
      GRAPH.left +
      ((frame - this.first) / Math.max(this.last - this.first, 1)) * (this.width - GRAPH.left - GRAPH.right)
    );
  }

  // Where a time lies among the frames; most times lie between two.
  frameOf(time) {
    const { times } = this.sequence;
    const frame = frameAt(times, time, 0);
    return frame + (time - times[frame]) / (times[frame + 1] - times[frame]);
  }

  y(value) {
    return this.height - GRAPH.bottom - (value / this.top) * (this.height - GRAPH.top - GRAPH.bottom);
  }

  frameAt(x) {
    const share = (x - GRAPH.left) / (this.width - GRAPH.left - GRAPH.right);
    return Math.min(this.sequence.frames - 1, Math.max(0, Math.round(this.first + share * (this.last - this.first))));
  }

  zoom(factor, x) {
    const all = this.sequence.frames - 1;
    const middle = this.frameAt(x);
    const span = Math.min(all, Math.max(Math.min(SHORTEST, all), (this.last - this.first) * factor));
    const share = (middle - this.first) / Math.max(this.last - this.first, 1);
    this.window(middle - share * span, span);
  }

  window(first, span) {
    const all = this.sequence.frames - 1;
    this.first = Math.min(Math.max(0, first), all - span);
    this.last = this.first + span;
    element("timeline-all").hidden = span >= all;
    element("graph-tip").hidden = true;
    this.draw();
    this.placeHead();
  }

  isSeen(frame) {
    return frame >= this.first && frame <= this.last;
  }

  placeHead() {
    this.head.hidden = !this.isSeen(this.shown);
    this.head.style.transform = `translateX(${this.x(this.shown)}px)`;
  }

  // Put the line at a frame. The window follows a frame that leaves it, but may be moved off a frame that stays.
  mark(frame) {
    const hasMoved = frame !== this.shown;
    this.shown = frame;
    if (!this.isOn) return;
    if (hasMoved && !this.isSeen(frame))
      this.window(frame - 0.1 * (this.last - this.first), this.last - this.first);
    else this.placeHead();
  }

  draw() {
    if (!this.width || !this.theme || !this.isOn) return;
    const { context } = this;
    context.setTransform(this.unit, 0, 0, this.unit, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    this.drawScale();
    context.save();
    context.beginPath();
    context.rect(GRAPH.left, 0, this.width - GRAPH.left - GRAPH.right, this.height);
    context.clip();
    if (this.values.length === 2) this.drawDifference();
    this.values.forEach((values, n) => this.drawSeries(values, this.colour(n)));
    context.restore();
  }

  colour(series) {
    const { theme, sequence } = this;
    return sequence.isComparison && sequence.series.length === 2 ? theme.methods[series] : theme.accent;
  }

  drawScale() {
    const { context, theme } = this;
    context.font = "11px system-ui, sans-serif";
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const share of [0, 0.5, 1]) {
      const y = Math.round(this.y(share * this.top)) + 0.5;
      context.strokeStyle = theme.line;
      context.beginPath();
      context.moveTo(GRAPH.left, y);
      context.lineTo(this.width - GRAPH.right, y);
      context.stroke();
      context.fillStyle = theme.quiet;
      context.fillText(String(Math.round(10 * share * this.top) / 10), GRAPH.left - 8, y);
    }
    const { times } = this.sequence;
    const [from, to] = [times[Math.floor(this.first)], times[Math.ceil(this.last)]];
    const step = roundUp(((to - from) * LABEL) / Math.max(this.width, LABEL), [1, 2, 5]);
    const digits = to > from ? Math.max(0, -Math.floor(Math.log10(step))) : 0;
    context.textBaseline = "alphabetic";
    context.textAlign = "left";
    let free = GRAPH.left; // where the last time ends; where frames are far apart in time, times crowd and are left out
    for (let k = Math.ceil(from / step); k * step <= to; k++) {
      const text = `${(k * step).toFixed(digits)} s`;
      const width = context.measureText(text).width;
      const middle = this.x(this.frameOf(k * step)) - width / 2;
      const left = Math.min(Math.max(middle, GRAPH.left), this.width - GRAPH.right - width);
      if (left < free) continue;
      context.fillText(text, left, this.height - 5);
      free = left + width + 10;
    }
  }

  // What lies between the two lines, in the colour of the one with more error.
  drawDifference() {
    const { context } = this;
    const stride = this.stride();
    const [first, last] = [Math.floor(this.first / stride) * stride, Math.ceil(this.last)];
    context.globalAlpha = 0.2;
    for (let t = first; t + stride <= last; t += stride) {
      const [a, b] = this.values;
      const [left, right] = [this.x(t), this.x(t + stride)];
      context.fillStyle = this.colour(a[t] + a[t + stride] > b[t] + b[t + stride] ? 0 : 1);
      context.beginPath();
      context.moveTo(left, this.y(a[t]));
      context.lineTo(right + 0.3, this.y(a[t + stride]));
      context.lineTo(right + 0.3, this.y(b[t + stride]));
      context.lineTo(left, this.y(b[t]));
      context.fill();
    }
    context.globalAlpha = 1;
  }

  // Frames that share a column of pixels.
  stride() {
    return Math.max(1, Math.ceil((this.last - this.first) / Math.max(this.width - GRAPH.left - GRAPH.right, 1)));
  }

  // Several frames to a pixel: from the lowest to the highest as a band, and the mean as a line.
  drawSeries(values, colour) {
    const { context } = this;
    const [first, last] = [Math.floor(this.first), Math.ceil(this.last)];
    const stride = this.stride();
    const line = new Path2D();
    const band = new Path2D();
    for (let start = first - (first % stride); start <= last; start += stride) {
      let [low, high, sum, count] = [Infinity, 0, 0, 0];
      for (let t = start; t < start + stride && t < values.length; t++, count++) {
        low = Math.min(low, values[t]);
        high = Math.max(high, values[t]);
        sum += values[t];
      }
      const x = this.x(start + (stride - 1) / 2);
      line.lineTo(x, this.y(sum / count));
      if (stride > 1) {
        band.moveTo(x, this.y(low) + 0.5);
        band.lineTo(x, this.y(high) - 0.5);
      }
    }
    context.strokeStyle = colour;
    context.lineJoin = "round";
    context.globalAlpha = 0.28;
    context.lineWidth = this.x(stride) - this.x(0) + 0.3;
    context.stroke(band);
    context.globalAlpha = 1;
    context.lineWidth = 1.75;
    context.stroke(line);
  }

  listen() {
    const graph = element("graph");
    const at = (event) => event.clientX - graph.getBoundingClientRect().left;
    const fingers = new Map();
    let apart = 0;
    const spread = () => Math.abs([...fingers.values()].reduce((a, b) => a - b));
    graph.addEventListener("pointerdown", (event) => {
      graph.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, at(event));
      if (fingers.size === 2) apart = spread();
      else this.seek(this.frameAt(at(event)));
    });
    graph.addEventListener("pointermove", (event) => {
      this.hint(at(event));
      if (!fingers.has(event.pointerId)) return;
      fingers.set(event.pointerId, at(event));
      if (fingers.size === 1) this.seek(this.frameAt(at(event)));
      else if (spread() > 4) {
        this.zoom(apart / spread(), [...fingers.values()].reduce((a, b) => a + b) / 2);
        apart = spread();
      }
    });
    graph.addEventListener("lostpointercapture", (event) => fingers.delete(event.pointerId));
    graph.addEventListener("pointerleave", () => (element("graph-tip").hidden = true));
    graph.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        if (Math.abs(event.deltaX) > Math.abs(event.deltaY))
          this.window(this.first + (event.deltaX / this.width) * (this.last - this.first), this.last - this.first);
        else this.zoom(Math.exp(wheelPixels(event) * 0.002), at(event));
      },
      { passive: false },
    );
    graph.addEventListener("dblclick", () => this.window(0, this.sequence.frames - 1));
    element("timeline-all").addEventListener("click", () => this.window(0, this.sequence.frames - 1));
  }

  hint(x) {
    const tip = element("graph-tip");
    const frame = this.frameAt(x);
    tip.textContent = `frame ${frame}: ${this.values.map((values) => values[frame].toFixed(1)).join(" | ")} mm`;
    tip.hidden = false;
    tip.style.left = `${Math.min(Math.max(x, 80), this.width - 80)}px`;
  }
}
