// The skeletons: projected, sorted by depth and drawn, with their shadows and trails. Nothing is allocated per frame.
const RADII = { limb: 0.021, joint: 0.03, truthLimb: 0.013, truthJoint: 0.019 }; // metres
const TITLE = 26; // CSS pixels down to a title's baseline
const TRAIL_POINTS = 160; // drawn of a trail at most
const TRAIL_PARTS = 8; // of fading strength

class Scene {
  constructor(sequence, state, orbit) {
    Object.assign(this, { sequence, state, orbit });
    const { figures, J } = sequence;
    this.limbs = sequence.limbs.length / 3;
    this.perFigure = this.limbs + J;
    const items = figures.length * this.perFigure;
    this.seen = figures.map(() => new Float32Array(3 * J)); // x, y, depth of the joints, in pixels
    this.shifts = figures.map(() => new Float64Array(3));
    this.owner = new Uint8Array(items); // which figure an item is of: first its limbs, then its joints
    this.part = new Int16Array(items);
    this.depth = new Float32Array(items);
    this.order = new Int16Array(items);
    this.colours = new Uint8Array(figures.length * J); // places in the palette
    this.used = 0;
    for (let i = 0; i < items; i++) {
      this.owner[i] = Math.floor(i / this.perFigure);
      this.part[i] = i % this.perFigure;
    }
    this.shadow = new Float32Array(3 * J);
    this.dropped = new Float32Array(3 * J); // the joints of a frame, on the floor
    this.still = new Float64Array(3);
    this.trail = new Float32Array(3 * (TRAIL_POINTS + 1));
    this.trailSeen = new Float32Array(3 * (TRAIL_POINTS + 1));
    this.ports = figures.map(() => ({ x: 0, y: 0, width: 0, height: 0, head: 0, foot: 0, shown: [] }));
    this.portCount = 1;
  }

  // foot: pixels at the bottom that buttons cover.
  resize(width, height, unit, foot) {
    Object.assign(this, { width, height, unit, foot, font: `600 ${13 * unit}px system-ui, sans-serif` });
    this.arrange();
  }

  retheme(theme) {
    this.theme = theme;
    this.sprites = makeSprites(theme);
    this.css = palette(theme).map(css);
  }

  isVisible(figure) {
    return this.state.truth || !this.sequence.figures[figure].isTruth;
  }

  // Which figures are seen in which part of the picture; in a row, for people stand.
  arrange() {
    const visible = this.sequence.figures.map((_, n) => n).filter((n) => this.isVisible(n));
    const groups = this.state.sideBySide ? visible.map((n) => [n]) : [visible];
    const width = this.width / groups.length;
    const head = groups.length > 1 ? TITLE * this.unit : 0;
    this.portCount = groups.length;
    groups.forEach((shown, n) => Object.assign(this.ports[n], { x: n * width, width, head, shown }));
    for (const port of this.ports) Object.assign(port, { height: this.height, foot: this.foot });
  }

  // Roots aligned, as the metric has it: every figure is moved so that its root lies where the truth's, the last, is.
  place(frame) {
    const { figures, J, root } = this.sequence;
    const at = 3 * (frame * J + root);
    const reference = figures[figures.length - 1].poses;
    for (let n = 0; n < figures.length; n++) {
      for (let i = 0; i < 3; i++)
        this.shifts[n][i] = this.state.alignRoots ? reference[at + i] - figures[n].poses[at + i] : 0;
    }
  }

  // The colour of each joint of a figure; a limb has that of its outer joint.
  colourJoints(frame, figure) {
    const { figures, J, sides, worst } = this.sequence;
    const { errors, isTruth } = figures[figure];
    const { colour, sideBySide } = this.state;
    for (let j = 0; j < J; j++) {
      let place = sides[j];
      if (isTruth && !(sideBySide && colour === "side")) place = TRUTH_COLOUR;
      else if (colour === "error" && errors)
        place = ERROR_COLOUR + Math.min(STEPS - 1, Math.round((errors[frame * J + j] / worst) * (STEPS - 1)));
      else if (colour === "method") place = METHOD_COLOUR + SIDES * figure + sides[j];
      this.colours[figure * J + j] = place;
    }
  }

  drawGround(context, ground) {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    for (let p = 0; p < this.portCount; p++) {
      this.clip(context, this.ports[p]);
      ground.draw(context, this.orbit, this.ports[p], this.theme);
      context.restore();
    }
    this.drawTitles(context);
  }

  clip(context, port) {
    context.save();
    context.beginPath();
    context.rect(port.x, port.y, port.width, port.height);
    context.clip();
  }

  drawTitles(context) {
    if (this.portCount < 2) return;
    context.font = this.font;
    context.textAlign = "center";
    context.textBaseline = "alphabetic";
    for (let p = 0; p < this.portCount; p++) {
      const port = this.ports[p];
      context.fillStyle = this.theme.ink;
      const [x, y] = [port.x + port.width / 2, port.y + TITLE * this.unit];
      const room = port.width - 16 * this.unit; // longer names are squeezed
      context.fillText(this.sequence.figures[port.shown[0]].label, x, y, room);
      context.fillStyle = this.theme.line;
      if (p) context.fillRect(port.x, 0, this.unit, this.height);
    }
  }

