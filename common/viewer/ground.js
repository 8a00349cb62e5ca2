// What stays put: the floor with its grid, and the axes of the frame of reference with metres along them.
const LONGEST_SIDE = 40; // cells at most along a side

class Ground {
  constructor(sequence) {
    const { low, high, floor } = sequence;
    const span = Math.max(high[0] - low[0], high[1] - low[1]);
    let cell = 0.5;
    while ((span + 2) / cell > LONGEST_SIDE) cell *= 2;
    const margin = 0.5;
    this.x = [Math.floor((low[0] - margin) / cell) * cell, Math.ceil((high[0] + margin) / cell) * cell];
    this.y = [Math.floor((low[1] - margin) / cell) * cell, Math.ceil((high[1] + margin) / cell) * cell];
    this.lines = Float32Array.from(this.gridLines(cell, floor));
    this.corners = Float32Array.from([0, 1, 3, 2].flatMap((n) => [this.x[n & 1], this.y[n >> 1], floor]));
    this.marks = this.edgeMarks(cell, floor);
    this.floor = floor;
    // Lines from a corner, half a metre long: where the coordinates of the file grow; upwards -y, where y goes down.
    this.axes = ["x", "y", "z"].map((name, i) => {
      const [component, sign] = sequence.coordinates[i];
      const ends = Float32Array.from([this.x[0], this.y[0], floor, this.x[0], this.y[0], floor]);
      ends[3 + component] += 0.5;
      return { text: sign < 0 ? "−" + name : name, ends };
    });
    this.seen = new Float32Array(Math.max(this.lines.length, 12 * 3));
    this.still = new Float64Array(3);
  }

  gridLines(cell, floor) {
    const lines = [];
    for (let x = this.x[0]; x <= this.x[1] + cell / 2; x += cell)
      lines.push(x, this.y[0], floor, x, this.y[1], floor);
    for (let y = this.y[0]; y <= this.y[1] + cell / 2; y += cell)
      lines.push(this.x[0], y, floor, this.x[1], y, floor);
    return lines;
  }

  // Labels in metres beside each of the four edges; a view shows those of the two edges nearest to it.
  edgeMarks(cell, floor) {
    const marks = [];
    const step = Math.max(1, 2 * cell);
    const out = 0.16 + 0.1 * cell;
    for (const side of [0, 1]) {
      const beyond = side ? out : -out;
      for (let x = Math.ceil(this.x[0] / step) * step; x <= this.x[1]; x += step)
        marks.push({ axis: 0, side, point: [x, this.y[side] + beyond, floor], value: x });
      for (let y = Math.ceil(this.y[0] / step) * step; y <= this.y[1]; y += step)
        marks.push({ axis: 1, side, point: [this.x[side] + beyond, y, floor], value: y });
    }
    return marks;
  }

  // The labels belong to the file's coordinates, whose signs and names may be others than those of the upright room.
  name(sequence) {
    for (const mark of this.marks) {
      const sign = sequence.coordinates.find(([component]) => component === mark.axis)[1];
      const metres = Number((sign * sequence.metres * mark.value).toPrecision(6)) + 0; // no −0
      mark.text = `${metres.toString().replace("-", "−")} m`;
    }
    this.points = Float32Array.from(this.marks.flatMap((mark) => mark.point));
    this.marksSeen = new Float32Array(this.points.length);
  }

  resize(unit) {
    this.unit = unit;
    this.fonts = { axis: `600 ${12 * unit}px system-ui, sans-serif`, mark: `${11 * unit}px system-ui, sans-serif` };
  }

  draw(context, orbit, port, theme) {
    const { unit } = this;
    const { seen, still } = this;
    orbit.project(this.corners, 0, 4, still, port, seen);
    if (this.inFront(seen, 4)) {
      context.fillStyle = orbit.pitch > 0 ? theme.floor : theme.line;
      context.beginPath();
      for (let i = 0; i < 4; i++) context.lineTo(seen[3 * i], seen[3 * i + 1]);
      context.fill();
    }
    const count = this.lines.length / 3;
    orbit.project(this.lines, 0, count, still, port, seen);
    context.strokeStyle = theme.line;
    context.lineWidth = unit;
    context.beginPath();
    for (let at = 0; at < 3 * count; at += 6) this.clipped(context, seen, at, port);
    context.stroke();
    this.drawAxes(context, orbit, port, theme);
    this.drawMarks(context, orbit, port, theme);
  }

  inFront(seen, count) {
    for (let i = 0; i < count; i++) if (seen[3 * i + 2] < NEAREST) return false;
    return true;
  }

  // A line on the floor; the part behind the camera is left out. Seen points there were not divided by their own depth.
  clipped(context, seen, at, port) {
    const [near, far] = seen[at + 2] < seen[at + 5] ? [at, at + 3] : [at + 3, at];
    if (seen[far + 2] < NEAREST) return;
    let x = seen[near];
    let y = seen[near + 1];
    if (seen[near + 2] < NEAREST) {
      // In camera space the line is straight: interpolate there, where x = (seen - centre) * depth.
      const cx = port.x + port.width / 2;
      const cy = port.y + port.height / 2;
      const share = (NEAREST - seen[near + 2]) / (seen[far + 2] - seen[near + 2]);
      const blend = (a, b) => (a * NEAREST * (1 - share) + b * seen[far + 2] * share) / NEAREST;
      x = cx + blend(x - cx, seen[far] - cx);
      y = cy + blend(y - cy, seen[far + 1] - cy);
    }
    context.moveTo(x, y);
    context.lineTo(seen[far], seen[far + 1]);
  }

  drawAxes(context, orbit, port, theme) {
    const { seen, unit } = this;
    context.lineCap = "round";
    for (let i = 0; i < 3; i++) {
      const { text, ends } = this.axes[i];
      orbit.project(ends, 0, 2, this.still, port, seen);
      if (!this.inFront(seen, 2)) continue;
      context.strokeStyle = theme.quiet;
      context.lineWidth = 2 * unit;
      context.beginPath();
      context.moveTo(seen[0], seen[1]);
      context.lineTo(seen[3], seen[4]);
      context.stroke();
      const dx = seen[3] - seen[0];
      const dy = seen[4] - seen[1];
      const length = Math.hypot(dx, dy);
      if (length < 12 * unit) continue;
      context.fillStyle = theme.ink;
      context.font = this.fonts.axis;
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.fillText(text, seen[3] + (10 * unit * dx) / length, seen[4] + (10 * unit * dy) / length);
    }
  }

  drawMarks(context, orbit, port, theme) {
    orbit.project(this.points, 0, this.marks.length, this.still, port, this.marksSeen);
    context.fillStyle = theme.quiet;
    context.font = this.fonts.mark;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const edge = 20 * this.unit; // a text that would be cut, or lie upon the last, is left out
    let [lastX, lastY] = [-edge, -edge];
    for (let i = 0; i < this.marks.length; i++) {
      const mark = this.marks[i];
      const side = orbit.back[1 - mark.axis] > 0 ? 1 : 0; // where the camera stands
      if (mark.side !== side || this.marksSeen[3 * i + 2] < NEAREST) continue;
      const x = this.marksSeen[3 * i];
      const y = this.marksSeen[3 * i + 1];
      if (
        Math.abs(x - port.x - port.width / 2) > port.width / 2 - edge ||
        Math.abs(y - port.y - port.height / 2) > port.height / 2 - edge / 2
      )
        continue;
      if (Math.hypot(x - lastX, y - lastY) < 1.5 * edge) continue;
      context.fillText(mark.text, x, y);
      [lastX, lastY] = [x, y];
    }
  }
}