  draw(context, ground, frame) {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.imageSmoothingEnabled = true;
    context.lineCap = context.lineJoin = "round";
    this.place(frame);
    for (let p = 0; p < this.portCount; p++) {
      const port = this.ports[p];
      if (this.portCount > 1) this.clip(context, port);
      for (let i = 0; i < port.shown.length; i++) this.drawShadow(context, port, port.shown[i], frame, ground.floor);
      for (let i = 0; i < port.shown.length; i++) this.drawTrails(context, port, port.shown[i], frame);
      for (let i = 0; i < port.shown.length; i++) this.projectFigure(port, port.shown[i], frame);
      this.sortItems(port);
      for (let i = 0; i < this.used; i++) this.drawItem(context, this.order[i], port);
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.globalAlpha = 1;
      for (let i = 0; i < port.shown.length; i++) this.drawRings(context, port.shown[i]);
      if (this.portCount > 1) context.restore();
    }
  }

  projectFigure(port, figure, frame) {
    const { figures, J } = this.sequence;
    this.orbit.project(figures[figure].poses, frame * J, J, this.shifts[figure], port, this.seen[figure]);
    this.colourJoints(frame, figure);
  }

  // Farthest first. Insertion sort: it needs no memory, and a hundred items no better one.
  sortItems(port) {
    const { limbs, J } = this.sequence;
    const { depth, order, perFigure } = this;
    let used = 0;
    for (let i = 0; i < port.shown.length; i++) {
      const seen = this.seen[port.shown[i]];
      const start = port.shown[i] * perFigure;
      for (let l = 0; l < this.limbs; l++) {
        depth[start + l] = (seen[3 * limbs[3 * l] + 2] + seen[3 * limbs[3 * l + 1] + 2]) / 2;
        order[used++] = start + l;
      }
      for (let j = 0; j < J; j++) {
        depth[start + this.limbs + j] = seen[3 * j + 2] - RADII.limb; // a joint covers the ends of its limbs
        order[used++] = start + this.limbs + j;
      }
    }
    for (let i = 1; i < used; i++) {
      const item = order[i];
      let at = i;
      for (; at > 0 && depth[order[at - 1]] < depth[item]; at--) order[at] = order[at - 1];
      order[at] = item;
    }
    this.used = used;
  }

  drawItem(context, item, port) {
    const figure = this.owner[item];
    const part = this.part[item];
    const { isTruth } = this.sequence.figures[figure];
    const thin = isTruth && port.shown.length > 1;
    const focal = this.orbit.focal(port) * this.sequence.girth;
    context.globalAlpha = thin ? 0.85 : 1;
    if (part < this.limbs) this.drawLimb(context, figure, part, focal * 2 * (thin ? RADII.truthLimb : RADII.limb));
    else this.drawJoint(context, figure, part - this.limbs, focal * 2 * (thin ? RADII.truthJoint : RADII.joint));
  }

  drawLimb(context, figure, limb, width) {
    const { limbs, J } = this.sequence;
    const seen = this.seen[figure];
    const a = 3 * limbs[3 * limb];
    const b = 3 * limbs[3 * limb + 1];
    if (seen[a + 2] < NEAREST || seen[b + 2] < NEAREST) return;
    const dx = seen[b] - seen[a];
    const dy = seen[b + 1] - seen[a + 1];
    const length = Math.hypot(dx, dy);
    if (length < 0.5) return;
    const ux = dx / length;
    const uy = dy / length;
    const across = (2 * width) / (seen[a + 2] + seen[b + 2]);
    // The strip's y runs along (-uy, ux), down the picture.
    const slope = (-uy * LIGHT[0] - ux * LIGHT[1]) / Math.hypot(LIGHT[0], LIGHT[1]);
    const shade = Math.round(((slope + 1) / 2) * (SHADES - 1));
    let colour = this.colours[figure * J + limbs[3 * limb]];
    const crosses = limbs[3 * limb + 2] === 0; // from one side of the body to the other, or along its middle
    if (crosses && this.state.colour !== "error") colour = this.centreOf(colour);
    context.setTransform(ux, uy, -uy, ux, seen[a], seen[a + 1]);
    context.drawImage(
      this.sprites.strips,
      shade * CELL + 1,
      colour * STRIP,
      CELL - 2,
      STRIP,
      0,
      -across / 2,
      length,
      across,
    );
  }

  centreOf(colour) {
    if (colour < SIDES) return 0;
    return colour < METHOD_COLOUR ? colour : METHOD_COLOUR + Math.floor((colour - METHOD_COLOUR) / SIDES) * SIDES;
  }

  drawJoint(context, figure, joint, width) {
    const seen = this.seen[figure];
    const depth = seen[3 * joint + 2];
    if (depth < NEAREST) return;
    const size = width / depth / 0.84;
    context.setTransform(1, 0, 0, 1, seen[3 * joint] - size / 2, seen[3 * joint + 1] - size / 2);
    context.drawImage(
      this.sprites.balls,
      0,
      this.colours[figure * this.sequence.J + joint] * BALL,
      BALL,
      BALL,
      0,
      0,
      size,
      size,
    );
  }

  drawShadow(context, port, figure, frame, floor) {
    const { figures, J, limbs } = this.sequence;
    const { dropped, shadow } = this;
    const { poses } = figures[figure];
    const shift = this.shifts[figure];
    if (this.orbit.pitch < 0.02) return; // from below the floor there is none
    for (let j = 0, at = 3 * frame * J; j < J; j++, at += 3) {
      dropped[3 * j] = poses[at] + shift[0];
      dropped[3 * j + 1] = poses[at + 1] + shift[1];
      dropped[3 * j + 2] = floor;
    }
    this.orbit.project(dropped, 0, J, this.still, port, shadow);
    context.strokeStyle = this.theme.shadow;
    context.globalAlpha = figures[figure].isTruth && port.shown.length > 1 ? 0.3 : 0.6;
    const depth = Math.max(shadow[3 * this.sequence.root + 2], 0.5);
    context.lineWidth = Math.max(1, (1.6 * RADII.limb * this.sequence.girth * this.orbit.focal(port)) / depth);
    context.beginPath();
    for (let l = 0; l < this.limbs; l++) {
      const a = 3 * limbs[3 * l];
      const b = 3 * limbs[3 * l + 1];
      if (shadow[a + 2] < NEAREST || shadow[b + 2] < NEAREST) continue;
      context.moveTo(shadow[a], shadow[a + 1]);
      context.lineTo(shadow[b], shadow[b + 1]);
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  drawTrails(context, port, figure, frame) {
    const { trails, trailSeconds, selected } = this.state;
    const { J, times } = this.sequence;
    let first = frame;
    while (first > 0 && times[frame] - times[first - 1] <= trailSeconds) first--;
    if (first === frame) return;
    for (let j = 0; j < J; j++)
      if (trails[j] || j === selected) this.drawTrail(context, port, figure, j, first, frame);
    context.globalAlpha = 1;
  }

  drawTrail(context, port, figure, joint, first, frame) {
    const { figures, J, root, sides } = this.sequence;
    const { poses, isTruth } = figures[figure];
    const reference = figures[figures.length - 1].poses;
    const stride = Math.ceil((frame - first) / TRAIL_POINTS);
    let count = 0;
    for (let t = frame; t >= first && count <= TRAIL_POINTS; t -= stride, count++) {
      const at = 3 * (t * J + joint);
      const middle = 3 * (t * J + root);
      for (let i = 0; i < 3; i++) {
        this.trail[3 * count + i] =
          poses[at + i] + (this.state.alignRoots ? reference[middle + i] - poses[middle + i] : 0);
      }
    }
    this.orbit.project(this.trail, 0, count, this.still, port, this.trailSeen);
    const byMethod = this.state.colour === "method";
    context.strokeStyle = this.css[isTruth ? TRUTH_COLOUR : byMethod ? METHOD_COLOUR + SIDES * figure : sides[joint]];
    context.lineWidth = (isTruth ? 1.5 : 2.5) * this.unit;
    for (let part = 0; part < TRAIL_PARTS; part++) {
      const from = Math.floor((part * (count - 1)) / TRAIL_PARTS);
      const to = Math.floor(((part + 1) * (count - 1)) / TRAIL_PARTS);
      context.globalAlpha = 0.9 * (1 - part / TRAIL_PARTS);
      context.beginPath();
      for (let i = from; i <= to; i++)
        if (this.trailSeen[3 * i + 2] >= NEAREST) context.lineTo(this.trailSeen[3 * i], this.trailSeen[3 * i + 1]);
      context.stroke();
    }
  }

  drawRings(context, figure) {
    if (this.sequence.figures[figure].isTruth) return;
    const { selected, hovered } = this.state;
    for (let i = 0; i < 2; i++) {
      const joint = i ? hovered : selected;
      if (joint < 0 || (i && joint === selected)) continue;
      const seen = this.seen[figure];
      context.strokeStyle = i ? this.theme.quiet : this.theme.accent;
      context.lineWidth = 2 * this.unit;
      context.beginPath();
      context.arc(seen[3 * joint], seen[3 * joint + 1], 10 * this.unit, 0, 7);
      context.stroke();
    }
  }

  // The joint nearest to a point of the picture, in pixels; -1 where none is within `reach`.
  pick(x, y, reach) {
    let found = -1;
    let nearest = reach * reach;
    for (let p = 0; p < this.portCount; p++) {
      const port = this.ports[p];
      if (x < port.x || x > port.x + port.width || y < port.y || y > port.y + port.height) continue;
      for (const figure of port.shown) {
        for (let j = 0, seen = this.seen[figure]; j < this.sequence.J; j++) {
          const away = (seen[3 * j] - x) ** 2 + (seen[3 * j + 1] - y) ** 2;
          if (away < nearest) [nearest, found] = [away, j];
        }
      }
    }
    return found;
  }
}
